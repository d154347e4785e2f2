"""However a bundle is cut for the FHIR server, nothing is lost, doubled, torn apart or sent before its time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_inputs import take

from relay.fhir.forwarding import Answer, references
from relay.inbound.forward import Forwarding, chunks, forwarded, forwarding
from relay.inbound.sent import SentBodies

Json = dict[str, Any]


def urn(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012}"


@st.composite
def bundles(draw: st.DrawFn, kind: str) -> Json:
    """Draw a bundle of organizations that refer to each other at random: created, by condition, or put."""
    count = draw(st.integers(1, 12))
    entries = []
    for number in range(count):
        way = draw(st.sampled_from(["create", "condition", "put"]))
        resource: Json = {"resourceType": "Organization", "name": f"o{number}"}
        request = {"method": "POST", "url": "Organization"}
        if way == "put":
            resource["id"] = f"o{number}"
            request = {"method": "PUT", "url": f"Organization/o{number}"}
        if way == "condition":
            request["ifNoneExist"] = f"identifier=a|{number}"
        if (parent := draw(st.none() | st.integers(0, count - 1))) is not None:
            resource["partOf"] = {"reference": urn(parent)}
        entries.append({"fullUrl": urn(number), "resource": resource, "request": request})
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def planned(bundle: Json) -> Forwarding:
    """Return what of a bundle goes to the server."""
    body = json.dumps(bundle)
    incoming = take(body.encode())
    return forwarding(incoming, SentBodies(body, incoming), "seed")


@settings(max_examples=60)
@given(bundles("batch"), st.integers(1, 5))
def test_a_batch(bundle: Json, most: int) -> None:
    """Each entry is in one call of at most so many, or lost; it is sent when the ids it refers to are known."""
    work = planned(bundle)
    ids = work.ids({})
    calls, too_large = chunks(work, sorted(work.interactions), ids, most)
    assert not too_large
    assert sorted(index for call in calls for index in call) == sorted(work.interactions)
    assert all(0 < len(call) <= most for call in calls)
    for call in calls:
        sent = [index for index in call if not work.lost(index, ids)]
        for index in sent:
            assert all(not each.startswith("urn:") for each in references(work.ready(index, ids).text))
        ids |= {index: ids.get(index, f"s{index}") for index in sent}
    lost = work.interactions.keys() - ids.keys()
    assert all(work.interactions[index].if_none_exist for index in lost), "a circle of conditional creates"


@settings(max_examples=60)
@given(bundles("batch"))
def test_one_call_where_ids_are_known(bundle: Json) -> None:
    """Without conditional creates a batch that fits is one call."""
    for entry in bundle["entry"]:
        entry["request"].pop("ifNoneExist", None)
    work = planned(bundle)
    calls, _ = chunks(work, sorted(work.interactions), work.ids({}), 12)
    assert len(calls) == 1


@settings(max_examples=60)
@given(bundles("transaction"), st.integers(1, 5))
def test_a_transaction(bundle: Json, most: int) -> None:
    """What refers to each other is in one call; what is too large for one is in none."""
    work = planned(bundle)
    calls, too_large = chunks(work, sorted(work.interactions), work.ids({}), most)
    where = {index: number for number, call in enumerate(calls) for index in call}
    assert where.keys() | too_large == work.interactions.keys()
    assert not where.keys() & too_large
    assert all(len(call) <= most for call in calls)
    for index, others in work.edges.items():
        assert all(where.get(index) == where.get(other) for other in others)


@settings(max_examples=60)
@given(bundles("transaction"))
def test_what_goes_to_dataverse(bundle: Json) -> None:
    """Each entry has the server's id and version, and no reference names a place in the bundle any more."""
    work = planned(bundle)
    body = json.dumps(bundle)
    ids = work.ids({}) | {i: f"s{i}" for i, each in work.interactions.items() if not each.id}
    answers = {index: Answer(201, fhir_id, "1", "2026-01-01T00:00:00Z") for index, fhir_id in ids.items()}
    done = forwarded(take(body.encode()), work, answers)
    for entry, sent in zip(done.entries, bundle["entry"], strict=True):
        resource = entry.resource
        assert resource is not None
        assert entry.key == ("Organization", ids[entry.index])
        assert (resource["id"], resource["meta"]["versionId"]) == (ids[entry.index], "1")
        parent = sent["resource"].get("partOf", {}).get("reference")
        if parent is not None:
            assert resource["partOf"]["reference"] == f"Organization/{ids[int(parent[-12:])]}"


def test_chosen_ids_are_the_jobs() -> None:
    """The same job chooses the same ids at every try, another job others: a template's urn:uuid is nobody's name."""
    entry = {
        "fullUrl": urn(1),
        "resource": {"resourceType": "Patient"},
        "request": {"method": "POST", "url": "Patient"},
    }
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    incoming = take(body.encode())
    ids = [forwarding(incoming, SentBodies(body, incoming), seed).ids({})[0] for seed in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


def test_two_entries_of_one_name() -> None:
    """A fullUrl that two entries have names neither of them."""
    entry = {
        "fullUrl": urn(1),
        "resource": {"resourceType": "Patient"},
        "request": {"method": "POST", "url": "Patient"},
    }
    work = planned({"resourceType": "Bundle", "type": "batch", "entry": [entry, entry]})
    assert work.meant(urn(1), work.ids({})) is None


@pytest.mark.parametrize("fitting", [True, False])
def test_a_delete(fitting: bool) -> None:
    """A DELETE that names its resource goes to the server; any other does not."""
    body = json.dumps(
        {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "DELETE", "url": "Patient/p1"}}]}
    )
    incoming = take(body.encode())
    (entry,) = incoming.entries
    entry = replace(entry, problem=None, key=entry.key if fitting else None, if_match='W/"1"')
    incoming = replace(incoming, entries=(entry,))
    work = forwarding(incoming, SentBodies(body, incoming), "seed")
    if fitting:
        each = work.interactions[0]
        assert (each.method, each.id, each.if_match, work.ready(0, {}).text) == ("DELETE", "p1", 'W/"1"', "")
        assert forwarded(incoming, work, {0: Answer(204, "p1")}).entries == (entry,)
    else:
        assert work.refused[0].problem is not None
        assert work.refused[0].problem.code == "unsupported"

"""Changes that a FHIR server told of: kept at once, read where they came without a body, and carried out as a bundle is."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.control import Fault
from relay.errors import MapError, Refused, StoreUnavailable
from relay.inbound.change import Change, Op, collapse, dump_changes, load_changes
from support.samples import care_plan, codes, encounter, patient, results
from support.world import World, world

URN = "urn:oid:org.d365.mc4h.patient.id"
TYPES = st.from_regex(r"\A[A-Z][A-Za-z]{1,9}\Z")
IDS = st.from_regex(r"\A[A-Za-z0-9\-]{1,12}\Z")
changes = st.builds(
    Change,
    st.sampled_from(["hook", "grid"]),
    TYPES,
    IDS,
    st.none() | st.text(max_size=4),
    st.sampled_from(["create", "update", "delete", "unknown"]),
    st.none() | st.text(max_size=9).map(str.encode),
)


def told(
    resource: dict[str, Any] | str, op: Op = "update", *, body: bool = False, version: str | None = None
) -> Change:
    """Make the change that a server tells of a resource, or of `Type/id`."""
    if isinstance(resource, str):
        kind, _, fhir_id = resource.partition("/")
        return Change("test", kind, fhir_id, version, op, None)
    text = json.dumps(resource).encode() if body else None
    return Change("test", resource["resourceType"], resource["id"], version, op, text)


async def outcome_of(it: World, *told_of: Change) -> dict[str, Any]:
    """Hand changes over, do what is due now, and return the outcome."""
    reply = await it.relay.inbound.changes(told_of)
    assert reply.status == 202
    await it.work()
    outcome = (await it.relay.inbound.status(reply.job)).body
    assert outcome is not None
    return dict(outcome)


@settings(max_examples=40, deadline=None)
@given(st.lists(changes, max_size=6))
def test_what_is_kept_is_what_was_told(listed: list[Change]) -> None:
    """Changes come back from their JSON as they were, and collapsed there is one for each resource, the same each time."""
    assert load_changes(dump_changes(listed)) == listed
    once = collapse(listed)
    assert [each.key for each in once] == list(dict.fromkeys(each.key for each in listed))
    assert collapse(once) == once
    for each in once:
        alike = [other for other in listed if other.key == each.key]
        assert each == alike[0] if set(alike) == {each} else each in [other.bare for other in alike]


@pytest.mark.parametrize(
    ("kind", "fhir_id"), [("patient", "1"), ("Patient", ".."), ("Patient", "a/b"), ("Patient", "")]
)
def test_a_change_is_of_a_legal_type_and_id(kind: str, fhir_id: str) -> None:
    """What would name something else in a URL is no change."""
    with pytest.raises(Refused, match="no FHIR type and id"):
        Change("test", kind, fhir_id, None, "update", None)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"changes":[[]]}', b'{"changes":[["s","Patient","1",null,"burn",null]]}']
)
def test_what_is_no_list_of_changes(data: bytes) -> None:
    """A payload that is none is refused by its code."""
    with pytest.raises(Refused) as refused:
        load_changes(data)
    assert refused.value.code == "bad-message"


async def test_with_a_body_it_is_carried_out_as_a_bundle_is(tmp_path: Path) -> None:
    """Locate and write, then read and PUT: what was told is no base for a PUT, unless sent bodies are trusted."""
    async with world(tmp_path) as it:
        await it.put(patient())
        it.forget_calls()
        outcome = await outcome_of(it, told(patient(), "create", body=True))
        assert results(outcome) == {"Patient/p1": "created"}
        assert outcome["entries"][0]["writeback"] == "written"
        assert outcome["receipt"]["calls"] == it.calls() == {"dataverse": 2, "fhir": 2}
        assert (await it.read("Patient", "p1"))["identifier"][-1]["system"] == URN


async def test_without_a_body_it_is_read_once(tmp_path: Path) -> None:
    """The one read of a batch is also what the PUTs go by, however many resources were told of."""
    async with world(tmp_path) as it:
        await it.put(patient(), patient("p2"))
        it.forget_calls()
        outcome = await outcome_of(it, told("Patient/p1"), told("Patient/p2"))
        assert results(outcome) == {"Patient/p1": "created", "Patient/p2": "created"}
        assert [each["writeback"] for each in outcome["entries"]] == ["written", "written"]
        assert outcome["receipt"]["calls"] == it.calls() == {"dataverse": 2, "fhir": 2}


@pytest.mark.parametrize("body", [True, False])
async def test_an_echo_is_one_locate(tmp_path: Path, body: bool) -> None:
    """The change that our own PUT makes changes nothing: it is located, and there it ends."""
    async with world(tmp_path, fhir_versions="ordered") as it:
        await it.put(patient())
        await outcome_of(it, told("Patient/p1"))
        echo = await it.read("Patient", "p1")
        versions = it.versions("Patient/p1")
        it.forget_calls()
        outcome = await outcome_of(it, told(echo, body=body))
        assert results(outcome) == {"Patient/p1": "unchanged"}
        assert outcome["entries"][0]["writeback"] == "present"
        assert it.calls() == {"dataverse": 1, "fhir": 0 if body else 1}
        await it.settle()
        assert it.versions("Patient/p1") == versions


async def test_the_newest_of_several_counts(tmp_path: Path) -> None:
    """Whatever was told of one resource and in whatever order, what the server has now is written."""
    async with world(tmp_path) as it:
        await it.put(patient(gender="male"))
        older = await it.read("Patient", "p1")
        await it.put(patient(gender="female"))
        newer = await it.read("Patient", "p1")
        outcome = await outcome_of(it, told(newer, body=True), told(older, body=True), told("Patient/p1"))
        assert results(outcome) == {"Patient/p1": "created"}
        assert [row["gendercode"] for row in await it.rows("contacts")] == [2]


async def test_what_is_gone_is_a_delete_entry(tmp_path: Path) -> None:
    """A deletion, and a read that is answered 410, ask for DELETE: the same that a bundle's DELETE entry asks for."""
    async with world(tmp_path) as it:
        await it.put(patient("gone"))
        await it.fhir_http.delete("/Patient/gone")
        named = ("Patient/gone", "Patient/told")
        entries = [{"request": {"method": "DELETE", "url": each}} for each in named]
        posted = await it.post({"resourceType": "Bundle", "type": "batch", "entry": entries})
        assert posted.body is not None
        it.forget_calls()
        outcome = await outcome_of(it, told(named[0]), told(named[1], "delete"))
        assert results(outcome) == results(posted.body)
        assert codes(outcome) == codes(posted.body)


@pytest.mark.parametrize("op", ["create", "update", "unknown"])
async def test_what_is_not_there_yet_comes_again(tmp_path: Path, op: Op) -> None:
    """A resource that was told of before a read finds it (404) is tried until it is there: it is not taken for deleted."""
    async with world(tmp_path) as it:
        outcome = await outcome_of(it, told("Patient/p1", op))
        assert codes(outcome) == {"Patient/p1": ["unknown-on-server"]}
        await it.put(patient())
        await it.settle()
        assert (await it.read("Patient", "p1"))["identifier"][-1]["system"] == URN
        assert await it.dead() == []


async def test_what_is_never_there_needs_a_person(tmp_path: Path) -> None:
    """After RELAY_RETRY_FOR it is a dead letter, and the row, if there is one, stays in use."""
    async with world(tmp_path, retry_for=timedelta(minutes=10)) as it:
        await it.post(patient())
        await it.relay.inbound.changes([told("Patient/p1")])
        await it.settle(within=timedelta(days=2))
        assert await it.dead() == ["unknown-on-server"]
        assert [row["statecode"] for row in await it.rows("contacts")] == [0]


async def test_one_that_is_too_deep_fails_alone(tmp_path: Path) -> None:
    """As deep as a resource may be it is carried out; deeper, in the bundle that is made of it too, the others go on."""
    async with world(tmp_path, max_depth=20, fhir_versions="ordered") as it:

        def nested(fhir_id: str, depth: int) -> dict[str, Any]:
            value: Any = 1
            for _ in range(depth - 1):
                value = [value]
            return patient(fhir_id, x=value)

        deepest, deeper = nested("deepest", 20), nested("deeper", 21)
        await it.put(patient(), deepest)
        outcome = await outcome_of(it, told("Patient/p1"), told(deepest, body=True), told(deeper, body=True))
        assert codes(outcome) == {"Patient/p1": [], "Patient/deepest": [], "Patient/deeper": ["too-deep"]}
        assert await it.dead() == ["too-deep"]


async def test_changes_that_cannot_be_read_at_all_need_a_person(tmp_path: Path) -> None:
    """Nobody waits for the outcome of what was told: what is refused as a whole is kept."""
    async with world(tmp_path) as it:
        reply = await it.relay.inbound.changes([told("Patient/p1")])
        await it.store.put_blob("relay-payloads", reply.job, b"{}")
        await it.settle()
        assert await it.dead() == ["bad-message"]


async def test_a_type_without_a_map_is_dropped_at_once(tmp_path: Path) -> None:
    """Nothing is kept and nothing asked for a type that no map speaks for; with others it is left out of what is kept."""
    async with world(tmp_path) as it:
        await it.put(patient())
        it.forget_calls()
        assert (await it.relay.inbound.changes([told("Subscription/s1")])).status == 200
        assert await it.store.next_visible("inbound") is None
        assert results(await outcome_of(it, told("Subscription/s1"), told("Patient/p1"))) == {"Patient/p1": "created"}


async def test_kept_while_the_maps_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told while no map can be used is kept, and carried out once they can."""
    async with world(tmp_path) as it:
        await it.put(patient())

        def wrong() -> None:
            raise MapError("maps/patient.yaml:1: wrong")

        gatherer = it.relay.inbound._gatherer
        with monkeypatch.context() as patched:
            patched.setattr(gatherer, "_maps", wrong)
            reply = await it.relay.inbound.changes([told("Patient/p1"), told("Subscription/s1")])
        assert reply.status == 202
        await it.settle()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert results(dict(outcome)) == {"Patient/p1": "created"}


async def test_what_cannot_be_kept_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and a time to come again, with neither payload nor message left."""
    async with world(tmp_path) as it:

        async def send(*_: object, **__: object) -> None:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(it.store, "send", send)
            reply = await it.relay.inbound.changes([told("Patient/p1")])
        assert (reply.status, reply.retry_after) == (503, 30)
        assert await it.store.list_blobs("relay-payloads") == []


@pytest.mark.parametrize("inside", [False, True])
async def test_a_busy_server_is_asked_again(tmp_path: Path, inside: bool) -> None:
    """A server that is away or busy, for the call or for one of its entries, puts the changes off."""
    async with world(tmp_path) as it:
        await it.put(patient(), patient("p2"))
        busy = {"resource": None, "response": {"status": "429 Too Many Requests"}}
        answer = {"resourceType": "Bundle", "type": "batch-response", "entry": [busy, busy]}
        fault = Fault(method="POST", status=200, body=answer) if inside else Fault(method="POST", status=503)
        it.fhir.faults.append(fault)
        reply = await it.relay.inbound.changes([told("Patient/p1"), told("Patient/p2")])
        await it.settle()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert results(dict(outcome)) == {"Patient/p1": "created", "Patient/p2": "created"}


async def test_what_waits_for_a_reference_comes_again(tmp_path: Path) -> None:
    """An encounter told of before its patient is tried until the patient has a row, and then has its identifier."""
    async with world(tmp_path) as it:
        await it.put(patient(), encounter(), care_plan())
        outcome = await outcome_of(it, told(encounter(), body=True), told(care_plan()))
        assert codes(outcome) == {"Encounter/e1": ["unresolved-reference"], "CarePlan/c1": ["unresolved-reference"]}
        await outcome_of(it, told("Patient/p1"))
        await it.settle()
        assert len((await it.read("Encounter", "e1"))["identifier"]) == 2
        assert len(await it.rows("msemr_careplans")) == 1
        assert await it.dead() == []


async def test_a_reference_that_never_comes_needs_a_person(tmp_path: Path) -> None:
    """After RELAY_RETRY_FOR what waits is a dead letter, which names its resource as a keyed hash."""
    async with world(tmp_path, retry_for=timedelta(minutes=10)) as it:
        await it.put(encounter())
        await it.relay.inbound.changes([told("Encounter/e1")])
        await it.settle(within=timedelta(days=2))
        ((_, _, letter),) = await it.store.list_rows("deadletters")
        assert letter["code"] == "unresolved-reference"
        assert letter["subject"] == it.relay.pseudonyms("inbound", "Encounter", "e1")
        body = json.loads(await it.store.get_blob("relay-dead", str(letter["body"])) or b"")
        assert [each.key for each in load_changes(body["body"].encode())] == [("Encounter", "e1")]
        assert await it.store.list_blobs("relay-payloads") == []


async def test_one_bad_of_three(tmp_path: Path) -> None:
    """What the server refuses to show, and what cannot be read, fails alone and needs a person; the others go on."""
    async with world(tmp_path, max_string=100_000) as it:
        await it.put(patient(), patient("long", gender="x" * 100_001))

        async def refuse(request: httpx.Request) -> None:
            content = await request.aread()
            if b"Patient/secret" in content:
                entries = [await _read(it, "p1"), await _read(it, "long"), {"response": {"status": "403"}}]
                it.fhir.faults.append(Fault(method="POST", status=200, body=_answer(entries)))

        it.to_fhir.before.append(refuse)
        outcome = await outcome_of(it, told("Patient/p1"), told("Patient/long"), told("Patient/secret"))
        assert codes(outcome) == {
            "Patient/p1": [],
            "Patient/long": ["string-too-long"],
            "Patient/secret": ["fhir-403"],
        }
        assert sorted(await it.dead()) == ["fhir-403", "string-too-long"]


async def _read(it: World, fhir_id: str) -> dict[str, Any]:
    return {"resource": await it.read("Patient", fhir_id), "response": {"status": "200 OK"}}


def _answer(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "batch-response", "entry": entries}


async def test_by_event_the_put_is_the_events(tmp_path: Path) -> None:
    """Under RELAY_WRITEBACK=event a change writes the row, and the row's event brings the identifier."""
    async with world(tmp_path, writeback="event") as it:
        await it.put(patient())
        outcome = await outcome_of(it, told("Patient/p1"))
        assert outcome["entries"][0]["writeback"] == "queued"
        await it.settle()
        assert (await it.read("Patient", "p1"))["identifier"][-1]["system"] == URN


async def test_a_payload_that_is_none_is_remembered_as_failed(tmp_path: Path) -> None:
    """A damaged payload ends as a failed outcome, not as a message that comes for ever."""
    async with world(tmp_path) as it:
        reply = await it.relay.inbound.changes([told("Patient/p1")])
        await it.store.put_blob("relay-payloads", reply.job, b"damaged")
        await it.settle()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert [each["code"] for each in outcome["issues"]] == ["bad-message"]

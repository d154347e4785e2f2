"""A large bundle is carried out in windows, each of which needs only what came before: the end is that of one piece."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_plan_properties import IDS, bundles, circles, claims, drafts, edits, identifiers, options, user_does
from test_who_is_it import maps_that_match

from devstack.control import Fault
from relay.dataverse.keys import row_key
from relay.inbound import intake
from relay.inbound.ahead import look_ahead
from relay.inbound.entries import Entry, Incoming
from relay.inbound.locate import Wanted
from relay.inbound.located import Located
from relay.inbound.operations import Planned
from relay.inbound.plan import PlanOptions
from relay.inbound.references import References
from relay.inbound.windows import Ties, windows
from relay.mapping.load import MapSet, load_maps
from relay.mapping.model import ByFhirId, Draft
from relay.mapping.translate import translate
from support.memory import Memory
from support.mishaps import once, writes_rows
from support.samples import GUID, PATIENT, bundle, codes, encounter, organization, patient, practitioner, results
from support.state import state
from support.world import shipped_maps, world

Json = dict[str, Any]
DENIED = "0x80040220"
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def told(done: dict[int, Planned]) -> dict[int, tuple[str, list[str], str]]:
    """Return result, issue codes and row of each resource."""
    return {number: (each.result, [issue.code for issue in each.issues], each.row_id) for number, each in done.items()}


def rows(memory: Memory) -> Json:
    """Return all rows without their versions."""
    return {
        table: {guid: {k: v for k, v in row.items() if k != "@odata.etag"} for guid, row in found.items()}
        for table, found in memory.tables.items()
        if found
    }


@quick
@given(sent=st.one_of(bundles(), circles()), before=bundles(), most=st.integers(1, 4), chosen=options)
def test_windows_end_as_one_piece(sent: list[Json], before: list[Json], most: int, chosen: PlanOptions) -> None:
    """Whatever refers to what, in windows of any size the rows and what is said of each resource are those of one piece."""
    whole = Memory(shipped_maps())
    whole.send(drafts(before), chosen)
    parts = deepcopy(whole)
    listed = drafts(sent)
    done = whole.send(listed, chosen)
    in_parts: dict[int, Planned] = {}
    for window in windows(listed, most, "fhir"):
        in_parts |= parts.send({number: listed[number] for number in window}, chosen)
    assert rows(parts) == rows(whole)
    assert told(in_parts) == told(done)


@quick
@given(sent=st.one_of(bundles(), circles()), most=st.integers(1, 4))
def test_each_resource_is_in_one_window_after_what_it_needs(sent: list[Json], most: int) -> None:
    """Every draft is in exactly one window, none refers to a later one, and only what belongs together is over the size."""
    listed = drafts(sent)
    cut = windows(listed, most, "fhir")
    assert sorted(number for window in cut for number in window) == sorted(listed)
    place = {(listed[n].map.resource, listed[n].id): at for at, window in enumerate(cut) for n in window}
    for at, window in enumerate(cut):
        for number in window:
            assert all(place.get((each.type, each.id), 0) <= at for each in _references(listed[number]))
    for one, other in itertools.pairwise(cut):
        assert len(one) > most or len(other) > 0


def _references(draft: Draft) -> list[ByFhirId]:
    return [each for each in draft.lookups.values() if isinstance(each, ByFhirId)]


@cache
def matching() -> MapSet:
    """Read the shipped maps with a Patient that matches on last name and birth date."""
    with tempfile.TemporaryDirectory() as folder:
        return load_maps(maps_that_match(Path(folder)))


def referring(sent: Sequence[Mapping[str, Any]]) -> dict[int, Draft]:
    """Return the drafts of resources through maps that match, their references read as those of a bundle are."""
    entries = [Entry(at, dict(each), key=(each["resourceType"], each["id"])) for at, each in enumerate(sent)]
    references = References(Incoming("batch", tuple(entries)), fhir_url="http://fhir")
    made = {}
    for entry in entries:
        entity_map = matching().for_resource(entry.resource_type)
        assert entity_map is not None
        made[entry.index] = translate(entity_map, entry.resource or {}, references.resolver(entry))
    return made


@st.composite
def entangled(draw: st.DrawFn) -> list[Json]:
    """Draw patients who may be one row in several ways, and encounters that name them by id or by an identifier."""
    sent: list[Json] = []
    for fhir_id in IDS:
        body = {"resourceType": "Patient", "id": fhir_id, "name": [{"family": draw(st.sampled_from("FG"))}]}
        sent.append(
            {**body, "birthDate": "1980-01-01", "identifier": draw(identifiers) + draw(claims("Patient", fhir_id))}
        )
        subject = draw(st.sampled_from([{"reference": f"Patient/{draw(st.sampled_from(IDS))}"}, None]))
        by_identifier = {"type": "Patient", "identifier": {"system": "s", "value": draw(st.sampled_from("12"))}}
        sent.append(
            {"resourceType": "Encounter", "id": fhir_id, "status": "planned", "subject": subject or by_identifier}
        )
    return draw(st.permutations(sent))[draw(st.integers(0, 3)) :]


def looked_ahead(memory: Memory, listed: dict[int, Draft]) -> Ties:
    """Look ahead into these rows."""

    async def read(wanted: Wanted) -> Located:
        return memory.read(wanted)

    return asyncio.run(look_ahead(listed, read))


@settings(quick, max_examples=15)
@given(
    sent=entangled(),
    before=entangled(),
    changes=st.lists(edits, max_size=4),
    most=st.integers(1, 3),
    chosen=options,
)
def test_who_may_be_one_row_is_settled_together(
    sent: list[Json], before: list[Json], changes: list[tuple[str, int, int]], most: int, chosen: PlanOptions
) -> None:
    """Claims, match columns and identifiers that several have to do with mean in windows what they mean in one piece."""
    whole = Memory(matching())
    whole.send(referring(before), chosen)
    for change in changes:
        user_does(whole, *change)
    parts = deepcopy(whole)
    listed = referring(sent)
    known = looked_ahead(parts, listed)
    done = whole.send(listed, chosen)
    in_parts: dict[int, Planned] = {}
    for window in windows(listed, most, "fhir", known):
        in_parts |= parts.send({number: listed[number] for number in window}, chosen)
    assert told(in_parts) == told(done)
    assert rows(parts) == rows(whole)


def person(fhir_id: str, *values: str) -> Json:
    """Return a patient with these identifiers of one system; all of them have one name and one birth date."""
    named = {"name": [{"family": "F"}], "birthDate": "1980-01-01"}
    return {
        "resourceType": "Patient",
        "id": fhir_id,
        **named,
        "identifier": [{"system": "s", "value": each} for each in values],
    }


def visit(value: str) -> Json:
    """Return an encounter of whoever has that identifier."""
    subject = {"type": "Patient", "identifier": {"system": "s", "value": value}}
    return {"resourceType": "Encounter", "id": "e", "status": "planned", "subject": subject}


def one_by_one(memory: Memory, sent: list[Json]) -> dict[str, str]:
    """Carry resources out in the smallest windows that there may be; returns result or code of each, by id."""
    listed = referring(sent)
    done: dict[int, Planned] = {}
    for window in windows(listed, 1, "fhir", looked_ahead(memory, listed)):
        done |= memory.send({number: listed[number] for number in window}, PlanOptions())
    return {each.draft.id: (each.issues[0].code if each.result == "failed" else each.result) for each in done.values()}


def test_an_identifier_of_two_patients_is_nobodys() -> None:
    """Two patients of a bundle have the identifier that is referred to: no window sees one of them without the other."""
    memory = Memory(matching())
    sent = [person("a", "1"), visit("1"), person("b", "1") | {"birthDate": "1990-01-01"}]
    assert one_by_one(memory, sent) == {"a": "created", "b": "created", "e": "unresolved-reference"}
    assert memory.rows("msemr_encounter") == {}


@pytest.mark.parametrize("order", ["abe", "aeb", "bea", "eab"])
def test_an_identifier_of_two_is_nobodys_in_any_order(order: str) -> None:
    """Who refers to an identifier that two resources carry is bound to neither, whichever of the three comes first."""
    sent = {"a": person("a", "1"), "b": person("b", "1") | {"birthDate": "1990-01-01"}, "e": visit("1")}
    memory = Memory(matching())
    done = one_by_one(memory, [sent[each] for each in order])
    assert done == {"a": "created", "b": "created", "e": "unresolved-reference"}


def test_a_common_identifier_of_nobody_in_the_bundle_ties_nothing() -> None:
    """Those that refer to somebody who did not come with them may be worked on apart."""
    listed = referring([visit("1") | {"id": f"e{number}"} for number in range(4)])
    known = looked_ahead(Memory(matching()), listed)
    assert [len(window) for window in windows(listed, 2, "fhir", known)] == [2, 2]


def test_an_identifier_that_the_bundle_corrects_is_found() -> None:
    """Whoever has the identifier before the bundle is meant by it, though the bundle takes it away."""
    memory = Memory(matching())
    memory.save("contact", GUID, {"msemr_azurefhirid": "a", "msemr_contacttype": PATIENT})
    item = {"prefix_system": "s", "prefix_value": "1", "_prefix_patient_value": GUID}
    memory.save("prefix_patientidentifier", row_key("fhir", "Patient", "x"), item)
    sent = [person("a", "2"), person("b", "3") | {"birthDate": "1990-01-01"}, visit("1")]
    assert windows(referring(sent), 1, "fhir", looked_ahead(memory, referring(sent))) == [[0, 2], [1]]
    assert one_by_one(memory, sent)["e"] == "created"
    (row,) = memory.rows("msemr_encounter").values()
    assert row["_msemr_encounterpatientidentifier_value"] == GUID


def test_a_row_that_one_claims_and_another_matches_is_nobodys() -> None:
    """A row that two patients mean in different ways is refused to both of them, in windows too."""
    memory = Memory(matching())
    memory.save("contact", GUID, {"lastname": "F", "birthdate": "1980-01-01", "msemr_contacttype": PATIENT})
    claim = person("b") | {
        "birthDate": "1990-01-01",
        "identifier": [{"system": "urn:oid:org.d365.mc4h.patient.id", "value": GUID}],
    }
    assert one_by_one(memory, [person("a"), claim]) == {"a": "identity-conflict", "b": "identity-conflict"}


def test_nothing_is_read_ahead_without_need() -> None:
    """Where nobody matches by columns and nobody is referred to by an identifier, looking ahead asks for nothing."""

    async def read(_wanted: Wanted) -> Located:
        raise AssertionError("nothing had to be read")

    listed = drafts([patient("p1"), encounter("e1")])
    assert asyncio.run(look_ahead(listed, read)) == Ties()


def test_a_dynamics_identifier_that_is_referred_to_ties_to_its_row() -> None:
    """A reference by the Dynamics identifier belongs with whoever claims that row, as its identifier row is written there."""
    subject = {"type": "Patient", "identifier": {"system": "urn:oid:org.d365.mc4h.patient.id", "value": GUID.upper()}}
    claims_it = {"identifier": [{"system": "urn:oid:org.d365.mc4h.patient.id", "value": GUID}]}
    sent = [visit("1") | {"subject": subject}, person("a") | claims_it, person("b") | claims_it]
    assert windows(referring(sent), 1, "fhir") == [[0, 1, 2]]


async def test_windows_do_not_guess_who_is_meant(tmp_path: Path) -> None:
    """End to end: an identifier that two patients have ties no encounter to either, and a row claimed and matched stays."""
    async with world(tmp_path, window=1, maps=maps_that_match(tmp_path), events=False) as it:
        row = {"lastname": "F", "birthdate": "1980-01-01", "msemr_contacttype": PATIENT, "contactid": GUID}
        assert (await it.http.post("/api/data/v9.2/contacts", json=row)).is_success
        twins = [person(each, "1") | {"birthDate": f"199{each}-01-01"} for each in "12"]
        claim = {"identifier": [{"system": "urn:oid:org.d365.mc4h.patient.id", "value": GUID}]}
        other = person("c") | claim | {"birthDate": "1970-01-01"}
        sent = [twins[0], visit("1"), twins[1], person("a"), other]
        await it.put(*sent)
        reply = await it.post(bundle(*sent))
        assert codes(dict(reply.body or {})) == {
            "Patient/1": [],
            "Patient/2": [],
            "Encounter/e": ["unresolved-reference"],
            "Patient/a": ["identity-conflict"],
            "Patient/c": ["identity-conflict"],
        }
        assert await it.rows("msemr_encounters") == []


def test_windows_go_level_by_level() -> None:
    """What refers to nothing comes first, table by table: so a bulk write has as many rows in windows as in one piece."""
    sent = [encounter(), patient(), encounter("e2", "Patient/p2"), organization(), patient("p2"), organization("o2")]
    assert windows(drafts(sent), 2, "fhir") == [[3, 5], [1, 4], [0, 2]]


def test_a_bundle_that_fits_is_one_window() -> None:
    """Up to the size of a window a bundle stays whole, in its own order; an empty one has no windows."""
    listed = drafts([patient("p2"), patient("p1")])
    assert windows(listed, 2, "fhir") == [[0, 1]]
    assert windows({}, 2, "fhir") == []


async def test_a_bundle_in_windows_is_carried_out(tmp_path: Path) -> None:
    """References backwards and forwards, rows, identifiers and the outcome in the bundle's order, in windows of two."""
    sent = [
        encounter("e1", subject="Patient/p1"),
        patient("p1", practitioner="Practitioner/d1"),
        practitioner("d1"),
        organization("o1"),
        patient("p2"),
    ]
    async with world(tmp_path, window=2) as it:
        await it.put(*sent)
        it.forget_calls()
        reply = await it.post(bundle(*sent))
        assert reply.status == 200, reply.body
        outcome = dict(reply.body or {})
        assert [each["index"] for each in outcome["entries"]] == list(range(5))
        assert set(results(outcome).values()) == {"created"}
        assert {each["writeback"] for each in outcome["entries"]} == {"written"}
        assert outcome["receipt"]["calls"] == it.calls()
        (row,) = await it.rows("msemr_encounters")
        (first,) = await it.rows("contacts", "msemr_azurefhirid eq 'p1'")
        assert row["_msemr_encounterpatientidentifier_value"] == first["contactid"]
        again = await it.post(bundle(*sent))
        assert set(results(dict(again.body or {})).values()) == {"unchanged"}
        await it.settle()


@pytest.mark.parametrize("chosen", [{"writeback": "event"}, {"trust_sent_bodies": True}, {"write": "fewest-calls"}])
async def test_windows_beside_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    """In windows, decoded entry by entry, by events or with sent bodies trusted: the two databases end as in one piece."""
    monkeypatch.setattr(intake.read_bundle, "__kwdefaults__", {**(intake.read_bundle.__kwdefaults__ or {}), "large": 0})
    sent = [encounter(f"e{n}", subject=f"Patient/p{n}") for n in range(3)] + [patient(f"p{n}") for n in range(3)]
    ends = []
    for window in (100, 2):
        async with world(tmp_path / str(window), window=window, **chosen) as it:
            await it.put(*sent)
            stored = [await it.read(each["resourceType"], each["id"]) for each in sent]
            assert (await it.post(bundle(*stored))).status == 200
            await it.settle()
            ends.append(await state(it))
    assert ends[0] == ends[1]


async def test_a_side_that_gets_busy_between_windows(tmp_path: Path) -> None:
    """What was done stays, the rest is done later, once; nothing that refers to what is still missing fails for it."""
    sent = [encounter(f"e{n}", subject=f"Patient/p{n}") for n in range(3)] + [patient(f"p{n}") for n in range(3)]
    async with world(tmp_path, window=2, write="fewest-calls") as it:
        await it.put(*sent)
        it.dataverse.faults.append(Fault(path=r"\$batch", after=3, times=6, status=503))
        reply = await it.post(bundle(*sent))
        assert reply.status == 202
        await it.settle()
        outcome = dict((await it.relay.inbound.status(reply.job)).body or {})
        assert outcome["status"] == "succeeded"
        assert set(results(outcome).values()) <= {"created", "unchanged"}
        assert len(await it.rows("msemr_encounters")) == len(await it.rows("contacts")) == 3


@pytest.mark.parametrize("later", [False, True], ids=["first", "second"])
async def test_what_was_done_before_an_end_is_told(tmp_path: Path, later: bool) -> None:
    """A right that is missing ends a bundle; the rows of the windows before it are in the outcome, the rest failed for that."""
    async with world(tmp_path, window=1, events=False) as it:
        await it.put(patient("p1"), patient("p2"))

        async def deny(request: httpx.Request) -> None:
            if f"'p{1 + later}'" in request.content.decode():
                it.dataverse.faults.append(Fault(path="batch", status=403, body={"error": {"code": DENIED}}))

        it.to_dataverse.before.append(deny)
        reply = await it.post(bundle(patient("p1"), patient("p2")))
        outcome = dict(reply.body or {})
        assert [issue["code"] for issue in outcome["issues"]] == [DENIED]
        assert await it.dead() == [DENIED]
        if not later:
            assert (reply.status, outcome["entries"]) == (422, [])
            return
        assert (reply.status, outcome["status"]) == (207, "partial")
        assert results(outcome) == {"Patient/p1": "created", "Patient/p2": "failed"}
        assert codes(outcome) == {"Patient/p1": [], "Patient/p2": [DENIED]}
        assert outcome["receipt"]["rows"]["created"] == 4
        (row,) = await it.rows("contacts")
        assert outcome["entries"][0]["row"]["id"] == row["contactid"]


async def test_rows_of_the_window_that_ends_are_told_too(tmp_path: Path) -> None:
    """One of two patients loses a race, and may not be read then: the other one's row is there, and is told with why it ended."""
    async with world(tmp_path, events=False) as it:
        await it.put(patient("p1"), patient("p2"))

        async def overtake() -> None:
            taken = {"contactid": row_key("fhir", "Patient", "p2"), "lastname": "Taken"}
            assert (await it.http.post("/api/data/v9.2/contacts", json=taken)).is_success
            it.dataverse.faults.append(Fault(path="batch", after=1, status=403, body={"error": {"code": DENIED}}))

        once(it.to_dataverse, writes_rows, overtake)
        reply = await it.post(bundle(patient("p1"), patient("p2")))
        outcome = dict(reply.body or {})
        assert (reply.status, outcome["status"]) == (207, "partial")
        assert results(outcome) == {"Patient/p1": "created", "Patient/p2": "failed"}
        assert codes(outcome) == {"Patient/p1": [DENIED], "Patient/p2": [DENIED]}
        (row,) = await it.rows("contacts", "msemr_azurefhirid eq 'p1'")
        assert outcome["entries"][0]["row"]["id"] == row["contactid"]
        assert (outcome["entries"][0]["writeback"], outcome["entries"][1]["row"]) == ("none", None)
        assert await it.dead() == [DENIED]

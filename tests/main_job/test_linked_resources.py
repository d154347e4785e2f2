"""`create: linked`: what nothing ties to Dataverse is passed over, and what is tied by way of others is not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.keys import row_key
from support.made_up import PATIENT, PRACTITIONER, care_team, maps_folder
from support.mishaps import answering
from support.refusals import holds, refuses
from support.samples import bundle, codes, encounter, patient, practitioner, results
from support.users import deletes, makes
from support.world import ROOT, URN, World, world

ENCOUNTER = """
resource: Encounter
table: msemr_encounter
key: msemr_azurefhirid
create: linked
identifier:
  system: urn:oid:org.d365.mc4h.encounter.id
  table: prefix_encounteridentifier
  lookup: prefix_encounter
  system_column: prefix_system
  value_column: prefix_value
attributes:
  - {column: msemr_encounterpatientidentifier, reference: $.subject, targets: {Patient: contact}}
  - {column: msemr_encounterparentencounteridentifier, reference: $.partOf, targets: {Encounter: msemr_encounter}}
  - {column: msemr_encounterpriority, concept: $.priority, type: Priority}
  - {column: msemr_name, copy: $.class.code}
"""

SHIPPED_PATIENT = (ROOT / "maps" / "patient.yaml").read_text(encoding="utf-8")

Json = dict[str, Any]


def maps(folder: Path) -> Path:
    """Return the folder of maps; encounters and care teams are created if they are linked."""
    team = care_team().replace("key: msemr_azurefhirid", "key: msemr_azurefhirid\ncreate: linked")
    return maps_folder(folder, PATIENT, PRACTITIONER, ENCOUNTER, team)


def visit(fhir_id: str = "e1", subject: str = "", part_of: str = "", **more: Any) -> Json:
    """Return an encounter that refers to these, if they are named."""
    made: Json = {"resourceType": "Encounter", "id": fhir_id, "class": {"code": "AMB"}, **more}
    if subject:
        made["subject"] = {"reference": subject}
    if part_of:
        made["partOf"] = {"reference": part_of}
    return made


async def send(it: World, *resources: Json, status: int = 200) -> Json:
    """Send resources that the FHIR server has too; returns the outcome."""
    await it.put(*resources)
    reply = await it.post(bundle(*resources))
    assert reply.body is not None
    assert reply.status == status, reply.body
    return dict(reply.body)


def told(outcome: Json, resource: str) -> list[tuple[str, str]]:
    """Return (severity, code) of what is said of one resource."""
    (entry,) = (each for each in outcome["entries"] if each["resource"] == resource)
    return [(issue["severity"], issue["code"]) for issue in entry["issues"]]


@pytest.mark.parametrize(
    "loose",
    [
        visit(),
        visit(subject="Patient/nobody"),
        visit(part_of="Encounter/e1"),
        visit(priority={"coding": [{"code": "EM"}]}),
        {"resourceType": "CareTeam", "id": "t1", "participant": [{"member": {"reference": "Patient/nobody"}}]},
    ],
    ids=["no-reference", "nobody-there", "itself", "a-concept", "below"],
)
async def test_what_nothing_ties_is_skipped(tmp_path: Path, loose: Json) -> None:
    """No row, no concept and no write-back come of it, and the outcome says why."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        outcome = await send(it, loose)
        (entry,) = outcome["entries"]
        assert (outcome["status"], entry["result"], entry["row"], entry["writeback"]) == (
            "succeeded",
            "skipped",
            None,
            "none",
        )
        assert told(outcome, entry["resource"]) == [("information", "not-linked")]
        for entity_set in ("msemr_encounters", "msemr_careteams", "msemr_codeableconcepts"):
            assert await it.rows(entity_set) == []
        assert it.versions(entry["resource"]) == 1


async def test_a_reference_to_a_row_that_is_there_links(tmp_path: Path) -> None:
    """The same encounter is passed over before its patient has a row, and created after; once there, it is updated."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        assert results(await send(it, visit(subject="Patient/p1"))) == {"Encounter/e1": "skipped"}
        await send(it, patient())
        assert results(await send(it, visit(subject="Patient/p1"))) == {"Encounter/e1": "created"}
        await deletes(it, "contacts", row_key("fhir", "Patient", "p1"))
        loose = {**visit(), "class": {"code": "EMER"}}
        assert results(await send(it, loose)) == {"Encounter/e1": "updated"}
        assert results(await send(it, loose)) == {"Encounter/e1": "unchanged"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order)))
async def test_being_tied_by_way_of_others_is_enough(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Of a chain whose end refers to a row of this bundle all are created, in whatever order they come."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        sent = [visit("e1", part_of="Encounter/e2"), visit("e2", subject="Patient/p1"), patient()]
        outcome = await send(it, *(sent[number] for number in order))
        assert set(results(outcome).values()) == {"created"}


async def test_a_circle_that_nothing_ties(tmp_path: Path) -> None:
    """Two that refer only to each other are both passed over; a third thing that ties one of them ties both."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        loose = [visit("e1", part_of="Encounter/e2"), visit("e2", part_of="Encounter/e1")]
        assert set(results(await send(it, *loose)).values()) == {"skipped"}
        tied = [loose[0], visit("e2", part_of="Encounter/e1", subject="Patient/p1"), patient()]
        assert set(results(await send(it, *tied)).values()) == {"created"}


async def test_a_reference_of_a_child_row_links(tmp_path: Path) -> None:
    """A care team whose participant has a row is linked, although the team itself refers to nothing."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        members = [{"member": {"reference": "Practitioner/d1"}}]
        outcome = await send(it, {"resourceType": "CareTeam", "id": "t1", "participant": members}, practitioner())
        assert results(outcome)["CareTeam/t1"] == "created"


async def test_a_linked_resource_still_needs_all_its_references(tmp_path: Path) -> None:
    """One that is there ties it, one that is missing refuses it: being skipped is for what has none."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient())
        outcome = await send(it, visit(subject="Patient/p1", part_of="Encounter/nobody"), status=422)
        assert codes(outcome) == {"Encounter/e1": ["unresolved-reference"]}


@pytest.mark.parametrize(("row_gone", "result"), [("fail", "failed"), ("recreate", "created")])
async def test_a_dynamics_identifier_links(tmp_path: Path, row_gone: str, result: str) -> None:
    """A resource that carries one was in Dataverse: its row exists or is gone, which is settled as ever."""
    async with world(tmp_path, maps=maps(tmp_path), row_gone=row_gone) as it:
        claim = [{"system": URN.format("encounter"), "value": "6f9619ff-8b86-4d11-b42d-00c04fc964ff"}]
        outcome = await send(it, visit(identifier=claim), status=200 if result == "created" else 422)
        assert results(outcome) == {"Encounter/e1": result}
        assert codes(outcome) == {"Encounter/e1": ["row-gone"] if result == "failed" else []}


@pytest.mark.parametrize("backwards", [False, True])
async def test_what_is_refused_ties_nothing(tmp_path: Path, backwards: bool) -> None:
    """A row that this bundle does not write after all is no link, whichever comes first and whenever it is refused."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        lost = visit("e2", subject="Patient/p1", part_of="Encounter/nobody")
        sent = [visit("e1", part_of="Encounter/e2"), lost, patient()]
        outcome = await send(it, *(reversed(sent) if backwards else sent), status=207)
        assert results(outcome) == {"Encounter/e1": "skipped", "Encounter/e2": "failed", "Patient/p1": "created"}


async def test_what_dataverse_refuses_ties_nothing(tmp_path: Path) -> None:
    """The same holds when only the write shows that the row cannot be made."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        refuses(it, holds("Family p1"), 400, "0x80040203")
        outcome = await send(it, visit(subject="Patient/p1"), patient(), status=207)
        assert results(outcome) == {"Encounter/e1": "skipped", "Patient/p1": "failed"}
        assert await it.rows("msemr_encounters") == []


async def test_what_refers_to_one_that_is_not_linked(tmp_path: Path) -> None:
    """A resource whose map always creates needs what it refers to, and fails without."""
    plan = """
resource: CarePlan
table: msemr_careplan
key: msemr_azurefhirid
attributes:
  - {column: msemr_title, copy: $.title}
  - {column: msemr_encounteridentifier, reference: $.encounter, targets: {Encounter: msemr_encounter}}
"""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, ENCOUNTER, plan)) as it:
        care_plan = {"resourceType": "CarePlan", "id": "c1", "title": "T", "encounter": {"reference": "Encounter/e1"}}
        outcome = await send(it, care_plan, visit(), status=207)
        assert results(outcome) == {"CarePlan/c1": "failed", "Encounter/e1": "skipped"}
        assert codes(outcome)["CarePlan/c1"] == ["unresolved-reference"]


async def test_sending_again_and_one_by_one(tmp_path: Path) -> None:
    """What is linked stays in step; sent one by one, those that the others are tied by go first."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        sent = [encounter("e1", partOf={"reference": "Encounter/e2"}), encounter("e2"), patient()]
        for each in reversed(sent):
            assert set(results(await send(it, each)).values()) == {"created"}
        assert set(results(await send(it, *sent)).values()) == {"unchanged"}


async def test_what_is_referred_to_may_be_linked_by_its_guid_alone(tmp_path: Path) -> None:
    """A patient whose row has no FHIR id is known by the GUID in the resource: one read of the server, one of Dataverse."""
    async with world(tmp_path, maps=maps_folder(tmp_path, SHIPPED_PATIENT, ENCOUNTER)) as it:
        guid = await makes(it, "contacts", msemr_contacttype=935000000, lastname="Walk-in")
        other = await makes(it, "contacts", msemr_contacttype=935000001, lastname="Doctor")
        linked = [{"system": URN.format("patient"), "value": guid}]
        await it.put(patient("p1", identifier=linked), patient("p2"))
        await it.put(patient("p3", identifier=[{"system": URN.format("patient"), "value": other}]))
        await it.put(patient("p5", identifier=[{"system": URN.format("patient"), "value": "x') or (1 eq 1"}]))
        sent = [visit(f"e{number}", subject=f"Patient/p{number}") for number in (1, 2, 3, 4, 5)]
        it.forget_calls()
        reply = await it.post(bundle(*sent, method="POST"))
        assert reply.body is not None
        assert results(reply.body) == {
            "Encounter/e1": "created",
            "Encounter/e2": "skipped",
            "Encounter/e3": "failed",
            "Encounter/e4": "skipped",
            "Encounter/e5": "skipped",
        }
        assert codes(reply.body)["Encounter/e3"] == ["unresolved-reference"]
        assert it.calls() == {"dataverse": 3, "fhir": 2}  # locate, by GUID, write; what is referred to, write-back
        (made,) = await it.rows("msemr_encounters")
        assert made["_msemr_encounterpatientidentifier_value"] == guid


async def test_a_guid_that_two_resources_carry_ties_neither(tmp_path: Path) -> None:
    """A copy of a patient has its GUID too: no encounter of one goes to the other's row, both are left to a person."""
    async with world(tmp_path, maps=maps_folder(tmp_path, SHIPPED_PATIENT, ENCOUNTER)) as it:
        guid = await makes(it, "contacts", msemr_contacttype=935000000, lastname="Walk-in")
        linked = [{"system": URN.format("patient"), "value": guid}]
        await it.put(patient("p1", identifier=linked), patient("copy", identifier=linked))
        sent = [visit("e1", subject="Patient/p1"), visit("e2", subject="Patient/copy")]
        reply = await it.post(bundle(*sent, method="POST"))
        assert reply.body is not None
        assert codes(dict(reply.body)) == {
            "Encounter/e1": ["unresolved-reference"],
            "Encounter/e2": ["unresolved-reference"],
        }
        assert await it.rows("msemr_encounters") == []


async def test_what_is_passed_over_costs_one_locate(tmp_path: Path) -> None:
    """Nothing is read of the FHIR server where nothing is referred to, nor for what has its row or is sent along."""
    async with world(tmp_path, maps=maps_folder(tmp_path, SHIPPED_PATIENT, ENCOUNTER)) as it:
        it.forget_calls()
        await it.post(bundle(visit()))
        assert it.calls() == {"dataverse": 1, "fhir": 0}
        await send(it, patient())
        it.forget_calls()
        await it.post(bundle(visit(subject="Patient/p1"), visit("e2", part_of="Encounter/e1"), method="POST"))
        assert it.calls()["fhir"] == 1  # the write-back's read: neither is on the server


@pytest.mark.parametrize(("status", "answer"), [(503, 202), (403, 200)])
async def test_a_server_that_does_not_say_who_is_linked(tmp_path: Path, status: int, answer: int) -> None:
    """Away, it puts the bundle off; refusing, it ties nothing."""
    async with world(tmp_path, maps=maps_folder(tmp_path, SHIPPED_PATIENT, ENCOUNTER)) as it:
        with answering(it.to_fhir, status):
            reply = await it.post(bundle(visit(subject="Patient/p1")))
        assert reply.status == answer
        if reply.body is not None:
            assert results(dict(reply.body)) == {"Encounter/e1": "skipped"}

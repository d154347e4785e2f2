"""A row that a user makes in Dataverse becomes a FHIR resource, once, and carries its id from then on."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from ways_kit import CARE_PLAN, PATIENT, create, open_world, resources, update

from support.mishaps import Kill, Moment, Wire
from support.world import World

ON = {"careplan.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n"}}
CONSENT = "writeback_when: {msemr_azurefhirsyncenabled: true}\n"
PLAN = {"msemr_title": "Walk every day", "msemr_planstatus": 935000001, "msemr_planintent": 935000001}
ANA = {"resourceType": "Patient", "id": "ana", "name": [{"use": "official", "family": "Lindqvist"}]}


async def test_a_care_plan_of_a_user_appears_with_its_identifier(tmp_path: Path) -> None:
    """The row's columns and references become a resource with the Dynamics identifier, its id lands on the row, then silence."""
    async with open_world(tmp_path, ON) as w:
        await w.put(ANA)
        await w.post(ANA)
        await w.settle()
        (contact,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
        bind = {"msemr_PatientIdentifier@odata.bind": f"/contacts({contact['contactid']})"}
        guid = await create(w, "msemr_careplans", PLAN | bind)
        await w.settle()
        (plan,) = await resources(w, "CarePlan")
        assert {name: value for name, value in plan.items() if name not in ("id", "meta")} == {
            "resourceType": "CarePlan",
            "title": "Walk every day",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": "Patient/ana"},
            "identifier": [{"system": CARE_PLAN, "value": guid}],
        }
        (row,) = await w.rows("msemr_careplans")
        assert row["msemr_azurefhirid"] == plan["id"]
        w.forget_calls()
        await w.settle()
        assert w.calls() == {"dataverse": 0, "fhir": 0}
        assert await w.dead() == []


async def linked(w: World) -> str:
    """Let the relay know Ana; returns the contact's GUID."""
    await w.put(ANA)
    await w.post(ANA)
    await w.settle()
    (contact,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
    return str(contact["contactid"])


def of(contact: str) -> dict[str, str]:
    return {"msemr_PatientIdentifier@odata.bind": f"/contacts({contact})"}


async def test_nothing_is_made_unless_the_map_says_so(tmp_path: Path) -> None:
    """By default a row without a FHIR id is nobody's business: a sales contact is not a patient."""
    async with open_world(tmp_path, {}) as w:
        await create(w, "msemr_careplans", PLAN | of(await linked(w)))
        await w.settle()
        assert await resources(w, "CarePlan") == []
        assert await w.dead() == []


async def test_an_event_that_comes_again_makes_no_second_one(tmp_path: Path) -> None:
    """The same event, late and twice, finds the row linked."""
    async with open_world(tmp_path, ON) as w:
        await create(w, "msemr_careplans", PLAN | of(await linked(w)))
        await w.settle()
        for body in w.events * 2:
            await w.relay.take_event(body)
        await w.settle()
        (plan,) = await resources(w, "CarePlan")
        assert w.versions(f"CarePlan/{plan['id']}") == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_dying_at_any_call_makes_one_resource(tmp_path: Path, moment: Moment) -> None:
    """Whichever call the relay dies at, the event that comes again ends with one resource, linked both ways."""
    at = 0
    while True:
        async with open_world(tmp_path / str(at), ON) as w:
            contact = await linked(w)
            w.hold_events = True
            guid = await create(w, "msemr_careplans", PLAN | of(contact))
            await w.dataverse.webhooks.idle()
            w.hold_events = False
            wire = Wire(at, moment).watch(w)
            await w.relay.take_event(w.events[-1])
            with suppress(Kill):
                await w.settle()
            died = len(wire.seen) > at
            wire.at = -1
            await w.restart()
            await w.relay.take_event(w.events[-1])
            await w.settle()
            (plan,) = await resources(w, "CarePlan")
            (row,) = await w.rows("msemr_careplans")
            assert row["msemr_azurefhirid"] == plan["id"], at
            assert [each["value"] for each in plan["identifier"]] == [guid], at
            assert await w.dead() == [], at
        if not died:
            assert at > 5
            return
        at += 1


async def test_a_resource_with_the_rows_identifier_is_linked_not_made(tmp_path: Path) -> None:
    """A consent set once the identifiers are there lets the row out; the one resource that carries them becomes its own."""
    changes = {"patient.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n" + CONSENT}}
    async with open_world(tmp_path, changes) as w:
        mrn = {"system": "http://example.org/mrn", "value": "M-1"}
        await w.put({**ANA, "identifier": [mrn]})
        contact = await create(w, "contacts", {"lastname": "Lindqvist", "msemr_contacttype": 935000000})
        row = {
            "prefix_system": mrn["system"],
            "prefix_value": "M-1",
            "prefix_Patient@odata.bind": f"/contacts({contact})",
        }
        await create(w, "prefix_patientidentifiers", row)
        await w.settle()
        assert [each["id"] for each in await resources(w, "Patient")] == ["ana"]
        await update(w, "contacts", contact, {"msemr_azurefhirsyncenabled": True})
        await w.settle()
        (ana,) = await resources(w, "Patient")
        assert ana["identifier"] == [mrn, {"system": PATIENT, "value": contact}]
        (row,) = await w.rows("contacts")
        assert row["msemr_azurefhirid"] == "ana"
        assert await w.dead() == []


async def test_several_resources_with_its_identifiers_need_a_person(tmp_path: Path) -> None:
    """Nothing is linked, nothing is made."""
    changes = {"patient.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n" + CONSENT}}
    async with open_world(tmp_path, changes) as w:
        mrn = {"system": "http://example.org/mrn", "value": "M-1"}
        await w.put({**ANA, "identifier": [mrn]}, {**ANA, "id": "ann", "identifier": [mrn]})
        contact = await create(w, "contacts", {"lastname": "Lindqvist", "msemr_contacttype": 935000000})
        row = {
            "prefix_system": mrn["system"],
            "prefix_value": "M-1",
            "prefix_Patient@odata.bind": f"/contacts({contact})",
        }
        await create(w, "prefix_patientidentifiers", row)
        await update(w, "contacts", contact, {"msemr_azurefhirsyncenabled": True})
        await w.settle()
        assert len(await resources(w, "Patient")) == 2
        assert all(len(each["identifier"]) == 1 for each in await resources(w, "Patient"))
        assert await w.dead() == ["several-matches"]


async def test_a_second_row_for_a_linked_resource_needs_a_person(tmp_path: Path) -> None:
    """The resource has its row: a duplicate that a user made is not written over it."""
    changes = {"patient.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n" + CONSENT}}
    async with open_world(tmp_path, changes) as w:
        mrn = {"system": "http://example.org/mrn", "value": "M-1"}
        await w.put({**ANA, "identifier": [mrn]})
        await w.post(await w.read("Patient", "ana"))
        await w.settle()
        contact = await create(w, "contacts", {"lastname": "Lindqvist", "msemr_contacttype": 935000000})
        row = {
            "prefix_system": mrn["system"],
            "prefix_value": "M-1",
            "prefix_Patient@odata.bind": f"/contacts({contact})",
        }
        await create(w, "prefix_patientidentifiers", row)
        await update(w, "contacts", contact, {"msemr_azurefhirsyncenabled": True})
        await w.settle()
        assert await w.dead() == ["identifier-conflict"]
        assert len(await w.rows("contacts", "msemr_azurefhirid eq 'ana'")) == 1


async def test_a_row_waits_for_what_it_points_to(tmp_path: Path) -> None:
    """A care plan of a contact without a FHIR id is not sent without its subject: it waits until the contact has one."""
    async with open_world(tmp_path, ON) as w:
        contact = await create(w, "contacts", {"lastname": "Lindqvist", "msemr_contacttype": 935000000})
        await create(w, "msemr_careplans", PLAN | of(contact))
        await w.settle(within=timedelta(minutes=1))
        assert await resources(w, "CarePlan") == []
        await w.put(ANA)
        await update(w, "contacts", contact, {"msemr_azurefhirid": "ana"})
        await w.settle()
        (plan,) = await resources(w, "CarePlan")
        assert plan["subject"] == {"reference": "Patient/ana"}
        assert await w.dead() == []


async def test_a_column_may_stay_at_home(tmp_path: Path) -> None:
    """`writeback: false` keeps a column out of what is made."""
    line = "  - {column: msemr_plandescription, copy: $.description, length: truncate"
    changes = {"careplan.yaml": {**ON["careplan.yaml"], line: line + ", writeback: false"}}
    async with open_world(tmp_path, changes) as w:
        await create(w, "msemr_careplans", {**PLAN, "msemr_plandescription": "private"} | of(await linked(w)))
        await w.settle()
        (plan,) = await resources(w, "CarePlan")
        assert "description" not in plan

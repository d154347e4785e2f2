"""Children that outlive their row, and rows that lost their FHIR id, become the resource's again; none is made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.mishaps import once, writes_rows
from support.samples import GUID, bundle, codes, encounter, patient, results
from support.state import state
from support.users import CHILDREN, deletes, makes, moves, saves
from support.world import API, URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])


async def known_patient(it: World) -> dict[str, Any]:
    """Bring one patient into step and return its row."""
    await it.put(patient())
    await it.post(bundle(patient()))
    await it.settle()
    (row,) = await it.rows("contacts")
    return row


def renamed() -> dict[str, Any]:
    """Return the patient under a new name."""
    return patient(name=[{"use": "official", "family": "Renamed", "given": ["Given"]}])


@both_ways
async def test_row_deleted_between_read_and_write(tmp_path: Path, writeback: str) -> None:
    """A row that a user deleted meanwhile is not changed: planned anew, the resource gets its row and children again."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        once(it.to_dataverse, writes_rows, lambda: it.http.delete(f"{API}/contacts({row['contactid']})"))
        reply = await it.post(bundle(renamed()))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "created"}
        await it.settle()
        (again,) = await it.rows("contacts")
        assert (again["contactid"], again["lastname"]) == (row["contactid"], "Renamed")
        children = await it.rows("prefix_patientidentifiers")
        assert [each["_prefix_patient_value"] for each in children] == [row["contactid"]] * 3
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []


@both_ways
async def test_row_deleted_long_before(tmp_path: Path, writeback: str) -> None:
    """With RELAY_ROW_GONE=recreate a resource whose row is gone gets it again, and both sides are as they were."""
    async with world(tmp_path, writeback=writeback, row_gone="recreate") as it:
        row = await known_patient(it)
        before = await state(it)
        await it.http.delete(f"{API}/contacts({row['contactid']})")
        reply = await it.post(bundle(await it.read("Patient", "p1")))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "created"}
        await it.settle()
        assert await state(it) == before
        assert await it.dead() == []


@both_ways
async def test_fhir_id_cleared_by_a_user(tmp_path: Path, writeback: str) -> None:
    """A row that the relay made and whose FHIR id a user emptied is found by its key, with the children it has."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        before = await state(it)
        await saves(it, "contacts", row["contactid"], msemr_azurefhirid=None)
        it.forget_calls()
        reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "updated"})
        assert it.calls()["dataverse"] == 3, "read, read of the row by its key and of its children, update"
        assert await it.store.length("inbound") == 0
        await it.settle()
        assert await state(it) == before


@both_ways
async def test_fhir_id_cleared_and_identifier_written_back(tmp_path: Path, writeback: str) -> None:
    """A resource that names its row's GUID finds a row without FHIR id at once, with the children it has."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        before = await state(it)
        await saves(it, "contacts", row["contactid"], msemr_azurefhirid=None)
        it.forget_calls()
        reply = await it.post(bundle(await it.read("Patient", "p1")))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "updated"})
        assert it.calls()["dataverse"] == 3, "read, read of the children, update"
        await it.settle()
        assert await state(it) == before


@both_ways
async def test_fhir_id_of_another_resource(tmp_path: Path, writeback: str) -> None:
    """A row that a user gave to another resource is not taken back, and what refers to the resource is not tied to it."""
    async with world(tmp_path, writeback=writeback, source_name="hospital-a") as it:
        row = await known_patient(it)
        await it.put(encounter(), patient("other"))
        await saves(it, "contacts", row["contactid"], msemr_azurefhirid="other")
        before = await state(it)
        it.forget_calls()
        reply = await it.post(bundle(encounter(), patient()))
        assert reply.body is not None
        found = {"Encounter/e1": ["unresolved-reference"], "Patient/p1": ["identity-conflict"]}
        assert (reply.status, codes(reply.body)) == (422, found)
        assert it.calls() == {"dataverse": 2, "fhir": 0}
        assert await state(it) == before


@both_ways
async def test_orphans_are_adopted_by_the_next_create(tmp_path: Path, writeback: str) -> None:
    """The children that a deleted contact left behind become the new row's: the same rows, no second ones."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        before = await state(it)
        await deletes(it, "contacts", row["contactid"])
        orphans = await it.rows(CHILDREN)
        assert [each["_prefix_patient_value"] for each in orphans] == [None] * 3
        await saves(it, CHILDREN, orphans[0]["prefix_patientidentifierid"], statecode=1, statuscode=2)
        it.forget_calls()
        reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "created"})
        assert it.calls()["dataverse"] <= 11
        await it.settle()
        assert await state(it) == before
        assert it.versions("Patient/p1") == 2, "the key is the same, so the resource carries it already"
        assert await it.dead() == []


async def test_orphans_are_left_alone_where_the_row_is_said_to_be_gone(tmp_path: Path) -> None:
    """Without RELAY_ROW_GONE=recreate a resource that names a deleted row fails, and nothing is adopted."""
    async with world(tmp_path) as it:
        row = await known_patient(it)
        await deletes(it, "contacts", row["contactid"])
        before = await state(it)
        reply = await it.post(bundle(await it.read("Patient", "p1")))
        assert reply.body is not None
        assert (reply.status, codes(reply.body)) == (422, {"Patient/p1": ["row-gone"]})
        assert await state(it) == before


@both_ways
async def test_orphan_given_to_another_row_before_its_parent_was_deleted(tmp_path: Path, writeback: str) -> None:
    """A merge that moves a child and deletes the contact: the resource fails, and what points to it is not half made."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        master = await makes(it, "contacts", lastname="Master")
        moved = await moves(it, "p1-0", master)
        await deletes(it, "contacts", row["contactid"])
        await it.put(patient("p2"))
        reply = await it.post(bundle(encounter(), patient(), patient("p2")))
        assert reply.body is not None
        assert reply.status == 207
        found = {"Patient/p1": ["identity-conflict"], "Encounter/e1": ["unresolved-reference"], "Patient/p2": []}
        assert codes(reply.body) == found
        assert await it.rows("msemr_encounters") == []
        (again,) = await it.rows(CHILDREN, "prefix_value eq 'p1-0'")
        assert again == moved
        assert await it.rows("contacts", "msemr_azurefhirid eq 'p1'") == []


@both_ways
async def test_orphaned_dynamics_identifier_of_a_contact_made_anew(tmp_path: Path, writeback: str) -> None:
    """A contact that a user makes under the old key gets the old (URN, GUID) row back, whichever path finds it."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        columns = {"contactid": GUID, "msemr_contacttype": 935000000, "msemr_azurefhirid": "p1", "lastname": "By hand"}
        await makes(it, "contacts", **columns)
        await it.settle()
        (before,) = await it.rows(CHILDREN)
        await deletes(it, "contacts", GUID)
        it.hold_events = True
        await makes(it, "contacts", **columns)
        if writeback == "inline":
            reply = await it.post(bundle(patient()))
            assert reply.status == 200
        it.hold_events = False
        for body in it.events:
            await it.relay.take_event(body)
        await it.settle()
        (after,) = await it.rows(CHILDREN, f"prefix_system eq '{URN.format('patient')}'")
        assert after["prefix_patientidentifierid"] == before["prefix_patientidentifierid"]
        assert (after["_prefix_patient_value"], after["statecode"]) == (GUID, 0)
        assert await it.dead() == []


@both_ways
async def test_child_given_to_another_row(tmp_path: Path, writeback: str) -> None:
    """An identifier row that was moved to another contact, as a merge does, is not taken back: `identity-conflict`."""
    async with world(tmp_path, writeback=writeback) as it:
        await known_patient(it)
        answer = await it.http.post(f"{API}/contacts", json={"lastname": "Master"})
        master = answer.headers["OData-EntityId"]
        (child,) = await it.rows("prefix_patientidentifiers", "prefix_value eq 'p1-0'")
        url = f"{API}/prefix_patientidentifiers({child['prefix_patientidentifierid']})"
        assert (await it.http.patch(url, json={"prefix_Patient@odata.bind": master})).is_success
        before = await state(it)
        reply = await it.post(bundle(renamed()))
        assert reply.body is not None
        assert (reply.status, codes(reply.body)) == (422, {"Patient/p1": ["identity-conflict"]})
        assert await state(it) == before

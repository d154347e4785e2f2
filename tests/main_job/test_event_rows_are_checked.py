"""The rows that events lead to are checked as those of a bundle are: where it is not sure who is meant, nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.samples import GUID, PATIENT, bundle, patient, results
from support.state import state
from support.users import CHILDREN, corrects, deletes, identifier, makes, moves
from support.world import URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

SYSTEM = URN.format("patient")


def contact(fhir_id: str = "p1", **more: Any) -> dict[str, Any]:
    """Return the columns of a contact that a user makes for a patient."""
    return {"lastname": "By hand", "msemr_azurefhirid": fhir_id, "msemr_contacttype": PATIENT, **more}


async def deliver(it: World) -> None:
    """Bring the events that were held to the relay, the newest first, and let it work until nothing is left."""
    it.hold_events = False
    for body in reversed(it.events):
        await it.relay.take_event(body)
    await it.settle()


async def own_rows(it: World) -> list[dict[str, Any]]:
    """Return the identifier rows under our system."""
    return await it.rows(CHILDREN, f"prefix_system eq '{SYSTEM}'")


@both_ways
async def test_two_contacts_with_one_fhir_id(tmp_path: Path, writeback: str) -> None:
    """Neither is linked, whichever event comes first: no identifier row, no PUT, a dead letter for each to look at."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await it.put(patient())
        for name in ("Right", "Wrong"):
            await makes(it, "contacts", **contact(lastname=name))
        before = await state(it)
        await deliver(it)
        assert await state(it) == before
        assert it.fhir.calls[1:] == [], "nothing but the owner's own PUT"
        assert await it.dead() == ["ambiguous-match"] * 2


@both_ways
async def test_a_second_contact_for_a_linked_patient(tmp_path: Path, writeback: str) -> None:
    """A duplicate made later is told to a person; the link that is there stays."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.settle()
        before = await own_rows(it)
        await makes(it, "contacts", **contact())
        await it.settle()
        assert await own_rows(it) == before
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == ["ambiguous-match"]


@both_ways
async def test_one_of_two_is_deleted_in_time(tmp_path: Path, writeback: str) -> None:
    """What counts is what is there when the event is read: the contact that is left is linked."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await it.put(patient())
        right = await makes(it, "contacts", **contact())
        await deletes(it, "contacts", await makes(it, "contacts", **contact()))
        await deliver(it)
        assert [each["prefix_value"] for each in await own_rows(it)] == [right]
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []


@both_ways
async def test_an_id_in_another_case_and_another_type_are_others(tmp_path: Path, writeback: str) -> None:
    """Dataverse finds `P1` for `p1` and knows no types of contact; neither makes the match ambiguous."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await it.put(patient("p1"), patient("P1"))
        await makes(it, "contacts", **contact("p1"))
        await makes(it, "contacts", **contact("P1"))
        await makes(it, "contacts", lastname="Lead", msemr_azurefhirid="p1")
        await deliver(it)
        assert len(await own_rows(it)) == 2
        assert [it.versions(f"Patient/{each}") for each in ("p1", "P1")] == [2, 2]
        assert await it.dead() == []


@both_ways
@pytest.mark.parametrize("spelling", ["{{{}}}", "{}", "{{{}}} "], ids=["braces", "upper case", "blank"])
async def test_a_guid_in_another_spelling_is_a_claim(tmp_path: Path, writeback: str, spelling: str) -> None:
    """`{GUID}` and upper case name the row as the plain spelling does: it is taken over, and not written back again."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await makes(it, "contacts", contactid=GUID, lastname="By hand", msemr_contacttype=PATIENT)
        claim = {"system": SYSTEM, "value": spelling.format(GUID.upper())}
        claiming = patient(identifier=[*patient()["identifier"], claim])
        await it.put(claiming)
        reply = await it.post(bundle(claiming))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "updated"})
        assert reply.body["entries"][0]["writeback"] == "present"
        await deliver(it)
        (row,) = await it.rows("contacts")
        assert (row["contactid"], row["msemr_azurefhirid"], row["lastname"]) == (GUID, "p1", "Family p1")
        assert [each["prefix_value"] for each in await it.rows(CHILDREN) if "{" in each["prefix_value"]] == []
        assert it.versions("Patient/p1") == 1
        assert await it.dead() == []


@both_ways
async def test_a_guid_in_another_spelling_is_present(tmp_path: Path, writeback: str) -> None:
    """The event of a row whose GUID the resource has in braces writes no second one."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(identifier=[{"system": SYSTEM, "value": f"{{{GUID.upper()}}}"}]))
        await makes(it, "contacts", **contact(contactid=GUID))
        await it.settle()
        assert [each["prefix_value"] for each in await own_rows(it)] == [GUID]
        assert it.versions("Patient/p1") == 1
        assert await it.dead() == []


async def announced_again(it: World, contact_id: str) -> None:
    """Cause another event for a contact, as a user who adds an identifier of another system does."""
    bind = {"prefix_Patient@odata.bind": f"/contacts({contact_id})"}
    await makes(it, CHILDREN, prefix_system="https://site.example/card", prefix_value="1", **bind)
    await it.settle()


@both_ways
async def test_a_dynamics_identifier_that_a_user_corrected(tmp_path: Path, writeback: str) -> None:
    """The row is the user's now: an event for its contact leaves it, and makes the GUID a row under the next key."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        guid = await makes(it, "contacts", **contact())
        await it.settle()
        corrected = await corrects(it, guid, "by hand")
        await announced_again(it, guid)
        assert await identifier(it, "by hand") == corrected
        again = await identifier(it, guid)
        assert (again["prefix_system"], again["_prefix_patient_value"]) == (SYSTEM, guid)
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []


@both_ways
async def test_a_dynamics_identifier_that_a_user_moved(tmp_path: Path, writeback: str) -> None:
    """The row belongs to another contact now: nothing is overwritten, and a person is told."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        guid = await makes(it, "contacts", **contact())
        await it.settle()
        moved = await moves(it, guid, await makes(it, "contacts", lastname="Master"))
        await announced_again(it, guid)
        assert await own_rows(it) == [moved]
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == ["identity-conflict"]


@both_ways
async def test_a_dynamics_identifier_corrected_until_no_key_is_left(tmp_path: Path, writeback: str) -> None:
    """After four corrections a person is told, and the four rows stay as they are."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        guid = await makes(it, "contacts", **contact())
        await it.settle()
        for number in range(4):
            await corrects(it, guid, f"by hand {number}")
            await announced_again(it, guid)
        assert sorted(each["prefix_value"] for each in await own_rows(it)) == [f"by hand {n}" for n in range(4)]
        assert await it.dead() == ["identity-conflict"]

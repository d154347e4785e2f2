"""An identifier row that a user corrected or moved is the user's: it stays as it is, and blocks nothing it need not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.keys import child_keys
from support.samples import bundle, codes, patient, practitioner, results
from support.state import state
from support.users import CHILDREN, corrects, deletes, identifier, makes, moves, saves
from support.world import URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

SYSTEM = "https://site.example/0"


async def known_patient(it: World) -> dict[str, Any]:
    """Bring one patient into step and return its row."""
    await it.put(patient())
    await it.post(bundle(patient()))
    await it.settle()
    (row,) = await it.rows("contacts")
    return row


def keys(parent: str, value: str, system: str = SYSTEM) -> list[str]:
    """Return the keys that the relay chooses among for an identifier of a contact, in their order."""
    return list(child_keys(parent, "prefix_patientidentifier", (system, value)))


async def raw(it: World) -> list[dict[str, Any]]:
    """Return every contact and patient identifier row with its version: two alike mean that nothing was written."""
    return sorted([*await it.rows("contacts"), *await it.rows(CHILDREN)], key=str)


@both_ways
async def test_a_corrected_value_stays(tmp_path: Path, writeback: str) -> None:
    """The user's row is not written again, FHIR's value gets a row under the next key, and other news go through."""
    async with world(tmp_path, writeback=writeback) as it:
        contact = (await known_patient(it))["contactid"]
        corrected = await corrects(it, "p1-0", "by hand")
        reply = await it.post(bundle(patient(birthDate="1990-01-01")))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "updated"})
        assert await identifier(it, "by hand") == corrected
        first, second, *_ = keys(contact, "p1-0")
        assert corrected["prefix_patientidentifierid"] == first
        again = await identifier(it, "p1-0")
        assert (again["prefix_patientidentifierid"], again["_prefix_patient_value"]) == (second, contact)
        assert (await it.rows("contacts"))[0]["birthdate"] == "1990-01-01"
        await it.settle()
        assert await it.dead() == []


@both_ways
async def test_after_a_correction_sending_again_writes_nothing(tmp_path: Path, writeback: str) -> None:
    """Once FHIR's value has its second row, the same bundle changes no row and costs one read."""
    async with world(tmp_path, writeback=writeback) as it:
        await known_patient(it)
        await corrects(it, "p1-0", "by hand")
        await it.post(bundle(patient()))
        await it.settle()
        before = await raw(it)
        it.forget_calls()
        reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert (reply.status, results(reply.body)) == (200, {"Patient/p1": "unchanged"})
        assert it.calls()["dataverse"] == 1
        await it.settle()
        assert await raw(it) == before


async def test_a_value_corrected_again_and_again(tmp_path: Path) -> None:
    """Each correction leaves the user a row; when no key is left the resource fails at once, and says why."""
    async with world(tmp_path) as it:
        contact = (await known_patient(it))["contactid"]
        for number, key in enumerate(keys(contact, "p1-0")):
            assert (await identifier(it, "p1-0"))["prefix_patientidentifierid"] == key
            await corrects(it, "p1-0", f"by hand {number}")
            reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert (reply.status, codes(reply.body)) == (422, {"Patient/p1": ["identity-conflict"]})
        assert await it.store.length("inbound") == 0
        assert len(await it.rows(CHILDREN, "startswith(prefix_value,'by hand')")) == 4


@both_ways
async def test_a_corrected_value_that_fhir_takes_over(tmp_path: Path, writeback: str) -> None:
    """When the correction arrives from FHIR too, the user's row stands for it, and the old value's row is retired."""
    async with world(tmp_path, writeback=writeback) as it:
        await known_patient(it)
        corrected = await corrects(it, "p1-0", "by hand")
        await it.post(bundle(patient()))
        taken_over = [{"system": SYSTEM, "value": "by hand"}, patient()["identifier"][1]]
        reply = await it.post(bundle(patient(identifier=taken_over)))
        assert reply.status == 200
        assert await identifier(it, "by hand") == corrected
        assert (await identifier(it, "p1-0"))["statecode"] == 1


@both_ways
async def test_a_vanished_item_under_its_second_key(tmp_path: Path, writeback: str) -> None:
    """A row under a second key is the relay's as well: retired when its item vanishes, and the same row comes back."""
    async with world(tmp_path, writeback=writeback) as it:
        await known_patient(it)
        corrected = await corrects(it, "p1-0", "by hand")
        await it.post(bundle(patient()))
        second = await identifier(it, "p1-0")
        await it.post(bundle(patient(identifier=patient()["identifier"][1:])))
        retired = await identifier(it, "p1-0")
        assert (retired["prefix_patientidentifierid"], retired["statecode"]) == (
            second["prefix_patientidentifierid"],
            1,
        )
        assert await identifier(it, "by hand") == corrected
        await it.post(bundle(patient()))
        back = await identifier(it, "p1-0")
        assert (back["prefix_patientidentifierid"], back["statecode"]) == (second["prefix_patientidentifierid"], 0)


async def test_a_correction_taken_back(tmp_path: Path) -> None:
    """Two rows alike, the user having corrected his back, are both retired when the item vanishes: no number lives on."""
    async with world(tmp_path) as it:
        await known_patient(it)
        corrected = await corrects(it, "p1-0", "by hand")
        await it.post(bundle(patient()))
        await saves(it, CHILDREN, corrected["prefix_patientidentifierid"], prefix_value="p1-0")
        assert len(await it.rows(CHILDREN, "prefix_value eq 'p1-0' and statecode eq 0")) == 2
        before = await raw(it)
        assert (await it.post(bundle(patient()))).status == 200
        assert await raw(it) == before
        await it.post(bundle(patient(identifier=patient()["identifier"][1:])))
        assert await it.rows(CHILDREN, "prefix_value eq 'p1-0' and statecode eq 0") == []


@both_ways
async def test_a_moved_row_fails_its_resource_alone(tmp_path: Path, writeback: str) -> None:
    """A row that a user moved to another contact is not taken back: that resource fails at once, the others are done."""
    async with world(tmp_path, writeback=writeback) as it:
        await known_patient(it)
        await it.put(practitioner())
        moved = await moves(it, "p1-0", await makes(it, "contacts", lastname="Master"))
        before = await state(it)
        it.forget_calls()
        alone = await it.post(bundle(patient(birthDate="1990-01-01")))
        assert alone.body is not None
        assert (alone.status, codes(alone.body)) == (422, {"Patient/p1": ["identity-conflict"]})
        assert it.calls() == {"dataverse": 3, "fhir": 0}
        assert await state(it) == before
        reply = await it.post(bundle(patient(birthDate="1990-01-01"), practitioner()))
        assert reply.body is not None
        assert reply.status == 207
        assert results(reply.body) == {"Patient/p1": "failed", "Practitioner/d1": "created"}
        assert reply.body["entries"][0]["issues"][-1]["at"] == "prefix_patient"
        assert await identifier(it, "p1-0") == moved
        assert await it.store.length("inbound") == 0


@both_ways
async def test_a_moved_row_that_came_back(tmp_path: Path, writeback: str) -> None:
    """Once the row is where it was, or gone, the resource goes through."""
    async with world(tmp_path, writeback=writeback) as it:
        contact = (await known_patient(it))["contactid"]
        wanted = await state(it)
        await moves(it, "p1-0", await makes(it, "contacts", contactid="11111111-2222-4333-8444-555555555555"))
        assert (await it.post(bundle(patient()))).status == 422
        await moves(it, "p1-0", contact)
        await deletes(it, "contacts", "11111111-2222-4333-8444-555555555555")
        assert (await it.post(bundle(patient()))).status == 200
        assert await state(it) == wanted
        row = await identifier(it, "p1-0")
        await deletes(it, CHILDREN, row["prefix_patientidentifierid"])
        assert (await it.post(bundle(patient()))).status == 200
        assert await state(it) == wanted


async def test_a_corrected_dynamics_identifier(tmp_path: Path) -> None:
    """The row with the GUID is a row like the others: corrected, it is the user's, and the GUID gets another one."""
    async with world(tmp_path) as it:
        contact = (await known_patient(it))["contactid"]
        corrected = await corrects(it, contact, "by hand")
        assert (await it.post(bundle(patient()))).status == 200
        again = await identifier(it, contact)
        key = keys(contact, contact, URN.format("patient"))[1]
        assert (again["prefix_patientidentifierid"], again["prefix_system"]) == (key, URN.format("patient"))
        assert await identifier(it, "by hand") == corrected
        await it.settle()
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []

"""A write-back that waited for the FHIR server is made for the row as it is by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.dataverse.keys import row_key
from support.merges import GONE
from support.mishaps import answering
from support.samples import bundle, patient
from support.users import deletes, saves
from support.world import URN, World, world

P1 = row_key("fhir", "Patient", "p1")


async def waiting(it: World) -> None:
    """Have a row whose write-back waits."""
    await it.put(patient(), patient("p2"))
    with answering(it.to_fhir, 503):
        reply = await it.post(bundle(patient()))
    assert reply.body is not None
    assert reply.body["entries"][0]["writeback"] == "queued"


def guids(it: World) -> dict[str, list[Any]]:
    """Return the GUIDs that each patient carries."""
    return {
        address: [each["value"] for each in resource["identifier"] if each["system"] == URN.format("patient")]
        for address, resource in it.newest().items()
    }


async def test_it_is_made_once_the_server_is_there(tmp_path: Path) -> None:
    """A row that is as it was gets its link."""
    async with world(tmp_path, events=False) as it:
        await waiting(it)
        await it.settle()
        assert guids(it) == {"Patient/p1": [P1], "Patient/p2": []}


async def test_a_row_that_a_user_deleted_meanwhile(tmp_path: Path) -> None:
    """The GUID of a row that is gone is written nowhere."""
    async with world(tmp_path, events=False) as it:
        await waiting(it)
        await deletes(it, "contacts", P1)
        await it.settle()
        assert guids(it) == {"Patient/p1": [], "Patient/p2": []}
        assert await it.dead() == []


async def test_a_row_that_is_another_patients_meanwhile(tmp_path: Path) -> None:
    """A row that a user gave to another patient is that patient's: the first one does not get its GUID."""
    async with world(tmp_path, events=False) as it:
        await waiting(it)
        await saves(it, "contacts", P1, msemr_azurefhirid="p2")
        await it.settle()
        assert guids(it) == {"Patient/p1": [], "Patient/p2": [P1]}


async def test_a_row_without_its_id_or_out_of_use(tmp_path: Path) -> None:
    """Nothing goes to FHIR for a row that names no resource any more, or is out of use."""
    for number, columns in enumerate(({"msemr_azurefhirid": None}, GONE)):
        async with world(tmp_path / str(number), events=False) as it:
            await waiting(it)
            await saves(it, "contacts", P1, **columns)
            await it.settle()
            assert guids(it) == {"Patient/p1": [], "Patient/p2": []}


async def test_an_identifier_row_that_is_missing(tmp_path: Path) -> None:
    """The row that says the GUID is made if a user deleted it, and the link is made with it."""
    async with world(tmp_path, events=False) as it:
        await waiting(it)
        (row,) = await it.rows("prefix_patientidentifiers", f"prefix_system eq '{URN.format('patient')}'")
        await deletes(it, "prefix_patientidentifiers", row["prefix_patientidentifierid"])
        await it.settle()
        assert guids(it)["Patient/p1"] == [P1]
        assert len(await it.rows("prefix_patientidentifiers", f"prefix_system eq '{URN.format('patient')}'")) == 1

"""Children that outlive their row, and rows that lost their FHIR id, become the resource's again; none is made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.mishaps import once, writes_rows
from support.samples import bundle, codes, patient, results
from support.state import state
from support.world import API, World, world

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
        await it.http.patch(f"{API}/contacts({row['contactid']})", json={"msemr_azurefhirid": None})
        reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "updated"}
        await it.settle()
        assert await state(it) == before


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

"""A user who saves a row between the relay's read and its write loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.mishaps import each_time, once, overhear, writes_rows
from support.samples import bundle, patient, results
from support.world import API, URN, World, rival, world
from support.writes import both_paths

MISMATCH = "0x80060882"
DUPLICATE = "0x80040237"

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])


async def user_saves(it: World, entity_set: str, key: str, columns: Mapping[str, Any]) -> None:
    """Save columns of a row, as the form of a user does."""
    answer = await it.http.patch(f"{API}/{entity_set}({key})", json=columns)
    assert answer.is_success, answer.text


async def known_patient(it: World) -> dict[str, Any]:
    """Bring one patient into step and return its row."""
    await it.put(patient())
    await it.post(bundle(patient()))
    await it.settle()
    (row,) = await it.rows("contacts")
    assert it.versions("Patient/p1") == 2
    return row


def renamed() -> dict[str, Any]:
    """Return the patient under a new name."""
    return patient(name=[{"use": "official", "family": "Renamed", "given": ["Given"]}])


@both_ways
@both_paths
@pytest.mark.parametrize(
    ("columns", "after"),
    [({"jobtitle": "Baker"}, {"jobtitle": "Baker"}), ({"firstname": "Typo"}, {"firstname": "Given"})],
    ids=["unmapped", "mapped"],
)
async def test_row_saved_between_read_and_write(
    tmp_path: Path, writeback: str, write: dict[str, Any], columns: dict[str, Any], after: dict[str, Any]
) -> None:
    """The write is refused with the version code and planned anew: the user's own columns stay, mapped ones follow FHIR."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        row = await known_patient(it)
        heard = overhear(it.to_dataverse)
        once(it.to_dataverse, writes_rows, lambda: user_saves(it, "contacts", row["contactid"], columns))
        reply = await it.post(bundle(renamed()))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "updated"}
        assert sum(MISMATCH in each for each in heard) == 1
        (row,) = await it.rows("contacts")
        assert row["lastname"] == "Renamed"
        assert {name: row[name] for name in after} == after
        assert await it.dead() == []


@both_ways
@both_paths
async def test_identifier_row_saved_between_read_and_write(
    tmp_path: Path, writeback: str, write: dict[str, Any]
) -> None:
    """An identifier row that was to be retired and that a user made his own meanwhile is left to him."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        await known_patient(it)
        (child,) = await it.rows("prefix_patientidentifiers", "prefix_value eq 'p1-1'")
        key, table = child["prefix_patientidentifierid"], "prefix_patientidentifiers"
        heard = overhear(it.to_dataverse)
        once(it.to_dataverse, writes_rows, lambda: user_saves(it, table, key, {"prefix_value": "by hand"}))
        reply = await it.post(bundle({**renamed(), "identifier": patient()["identifier"][:1]}))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "updated"}
        assert sum(MISMATCH in each for each in heard) == 1
        assert (await it.rows("contacts"))[0]["lastname"] == "Renamed"
        states = {each["prefix_value"]: each["statecode"] for each in await it.rows(table)}
        guid = (await it.rows("contacts"))[0]["contactid"]
        assert states == {"p1-0": 0, "by hand": 0, guid: 0}


@both_ways
@both_paths
async def test_user_who_saves_at_every_try(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """After five tries the bundle is put off with 202; once the user stops it is done, and nothing of his is lost."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        row = await known_patient(it)
        saves: list[str] = []

        async def save() -> None:
            saves.append(f"Job {len(saves)}")
            await user_saves(it, "contacts", row["contactid"], {"jobtitle": saves[-1]})

        it.forget_calls()
        each_time(it.to_dataverse, writes_rows, save)
        reply = await it.post(bundle(renamed()))
        assert (reply.status, len(saves)) == (202, 5)
        assert (await it.relay.inbound.status(reply.job)).status == 202
        it.to_dataverse.before.clear()
        await it.settle()
        (after,) = await it.rows("contacts")
        assert (after["lastname"], after["jobtitle"]) == ("Renamed", "Job 4")
        done = await it.relay.inbound.status(reply.job)
        assert done.body is not None
        assert (done.status, results(done.body)) == (200, {"Patient/p1": "updated"})
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []


@both_ways
async def test_others_are_done_while_one_is_contended(tmp_path: Path, writeback: str) -> None:
    """A resource that has to wait keeps no other one of its bundle waiting, and gets no identifier before its row."""
    async with world(tmp_path, writeback=writeback) as it:
        row = await known_patient(it)
        await it.put(patient("p2"))
        each_time(
            it.to_dataverse,
            lambda request: row["contactid"].encode() in request.content and writes_rows(request),
            lambda: user_saves(it, "contacts", row["contactid"], {"jobtitle": "Baker"}),
        )
        reply = await it.post(bundle(patient("p2"), renamed()))
        assert reply.status == 202
        assert len(await it.rows("contacts", "msemr_azurefhirid eq 'p2'")) == 1
        it.to_dataverse.before.clear()
        await it.settle()
        assert {each["lastname"] for each in await it.rows("contacts")} == {"Renamed", "Family p2"}
        assert it.versions("Patient/p2") == 2


@both_ways
@both_paths
async def test_same_bundle_at_the_same_time(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """Two relays that create the same rows at once end with one of each: the loser reads again and finds them."""
    async with world(tmp_path, writeback=writeback, **write) as it, rival(it, tmp_path) as other:
        await it.put(patient(), patient("p2"))
        located = asyncio.Barrier(2)

        async def together(request: Any) -> None:
            if writes_rows(request):
                it.to_dataverse.before.clear() if located.n_waiting else None
                await located.wait()

        heard = overhear(it.to_dataverse)
        it.to_dataverse.before.append(together)
        replies = await asyncio.gather(*(each.post(bundle(patient(), patient("p2"))) for each in (it, other)))
        assert [each.status for each in replies] == [200, 200]
        assert any(DUPLICATE in each for each in heard)
        await it.settle()
        assert len(await it.rows("contacts")) == 2
        urn = f"prefix_system eq '{URN.format('patient')}'"
        assert len(await it.rows("prefix_patientidentifiers", urn)) == 2
        assert len(await it.rows("prefix_patientidentifiers")) == 6
        assert [it.versions("Patient/p1"), it.versions("Patient/p2")] == [2, 2]
        assert await it.dead() == []

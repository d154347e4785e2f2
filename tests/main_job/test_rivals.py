"""Others who write at the same time: a second relay, the event path, users; the rows are those that one alone makes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.mishaps import once, writes_rows
from support.samples import PATIENT, bundle, encounter, organization, patient, results
from support.state import state
from support.users import makes, saves
from support.world import World, rival, world
from support.writes import both_paths

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

COUNT = 9
CIRCLE = [organization(f"o{n}", partOf={"reference": f"Organization/o{n ^ 1}"}) for n in range(2)]


def ward() -> list[dict[str, Any]]:
    """Return patients, their encounters, and two organizations that point to each other."""
    visits = [encounter(f"e{n}", f"Patient/p{n}", priority={"coding": [{"code": "EM"}]}) for n in range(COUNT)]
    return [*visits, *(patient(f"p{n}") for n in range(COUNT)), *CIRCLE]


_kept: list[dict[str, Any]] = []


async def alone(folder: Path) -> dict[str, Any]:
    """Return what there is after one relay did it alone; done once."""
    if not _kept:
        async with world(folder / "alone", write="fewest-calls") as it:
            await it.put(*ward())
            await it.post(bundle(*ward()))
            await it.settle()
            _kept.append(await state(it))
    return _kept[0]


async def settled(*worlds: World) -> None:
    """Let all of them do what is left, and see that nobody gave up."""
    for each in worlds:
        await each.settle()
        assert await each.dead() == []
        assert await each.store.length("inbound") == await each.store.length("writeback") == 0


@both_ways
@both_paths
@pytest.mark.parametrize("meet", ["at the first write", "as it comes"])
async def test_two_relays_with_one_bundle(tmp_path: Path, writeback: str, write: dict[str, Any], meet: str) -> None:
    """Both are told that all is well, and there is one row for each resource, one child for each identifier."""
    wanted = await alone(tmp_path)
    async with world(tmp_path, writeback=writeback, **write) as it, rival(it, tmp_path) as other:
        await it.put(*ward())
        if meet == "at the first write":
            both_located = asyncio.Barrier(2)

            async def together(request: Any) -> None:
                if writes_rows(request):
                    it.to_dataverse.before.clear() if both_located.n_waiting else None
                    await both_located.wait()

            it.to_dataverse.before.append(together)
        replies = await asyncio.gather(*(each.post(bundle(*ward())) for each in (it, other)))
        for reply in replies:
            assert reply.body is not None
            assert reply.status == 200
            assert "failed" not in results(reply.body).values()
        await settled(it, other)
        assert await state(it) == wanted


@both_ways
@both_paths
async def test_events_that_are_worked_on_meanwhile(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """The worker takes up the events of the bundle's own rows while the bundle is still being written."""
    wanted = await alone(tmp_path)
    async with world(tmp_path, writeback=writeback, **write) as it:
        await it.put(*ward())
        worked: list[int] = []

        async def work(_: Any) -> None:
            it.to_dataverse.after.remove(work)
            worked.append(await it.work())
            it.to_dataverse.after.append(work)

        it.to_dataverse.after.append(work)
        reply = await it.post(bundle(*ward()))
        it.to_dataverse.after.clear()
        assert reply.body is not None
        assert (reply.status, set(results(reply.body).values())) == (200, {"created"})
        if "bulk_from" in write:
            assert sum(worked) > 0
        await settled(it)
        assert await state(it) == wanted


@both_paths
async def test_inline_and_event_at_once(tmp_path: Path, write: dict[str, Any]) -> None:
    """One relay writes back at once, another one by event; both carry the same bundle, and one identifier comes of it."""
    wanted = await alone(tmp_path)
    async with world(tmp_path, **write) as it, rival(it, tmp_path, writeback="event") as other:
        await it.put(*ward())

        async def worker() -> None:
            taken = 0
            for _ in range(20):
                await it.dataverse.webhooks.idle()
                new, taken = it.events[taken:], len(it.events)
                for body in new:
                    await other.relay.take_event(body)
                await other.work()

        await asyncio.gather(it.post(bundle(*ward())), other.post(bundle(*ward())), worker())
        await settled(it, other)
        assert await state(it) == wanted


@both_ways
@both_paths
async def test_a_user_makes_the_row_meanwhile(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """Where the site makes the FHIR id unique, a row that a user makes before the write is found and completed, not doubled."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        it.dataverse.declare_key("contact", "msemr_azurefhirid", "msemr_contacttype")
        await it.put(*ward())
        made: list[str] = []

        async def make() -> None:
            columns = {"lastname": "By hand", "jobtitle": "Baker", "msemr_contacttype": PATIENT}
            made.append(await makes(it, "contacts", msemr_azurefhirid="p7", **columns))

        once(it.to_dataverse, writes_rows, make)
        reply = await it.post(bundle(*ward()))
        assert reply.body is not None
        assert reply.status == 200
        await settled(it)
        rows = {each["msemr_azurefhirid"]: each for each in await it.rows("contacts")}
        assert len(rows) == len(await it.rows("contacts")) == COUNT
        assert (rows["p7"]["contactid"], rows["p7"]["lastname"], rows["p7"]["jobtitle"]) == (
            made[0],
            "Family p7",
            "Baker",
        )
        visits = {each["msemr_azurefhirid"]: each for each in await it.rows("msemr_encounters")}
        assert visits["e7"]["_msemr_encounterpatientidentifier_value"] == made[0]
        assert made[0] in [each["value"] for each in (await it.read("Patient", "p7"))["identifier"]]


@both_ways
@both_paths
async def test_users_save_rows_of_a_large_change(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """Of many rows that are changed at once, those that users save meanwhile keep what they saved."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        await it.put(*ward())
        await it.post(bundle(*ward()))
        await it.settle()
        rows = {each["msemr_azurefhirid"]: each["contactid"] for each in await it.rows("contacts")}

        async def save() -> None:
            for name in ("p3", "p8"):
                await saves(it, "contacts", rows[name], jobtitle=f"Job of {name}", firstname="Typo")

        once(it.to_dataverse, writes_rows, save)
        sent = [each for each in ward() if each["resourceType"] == "Patient"]
        for each in sent:
            each["name"][0]["family"] = "Renamed"
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"updated"}
        after = {each["msemr_azurefhirid"]: each for each in await it.rows("contacts")}
        assert {each["lastname"] for each in after.values()} == {"Renamed"}
        assert {each["firstname"] for each in after.values()} == {"Given"}
        assert {name: each["jobtitle"] for name, each in after.items() if each["jobtitle"]} == {
            "p3": "Job of p3",
            "p8": "Job of p8",
        }

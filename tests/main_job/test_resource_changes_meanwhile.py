"""Somebody who writes the resource between the relay's read and its PUT loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.mishaps import each_time, once, puts_resources
from support.samples import bundle, patient
from support.world import URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])
both_servers = pytest.mark.parametrize("conflict_status", [412, 409])
one_or_many = pytest.mark.parametrize("count", [1, 3], ids=["single", "batch"])


def patients(count: int) -> list[dict[str, Any]]:
    return [patient(f"p{number}", identifiers=1) for number in range(1, count + 1)]


def dynamics(resource: Mapping[str, Any]) -> list[str]:
    """Return the values under the patient URN."""
    return [each["value"] for each in resource["identifier"] if each["system"] == URN.format("patient")]


async def guid_of(it: World, fhir_id: str = "p1") -> str:
    (row,) = await it.rows("contacts", f"msemr_azurefhirid eq '{fhir_id}'")
    return str(row["contactid"])


@both_ways
@both_servers
@one_or_many
async def test_written_between_read_and_put(tmp_path: Path, writeback: str, conflict_status: int, count: int) -> None:
    """The PUT is refused (412 or 409), the resource read again: their change and our identifier are both there."""
    async with world(tmp_path, conflict_status=conflict_status, writeback=writeback) as it:
        sent = patients(count)
        theirs = {**sent[0], "telecom": [{"system": "phone", "value": "1"}], "active": True}
        await it.put(*sent)
        once(it.to_fhir, puts_resources, lambda: it.put(theirs))
        await it.post(bundle(*sent))
        await it.settle()
        after = await it.read("Patient", "p1")
        assert dynamics(after) == [await guid_of(it)]
        after["identifier"] = [each for each in after["identifier"] if each["system"] != URN.format("patient")]
        del after["meta"]
        assert after == theirs
        assert [it.versions(f"Patient/p{n + 1}") for n in range(count)] == [3] + [2] * (count - 1)
        assert await it.dead() == []


@both_ways
@both_servers
@one_or_many
async def test_written_at_every_try(tmp_path: Path, writeback: str, conflict_status: int, count: int) -> None:
    """The tries are bounded, then the write-back is queued; once they stop it is made, and each version of theirs stands."""
    async with world(tmp_path, conflict_status=conflict_status, writeback=writeback) as it:
        sent = patients(count)
        await it.put(*sent)
        theirs: list[str] = []

        async def write() -> None:
            theirs.append(f"19{len(theirs) + 10}-01-01")
            await it.put({**sent[0], "birthDate": theirs[-1]})

        each_time(it.to_fhir, lambda request: puts_resources(request) and b"p1-0" in request.content, write)
        it.hold_events = writeback == "inline"
        reply = await it.post(bundle(*sent))
        assert reply.status == 200
        if writeback == "inline":
            assert reply.body is not None
            assert [each["writeback"] for each in reply.body["entries"]] == ["queued"] + ["written"] * (count - 1)
        else:
            await it.dataverse.webhooks.idle()
            await it.work()
        assert len(theirs) in (6, 12), "six tries for each message, and an event of a child is a message of its own"
        it.to_fhir.before.clear()
        await it.settle()
        after = await it.read("Patient", "p1")
        assert (dynamics(after), after["birthDate"]) == ([await guid_of(it)], theirs[-1])
        assert it.versions("Patient/p1") == 1 + len(theirs) + 1
        assert await it.dead() == []


@both_ways
@both_servers
@one_or_many
async def test_deleted_between_read_and_put(tmp_path: Path, writeback: str, conflict_status: int, count: int) -> None:
    """A resource that was deleted meanwhile stays deleted; one dead letter says so, and the others are done."""
    async with world(tmp_path, conflict_status=conflict_status, writeback=writeback) as it:
        sent = patients(count)
        await it.put(*sent)
        once(it.to_fhir, puts_resources, lambda: it.fhir_http.delete("/Patient/p1"))
        await it.post(bundle(*sent))
        await it.settle()
        assert (await it.read("Patient", "p1"))["status"] == 410
        assert it.versions("Patient/p1") == 2
        assert [it.versions(f"Patient/p{n}") for n in range(2, count + 1)] == [2] * (count - 1)
        assert await it.dead() == ["gone"]


@both_ways
async def test_deleted_long_before(tmp_path: Path, writeback: str) -> None:
    """A resource that is gone when it comes to the write-back is not brought back either."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        await it.fhir_http.delete("/Patient/p1")
        await it.post(bundle(patient()))
        await it.settle()
        assert (await it.read("Patient", "p1"))["status"] == 410
        assert await it.dead() == ["gone"]


@both_ways
async def test_entry_that_never_reached_the_server(tmp_path: Path, writeback: str) -> None:
    """A POSTed entry whose resource the server does not know is told as such: nothing is created, no dead letter."""
    async with world(tmp_path, writeback=writeback) as it:
        reply = await it.post(bundle(patient(), method="POST"))
        await it.settle()
        assert reply.body is not None
        (entry,) = reply.body["entries"]
        state = "none" if writeback == "inline" else "queued"
        assert (reply.status, entry["result"], entry["writeback"]) == (200, "created", state)
        if writeback == "inline":
            assert [issue["code"] for issue in entry["issues"]] == ["not-on-server"]
        assert it.versions("Patient/p1") == 0
        assert await it.dead() == []


@both_ways
async def test_entry_that_reaches_the_server_later(tmp_path: Path, writeback: str) -> None:
    """A POSTed entry whose resource reaches the server afterwards gets its identifier when it comes again."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await it.post(bundle(patient(), method="POST"))
        await it.dataverse.webhooks.idle()
        await it.put(patient())
        for body in it.events:
            await it.relay.take_event(body)
        await it.settle()
        assert dynamics(await it.read("Patient", "p1")) == [await guid_of(it)]
        assert it.versions("Patient/p1") == 2

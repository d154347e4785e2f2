"""Changes that wait at the same time are carried out as one bundle, and each job has what it would have had alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.dataverse.throttle import THROTTLED
from relay.errors import StoreUnavailable, Transient
from relay.inbound.change import Change
from support.samples import codes, encounter, patient, results
from support.world import World, world

URN = "urn:oid:org.d365.mc4h.patient.id"


def told(*addresses: str) -> list[Change]:
    """Make the changes that a server tells of resources without their bodies."""
    return [Change("test", *address.split("/"), None, "update", None) for address in addresses]  # type: ignore[arg-type]


async def crowd(it: World, jobs: Sequence[Sequence[Change]]) -> list[str]:
    """Hand changes over, one job each, have all the messages worked on at once, and return the jobs' ids."""
    ids = [(await it.relay.inbound.changes(each)).job for each in jobs]
    await it.work_at_once()
    return ids


async def outcome(it: World, job: str) -> dict[str, Any]:
    """Return the outcome of a job."""
    body = (await it.relay.inbound.status(job)).body
    assert body is not None
    return dict(body)


async def test_a_crowd_costs_two_groups(tmp_path: Path) -> None:
    """The first goes at once and alone; all that came meanwhile share one read of each side, one batch of PUTs, and few writes."""
    async with world(tmp_path) as it:
        names = [f"p{number}" for number in range(12)]
        await it.put(*map(patient, names))
        it.forget_calls()
        jobs = await crowd(it, [told(f"Patient/{each}") for each in names])
        assert it.calls() == {"dataverse": 2 + 5, "fhir": 2 + 2}, "alone they are 24 and 24"
        outcomes = [await outcome(it, each) for each in jobs]
        assert [results(each) for each in outcomes] == [{f"Patient/{name}": "created"} for name in names]
        assert [entry["index"] for each in outcomes for entry in each["entries"]] == [0] * 12
        assert [entry["writeback"] for each in outcomes for entry in each["entries"]] == ["written"] * 12
        assert sorted(each["receipt"].get("together", 1) for each in outcomes) == [1, *[11] * 11]
        assert {each["receipt"]["calls"]["dataverse"] for each in outcomes} == {2, 5}
        assert len({each["tag"] for each in outcomes}) == 2
        for name in names:
            assert [each["system"] for each in (await it.read("Patient", name))["identifier"]].count(URN) == 1
        await it.settle()
        assert await it.store.list_blobs("relay-payloads") == []
        assert (await outcome(it, jobs[-1]))["receipt"]["deliveries"] >= 11, (
            "the events of all that were written together"
        )


async def test_one_resource_told_of_by_several(tmp_path: Path) -> None:
    """It is read and written once, and each of those who told of it has it in its outcome."""
    async with world(tmp_path) as it:
        await it.put(patient(), patient("p2"))
        jobs = await crowd(it, [told("Patient/p2"), told("Patient/p1"), told("Patient/p1", "Patient/p2")])
        one, other, both = [results(await outcome(it, each)) for each in jobs]
        assert one.keys() | other.keys() == both.keys() == {"Patient/p1", "Patient/p2"}
        assert {*one.values(), *other.values(), *both.values()} <= {"created", "unchanged"}
        assert len(await it.rows("contacts")) == 2


async def test_one_that_cannot_be_read_yet_holds_nobody_up(tmp_path: Path) -> None:
    """A group that fails as a whole goes again one by one: the busy one is put off, and no other."""
    async with world(tmp_path) as it:
        await it.put(*map(patient, ("p1", "p2", "p3")))
        busy = True

        async def refuse(request: httpx.Request) -> None:
            if busy and ("Patient/p2" in request.url.path or b"Patient/p2" in await request.aread()):
                raise httpx.ConnectError("away")

        it.to_fhir.before.append(refuse)
        jobs = await crowd(it, [told(f"Patient/{each}") for each in ("p1", "p2", "p3")])
        assert [(await it.relay.inbound.status(each)).status for each in jobs] == [200, 202, 200]
        busy = False
        await it.settle()
        assert [results(await outcome(it, each)) for each in jobs] == [
            {f"Patient/{each}": "created"} for each in ("p1", "p2", "p3")
        ]
        assert await it.dead() == []


async def test_what_fails_is_its_own_jobs(tmp_path: Path) -> None:
    """One dead letter for the one that failed, one further try for the one that waits, and nothing for the others."""
    async with world(tmp_path, max_string=100_000) as it:
        await it.put(
            patient(), patient("p2"), patient("long", gender="x" * 100_001), encounter(subject="Patient/later")
        )
        named = ("Patient/p1", "Patient/long", "Encounter/e1", "Patient/p2")
        jobs = await crowd(it, [told(each) for each in named])
        outcomes = [await outcome(it, each) for each in jobs]
        assert [codes(each) for each in outcomes] == [
            {"Patient/p1": []},
            {"Patient/long": ["string-too-long"]},
            {"Encounter/e1": ["unresolved-reference"]},
            {"Patient/p2": []},
        ]
        assert [each["status"] for each in outcomes] == ["succeeded", "failed", "failed", "succeeded"]
        assert await it.dead() == ["string-too-long"]
        await it.put(patient("later"))
        await crowd(it, [told("Patient/later")])
        await it.settle()
        assert len((await it.read("Encounter", "e1"))["identifier"]) == 2
        assert await it.dead() == ["string-too-long"]


async def test_a_payload_that_is_none_is_nobody_elses(tmp_path: Path) -> None:
    """A damaged payload ends as a failed outcome of its own before it joins anybody."""
    async with world(tmp_path) as it:
        await it.put(*map(patient, ("p1", "p2", "p3")))
        jobs = [(await it.relay.inbound.changes(told(f"Patient/{each}"))).job for each in ("p1", "p2", "p3")]
        await it.store.put_blob("relay-payloads", jobs[1], b"damaged")
        await it.work_at_once()
        assert [(await outcome(it, each))["status"] for each in jobs] == ["succeeded", "failed", "succeeded"]


async def test_a_crowd_that_dies_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process dies before the outcomes are kept, the messages come again and find everything done."""
    async with world(tmp_path) as it:
        names = [f"p{number}" for number in range(5)]
        await it.put(*map(patient, names))

        async def away(*_: object) -> None:
            raise StoreUnavailable("away")

        jobs = [(await it.relay.inbound.changes(told(f"Patient/{each}"))).job for each in names]
        with monkeypatch.context() as patched:
            patched.setattr(it.relay.inbound._jobs, "remember", away)
            messages = await it.store.receive("inbound", most=32, visibility=timedelta(seconds=30))
            ended = await asyncio.gather(
                *(it.relay.inbound.work(each.text) for each in messages), return_exceptions=True
            )
            assert [type(each) for each in ended] == [StoreUnavailable] * 5
        await it.restart()
        await it.settle()
        assert [results(await outcome(it, each)) for each in jobs] == [
            {f"Patient/{name}": "unchanged"} for name in names
        ]
        assert len(await it.rows("contacts")) == 5
        assert {it.versions(f"Patient/{name}") for name in names} == {2}


async def test_a_job_over_its_time_is_given_up_for_its_own_reason(tmp_path: Path) -> None:
    """Whoever is put off for longer than RELAY_RETRY_FOR needs a person; those beside it were through at once."""
    async with world(tmp_path, retry_for=timedelta(minutes=10)) as it:
        await it.put(*map(patient, ("p1", "p2", "p3")))

        async def refuse(request: httpx.Request) -> None:
            if "Patient/p2" in request.url.path or b"Patient/p2" in await request.aread():
                raise httpx.ConnectError("away")

        it.to_fhir.before.append(refuse)
        jobs = await crowd(it, [told(f"Patient/{each}") for each in ("p1", "p2", "p3")])
        await it.settle(within=timedelta(days=1))
        assert [(await outcome(it, each))["status"] for each in jobs] == ["succeeded", "failed", "succeeded"]
        assert len(await it.dead()) == 1


async def test_what_nobody_has_time_for_is_put_off_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Dataverse asks everybody to wait, those of a group do not wait for it once more, one by one: they come again later."""
    async with world(tmp_path) as it:
        names = [f"p{number}" for number in range(6)]
        await it.put(*map(patient, names))
        asked = 0

        async def full(*_: object, **__: object) -> httpx.Response:
            nonlocal asked
            asked += 1
            raise Transient("Dataverse asked to wait", code=THROTTLED, retry_after=90)

        with monkeypatch.context() as patched:
            patched.setattr(it.relay.dataverse.governor, "call", full)
            jobs = await crowd(it, [told(f"Patient/{each}") for each in names])
        assert asked <= 3, "once for each group, and not for each of it once more"
        assert [(await it.relay.inbound.status(each)).status for each in jobs] == [202] * 6
        await it.settle()
        assert [results(await outcome(it, each)) for each in jobs] == [{f"Patient/{name}": "created"} for name in names]
        assert await it.dead() == []

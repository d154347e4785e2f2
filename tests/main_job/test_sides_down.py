"""Either side may be away, busy or lose an answer: the work waits and is done later, into the same state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.control import Fault
from support.mishaps import writes_rows
from support.samples import bundle, patient, practitioner
from support.state import state
from support.world import World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

RESOURCES = (patient(identifiers=1), practitioner())
FOR_EVER = 0


async def undisturbed(folder: Path, *resources: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return the state after a run in which nothing goes wrong."""
    async with world(folder / "undisturbed", **settings) as it:
        await it.put(*resources)
        await it.post(bundle(*resources))
        await it.settle()
        return await state(it)


def gaps(times: Sequence[datetime]) -> list[float]:
    """Return the seconds between moments."""
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def clocked(it: World) -> list[datetime]:
    """Return a list that will hold the moment of each request to the FHIR server."""
    moments: list[datetime] = []

    async def note(_: httpx.Request) -> None:
        moments.append(it.clock())

    it.to_fhir.before.append(note)
    return moments


class Parts(httpx.AsyncBaseTransport):
    """Answers the first batch of writes itself, one part for each change set, and does nothing of it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, parts: Sequence[tuple[int, str]]) -> None:
        self.inner = inner
        self.parts = list(parts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self.parts or not writes_rows(request):
            return await self.inner.handle_async_request(request)
        assert len(re.findall(rb'boundary="changeset_', request.content)) == len(self.parts)
        body = "".join(
            "--x\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\n\r\n"
            f'{{"error":{{"code":"{code}","message":"no"}}}}\r\n'
            for status, code in self.parts
        )
        self.parts = []
        return httpx.Response(200, headers={"Content-Type": "multipart/mixed; boundary=x"}, text=f"{body}--x--\r\n")

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize(
    "fault",
    [Fault(path="Patient/p1", times=6), Fault(path="Patient/p1", times=6, status=500), "cut"],
    ids=["503", "500", "cut"],
)
async def test_fhir_server_away(tmp_path: Path, fault: Fault | str) -> None:
    """The write-back is tried again after 5, 10, 20, 40 … seconds until the server is up; the bundle itself is done."""
    wanted = await undisturbed(tmp_path, patient(identifiers=1))
    async with world(tmp_path, events=False) as it:
        await it.put(patient(identifiers=1))
        if isinstance(fault, str):
            it.fhir.faults.append(Fault(path="Patient/p1", times=6, effect="lose"))
        else:
            it.fhir.faults.append(Fault(path=fault.path, times=fault.times, status=fault.status))
        moments = clocked(it)
        reply = await it.post(bundle(patient(identifiers=1)))
        assert reply.body is not None
        assert (reply.status, reply.body["entries"][0]["writeback"]) == (200, "queued")
        await it.settle()
        assert gaps(moments) == [5, 10, 20, 40, 80, 160, 0], "the last is the PUT after its read"
        assert await state(it) == wanted
        assert it.versions("Patient/p1") == 2
        assert await it.dead() == []


async def test_events_are_retried_with_growing_delay(tmp_path: Path) -> None:
    """Where the event causes the write-back, its message waits in the same way."""
    async with world(tmp_path, writeback="event") as it:
        it.hold_events = True
        await it.put(patient(identifiers=0))
        await it.post(bundle(patient(identifiers=0)))
        await it.dataverse.webhooks.idle()
        (body,) = it.events
        await it.relay.take_event(body)
        it.fhir.faults.append(Fault(path="Patient/p1", times=4))
        moments = clocked(it)
        await it.settle()
        assert gaps(moments) == [10, 20, 40, 80, 0]
        assert it.versions("Patient/p1") == 2


@both_ways
async def test_fhir_server_asks_to_wait(tmp_path: Path, writeback: str) -> None:
    """A 429 with Retry-After is heeded: nothing is asked of the server for the same resource before that."""
    wanted = await undisturbed(tmp_path, patient(identifiers=1), writeback=writeback)
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(identifiers=1))
        it.fhir.faults.append(Fault(path="Patient/p1", times=3, status=429, headers={"Retry-After": "600"}))
        it.hold_events = writeback == "inline"
        moments = clocked(it)
        await it.post(bundle(patient(identifiers=1)))
        await it.settle(within=timedelta(hours=3))
        waits = [gap for gap in gaps(moments) if gap > 0]
        assert all(gap >= 600 for gap in waits)
        assert len(waits) == (3 if writeback == "inline" else 1)
        assert await state(it) == wanted


@both_ways
async def test_fhir_server_loses_its_answer(tmp_path: Path, writeback: str) -> None:
    """A PUT that was done though its answer was lost is found to be there: one new version, no second one."""
    wanted = await undisturbed(tmp_path, *RESOURCES, writeback=writeback)
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*RESOURCES)
        it.fhir.faults.append(Fault(method="PUT", effect="lose"))
        it.fhir.faults.append(Fault(method="POST", path="^/$", after=1, effect="lose"))
        await it.post(bundle(*RESOURCES))
        await it.settle()
        assert await state(it) == wanted
        assert [it.versions("Patient/p1"), it.versions("Practitioner/d1")] == [2, 2]
        assert await it.dead() == []


@both_ways
async def test_fhir_server_never_comes_back(tmp_path: Path, writeback: str) -> None:
    """After the time for retries one dead letter tells why; rows stay, and the other resource is done."""
    async with world(tmp_path, writeback=writeback, retry_for="2h") as it:
        await it.put(*RESOURCES)
        it.fhir.faults.append(Fault(path="/Patient/p1", times=FOR_EVER))
        began = it.clock()
        await it.post(bundle(RESOURCES[0]))
        await it.post(bundle(RESOURCES[1]))
        await it.settle(within=timedelta(days=2))
        assert await it.dead() == ["fhir-503"]
        assert timedelta(hours=2) <= it.clock() - began < timedelta(hours=3)
        assert [it.versions("Patient/p1"), it.versions("Practitioner/d1")] == [1, 2]
        assert len(await it.rows("contacts")) == 2
        it.fhir.faults.clear()
        await it.post(bundle(RESOURCES[0]))
        for body in it.events:
            await it.relay.take_event(body)
        await it.settle()
        assert it.versions("Patient/p1") == 2, "once it is up a resend, or the event again, does what was left"


@both_ways
@pytest.mark.parametrize(
    "fault",
    [
        {"times": 40},
        {"times": 5, "status": 429, "headers": {"Retry-After": "120"}},
        {"times": 40, "status": 401},
        {"times": 12, "after": 1, "effect": "lose"},
    ],
    ids=["503", "429", "401", "every answer lost"],
)
async def test_dataverse_away(tmp_path: Path, writeback: str, fault: dict[str, Any]) -> None:
    """The sender gets 202 once the bundle is stored, and it is done when Dataverse is up: the same state, no double row."""
    wanted = await undisturbed(tmp_path, *RESOURCES, writeback=writeback)
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*RESOURCES)
        it.dataverse.faults.append(Fault(path=r"\$batch", **fault))
        reply = await it.post(bundle(*RESOURCES))
        assert (reply.status, reply.body) == (202, None)
        assert (await it.relay.inbound.status(reply.job)).status == 202
        await it.settle(within=timedelta(hours=12))
        assert (await it.relay.inbound.status(reply.job)).status == 200
        assert await state(it) == wanted
        assert await it.store.list_blobs("relay-payloads") == []
        assert await it.dead() == []


@both_ways
async def test_dataverse_loses_its_answer(tmp_path: Path, writeback: str) -> None:
    """A write batch that was done though its answer was lost leads to no second row: asked again, the keys are taken."""
    wanted = await undisturbed(tmp_path, *RESOURCES, writeback=writeback)
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*RESOURCES)
        it.dataverse.faults.append(Fault(path=r"\$batch", after=1, effect="lose"))
        reply = await it.post(bundle(*RESOURCES))
        assert reply.status == 200
        await it.settle()
        assert await state(it) == wanted
        assert await it.dead() == []


@both_ways
async def test_dataverse_never_comes_back(tmp_path: Path, writeback: str) -> None:
    """After the time for retries the bundle is a dead letter with its reason, its outcome says failed, its payload is kept there."""
    async with world(tmp_path, writeback=writeback, retry_for="2h") as it:
        await it.put(*RESOURCES)
        it.dataverse.faults.append(Fault(times=FOR_EVER))
        reply = await it.post(bundle(*RESOURCES))
        await it.settle(within=timedelta(days=2))
        (letter,) = await it.relay.dead_letters.list()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert (outcome["status"], outcome["issues"][0]["code"]) == ("failed", letter["code"])
        assert await it.store.list_blobs("relay-payloads") == []
        body = await it.store.get_blob("relay-dead", letter["body"])
        assert body is not None
        assert b"Patient" in body


@both_ways
@pytest.mark.parametrize(
    "parts",
    [
        [(429, "0x80072322"), (429, "0x80072322")],
        [(429, "0x80072322"), (412, "0x80060882")],
        [(412, "0x80060882"), (429, "0x80072322")],
    ],
    ids=["both busy", "busy and raced", "raced and busy"],
)
async def test_parts_of_a_batch_are_throttled(tmp_path: Path, writeback: str, parts: list[tuple[int, str]]) -> None:
    """A part that was not carried out is put off, whatever became of the others, and no GUID is told before its row is there."""
    wanted = await undisturbed(tmp_path, *RESOURCES, writeback=writeback)
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*RESOURCES)
        it.to_dataverse.inner = Parts(it.to_dataverse.inner, parts)
        reply = await it.post(bundle(*RESOURCES))
        assert reply.status == 202
        ids = {each["msemr_azurefhirid"] for each in await it.rows("contacts")}
        raced = parts.index((412, "0x80060882")) if (412, "0x80060882") in parts else None
        assert ids == (set() if raced is None else {RESOURCES[raced]["id"]})
        assert it.versions("Patient/p1") + it.versions("Practitioner/d1") == 2 + (
            len(ids) if writeback == "inline" else 0
        )
        await it.settle()
        assert await state(it) == wanted
        assert await it.dead() == []


async def test_server_that_asks_to_wait_for_years(tmp_path: Path) -> None:
    """A wait that no queue can hold is cut, not an error: the write-back is tried within a day."""
    async with world(tmp_path, events=False) as it:
        await it.put(patient())
        it.fhir.faults.append(Fault(path="Patient/p1", status=429, headers={"Retry-After": "99999999"}))
        await it.post(bundle(patient()))
        await it.settle(within=timedelta(days=2))
        assert it.versions("Patient/p1") == 2


@pytest.mark.parametrize("readable", [True, False], ids=["message", "garbage"])
async def test_poison_queues_are_drained(tmp_path: Path, readable: bool) -> None:
    """What the host gave up on after its tries becomes a dead letter, on each of the three queues."""
    async with world(tmp_path) as it:
        reply = await it.post(bundle(patient()), respond_async=True)
        (inbound,) = await it.store.peek("inbound", hidden=True)
        it.dataverse.faults.append(Fault(times=FOR_EVER))
        event = b'{"MessageName":"Create","PrimaryEntityName":"contact","PrimaryEntityId":"%s"}'
        await it.relay.take_event(event % b"6f9619ff-8b86-4d11-b42d-00c04fc964ff")
        (writeback,) = await it.store.peek("writeback")
        await it.relay.inbound.drain(inbound.text if readable else "{")
        await it.relay.writebacks.drain(writeback.text if readable else "{")
        await it.relay.inbound.drain_blob('{"BlobName":"a.json"}')
        letters = {each["kind"]: each for each in await it.relay.dead_letters.list()}
        assert letters.keys() == {"inbound", "writeback", "blob"}
        assert {each["code"] for each in letters.values()} == {"poison"}
        if readable:
            body = await it.store.get_blob("relay-dead", letters["inbound"]["body"])
            assert body is not None
            assert b"Patient" in body
            assert await it.store.get_blob("relay-payloads", reply.job) is None
            outcome = await it.relay.inbound.status(reply.job)
            assert outcome.body is not None
            assert (outcome.status, outcome.body["status"]) == (200, "failed")
            assert outcome.body["issues"][0]["code"] == "poison"


async def test_the_receipt_counts_the_tries_that_failed(tmp_path: Path) -> None:
    """The receipt of a bundle that had to be tried again says what the servers saw in all its tries."""
    async with world(tmp_path) as it:
        await it.put(patient())
        it.forget_calls()
        it.dataverse.faults.append(Fault(path=r"\$batch", times=20))
        reply = await it.post(bundle(patient()))
        assert reply.status == 202
        await it.settle()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert outcome["receipt"]["calls"] == it.calls()
        assert outcome["receipt"]["calls"]["dataverse"] > 20

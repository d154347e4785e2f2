"""However much waits, only so much is worked on at once: callers are told 202, messages wait their turn, nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from relay.inbound import job, service
from support.samples import bundle, patient, results
from support.world import World, world


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits at the gate: who cannot go in at once is turned away."""
    monkeypatch.setattr(service, "PATIENCE", 0)
    monkeypatch.setattr(job, "WORKERS_PATIENCE", 0)


async def finished(it: World, job: str) -> dict[str, str]:
    """Return the results of a job that is done."""
    reply = await it.relay.inbound.status(job)
    assert reply.status == 200
    return results(dict(reply.body or {}))


@pytest.mark.usefixtures("impatient")
async def test_a_caller_whose_turn_has_not_come_is_told_202(tmp_path: Path) -> None:
    """While others fill the gate a bundle is stored unread and answered 202; the worker carries it out later."""
    async with world(tmp_path) as it:
        gate = it.relay._gate
        assert await gate.enter(1 << 40, within=0)
        reply = await it.post(bundle(patient()))
        assert (reply.status, it.calls()) == (202, {"dataverse": 0, "fhir": 0})
        gate.leave(1 << 40)
        await it.settle()
        assert await finished(it, reply.job) == {"Patient/p1": "created"}


@pytest.mark.usefixtures("impatient")
async def test_what_cannot_be_read_is_told_afterwards(tmp_path: Path) -> None:
    """A body that was accepted unread and turns out to be none has a failed outcome that says so."""
    async with world(tmp_path) as it:
        gate = it.relay._gate
        assert await gate.enter(1 << 40, within=0)
        reply = await it.post(b"{", content_type="application/fhir+json; note=" + "x" * 5000)
        assert reply.status == 202
        gate.leave(1 << 40)
        await it.settle()
        outcome = dict((await it.relay.inbound.status(reply.job)).body or {})
        assert [issue["code"] for issue in outcome["issues"]] == ["truncated"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("kind", "coding"),
    [("text/plain", ""), ("application/json; charset=utf-7", ""), ("", "br"), ("", "x" * 60_000)],
    ids=["type", "charset", "encoding", "long"],
)
async def test_what_the_headers_rule_out_is_refused_at_once(tmp_path: Path, kind: str, coding: str) -> None:
    """A full gate lets nothing through that would be refused otherwise: a body in another charset is never read as UTF-8."""
    async with world(tmp_path) as it:
        assert await it.relay._gate.enter(1 << 40, within=0)
        reply = await it.post(bundle(patient()), content_type=kind, content_encoding=coding)
        assert reply.status == 415
        assert await it.store.next_visible("inbound") is None


@pytest.mark.usefixtures("impatient")
async def test_a_message_whose_turn_has_not_come_goes_back(tmp_path: Path) -> None:
    """The worker reads no payload before its turn; the message comes again, with no try counted."""
    async with world(tmp_path) as it:
        reply = await it.post(bundle(patient()), respond_async=True)
        gate = it.relay._gate
        assert await gate.enter(1 << 40, within=0)
        assert await it.work() == 1
        assert it.calls() == {"dataverse": 0, "fhir": 0}
        (message,) = await _waiting(it)
        assert message["attempt"] == 0
        gate.leave(1 << 40)
        await it.settle()
        assert await finished(it, reply.job) == {"Patient/p1": "created"}


async def test_who_is_turned_away_waits_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message waits twice as long whenever it comes again, up to a bound: others cannot pass it for ever."""
    waited: list[float] = []

    async def enter(_size: int, *, within: float) -> bool:
        waited.append(within)
        return len(waited) > 5

    async with world(tmp_path) as it:
        reply = await it.post(bundle(patient()), respond_async=True)
        with monkeypatch.context() as patched:
            patched.setattr(it.relay._gate, "enter", enter)
            patched.setattr(it.relay._gate, "leave", lambda _size: None)
            await it.settle()
        assert waited == [20, 40, 80, 120, 120, 120]
        assert await finished(it, reply.job) == {"Patient/p1": "created"}


async def test_a_message_that_does_not_say_its_size_goes_alone(tmp_path: Path) -> None:
    """A message that an earlier version left behind fills the gate while it is worked on."""
    async with world(tmp_path) as it:
        reply = await it.post(bundle(patient()), respond_async=True)
        (message,) = await it.store.receive("inbound", most=1, visibility=service.TURN_AGAIN)
        old = {name: value for name, value in json.loads(message.text).items() if name not in ("size", "turned")}
        held: list[int] = []

        async def note(_: object) -> None:
            held.append(it.relay._gate.held)

        it.to_dataverse.before.append(note)
        await it.relay.inbound.work(json.dumps(old))
        assert set(held) == {it.relay.settings.work_bytes}
        assert await finished(it, reply.job) == {"Patient/p1": "created"}


async def test_a_body_that_holds_more_than_it_says_is_counted_when_it_is_read(tmp_path: Path) -> None:
    """Gzip of several members says what the last one holds; all of them count while the bundle is carried out."""
    sent = [patient(f"p{number}") for number in range(9)]
    body = json.dumps(bundle(*sent)).encode()
    packed = gzip.compress(body[:-1]) + gzip.compress(body[-1:])
    async with world(tmp_path, events=False) as it:
        await it.put(*sent)
        held: list[int] = []

        async def note(_: object) -> None:
            held.append(it.relay._gate.held)

        it.to_dataverse.before.append(note)
        for respond_async in (False, True):
            reply = await it.post(packed, content_encoding="gzip", respond_async=respond_async)
            assert reply.status == (202 if respond_async else 200)
            await it.settle()
        assert set(held) == {len(body)}
        assert it.relay._gate.held == 0


async def _waiting(it: World) -> list[dict[str, int]]:
    due = await it.store.next_visible("inbound")
    assert due is not None
    it.clock.time = due
    received = await it.store.receive("inbound", most=10, visibility=service.TURN_AGAIN)
    it.clock.time = due + service.TURN_AGAIN
    return [json.loads(each.text) for each in received]


async def test_ten_at_once_are_worked_on_one_by_one(tmp_path: Path) -> None:
    """With room for one bundle, of ten that come at once never two are read or carried out together; all are done."""
    bodies = [json.dumps(bundle(patient(f"p{number}"))).encode() for number in range(10)]
    async with world(tmp_path, work_bytes=max(map(len, bodies))) as it:
        gate, most = it.relay._gate, 0
        read = it.relay.inbound._read

        def watched(*arguments: object) -> object:
            nonlocal most
            most = max(most, gate._inside)
            return read(*arguments)  # type: ignore[arg-type]

        it.relay.inbound._read = watched  # type: ignore[method-assign,assignment]
        replies = await asyncio.gather(*(it.post(body) for body in bodies))
        assert [reply.status for reply in replies] == [200] * 10
        assert (most, gate.held) == (1, 0)
        await it.settle()

"""Polling: what changed on the FHIR server is asked for, and nothing of it is missed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from relay.errors import Failed, StoreUnavailable, Transient
from relay.inbound import poll as poll_module
from relay.inbound.poll import CONTAINER
from support.samples import encounter, patient
from support.world import URN, World, world

Answer = Callable[[httpx.Request], httpx.Response | None]


class Instead(httpx.AsyncBaseTransport):
    """Answers some requests to the FHIR server itself; notes those of polling."""

    def __init__(self, it: World, answer: Answer = lambda _: None) -> None:
        self.asked: list[str] = []
        self._inner, self._answer = it.to_fhir.inner, answer
        it.to_fhir.inner = self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and request.url.query:
            self.asked.append(request.url.path.rpartition("/")[2] or "/")
        return self._answer(request) or await self._inner.handle_async_request(request)


def no_history(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(404) if request.url.path == "/_history" else None


async def poll(it: World) -> int:
    return await it.relay.poller.poll()


async def genders(it: World) -> dict[str, int]:
    return {row["msemr_azurefhirid"]: row["gendercode"] for row in await it.rows("contacts")}


def later(it: World, **span: float) -> None:
    it.clock.advance(timedelta(**span))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages of two."""
    monkeypatch.setattr(poll_module, "PAGE", 2)


def on_clock(it: World) -> None:
    """Let the FHIR server tell the time of the test's clock."""
    it.fhir.store._clock = it.clock


@pytest.mark.parametrize("answer", [lambda _: None, no_history], ids=["history", "search"])
async def test_what_changes_after_polling_began_is_taken(tmp_path: Path, answer: Answer) -> None:
    """Rows are made and GUIDs go back, by history and by search alike; then there is nothing more to do."""
    async with world(tmp_path) as it:
        on_clock(it)
        await it.put(patient("before"))
        later(it, hours=1)
        Instead(it, answer)
        assert await poll(it) == 0
        later(it, minutes=5)
        await it.put(patient(identifiers=0, gender="male"), encounter())
        assert await poll(it) == 2
        await it.settle()
        assert await genders(it) == {"p1": 1}
        assert (await it.read("Patient", "p1"))["identifier"][0]["system"] == URN.format("patient")
        assert (await it.read("Encounter", "e1"))["identifier"][-1]["system"] == URN.format("encounter")
        assert await poll(it) == 2, "the echo of the write-backs"
        await it.settle()
        held = len(it.fhir.store.log)
        for _ in range(3):
            later(it, minutes=1)
            assert await poll(it) == 0
        await it.settle()
        assert len(it.fhir.store.log) == held
        assert await it.dead() == []


async def test_a_version_that_becomes_visible_late_is_not_missed(tmp_path: Path) -> None:
    """What a slow commit shows after a newer version was read is taken, as long as it is within the overlap."""
    async with world(tmp_path, poll_overlap=timedelta(minutes=5)) as it:
        on_clock(it)
        await poll(it)
        later(it, minutes=10)
        await it.put(patient("slow"))
        hidden = it.fhir.store.log.pop()
        later(it, minutes=4)
        await it.put(patient("quick"))
        assert await poll(it) == 1
        it.fhir.store.log.insert(0, hidden)
        later(it, minutes=1)
        assert await poll(it) == 1
        await it.settle()
        assert (await genders(it)).keys() == {"slow", "quick"}


@pytest.mark.usefixtures("small")
async def test_of_several_versions_only_the_newest_counts(tmp_path: Path) -> None:
    """An older version, a deletion too, on a later page of a history is not taken for news."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        for gender in ("male", "female"):
            later(it, seconds=1)
            await it.put(patient(identifiers=0, gender=gender))
            later(it, seconds=1)
            await it.fhir_http.delete("/Patient/p1")
        later(it, seconds=1)
        await it.put(patient(identifiers=0, gender="female"), patient("p2"))
        asked = Instead(it).asked
        assert await poll(it) == 2
        assert asked == ["_history"] * 3
        await it.settle()
        assert await genders(it) == {"p1": 2, "p2": 2}
        assert await it.dead() == []


async def test_a_deletion_becomes_a_deletion(tmp_path: Path) -> None:
    """The history tells of it: what is kept is a DELETE of that resource."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        await it.put(patient())
        later(it, seconds=1)
        await it.fhir_http.delete("/Patient/p1")
        kept: list[Any] = []
        it.relay.inbound.keep = lambda changes: _noted(kept, changes)  # type: ignore[method-assign]
        assert await poll(it) == 1
        assert [(each.key, each.op, each.version) for each in kept] == [(("Patient", "p1"), "delete", "2")]


async def test_a_deletion_reaches_the_row(tmp_path: Path) -> None:
    """What is deleted between two polls is out of use in Dataverse after the second."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        await it.put(patient())
        await poll(it)
        await it.settle()
        later(it, minutes=1)
        await it.fhir_http.delete("/Patient/p1")
        await poll(it)
        await it.settle()
        assert [row["statecode"] for row in await it.rows("contacts")] == [1]
        assert await it.dead() == []


async def _noted(kept: list[Any], changes: Any) -> str:
    kept += changes
    return ""


async def test_a_deletion_without_a_time_is_found_once(tmp_path: Path) -> None:
    """HAPI does not say when something was deleted: nothing older is taken for news, nothing newer is hidden, no poll repeats it."""

    def as_hapi(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/_history":
            return None
        since = parse_qs(request.url.query.decode())["_since"][0]
        entries = [each for each in reversed(it.fhir.store.log) if each.updated.isoformat()[:19] >= since[:19]]
        listed = [
            {"resource": {"resourceType": "Patient", "id": each.id, "meta": _meta(each)}}
            if each.body
            else {"request": {"url": f"Patient/{each.id}/_history/{each.number}"}}
            for each in entries
        ]
        meta = {"lastUpdated": it.clock().isoformat()}
        return httpx.Response(200, json={"resourceType": "Bundle", "meta": meta, "entry": listed})

    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        kept: list[Any] = []
        it.relay.inbound.keep = lambda changes: _noted(kept, changes)  # type: ignore[method-assign]
        await it.put(patient())
        Instead(it, as_hapi)
        assert await poll(it) == 1
        later(it, minutes=1)
        await it.fhir_http.delete("/Patient/p1")
        assert await poll(it) == 1
        assert await poll(it) == 0
        later(it, minutes=1)
        await it.put(patient())
        assert [await poll(it), await poll(it)] == [1, 0]
        assert [(each.op, each.version) for each in kept] == [("update", "1"), ("unknown", None), ("unknown", None)]
        await it.put(patient("p2"))
        await it.fhir_http.delete("/Patient/p2")
        assert [await poll(it), await poll(it)] == [1, 0]
        later(it, hours=1)
        assert [await poll(it), await poll(it)] == [0, 0]
        assert (kept[-1].id, kept[-1].op) == ("p2", "unknown")


def _meta(version: Any) -> dict[str, str]:
    return {"versionId": str(version.number), "lastUpdated": version.updated.isoformat()}


async def test_two_versions_of_one_instant_are_read(tmp_path: Path) -> None:
    """Nobody knows which is the newer one, so what is told of neither is taken as it is."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        await it.put(patient())
        await it.fhir_http.delete("/Patient/p1")
        await it.put(patient())
        kept: list[Any] = []
        it.relay.inbound.keep = lambda changes: _noted(kept, changes)  # type: ignore[method-assign]
        assert await poll(it) == 1
        assert [(each.op, each.version) for each in kept] == [("unknown", None)]


@pytest.mark.usefixtures("small")
async def test_a_crash_or_a_store_that_is_away_costs_a_repeat(tmp_path: Path) -> None:
    """The watermark never moves before what it passes is kept; a new process goes on with the page that is next."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        later(it, seconds=1)
        people = [patient(f"p{number}") for number in range(5)]
        await it.put(*people)
        send, calls = it.store.send, 0

        async def fails_once(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise StoreUnavailable("away")
            return await send(*arguments, **options)

        it.store.send = fails_once  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await poll(it)
        await it.restart()
        asked = Instead(it).asked
        assert await poll(it) == 3
        assert asked == ["_history"] * 2, "the first page is not asked for again"
        await it.settle()
        assert len(await genders(it)) == 5


async def test_a_server_that_is_away_or_refuses_moves_nothing(tmp_path: Path) -> None:
    """Both are told to whoever asked, and the next poll takes what there is."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        later(it, minutes=1)
        await it.put(patient())
        instead = Instead(it, lambda _: httpx.Response(503))
        with pytest.raises(Transient):
            await poll(it)
        instead._answer = lambda _: httpx.Response(403)
        with pytest.raises(Failed) as refused:
            await poll(it)
        assert refused.value.code == "fhir-403"
        later(it, hours=3)
        instead._answer = lambda _: None
        assert await poll(it) == 1


@pytest.mark.usefixtures("small")
async def test_a_next_page_that_is_gone_begins_the_pass_anew(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Servers keep pages for minutes only; what was taken is known and not taken twice."""
    monkeypatch.setattr(poll_module, "RUN", timedelta(0))
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        later(it, seconds=1)
        await it.put(*(patient(f"p{number}") for number in range(3)))
        assert await poll(it) == 2, "the time is over after each page"
        instead = Instead(it, lambda r: httpx.Response(410) if "_offset" in parse_qs(r.url.query.decode()) else None)
        assert await poll(it) == 0
        monkeypatch.setattr(poll_module, "RUN", timedelta(hours=1))
        with pytest.raises(Failed):  # a link that was just given is not expired but wrong
            await poll(it)
        instead._answer = lambda _: None
        assert await poll(it) == 1
        await it.settle()
        assert len(await genders(it)) == 3


async def test_a_time_in_the_future_hides_nothing(tmp_path: Path) -> None:
    """A server whose clock is ahead, or a resource with a made-up time, does not move the watermark beyond now."""
    async with world(tmp_path) as it:
        ahead = it.clock
        it.fhir.store._clock = lambda: ahead() + timedelta(hours=2)
        await poll(it)
        later(it, minutes=1)
        await it.put(patient())
        assert await poll(it) == 1
        it.fhir.store.log.clear()  # which would keep the time from going back
        it.fhir.store._clock = it.clock
        later(it, minutes=1)
        await it.put(patient("p2"))
        assert await poll(it) == 1


async def test_entries_without_a_name_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They cannot be taken, and are counted in the log."""
    async with world(tmp_path) as it:
        await poll(it)
        Instead(it, lambda _: httpx.Response(200, json={"resourceType": "Bundle", "entry": [{}]}))
        assert await poll(it) == 0
        assert "1 entries of a page name no resource" in caplog.text


async def test_what_is_kept_names_no_resource(tmp_path: Path) -> None:
    """The watermark knows what was taken by keyed hashes."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        await it.put(patient("zq-canary-7"))
        await poll(it)
        (blob,) = await it.store.list_blobs(CONTAINER)
        data = await it.store.get_blob(CONTAINER, blob.name) or b""
        assert b"seen" in data
        assert b"zq-canary-7" not in data


async def test_a_page_that_is_its_own_next_is_told(tmp_path: Path) -> None:
    """A server that leads in a circle is no server whose changes were all read."""
    async with world(tmp_path) as it:
        await poll(it)
        link = [{"relation": "next", "url": "http://fhir/?page=2"}]
        Instead(it, lambda _: httpx.Response(200, json={"resourceType": "Bundle", "link": link}))
        with pytest.raises(Transient, match="the page itself"):
            await poll(it)


@pytest.mark.usefixtures("small")
async def test_a_long_pass_hides_nothing_of_what_it_searched_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes of one type while the pages of another are left for later runs is taken by the next pass."""
    monkeypatch.setattr(poll_module, "RUN", timedelta(0))
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        later(it, minutes=1)
        await it.put(encounter(), *(patient(f"p{number}") for number in range(3)))
        Instead(it, no_history)
        it.relay.poller._types = lambda: ["Encounter", "Patient"]
        assert await poll(it) == 1, "of the first type, whose pages are read"
        later(it, minutes=1)
        await it.put(encounter("while"))
        later(it, minutes=20)
        await it.put(patient("last"))
        taken = 0
        for _ in range(8):
            later(it, minutes=1)
            taken += await poll(it)
        assert taken == 5
        await it.settle()
        assert (await it.read("Encounter", "while"))["identifier"][-1]["system"] == URN.format("encounter")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
async def test_a_time_that_utc_cannot_hold_is_none(tmp_path: Path, time: str) -> None:
    """What some systems write for no time at all does not end polling: the resource is taken, and once."""
    async with world(tmp_path) as it:
        on_clock(it)
        await poll(it)
        meta = {"versionId": "1", "lastUpdated": time}
        entry = {"resource": {"resourceType": "Patient", "id": "p1", "meta": meta}}
        Instead(it, lambda _: httpx.Response(200, json={"resourceType": "Bundle", "entry": [entry]}))
        assert [await poll(it), await poll(it)] == [1, 0]

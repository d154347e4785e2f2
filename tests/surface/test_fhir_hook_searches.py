"""What a notification does not say is searched for: page after page, from a watermark that passes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from hook_kit import SEARCH, ids, notification, on_clock, searches, tell
from surface_kit import surface

from devstack.control import Fault
from relay.fhir.pages import Page
from support.samples import organization, patient


async def test_an_empty_post_is_a_search_of_the_path_types(tmp_path: Path) -> None:
    """The first looks an hour back; the next one searches from where that one ended, a minute before the newest."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(patient(), patient("p2"), organization())
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert ids(it) == ["p1", "p2"]
        assert it.rows("account") == []
        (first,) = searches(it)
        assert first == "/Patient?_lastUpdated=ge2026-06-01T11%3A00%3A04.000Z&_count=200"
        newest = (await it.read("Patient", "p2"))["meta"]["lastUpdated"]  # our own PUT, after the search
        await it.put(patient("p3"))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert ids(it) == ["p1", "p2", "p3"]
        (second,) = searches(it)
        since = datetime.fromisoformat(unquote(second).partition("ge")[2].partition("&")[0])
        assert timedelta(0) <= datetime.fromisoformat(newest) - since - timedelta(minutes=1) < timedelta(minutes=1)


async def test_an_empty_post_without_types_asks_for_all_that_have_maps(tmp_path: Path) -> None:
    """Where the path names none, every type with a map is searched; types without one are not, even if it names them."""
    async with surface(tmp_path) as it:
        await it.put(patient(), organization())
        assert await tell(it, b"") == 202
        await it.settle()
        assert (ids(it), len(it.rows("account"))) == (["p1"], 1)
        assert len(searches(it)) == len({each.resource for each in it.relay.maps})
        it.forget_calls()
        assert await tell(it, b"", "/Subscription,Basic") == 202
        await it.settle()
        assert searches(it) == []


async def test_many_at_once_are_one_search(tmp_path: Path) -> None:
    """However often it is said within two seconds that something changed, the search after it finds it all."""
    async with surface(tmp_path) as it:
        for number in range(5):
            await it.put(patient(f"p{number}"))
            assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert len(searches(it)) == 1
        assert len(ids(it)) == 5
        it.clock.advance(timedelta(seconds=10))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert len(searches(it)) == 2


async def test_a_first_search_that_has_to_wait_goes_back_from_when_it_was_due(tmp_path: Path) -> None:
    """A server that is away for hours is searched for what was told of before, though nothing was searched for yet."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(patient())
        it.fhir.faults.append(Fault(path=SEARCH, status=503, times=0))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle(within=timedelta(hours=5))
        it.fhir.faults.clear()
        it.clock.advance(timedelta(hours=1))
        await it.settle()
        assert ids(it) == ["p1"]


async def test_a_time_in_the_future_hides_nothing(tmp_path: Path) -> None:
    """A resource that the server dates ahead of now does not move the watermark there: what comes next is found."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(patient())
        ahead = {**patient(), "meta": {"lastUpdated": "2027-01-01T00:00:00Z"}}
        found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": ahead}]}
        it.fhir.faults.append(Fault(path=SEARCH, status=200, body=found))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        it.clock.advance(timedelta(minutes=10))
        await it.put(patient("p2"))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert ids(it) == ["p1", "p2"]


async def test_a_damaged_search_needs_nobody(tmp_path: Path) -> None:
    """A kept search that cannot be read ends, and is not tried for ever."""
    async with surface(tmp_path) as it:
        await tell(it, b"", "/Patient")
        ((blob,), damaged) = (await it.store.list_blobs("relay-payloads"), b'{"types":7}')
        await it.store.put_blob("relay-payloads", blob.name, damaged)
        await it.settle()
        assert await it.store.list_blobs("relay-payloads") == []
        outcome = (await it.http.get(f"/api/bundle/{blob.name}")).json()
        assert [each["code"] for each in outcome["issues"]] == ["bad-message"]


async def test_an_empty_notification_is_a_search(tmp_path: Path) -> None:
    """What was changed is searched for among the types that the path names."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        assert await tell(it, notification(1), "/Patient") == 202
        await it.settle()
        assert ids(it) == ["p1"]
        assert len(searches(it)) == 1


async def test_a_late_page_moves_the_watermark_past_nothing(tmp_path: Path) -> None:
    """What changed after the first page was read, and is newer on the last one, is within what the next search asks for."""
    async with surface(tmp_path) as it:
        asked: list[datetime] = []

        async def updated(_kind: str, since: datetime) -> AsyncIterator[Page]:
            asked.append(since)
            yield Page((), it.clock() - timedelta(minutes=1), "")
            it.clock.advance(timedelta(minutes=30))
            yield Page((), it.clock(), "")

        it.relay.fhir.updated = updated
        begun = []
        for _ in range(2):
            assert await tell(it, b"", "/Patient") == 202
            it.clock.advance(timedelta(seconds=10))
            begun.append(it.clock())
            await it.due()
        assert asked[1] <= begun[0]


@pytest.mark.parametrize("status", [400, 403])
async def test_a_type_whose_search_is_refused_hides_no_other(tmp_path: Path, status: int) -> None:
    """The other types are searched all the same, and that one was refused is a dead letter."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        it.fhir.faults.append(Fault(path=r"/Encounter\?_lastUpdated=", status=status, times=0))
        assert await tell(it, b"", "/Encounter,Patient") == 202
        await it.settle()
        assert ids(it) == ["p1"]
        assert [each["code"] for each in await it.relay.dead_letters.list()] == [f"fhir-{status}"]


async def test_a_busy_server_is_searched_later(tmp_path: Path) -> None:
    """A search, and $events, that meet a busy server are tried again; the watermark stays until all is found."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"), patient("p3"))
        it.fhir.faults += [Fault(path=r"\$events", status=429), Fault(path=SEARCH, status=503)]
        for number in (1, 3):
            await tell(it, notification(number, f"Patient/p{number}"))
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]
        assert len(searches(it)) == 2


async def test_a_refused_search_needs_a_person(tmp_path: Path) -> None:
    """A server that refuses the search is a dead letter with the status, for nobody else would know."""
    async with surface(tmp_path) as it:
        it.fhir.faults.append(Fault(path=SEARCH, status=400))
        assert await tell(it, b"", "/Patient") == 202
        await it.settle()
        assert [each["code"] for each in await it.relay.dead_letters.list()] == ["fhir-400"]

"""What a Subscription left out is looked for: events that did not come, and what they tell too little of."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hook_kit import as_parameters, ids, notification, on_clock, searches, tell
from surface_kit import Flaky, surface

from devstack.control import Fault
from support.samples import encounter, patient


async def test_an_event_that_never_came_is_searched_for(tmp_path: Path) -> None:
    """After events 1 and 3 the types that were told of are searched since the first; one more search for nothing is not made."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"), patient("p3"))
        assert await tell(it, notification(1, "Patient/p1")) == 202
        assert await tell(it, notification(3, "Patient/p3")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]
        (search,) = searches(it)
        assert search.startswith("/Patient?_lastUpdated=ge2026-06-01T11%3A55%3A00.000Z")


async def test_an_event_that_comes_late_is_no_gap(tmp_path: Path) -> None:
    """Events that overtake each other are each taken, and nothing is searched for."""
    async with surface(tmp_path) as it:
        await it.put(*(patient(f"p{number}") for number in range(1, 5)))
        for number in (1, 3, 2, 4):
            assert await tell(it, notification(number, f"Patient/p{number}")) == 202
        await it.settle()
        assert ids(it) == ["p1", "p2", "p3", "p4"]
        assert searches(it) == []


async def test_some_of_the_missing_came_late(tmp_path: Path) -> None:
    """Of two events that were left out one comes; the other one is searched for all the same."""
    async with surface(tmp_path) as it:
        await it.put(patient("lost"), *(patient(f"p{number}") for number in (1, 2, 4)))
        for number in (1, 4, 2):
            assert await tell(it, notification(number, f"Patient/p{number}")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p2", "p4"]


async def test_an_event_that_comes_late_hides_no_gap(tmp_path: Path) -> None:
    """What was left out before a late event came is searched for since the event before the gap, not since the late one."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(*(patient(f"p{number}") for number in (1, 2, 4)))
        assert await tell(it, notification(2, "Patient/p2")) == 202
        it.clock.advance(timedelta(minutes=1))
        await it.put(patient("lost"))
        it.clock.advance(timedelta(minutes=20))
        assert await tell(it, notification(1, "Patient/p1")) == 202
        assert await tell(it, notification(4, "Patient/p4")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p2", "p4"]


@pytest.mark.parametrize("parameters", [False, True])
async def test_a_gap_in_a_backlog_is_looked_for_since_it_happened(tmp_path: Path, parameters: bool) -> None:
    """Where a server delivers hours late, what it left out is searched for since the last event before it happened."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(patient())
        happened = it.clock().isoformat()
        it.clock.advance(timedelta(minutes=1))
        await it.put(patient("lost"), patient("p3"))
        it.clock.advance(timedelta(hours=3))
        late = json.loads(notification(1, "Patient/p1"))
        late["entry"][0]["resource"]["notificationEvent"][0]["timestamp"] = happened
        if parameters:
            late = as_parameters(late)
        assert await tell(it, json.dumps(late).encode()) == 202
        assert await tell(it, notification(3, "Patient/p3")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]


@pytest.mark.parametrize("said", ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "2026-06-01T11:00:00", "soon", 7])
async def test_a_time_that_cannot_be_is_not_believed(tmp_path: Path, said: Any) -> None:
    """However old an event says it is, a gap after it is searched for since a day ago; and never since a time to come."""
    async with surface(tmp_path) as it:
        on_clock(it)
        await it.put(patient(), patient("lost"), patient("p3"))
        bundle = json.loads(notification(1, "Patient/p1"))
        bundle["entry"][0]["resource"]["notificationEvent"][0]["timestamp"] = said
        assert await tell(it, json.dumps(bundle).encode()) == 202
        assert await tell(it, notification(3, "Patient/p3")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]
        since = "2026-05-31" if said == "1970-01-01T00:00:00Z" else "2026-06-01"
        assert searches(it)[0].startswith(f"/Patient?_lastUpdated=ge{since}T11%3A55%3A00.000Z")


async def test_a_subscription_of_another_base_is_not_asked(tmp_path: Path) -> None:
    """Its events cannot be asked for by a reference that is not below RELAY_FHIR_URL: the types are searched."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"), patient("p3"))
        for number in (1, 3):
            body = notification(number, f"Patient/p{number}").replace(
                b"Subscription/s1", b"https://x.example/Subscription/s1"
            )
            assert await tell(it, body) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]
        assert [each for each in it.fhir.calls if "$events" in each["path"]] == []


async def test_a_subscription_that_does_not_count(tmp_path: Path) -> None:
    """Without numbers there is no gap and no repetition: what is told is taken."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        bundle = json.loads(notification(1, "Patient/p1"))
        status = bundle["entry"][0]["resource"]
        del status["eventsSinceSubscriptionStart"], status["notificationEvent"][0]["eventNumber"]
        for _ in range(2):
            assert await tell(it, json.dumps(bundle).encode()) == 202
        await it.settle()
        assert ids(it) == ["p1"]
        assert await it.store.list_rows("subscriptions") == []


async def test_a_heartbeat_shows_what_was_missed(tmp_path: Path) -> None:
    """Its count is more than was told of: the events up to it are looked for. With the same count it shows nothing."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"))
        assert await tell(it, notification(0, kind="handshake")) == 200
        assert await tell(it, notification(1, "Patient/p1")) == 202
        assert await tell(it, notification(0, kind="heartbeat", total=1)) == 200
        await it.settle()
        assert searches(it) == []
        assert await tell(it, notification(0, kind="heartbeat", total=2)) == 200
        await it.settle()
        assert ids(it) == ["lost", "p1"]


async def test_the_same_notification_again_is_dropped(tmp_path: Path) -> None:
    """200 and nothing kept; but a Subscription that was made anew counts from 1 again, and what it tells is new."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("p2"))
        assert await tell(it, notification(1, "Patient/p1")) == 202
        await it.settle()
        before = len(await it.kept())
        assert await tell(it, notification(1, "Patient/p1")) == 200
        assert len(await it.kept()) == before
        assert await tell(it, notification(1, "Patient/p2")) == 202
        await it.settle()
        assert ids(it) == ["p1", "p2"]


async def test_a_subscription_made_anew_may_repeat_itself(tmp_path: Path) -> None:
    """After a handshake it counts from 1 again: to the letter what was told before, it is about a change of now."""
    async with surface(tmp_path) as it:
        await it.put(patient(gender="male"))
        assert await tell(it, notification(1, "Patient/p1")) == 202
        await it.settle()
        await it.put(patient(gender="female"))
        assert await tell(it, notification(0, kind="handshake")) == 200
        assert await tell(it, notification(1, "Patient/p1")) == 202
        await it.settle()
        assert [row["gendercode"] for row in it.rows("contact")] == [2]


async def test_events_without_end_are_not_noted_without_end(tmp_path: Path) -> None:
    """Of a notification that claims more than a thousand events, what it tells of is taken, and no more than that is noted."""
    stores: list[Flaky] = []
    async with surface(tmp_path, wrap=lambda store: stores.append(Flaky(store)) or stores[-1]) as it:
        await it.put(patient())
        bundle = json.loads(notification(1, "Patient/p1", total=3000))
        status = bundle["entry"][0]["resource"]
        status["notificationEvent"] += [{"eventNumber": str(number)} for number in range(2, 3001)]
        for _ in range(2):
            assert await tell(it, json.dumps(bundle).encode()) == 202
        assert len(stores[0].names) < 2 * 1010
        await it.settle()
        assert ids(it) == ["p1"]


async def test_the_subscription_is_asked_for_its_events_first(tmp_path: Path) -> None:
    """Where $events answers with all that are missing, these are read and nothing is searched."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"), patient("p3"), patient("unchanged"))
        told = json.loads(notification(2, "Patient/lost"))
        told["entry"][0]["resource"]["type"] = "query-event"
        it.fhir.faults.append(Fault(path=r"\$events", status=200, body=told))
        for number in (1, 3):
            assert await tell(it, notification(number, f"Patient/p{number}")) == 202
        await it.settle()
        asked = next(each["path"] for each in it.fhir.calls if "$events" in each["path"])
        assert asked == "/Subscription/s1/$events?eventsSinceNumber=2&eventsUntilNumber=2&content=id-only"
        assert ids(it) == ["lost", "p1", "p3"]
        assert searches(it) == []


@pytest.mark.parametrize("body", [b"{}", notification(7, "Patient/p1"), b"not json"])
async def test_events_that_do_not_tell_all_are_searched_for(tmp_path: Path, body: bytes) -> None:
    """An answer to $events that is none, or lacks some of the events, is no answer."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"), patient("p3"))
        try:
            fault = Fault(path=r"\$events", status=200, body=json.loads(body))
        except ValueError:
            fault = Fault(path=r"\$events", status=200, body=body.decode())
        it.fhir.faults.append(fault)
        for number in (1, 3):
            await tell(it, notification(number, f"Patient/p{number}"))
        await it.settle()
        assert ids(it) == ["lost", "p1", "p3"]


@pytest.mark.parametrize(
    "focus", [None, {"reference": "https://elsewhere.example/Patient/lost"}], ids=["none", "foreign"]
)
async def test_an_event_without_its_resource_is_searched_for(tmp_path: Path, focus: dict[str, str] | None) -> None:
    """An answer to $events that names all numbers, but not what each is about, does not tell all of them."""
    async with surface(tmp_path) as it:
        await it.put(*(patient(each) for each in ("p1", "p2", "lost", "p4")))
        told = json.loads(notification(2, "Patient/p2"))
        status = told["entry"][0]["resource"]
        status["notificationEvent"].append({"eventNumber": "3"} | ({"focus": focus} if focus else {}))
        status["type"] = "query-event"
        it.fhir.faults.append(Fault(path=r"\$events", status=200, body=told))
        for number in (1, 4):
            assert await tell(it, notification(number, f"Patient/p{number}")) == 202
        await it.settle()
        assert ids(it) == ["lost", "p1", "p2", "p4"]


@pytest.mark.parametrize("events", [(6,), (6, 9), (3, 9)], ids=["count", "between", "late"])
async def test_what_a_notification_leaves_out_itself_is_searched_for(tmp_path: Path, events: tuple[int, ...]) -> None:
    """Numbers between the events that it tells of, or up to its count behind them, are a gap as those before it are."""
    async with surface(tmp_path) as it:
        await it.put(*(patient(each) for each in ("p5", "told", "lost")))
        assert await tell(it, notification(5, "Patient/p5")) == 202
        bundle = json.loads(notification(events[0], "Patient/told", total=9))
        told = [{"eventNumber": str(number), "focus": {"reference": "Patient/told"}} for number in events]
        bundle["entry"][0]["resource"]["notificationEvent"] = told
        assert await tell(it, json.dumps(bundle).encode()) == 202
        await it.settle()
        assert ids(it) == ["lost", "p5", "told"]


async def test_a_gap_too_large_to_be_told_is_searched_for(tmp_path: Path) -> None:
    """Where a count jumps, by mistake or malice, nobody is asked for so many events, nor are their numbers held."""
    async with surface(tmp_path) as it:
        await it.put(patient(), patient("lost"))
        it.fhir.faults.append(Fault(path=r"\$events", status=200, body=json.loads(notification(2, "Patient/p1"))))
        assert await tell(it, notification(1, "Patient/p1")) == 202
        assert await tell(it, notification(0, kind="heartbeat", total=200_000)) == 200
        await it.settle()
        assert ids(it) == ["lost", "p1"]
        assert [each["path"] for each in it.fhir.calls if "$events" in each["path"]] == []


async def test_what_was_not_kept_is_no_repetition(tmp_path: Path) -> None:
    """A notification that could not be stored, wherever the store failed, is taken in full when it comes again."""
    for at in range(16):
        async with surface(tmp_path / str(at), wrap=lambda store, at=at: Flaky(store, at=at)) as it:
            await it.put(patient(), patient("lost"), patient("p3"))
            for number in (1, 3):
                told = [await tell(it, notification(number, f"Patient/p{number}")) for _ in range(3)]
                assert {200, 202} & set(told)  # and once more, whether or not it was taken
            assert await tell(it, b"", "/Patient") in (202, 503)
            await it.settle()
            assert ids(it) == ["lost", "p1", "p3"], at


async def test_a_gap_of_many_is_not_counted_through(tmp_path: Path) -> None:
    """More than a thousand missing events are looked for without looking at each number."""
    async with surface(tmp_path) as it:
        await it.put(patient(), encounter())
        await tell(it, notification(1, "Encounter/e1"))
        await tell(it, notification(5000, "Encounter/e1"), "/Patient")
        await it.settle()
        assert ids(it) == ["p1"]


async def test_notes_of_events_expire(tmp_path: Path) -> None:
    """After RELAY_RETENTION_DAYS what was heard is forgotten."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        await tell(it, notification(1, "Patient/p1"))
        await it.settle()
        it.clock.advance(timedelta(days=31))
        await tell(it, notification(2, "Patient/p1"))
        assert len(await it.store.list_rows("heardevents")) == 2
        await it.host.invoke("sweep")
        assert [number for _, number, _ in await it.store.list_rows("heardevents")] == ["2"]

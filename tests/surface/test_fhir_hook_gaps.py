"""What a Subscription left out is looked for: events that did not come, and changes that were told of without saying which."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from surface_kit import FHIR_JSON, Flaky, Surface, surface

from devstack.control import Fault
from support.samples import encounter, organization, patient

SEARCH = r"\?_lastUpdated="


def notification(number: int, *focus: str, kind: str = "event-notification", total: int | None = None) -> bytes:
    """Return an R5 notification of one event, ids only; without a number it is a heartbeat or a handshake."""
    status: dict[str, Any] = {
        "resourceType": "SubscriptionStatus",
        "status": "active",
        "type": kind,
        "eventsSinceSubscriptionStart": str(total or number),
        "subscription": {"reference": "Subscription/s1"},
    }
    if kind == "event-notification":
        events = [{"eventNumber": str(number), "focus": {"reference": each}} for each in focus]
        status["notificationEvent"] = events or [{"eventNumber": str(number)}]
    bundle = {"resourceType": "Bundle", "type": "subscription-notification", "entry": [{"resource": status}]}
    return json.dumps(bundle).encode()


async def tell(it: Surface, body: bytes, path: str = "") -> int:
    """Send a notification and return the status."""
    answer = await it.http.post(f"/api/fhir-hook{path}", content=body, headers=FHIR_JSON)
    return answer.status_code


def searches(it: Surface) -> list[str]:
    """Return the searches for changes that the FHIR server had."""
    return [each["path"] for each in it.fhir.calls if "_lastUpdated" in each["path"]]


def ids(it: Surface) -> list[str]:
    return sorted(row["msemr_azurefhirid"] for row in it.rows("contact"))


async def test_an_empty_post_is_a_search_of_the_path_types(tmp_path: Path) -> None:
    """The first looks an hour back; the next one searches from where that one ended, a minute before the newest."""
    async with surface(tmp_path) as it:
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
        assert timedelta(0) < datetime.fromisoformat(newest) - since - timedelta(minutes=1) < timedelta(minutes=1)


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


async def test_an_empty_notification_is_a_search(tmp_path: Path) -> None:
    """What was changed is searched for among the types that the path names."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        assert await tell(it, notification(1), "/Patient") == 202
        await it.settle()
        assert ids(it) == ["p1"]
        assert len(searches(it)) == 1


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

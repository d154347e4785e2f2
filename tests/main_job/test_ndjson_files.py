"""NDJSON files, such as those of a bulk export: carried out in windows that stay done, each line for itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.control import Fault
from relay.errors import StoreUnavailable
from relay.inbound.jobs import PAYLOADS
from support.data import need_fhir_data
from support.mishaps import Kill, Wire
from support.samples import encounter, patient
from support.state import state
from support.world import World, world


def ndjson(*resources: Mapping[str, Any] | bytes) -> bytes:
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in resources)


async def left(it: World, name: str) -> dict[str, Any]:
    """Read the outcome beside a dropped file."""
    data = await it.store.get_blob("bundles-outcome", f"{name}.json")
    assert data is not None
    outcome: dict[str, Any] = json.loads(data)
    return outcome


async def beside(it: World) -> list[str]:
    return [each.name for each in await it.store.list_blobs("bundles-outcome")]


async def payloads(it: World) -> list[str]:
    return [each.name for each in await it.store.list_blobs(PAYLOADS)]


PATIENTS = [patient(f"p{number}", identifiers=1) for number in range(5)]


@pytest.mark.parametrize("name", ["Patient.ndjson", "Patient.ndjson.gz"])
async def test_a_file_ends_as_its_resources_posted_would(tmp_path: Path, name: str) -> None:
    """Both databases are those of a bundle, the outcome counts lines and calls, and nothing is kept but it."""
    data = ndjson(*PATIENTS)
    async with world(tmp_path / "posted") as it:
        await it.put(*PATIENTS)
        entries = [{"resource": each} for each in PATIENTS]
        await it.post({"resourceType": "Bundle", "type": "batch", "entry": entries})
        await it.settle()
        wanted = await state(it)
    async with world(tmp_path / "dropped", window=2) as it:
        await it.put(*PATIENTS)
        it.forget_calls()
        identifier = await it.relay.inbound.drop(name, gzip.compress(data) if name.endswith(".gz") else data)
        await it.settle()
        outcome = await left(it, name)
        assert outcome == {
            "id": identifier,
            "status": "succeeded",
            "tag": f"relay-{identifier}",
            "entries": [],
            "receipt": {
                "calls": {"dataverse": 6, "fhir": 6},
                "rows": {"created": 15, "updated": 0},
                "waits_ms": 0,
                "reference_calls": 12,
            },
            "lines": {"total": 5, "created": 5, "updated": 0, "unchanged": 0, "skipped": 0, "parked": 0, "failed": 0},
            "codes": {},
            "failed_lines": [],
        }
        assert it.calls() == outcome["receipt"]["calls"]
        assert await state(it) == wanted
        assert await payloads(it) == []
        assert (await it.relay.inbound.status(identifier)).body == outcome


async def test_bad_lines_are_told_by_number_and_the_others_go_on(tmp_path: Path) -> None:
    """The outcome has each failed line with its issues, counts by code, and the parts that hold all failed lines."""
    async with world(tmp_path, window=2) as it:
        await it.put(*PATIENTS)
        data = ndjson(PATIENTS[0], b"surname;name", b"", PATIENTS[1], {"resourceType": "Patient"}, PATIENTS[2])
        await it.relay.inbound.drop("a/b.ndjson", data)
        await it.settle()
        outcome = await left(it, "a/b.ndjson")
        assert (outcome["status"], outcome["lines"]["created"], outcome["lines"]["failed"]) == ("partial", 3, 2)
        assert outcome["codes"] == {"no-id": 1, "not-json": 1}
        first, second = outcome["entries"]
        assert (first["line"], first["result"], first["issues"][0]["at"]) == (2, "failed", "line 2")
        assert (second["line"], second["resource"], second["issues"][0]["code"]) == (5, "Patient", "no-id")
        assert outcome["failed_lines"] == [
            "bundles-outcome/a/b.ndjson.failed/000000001.ndjson",
            "bundles-outcome/a/b.ndjson.failed/000000004.ndjson",
        ]
        part = await it.store.get_blob("bundles-outcome", "a/b.ndjson.failed/000000004.ndjson")
        assert json.loads(part or b"") == second


async def test_the_outcome_tells_so_many_failures_and_counts_the_rest(tmp_path: Path) -> None:
    """However many lines fail, the outcome holds a hundred of them; the parts hold every one."""
    async with world(tmp_path, window=60) as it:
        await it.relay.inbound.drop("x.ndjson", b"x\n" * 150)
        await it.settle()
        outcome = await left(it, "x.ndjson")
        assert (outcome["status"], outcome["lines"]["failed"]) == ("failed", 150)
        assert [each["line"] for each in outcome["entries"]] == list(range(1, 101))
        parts = [await it.store.get_blob(*each.split("/", 1)) or b"" for each in outcome["failed_lines"]]
        numbers = [json.loads(line)["line"] for part in parts for line in part.splitlines()]
        assert numbers == list(range(1, 151))
        assert it.calls() == {"dataverse": 0, "fhir": 0}


async def test_killed_at_any_request_it_goes_on_after_the_last_window(tmp_path: Path) -> None:
    """What a finished window wrote is neither read nor written again; the end is that of an undisturbed run."""
    sent = PATIENTS[:3]
    async with world(tmp_path / "calm", window=1) as it:
        await it.put(*sent)
        wire = Wire().watch(it)
        await it.relay.inbound.drop("p.ndjson", ndjson(*sent))
        await it.settle()
        wanted = await state(it)
    assert len(wire.seen) == 12, "three windows of four calls"
    for at in range(0, len(wire.seen), 3):
        async with world(tmp_path / str(at), window=1) as it:
            await it.put(*sent)
            again = Wire(at).watch(it)
            await it.relay.inbound.drop("p.ndjson", ndjson(*sent))
            with pytest.raises(Kill):
                await it.work()
            await it.restart()
            it.clock.advance(timedelta(minutes=11))  # the message comes back
            await it.settle()
            assert await state(it) == wanted
            outcome = await left(it, "p.ndjson")
            assert (outcome["status"], outcome["lines"]["total"]) == ("succeeded", 3)
            assert len(again.seen) - at <= 12 - 4 * (at // 4) + 1, "no window that was finished was begun again"


async def test_a_side_that_is_away_costs_time_only(tmp_path: Path) -> None:
    """The file waits where it stands; each finished window begins the time that it may be retried for anew."""
    async with world(tmp_path, window=1, retry_for=timedelta(hours=2)) as it:
        await it.put(*PATIENTS[:2])
        it.dataverse.faults.append(Fault(times=6))
        await it.relay.inbound.drop("p.ndjson", ndjson(*PATIENTS[:2]))
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert (outcome["status"], outcome["lines"]["created"]) == ("succeeded", 2)
        assert await it.dead() == []


async def test_a_side_that_stays_away_leaves_a_dead_letter_and_what_was_done(tmp_path: Path) -> None:
    """When the time is over, the outcome counts the lines that are done, and says why the rest is not."""
    async with world(tmp_path, window=1, retry_for=timedelta(minutes=5)) as it:
        await it.put(*PATIENTS[:2])
        identifier = await it.relay.inbound.drop("p.ndjson", ndjson(*PATIENTS[:2]))

        async def away_from_the_second(request: Any) -> None:
            if b"p1" in await request.aread():
                it.dataverse.faults.append(Fault(times=0))

        it.to_dataverse.before.append(away_from_the_second)
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert (outcome["id"], outcome["status"], outcome["lines"]["total"]) == (identifier, "partial", 1)
        assert [each["code"] for each in outcome["issues"]] == ["http-503"]
        assert await it.dead() == ["http-503"]
        assert await payloads(it) == []


async def test_files_of_one_export_may_come_in_any_order(tmp_path: Path) -> None:
    """Lines that refer to what another file brings wait for it; they alone are tried again, and counted once."""
    visits = [encounter(f"e{number}", f"Patient/p{number}") for number in range(3)]
    async with world(tmp_path, window=2) as it:
        await it.put(*PATIENTS[:2], *visits)
        await it.relay.inbound.drop("Encounter.ndjson", ndjson(*visits))
        while await it.work():
            pass
        assert (await it.relay.inbound.status("0" * 32)).status == 404
        assert await beside(it) == [
            "Encounter.ndjson.failed/000000001.ndjson",
            "Encounter.ndjson.failed/000000003.ndjson",
        ]
        await it.relay.inbound.drop("Patient.ndjson", ndjson(*PATIENTS[:2]))
        await it.settle()
        outcome = await left(it, "Encounter.ndjson")
        assert (outcome["status"], outcome["lines"]["created"], outcome["lines"]["failed"]) == ("partial", 2, 1)
        assert outcome["codes"] == {"unresolved-reference": 1}
        assert [each["line"] for each in outcome["entries"]] == [3]
        assert (await left(it, "Patient.ndjson"))["status"] == "succeeded"
        parts = [each for each in await beside(it) if "failed" in each]
        assert [f"bundles-outcome/{each}" for each in parts] == outcome["failed_lines"]
        assert await it.dead() == []


async def test_a_long_file_gives_its_place_to_others(tmp_path: Path) -> None:
    """After a minute the rest of the file is another message's, so that it ends before the host's own limit."""
    async with world(tmp_path, events=False, window=1) as it:
        await it.put(*PATIENTS)

        async def slowly(_: Any) -> None:
            it.clock.advance(timedelta(seconds=12))

        it.to_dataverse.before.append(slowly)
        await it.relay.inbound.drop("p.ndjson", ndjson(*PATIENTS))
        messages = 0
        while (await it.store.next_visible("inbound")) is not None:
            messages += await it.work()
        assert messages == 2
        assert (await left(it, "p.ndjson"))["lines"]["created"] == 5


@pytest.mark.parametrize(
    ("limits", "code", "done"),
    [
        ({"max_lines": 2}, "too-many-lines", 2),
        ({"max_lines": 3}, "too-many-lines", 3),
        ({"max_file_bytes": 10}, "too-large", 0),
    ],
)
async def test_a_file_beyond_a_limit_is_refused_and_says_so(
    tmp_path: Path, limits: dict[str, int], code: str, done: int
) -> None:
    """The limit's code stands in `issues`; what was carried out before it was met is counted."""
    async with world(tmp_path, window=2, **limits) as it:
        await it.put(*PATIENTS)
        await it.relay.inbound.drop("p.ndjson", ndjson(*PATIENTS))
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert [each["code"] for each in outcome["issues"]] == [code]
        assert (outcome["status"], outcome["lines"]["total"]) == ("partial" if done else "failed", done)
        assert await payloads(it) == []


async def test_a_line_beyond_its_limit_fails_alone(tmp_path: Path) -> None:
    """The others of the file go on."""
    async with world(tmp_path, max_line_bytes=500) as it:
        await it.put(PATIENTS[0])
        await it.relay.inbound.drop("p.ndjson", ndjson(b"x" * 501, PATIENTS[0]))
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert (outcome["codes"], outcome["lines"]["created"]) == ({"line-too-long": 1}, 1)


async def test_an_item_of_another_shape_stops_no_file(tmp_path: Path) -> None:
    """A line with something else in an array of objects, below which rows would stand, fails alone."""
    team = {"resourceType": "CareTeam", "id": "t1", "status": "active", "participant": ["x", 7, ["y"], {"role": ["z"]}]}
    async with world(tmp_path) as it:
        await it.put(PATIENTS[0])
        await it.relay.inbound.drop("p.ndjson", ndjson(team, PATIENTS[0]))
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert (outcome["lines"]["created"], outcome["lines"]["failed"]) == (1, 1)
        assert "invalid-element" in outcome["codes"]


async def test_a_store_that_is_away_after_a_window_was_told_anew_loses_no_waiting_line(tmp_path: Path) -> None:
    """The blob that tells of a window now is not deleted for the one that told of it before, though both are of one pass."""
    people = [patient(f"p{number}", identifiers=1) for number in range(3)]
    visits = [encounter(f"e{number}", subject=f"Patient/p{number}") for number in range(3)]

    async with world(tmp_path) as it:
        await it.put(*people, *visits)
        await it.relay.inbound.drop("e.ndjson", ndjson(*visits))
        await it.work()
        await it.post(people[0])
        delete, struck = it.store.delete_blob, []

        async def away_once(container: str, name: str) -> None:
            if container == "bundles-outcome" and not struck:
                struck.append(name)
                await it.post(people[1])
                raise StoreUnavailable("away")
            await delete(container, name)

        it.store.delete_blob = away_once  # type: ignore[method-assign]
        while not struck:
            it.clock.advance(timedelta(seconds=10))
            with suppress(StoreUnavailable):
                await it.work()
        it.clock.advance(timedelta(minutes=1))
        await it.work()
        await it.post(people[2])
        it.clock.advance(timedelta(minutes=11))
        await it.settle()
        assert (await left(it, "e.ndjson"))["lines"]["created"] == 3
        assert len(await it.rows("msemr_encounters")) == 3


async def test_announced_again_while_it_is_in_work_it_stays_one_job(tmp_path: Path) -> None:
    """A file that has begun is not queued a second time, nor one that is done; dropped anew it is."""
    async with world(tmp_path, window=1) as it:
        await it.put(*PATIENTS[:2])
        data = ndjson(*PATIENTS[:2])
        it.dataverse.faults.append(Fault(times=6, after=2))
        first = await it.relay.inbound.drop("p.ndjson", data, version="1")
        await it.work()
        assert await it.relay.inbound.drop("p.ndjson", data, version="1") == first
        assert await it.store.length("inbound") == 1
        await it.settle()
        assert await it.relay.inbound.drop("p.ndjson", data, version="1") == first
        assert await it.store.length("inbound") == 0
        assert await it.relay.inbound.drop("p.ndjson", data, version="2") != first
        await it.settle()
        assert (await left(it, "p.ndjson"))["lines"]["unchanged"] == 2


async def test_a_message_that_came_twice_does_not_undo_the_outcome(tmp_path: Path) -> None:
    """Two messages for one file at once: the one that ends later, its file gone meanwhile, leaves the outcome as it is."""
    async with world(tmp_path, window=2) as it:
        await it.put(*PATIENTS)
        await it.relay.inbound.drop("twice.ndjson", ndjson(*PATIENTS))
        (message,) = await it.store.receive("inbound", most=32, visibility=timedelta(minutes=9))

        async def meanwhile(_: httpx.Request) -> None:
            it.to_dataverse.before.clear()
            await it.beside().inbound.work(message.text)

        it.to_dataverse.before.append(meanwhile)
        await it.relay.inbound.work(message.text)
        outcome = await left(it, "twice.ndjson")
        assert (outcome["status"], outcome["lines"]["total"], outcome["lines"]["created"]) == ("succeeded", 5, 5)
        assert len(await it.rows("contacts")) == 5
        assert await payloads(it) == []


async def test_a_file_that_failed_at_every_try_tells_how_far_it_came(tmp_path: Path) -> None:
    """The poison message becomes a dead letter without a copy of the file, and the outcome counts what was done."""
    async with world(tmp_path, window=1) as it:
        await it.put(*PATIENTS[:2])
        await it.relay.inbound.drop("p.ndjson", ndjson(*PATIENTS[:2]))
        (message,) = await it.store.peek("inbound")
        Wire(4).watch(it)
        with pytest.raises(Kill):
            await it.work()
        await it.restart()
        await it.relay.inbound.drain(message.text)
        outcome = await left(it, "p.ndjson")
        assert (outcome["status"], outcome["lines"]["total"], outcome["issues"][0]["code"]) == ("partial", 1, "poison")
        (letter,) = await it.relay.dead_letters.list()
        assert b"Family" not in (await it.store.get_blob("relay-dead", letter["body"]) or b"")
        await it.relay.inbound.work(message.text)
        assert await payloads(it) == []


async def test_a_name_without_room_beside_it_still_tells_its_failures(tmp_path: Path) -> None:
    """Of a file whose name leaves no room for more letters, the parts are named after its id."""
    async with world(tmp_path) as it:
        name = "x" * 248 + ".ndjson"
        identifier = await it.relay.inbound.drop(name, b"x\n")
        await it.settle()
        outcome = (await it.relay.inbound.status(identifier)).body or {}
        assert outcome["failed_lines"] == [f"bundles-outcome/{identifier}.failed/000000001.ndjson"]


async def test_a_published_bulk_export_in_the_wrong_order(tmp_path: Path) -> None:
    """Real files, of which the first refers to the second: every line of both has its row in the end."""
    folder = need_fhir_data() / "bulk-10-patients"
    names = ("AllergyIntolerance.000.ndjson.gz", "Patient.000.ndjson.gz")
    async with world(tmp_path, events=False) as it:
        for name in names:
            await it.relay.inbound.drop(name, (folder / name).read_bytes())
            await it.work()
        await it.settle()
        for name in names:
            lines = (await left(it, name))["lines"]
            assert lines["created"] == lines["total"] > 10
        assert len(await it.rows("contacts")) == (await left(it, names[1]))["lines"]["total"]


async def test_only_windows_with_lines_that_wait_are_read_again(tmp_path: Path) -> None:
    """What lies between them is neither carried out nor counted a second time, and a pass can be interrupted."""
    first, last = encounter("e1"), encounter("e2", "Patient/p2")
    async with world(tmp_path, window=1) as it:
        await it.put(*PATIENTS, first, last)
        await it.relay.inbound.drop("mixed.ndjson", ndjson(first, PATIENTS[0], last))
        while await it.work():
            pass
        assert (
            await it.post({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": PATIENTS[1]}]})
        ).status == 200
        assert (
            await it.post({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": PATIENTS[2]}]})
        ).status == 200
        it.clock.advance(timedelta(minutes=1))
        Wire(6).watch(it)
        with pytest.raises(Kill):
            await it.work()
        await it.restart()
        it.clock.advance(timedelta(minutes=11))
        await it.settle()
        outcome = await left(it, "mixed.ndjson")
        lines = outcome["lines"]  # what was written just before the end is found unchanged
        assert (outcome["status"], lines["total"], lines["created"] + lines["unchanged"]) == ("succeeded", 3, 3)
        assert outcome["failed_lines"] == []


async def test_a_right_that_is_missing_needs_a_person(tmp_path: Path) -> None:
    """What no try can mend is a dead letter at once, and the outcome says why."""
    async with world(tmp_path) as it:
        await it.put(PATIENTS[0])
        body = {"error": {"code": "0x80072560", "message": "no"}}
        it.dataverse.faults.append(Fault(times=0, status=403, body=body))
        await it.relay.inbound.drop("p.ndjson", ndjson(PATIENTS[0]))
        await it.settle()
        outcome = await left(it, "p.ndjson")
        assert (outcome["status"], outcome["lines"]["total"]) == ("failed", 0)
        assert await it.dead() == [each["code"] for each in outcome["issues"]]
        assert await payloads(it) == []


async def test_a_store_that_is_away_keeps_the_message(tmp_path: Path) -> None:
    """The queue has it again when the store is back; once all is done and forgotten it asks for nothing."""
    async with world(tmp_path) as it:
        await it.put(PATIENTS[0])
        await it.relay.inbound.drop("p.ndjson", ndjson(PATIENTS[0]))
        (message,) = await it.store.peek("inbound")
        put_row = it.store.put_row

        async def away(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("away")

        it.store.put_row = away  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await it.relay.inbound.work(message.text)
        it.store.put_row = put_row  # type: ignore[method-assign]
        await it.settle()
        assert (await left(it, "p.ndjson"))["lines"]["created"] == 1
        for each in await it.store.list_blobs("relay-outcomes"):
            await it.store.delete_blob("relay-outcomes", each.name)
        it.forget_calls()
        await it.relay.inbound.work(message.text)
        assert it.calls() == {"dataverse": 0, "fhir": 0}

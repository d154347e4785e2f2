from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from surface_kit import BUNDLES, OURS, Surface, surface

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "1"}],
    "name": [{"family": "Alder"}],
}
BUNDLE = json.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/p1"}}],
    }
).encode()


def drop(it: Surface, name: str, content: bytes) -> None:
    """Put a file into the folder as a person or a program would."""
    path = it.store.folder / "bundles" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = it.store.folder / "fresh"
    fresh.write_bytes(content)
    fresh.replace(path)


def left(it: Surface, name: str) -> dict[str, Any]:
    """Read the outcome beside a dropped file."""
    outcome: dict[str, Any] = json.loads((it.store.folder / "bundles-outcome" / f"{name}.json").read_bytes())
    return outcome


async def test_a_dropped_file_does_what_a_post_does(tmp_path: Path) -> None:
    """Both databases end alike, and the outcome stands beside the file with the same entries."""
    async with surface(tmp_path / "posted") as it:
        await it.put(PATIENT)
        answer = await it.post(BUNDLE)
        await it.settle()
        posted, entries = it.snapshot(), answer.json()["entries"]
    async with surface(tmp_path / "dropped") as it:
        await it.put(PATIENT)
        drop(it, "monday.json", BUNDLE)
        await it.settle()
        assert it.snapshot() == posted
        outcome = left(it, "monday.json")
        assert (outcome["status"], outcome["entries"]) == ("succeeded", entries)
        assert (await it.http.get(f"/api/bundle/{outcome['id']}")).json()["entries"] == entries
        assert await it.kept() == [f"relay-outcomes/{outcome['id']}.json"]
        assert (it.store.folder / "bundles" / "monday.json").exists()  # the file is its owner's


@pytest.mark.parametrize(
    "name",
    ["a", "ward 7/2026-06-01/patients.json", "deep/er/and/deeper.json", "Ünïcode ✓.json", "o'brien (1) & co %27.json"],
)
async def test_the_outcome_has_the_files_own_name(tmp_path: Path, name: str) -> None:
    """Sub-folders and odd names carry over: the outcome of bundles/<name> is bundles-outcome/<name>.json."""
    async with surface(tmp_path) as it:
        drop(it, name, BUNDLE)
        await it.settle()
        assert left(it, name)["status"] == "succeeded"


async def test_a_name_that_leaves_no_room_for_its_outcome_is_carried_out_all_the_same(tmp_path: Path) -> None:
    """A file whose name is as long as the disk allows has no outcome beside it, but one by its id, and no dead letter."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        drop(it, "x" * 255, BUNDLE)
        await it.settle()
        assert len(it.rows("contact")) == 1
        (kept,) = await it.kept()
        assert (await it.http.get(f"/api/bundle/{Path(kept).stem}")).status_code == 200
        assert await it.relay.dead_letters.list() == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "truncated"),
        (b"surname;first name\r\n", "not-json"),
        ((BUNDLES / "truncated.json").read_bytes(), "truncated"),
        ((BUNDLES / "nan.json").read_bytes(), "not-a-number"),
        (gzip.compress(BUNDLE)[:-4], "truncated"),
        (gzip.compress(b" " * 5_000_000), "ratio"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_a_bad_file_leaves_a_failed_outcome(tmp_path: Path, content: bytes, code: str) -> None:
    """A file that cannot be read has an outcome that says so; it is not tried for ever and asks nobody anything."""
    async with surface(tmp_path) as it:
        drop(it, "bad.json", content)
        await it.settle()
        outcome = left(it, "bad.json")
        assert (outcome["status"], outcome["entries"]) == ("failed", [])
        assert [issue["code"] for issue in outcome["issues"]] == [code]
        assert it.calls() == []
        assert await it.kept() == [f"relay-outcomes/{outcome['id']}.json"]


async def test_lines_of_resources_and_gzip_are_taken(tmp_path: Path) -> None:
    """*.ndjson holds one resource a line, a bad line fails alone and is told by number, and .gz may follow either kind of name."""
    lines = b"\n".join([json.dumps(PATIENT).encode(), b"{", b"", json.dumps(PATIENT | {"id": "p2"}).encode()])
    async with surface(tmp_path) as it:
        drop(it, "export.ndjson", lines)
        drop(it, "export.ndjson.gz", gzip.compress(lines))
        drop(it, "one.json.gz", gzip.compress(BUNDLE))
        await it.settle()
        for name in ("export.ndjson", "export.ndjson.gz"):
            outcome = left(it, name)
            assert [(each["line"], each["result"]) for each in outcome["entries"]] == [(2, "failed")]
            assert (outcome["status"], outcome["lines"]["total"], outcome["lines"]["failed"]) == ("partial", 3, 1)
            assert (await it.http.get(f"/api/bundle/{outcome['id']}")).json() == outcome
        assert left(it, "one.json.gz")["status"] == "succeeded"
        assert sorted(row["msemr_azurefhirid"] for row in it.rows("contact")) == ["p1", "p2"]


async def test_an_untouched_file_is_carried_out_once(tmp_path: Path) -> None:
    """The same announcement again, and the watcher's next looks, do nothing more."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        drop(it, "a.json", BUNDLE)
        await it.settle()
        outcome = left(it, "a.json")
        it.forget_calls()
        await it.host.invoke("bundle_blob", "bundles/a.json")
        await it.settle()
        assert it.calls() == []
        assert left(it, "a.json") == outcome


async def test_the_same_file_dropped_again_is_carried_out_again(tmp_path: Path) -> None:
    """As with a bundle posted twice nothing changes the second time, and the outcome says `unchanged`."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        drop(it, "a.json", BUNDLE)
        await it.settle()
        before = it.snapshot()
        drop(it, "a.json", BUNDLE)
        await it.settle()
        assert it.snapshot() == before
        assert [each["result"] for each in left(it, "a.json")["entries"]] == ["unchanged"]


async def test_the_last_content_of_a_file_wins(tmp_path: Path) -> None:
    """A file that is corrected and then put back as it was ends as it was: old bytes are not taken for old news."""
    async with surface(tmp_path) as it:
        for family in ("Alder", "Birch", "Alder"):
            drop(it, "a.json", BUNDLE.replace(b"Alder", family.encode()))
            await it.settle()
            assert [row["lastname"] for row in it.rows("contact")] == [family]


async def test_a_file_that_failed_can_be_dropped_again(tmp_path: Path) -> None:
    """Once what was missing is there, the same file succeeds."""
    visit = {"resourceType": "Encounter", "id": "e1", "status": "finished", "subject": {"reference": "Patient/p1"}}
    async with surface(tmp_path) as it:
        drop(it, "visit.json", json.dumps(visit).encode())
        await it.settle()
        assert left(it, "visit.json")["status"] == "failed"
        drop(it, "patient.json", BUNDLE)
        await it.settle()
        drop(it, "visit.json", json.dumps(visit).encode())
        await it.settle()
        assert left(it, "visit.json")["status"] == "succeeded"


async def test_a_file_that_cannot_be_stored_ends_as_a_dead_letter(tmp_path: Path) -> None:
    """What the blob trigger gave up on is kept for a person by name, and the file stays where it is."""
    async with surface(tmp_path) as it:
        drop(it, "a.json", b"{}")
        await it.settle()
        poison = {"ContainerName": "bundles", "BlobName": "a.json"}
        await it.store.send("webjobs-blobtrigger-poison", json.dumps(poison))
        await it.settle()
        assert [(each["kind"], each["code"]) for each in await it.relay.dead_letters.list()] == [("blob", "poison")]
        assert (it.store.folder / "bundles" / "a.json").exists()


async def test_the_write_back_happens_for_dropped_files_too(tmp_path: Path) -> None:
    """A dropped file's resources get their Dynamics identifiers."""
    async with surface(tmp_path, writeback="event") as it:
        await it.put(PATIENT)
        drop(it, "a.json", BUNDLE)
        await it.settle()
        systems = [each["system"] for each in (await it.read("Patient", "p1"))["identifier"]]
        assert systems == ["urn:mrn", f"{OURS}patient.id"]

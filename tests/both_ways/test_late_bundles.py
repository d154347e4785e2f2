"""A bundle from before a user's change went to FHIR cannot know of it: coming late or again, it takes nothing back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ways_kit import open_world, update
from writers_kit import both, kept_back, linked, row_of, two_writers


class Ticks:
    """A clock on which two seconds go by whenever it is read."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=2)
        return self.time


@pytest.mark.parametrize("versions", [True, False], ids=["with_versions", "with_times_alone"])
@pytest.mark.parametrize("rule", ["park", "fhir", "dataverse"])
async def test_the_same_bundle_again(tmp_path: Path, rule: str, versions: bool) -> None:
    """The bundle that made the row comes once more after the user's change is in FHIR: the change stays."""
    maps = two_writers(rule) if versions else two_writers(rule, **{"version: msemr_azurefhirversion\n": ""})
    async with open_world(tmp_path, maps) as w:
        w.fhir.store._clock = Ticks()
        guid = await linked(w)
        old = await w.read("Patient", "ana")
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        for each in (await w.read("Patient", "ana"), old):
            await w.post(each)
            await w.settle()
        assert await both(w) == ("Berg", "Berg")
        assert await w.dead() == []


async def test_what_else_the_late_bundle_says_is_written(tmp_path: Path) -> None:
    """A change of FHIR's own in the late bundle reaches the row: only the columns that went out since stay."""
    async with open_world(tmp_path, two_writers()) as w:
        w.fhir.store._clock = Ticks()
        guid = await linked(w)
        await w.put({**await w.read("Patient", "ana"), "gender": "other"})
        late = await w.read("Patient", "ana")
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        reply = await w.post(late)
        assert reply.body is not None
        (entry,) = reply.body["entries"]
        assert [(each["code"], each["at"]) for each in entry["issues"]] == [("kept-dataverse", "lastname")]
        assert await both(w) == ("Berg", "Berg")
        assert (await row_of(w))["gendercode"] == 935000000


async def test_a_newer_change_of_fhir_is_followed(tmp_path: Path) -> None:
    """What FHIR says after the user's change arrived there is news, even if it is the name from before."""
    async with open_world(tmp_path, two_writers()) as w:
        w.fhir.store._clock = Ticks()
        guid = await linked(w)
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        theirs = await w.read("Patient", "ana")
        theirs["name"][0]["family"] = "Lindqvist"
        await w.put(theirs)
        await w.post(await w.read("Patient", "ana"))
        assert await both(w) == ("Lindqvist", "Lindqvist")


async def test_a_late_bundle_that_agrees_by_chance(tmp_path: Path) -> None:
    """The user went back to the old name, which FHIR does not have yet: a late bundle with it is no agreement."""
    async with open_world(tmp_path, two_writers()) as w:
        w.fhir.store._clock = Ticks()
        guid = await linked(w)
        old = await w.read("Patient", "ana")
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        (event,) = await kept_back(w, lambda: update(w, "contacts", guid, {"lastname": "Lindqvist"}))
        await w.post(old)
        await w.relay.writebacks.handle(event)
        await w.settle()
        assert await both(w) == ("Lindqvist", "Lindqvist")

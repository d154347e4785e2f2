"""What docs/live-maps.md says of maps in a container is so."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fenced import ROOT, blocks
from walk import is_up, lines

from relay.app import Relay
from relay.errors import MapError
from relay.live_maps import GOOD
from relay.settings import Settings
from relay.sides import Seams
from relay.store.local import LocalStore

PAGE = "docs/live-maps.md"
PATIENT = (ROOT / "maps" / "patient.yaml").read_bytes()
LOCATION = (ROOT / "maps" / "location.yaml").read_bytes()
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Live:
    """A relay on maps in a container, and a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.store = LocalStore(folder / "store", now=lambda: self.now)
        settings = Settings(maps=ROOT / "maps", maps_container="live", log_key="test")
        self.settings = settings
        self.relay = self.started()

    def started(self) -> Relay:
        return Relay(self.settings, store=self.store, seams=Seams(now=lambda: self.now))

    async def put(self, name: str, data: bytes) -> None:
        await self.store.put_blob("live", name, data)

    async def types(self, *, later: timedelta = timedelta(seconds=30)) -> list[str]:
        self.now += later
        await self.relay.refresh()
        return [each.resource for each in self.relay.maps]


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    it = Live(tmp_path)
    yield it
    await it.store.close()


async def test_a_change_is_taken_up_when_it_is_time(live: Live) -> None:
    """Not before RELAY_MAPS_EVERY is over, then whole: new, other and gone maps, in sub-folders too."""
    await live.put("patient.yaml", PATIENT)
    assert await live.types() == ["Patient"]
    await live.put("places/location.yaml", LOCATION)
    assert await live.types(later=timedelta(seconds=29)) == ["Patient"]
    assert await live.types(later=timedelta(seconds=1)) == ["Patient", "Location"]
    await live.store.delete_blob("live", "patient.yaml")
    assert await live.types() == ["Location"]


BAD = {
    "a_fault": ("patient.yaml", PATIENT.replace(b"lastname", b"surname"), "patient.yaml:"),
    "one_type_twice": ("old/patient.yaml", PATIENT, "Patient has a map in"),
    "no_text": ("notes.yaml", b"\xff\xfe", "notes.yaml: is not UTF-8"),
    "bad_facts": ("metadata.json", b"{}", "metadata.json: tables"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_maps_are_refused_and_the_last_good_stay(
    live: Live, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The log names the fault, `ready` says map, a new process starts with the good ones, and a repair is taken up."""
    await live.put("patient.yaml", PATIENT)
    assert await live.types() == ["Patient"]
    blob, data, said = BAD[name]
    with caplog.at_level(logging.ERROR):
        await live.put(blob, data)
        assert await live.types() == ["Patient"]
    assert said in caplog.text
    assert (await live.relay.ready())["maps"] == "map"
    live.relay = live.started()
    assert await live.types() == ["Patient"]
    await live.store.delete_blob("live", blob)
    await live.put("patient.yaml", PATIENT)
    assert await live.types() == ["Patient"]
    assert (await live.relay.ready())["maps"] == "ok"


async def test_an_emptied_container_is_refused_too(live: Live) -> None:
    """Nothing is no set of maps: what ran goes on."""
    await live.put("patient.yaml", PATIENT)
    assert await live.types() == ["Patient"]
    await live.store.delete_blob("live", "patient.yaml")
    assert await live.types() == ["Patient"]


async def test_maps_that_were_never_good_run_nothing(live: Live) -> None:
    """There is nothing to start with, and that is said."""
    await live.put("patient.yaml", b"resource: Nobody")
    with pytest.raises(MapError):
        await live.types()


def test_the_page_names_what_it_uses() -> None:
    """Its `relay up` copies maps into the container that it names, of the store that it names; the last good ones lie in GOOD."""
    (block,) = [each for each in blocks(PAGE) if is_up(each)]
    folder, copied, up = lines(block)
    store = up.partition("--store ")[2]
    container = re.search(r"RELAY_MAPS_CONTAINER=(\w+)", up)
    assert container is not None
    assert folder.endswith(f" {store}/{container[1]}")
    assert copied.endswith(f" {store}/{container[1]}/")
    assert f"`{GOOD}`" in (ROOT / PAGE).read_text(encoding="utf-8")

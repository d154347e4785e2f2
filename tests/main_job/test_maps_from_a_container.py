"""Maps in a blob container are taken up when they change; bad ones are refused and the last good ones stay."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from relay.errors import MapError
from support.samples import bundle, patient
from support.world import ROOT, World, world

FILES = ("patient.yaml", "practitioner.yaml", "organization.yaml")
FIRST = "  - {column: firstname,"


async def keep(it: World, **changes: str) -> None:
    """Put the three maps into the container, with texts replaced in the patient's."""
    for name in FILES:
        text = (ROOT / "maps" / name).read_text(encoding="utf-8")
        for old, new in changes.items() if name == "patient.yaml" else ():
            text = text.replace({"first": FIRST, "key": "key: msemr_azurefhirid"}[old], new)
        await it.store.put_blob("maps", name, text.encode())
    it.clock.advance(timedelta(minutes=1))


async def given_name(it: World) -> str | None:
    """Post a patient anew and return the first name that the row has."""
    await it.relay.refresh()
    await it.post(bundle(patient(identifiers=0, name=[{"use": "official", "family": "F", "given": ["Ana"]}])))
    await it.settle(within=timedelta(seconds=20))
    (row,) = await it.rows("contacts")
    await it.http.delete(f"/api/data/v9.2/contacts({row['contactid']})")
    return row["firstname"]


@pytest.fixture
def settings() -> dict[str, object]:
    return {"maps_container": "maps", "maps": ROOT / "maps"}


async def test_a_change_is_taken_up_without_a_restart(tmp_path: Path, settings: dict[str, object]) -> None:
    """The next bundle after the change goes by the new maps; the facts are the app's own where none are kept there."""
    async with world(tmp_path, events=False, **settings) as it:
        await keep(it)
        assert await given_name(it) == "Ana"
        await keep(it, first="  - {disabled: true, column: firstname,")
        assert await given_name(it) is None
        assert len(it.relay.maps.maps) == 3


async def test_a_bad_map_is_refused_and_the_last_good_ones_stay(tmp_path: Path, settings: dict[str, object]) -> None:
    """What runs goes on, readiness tells, and the corrected map is taken up."""
    async with world(tmp_path, events=False, **settings) as it:
        await keep(it)
        assert await given_name(it) == "Ana"
        await keep(it, key="key: no_such_column")
        assert await given_name(it) == "Ana"
        assert (await it.relay.ready())["maps"] == "map"
        await keep(it)
        assert await given_name(it) == "Ana"
        assert (await it.relay.ready())["maps"] == "ok"


async def test_a_new_process_starts_with_the_last_good_maps(tmp_path: Path, settings: dict[str, object]) -> None:
    """Bad maps in the container do not stop an app that is started while they are there."""
    async with world(tmp_path, events=False, **settings) as it:
        await keep(it)
        await it.relay.refresh()
        await keep(it, key="key: no_such_column")
        await it.restart()
        it.relay.__dict__.pop("maps", None)
        assert await given_name(it) == "Ana"


async def test_without_any_good_maps_nothing_is_taken(tmp_path: Path, settings: dict[str, object]) -> None:
    """An app that never had maps says which are wrong."""
    async with world(tmp_path, events=False, **settings) as it:
        await keep(it, key="key: no_such_column")
        await it.relay.refresh()
        with pytest.raises(MapError, match=r"patient.yaml:\d+: key: unknown column no_such_column"):
            _ = it.relay.maps


async def test_the_container_is_not_read_at_each_call(tmp_path: Path, settings: dict[str, object]) -> None:
    """Within RELAY_MAPS_EVERY nothing is looked up."""
    async with world(tmp_path, events=False, **settings) as it:
        await keep(it)
        await it.relay.refresh()
        first = it.relay.maps
        await it.store.delete_blob("maps", "patient.yaml")
        await it.relay.refresh()
        assert it.relay.maps is first
        it.clock.advance(timedelta(minutes=1))
        await it.relay.refresh()
        assert it.relay.maps.for_resource("Patient") is None

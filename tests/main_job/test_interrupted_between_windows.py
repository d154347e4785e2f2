"""A bundle in windows that is interrupted anywhere: what is done stays done, and whatever comes next completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from test_killed_between_write_and_put import calm
from test_navigation_names import WRONG, maps

from relay.mapping.load import load_maps
from support.mishaps import Kill, Wire, once
from support.samples import bundle, encounter, patient, practitioner, results
from support.state import state
from support.world import world

SENT = (
    encounter(),
    patient(identifiers=1, generalPractitioner=[{"reference": "Practitioner/d1"}]),
    practitioner(),
)


async def away(_: httpx.Request) -> None:
    """Answer nothing."""
    raise httpx.ConnectError("away")


async def test_killed_at_any_request(tmp_path: Path) -> None:
    """The relay dies before any of its requests; the bundle sent again ends as if nothing had happened."""
    wanted, seen = await calm(tmp_path, *SENT, window=1)
    assert len(seen) == 12, "three windows, each with a locate, a write, a read and a PUT"
    for at in range(0, len(seen), 2):
        async with world(tmp_path / str(at), window=1) as it:
            await it.put(*SENT)
            Wire(at).watch(it)
            with pytest.raises(Kill):
                await it.post(bundle(*SENT))
            it.to_dataverse.before.clear(), it.to_fhir.before.clear()
            it.to_dataverse.after.clear(), it.to_fhir.after.clear()
            await it.restart()
            assert (await it.post(bundle(*SENT))).status == 200
            await it.settle()
            assert await state(it) == wanted


async def test_dataverse_goes_away_at_any_request(tmp_path: Path) -> None:
    """The caller is told 202, earlier windows stay written, and the queue's next try ends as if nothing had happened."""
    wanted, seen = await calm(tmp_path, *SENT, window=1)
    calls = sum("dataverse" in each for each in seen)
    kept = []
    for after in range(0, calls, 2):
        async with world(tmp_path / f"away{after}", window=1) as it:
            await it.put(*SENT)
            left = after

            async def soon_away(request: httpx.Request) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    await away(request)

            it.to_dataverse.before.append(soon_away)
            assert (await it.post(bundle(*SENT))).status == 202
            it.to_dataverse.before.clear()
            kept.append(len(await it.rows("contacts")))
            await it.settle()
            assert await state(it) == wanted
            assert await it.dead() == []
    assert kept == sorted(kept)
    assert set(kept) == {0, 1, 2}


async def test_who_wrote_it_is_kept(tmp_path: Path) -> None:
    """Which bundle wrote a column is known of the windows before the interruption, too."""
    async with world(tmp_path, window=1) as it:
        await it.put(*SENT)

        async def once_the_first_is_written(request: httpx.Request) -> None:
            if it.dataverse.calls and await it.rows("contacts"):
                await away(request)

        it.to_dataverse.before.append(once_the_first_is_written)
        reply = await it.post(bundle(*SENT))
        assert reply.status == 202
        it.to_dataverse.before.clear()
        (row,) = await it.rows("contacts")
        await it.settle()
        (told,) = await it.relay.written.find("contact", row["contactid"], "lastname")
        assert told.bundle == reply.job


async def test_names_that_are_put_right_on_the_way(tmp_path: Path) -> None:
    """An org that has another name than assumed is asked in the middle; what was created before is still told as created."""
    sent: list[dict[str, Any]] = [patient(), patient("p2"), encounter()]
    async with world(tmp_path, maps=maps(tmp_path, WRONG["written"]), window=1, events=False) as it:
        await it.put(*sent)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"created"}
        assert reply.body["receipt"]["rows"]["created"] > 3


async def test_maps_that_are_taken_away_on_the_way(tmp_path: Path) -> None:
    """While an org is asked for its names, a type loses its map: what was done of it stays told, and the rest goes on."""
    sent = [patient(), encounter()]
    async with world(tmp_path, maps=maps(tmp_path, WRONG["written"]), window=1, events=False) as it:
        await it.put(*sent)

        async def disable() -> None:
            (tmp_path / "maps" / "patient.yaml").unlink()
            it.relay.__dict__["maps"] = load_maps(tmp_path / "maps")

        once(it.to_dataverse, lambda request: "EntityDefinitions" in request.url.path, disable)
        reply = await it.post(bundle(*sent))
        assert results(dict(reply.body or {})) == {"Patient/p1": "created", "Encounter/e1": "created"}

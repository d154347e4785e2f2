"""Another process carries the newest word of a resource while this one is at an older: the row ends as the resource does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.merges import deletion, remove, replaced, state
from support.samples import bundle, patient
from support.world import World, world

Step = Callable[[World], Awaitable[dict[str, Any]]]
"""Changes the resource on the FHIR server and returns the bundle that tells of it."""


def puts(resource: dict[str, Any]) -> Step:
    """Return the step that puts a resource."""

    async def step(it: World) -> dict[str, Any]:
        await it.put(resource)
        return bundle(await it.read("Patient", "p1"))

    return step


async def deletes(it: World) -> dict[str, Any]:
    """Delete the patient."""
    await remove(it, "Patient/p1")
    return deletion("Patient/p1")


SAME = puts(patient())
OTHER = puts(patient(name=[{"use": "official", "family": "Other"}]))
MERGED = puts(replaced("p1", "p2"))


@pytest.mark.parametrize(
    ("first", "then", "ends"),
    [
        (deletes, SAME, 0),
        (deletes, OTHER, 0),
        (OTHER, deletes, 1),
        (OTHER, MERGED, 1),
        (MERGED, SAME, 0),
        (MERGED, OTHER, 0),
        (MERGED, deletes, 1),
    ],
)
async def test_the_newest_word_stands(tmp_path: Path, first: Step, then: Step, ends: int) -> None:
    """Before whichever request it comes: its write is not undone, though it may have found nothing to write."""
    at, requests = -1, 1  # the first run is undisturbed
    while at < requests:
        async with world(tmp_path / str(at), events=False) as it:
            it.fhir.store._clock = it.clock
            await it.put(patient(), patient("p2"))
            await it.post(bundle(patient(), patient("p2")))
            told = await first(it)
            other = replace(it, relay=it.beside())
            seen: list[httpx.Request] = []

            async def overtake(request: httpx.Request, it: World = it, other: World = other, seen: Any = seen) -> None:
                seen.append(request)
                if len(seen) == at + 1:  # noqa: B023 - it is over before the next one begins
                    it.to_dataverse.before.clear()
                    it.to_fhir.before.clear()
                    it.clock.advance(timedelta(seconds=1))
                    await other.post(await then(other))
                    for side in (it.to_dataverse, it.to_fhir):
                        side.before.append(overtake)

            for side in (it.to_dataverse, it.to_fhir):
                side.before.append(overtake)
            await it.post(told)
            await it.settle()
            if at < 0:
                requests = len(seen)
            else:
                assert await state(it) == {"p1": ends, "p2": 0}, f"{at}: {seen[at].url}"
            at += 1

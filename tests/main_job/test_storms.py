"""Service protection: however little Dataverse allows, nothing is lost, few requests are made in vain, and little time is."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.samples import bundle, patient
from support.time import RunningClock
from support.world import world

COUNT = 40
SENDERS = 8
CALL_MS = 100
WINDOW = 60
LIMITS: dict[str, dict[str, Any]] = {
    "requests": {"requests": 25},
    "execution time": {"execution_ms": 2500},
    "concurrency": {"concurrency": 4},
}
WRITES: dict[str, tuple[int, dict[str, Any]]] = {
    "fewest-calls": (COUNT, {"write": "fewest-calls"}),
    "bulk": (1, {"write": "auto", "bulk_from": 1, "bulk_rows": 2}),
}
"""How many bundles the patients come in, and the settings: both take some two calls a patient."""


def ideal_seconds(facet: str, needed: int) -> float:
    """Return how long so many calls take at best.

    Requests and time: what fits into a window goes at once, the next when the window is over, and so on. Concurrency:
    as many side by side as are allowed; that there is a limit is learnt by being refused once, for a second.
    """
    if facet == "concurrency":
        return 1 + needed * CALL_MS / 1000 / LIMITS[facet]["concurrency"]
    spent, allowed = (needed, 25) if facet == "requests" else (needed * CALL_MS, 2500)
    return (math.ceil(spent / allowed) - 1) * WINDOW


async def job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], bundles: int, settings: dict[str, Any]
) -> tuple[float, Counter[int]]:
    """Have the patients sent by several senders at once, let all be done, and return the seconds and the calls by status."""
    clock = RunningClock()
    async with world(folder, clock=clock, events=False, **settings) as it:
        sent = [patient(f"p{n}") for n in range(COUNT)]
        await it.put(*sent)
        it.forget_calls()
        it.dataverse.guard.take({"call_ms": CALL_MS, "window_seconds": WINDOW, **limits})
        size = COUNT // bundles
        parts = iter([bundle(*sent[start : start + size]) for start in range(0, COUNT, size)])

        async def sender(parts: Iterator[Any]) -> None:
            for part in parts:
                assert (await it.post(part)).status in (200, 202)

        began = clock.seconds()
        async with clock.running(monkeypatch):
            await asyncio.gather(*(sender(parts) for _ in range(SENDERS)))
            await it.settle()
            took = clock.seconds() - began
        it.dataverse.guard.take({})
        calls = Counter(call["status"] for call in it.dataverse.calls if "sdkmessage" not in call["path"])
        assert len(await it.rows("contacts")) == COUNT
        assert len(await it.rows("prefix_patientidentifiers")) == 3 * COUNT
        assert all(it.versions(f"Patient/p{n}") == 2 for n in range(COUNT))
        assert await it.dead() == []
        assert await it.store.length("inbound") == 0
    return took, calls


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("facet", LIMITS)
async def test_a_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facet: str, write: str) -> None:
    """At most 1.2 requests for each that is needed, at most a quarter more time than the limit asks for, and no row lost."""
    bundles, settings = WRITES[write]
    _, peace = await job(tmp_path / "peace", monkeypatch, {}, bundles, settings)
    assert peace.keys() == {200}
    needed = peace[200]
    took, storm = await job(tmp_path / "storm", monkeypatch, LIMITS[facet], bundles, settings)
    assert storm[429] > 0, "a storm, and not a calm"
    assert storm.total() <= 1.2 * needed
    assert took <= 1.25 * ideal_seconds(facet, needed)

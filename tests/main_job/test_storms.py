"""Service protection: however little Dataverse allows, nothing is lost, few requests are made in vain, and little time is."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.samples import bundle, patient
from support.time import RunningClock
from support.world import world

CALL_MS = 100
WRITES: dict[str, dict[str, Any]] = {
    "fewest-calls": {"write": "fewest-calls"},
    "bulk": {"write": "auto", "bulk_from": 1, "bulk_rows": 2},
}
"""Settings with which the patients, each in a bundle of its own or all in one, take some two calls each."""


@dataclass(frozen=True)
class Shape:
    """How many patients are sent by how many senders, and what Dataverse allows in a window (or at once)."""

    facet: str
    allowed: int
    window: int
    patients: int
    senders: int

    @property
    def limits(self) -> dict[str, Any]:
        """Return the emulator's settings; time is allowed for so many calls."""
        name = {"requests": "requests", "execution time": "execution_ms", "concurrency": "concurrency"}[self.facet]
        return {name: self.allowed * (CALL_MS if name == "execution_ms" else 1), "window_seconds": self.window}

    def ideal_seconds(self, needed: int) -> float:
        """Return how long so many calls take at best.

        Requests and time: what fits into a window goes at once, the next when that has left the window, and so on.
        Concurrency: as many side by side as are allowed; that there is a limit is learnt by being refused once, for a
        second.
        """
        if self.facet == "concurrency":
            return 1 + needed * CALL_MS / 1000 / self.allowed
        return (math.ceil(needed / self.allowed) - 1) * self.window


SHAPES = {
    "a minute's requests": Shape("requests", 25, 60, patients=40, senders=8),
    "a minute's time": Shape("execution time", 25, 60, patients=40, senders=8),
    "few at once": Shape("concurrency", 4, 60, patients=40, senders=8),
    "a few seconds' requests": Shape("requests", 25, 4, patients=40, senders=40),
    "a few seconds' time": Shape("execution time", 25, 4, patients=40, senders=40),
    "eighty bundles at once": Shape("requests", 40, 4, patients=80, senders=80),
}


async def job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shape: Shape, write: str, limits: dict[str, Any]
) -> tuple[float, Counter[int]]:
    """Have the patients sent by the senders at once, let all be done, and return the seconds and the calls by status."""
    clock, count = RunningClock(), shape.patients
    async with world(folder, clock=clock, events=False, **WRITES[write]) as it:
        sent = [patient(f"p{n}") for n in range(count)]
        await it.put(*sent)
        it.forget_calls()
        it.dataverse.guard.take({"call_ms": CALL_MS, **limits})
        parts = iter([bundle(*sent)] if write == "bulk" else [bundle(each) for each in sent])

        async def sender(parts: Iterator[Any]) -> None:
            for part in parts:
                assert (await it.post(part)).status in (200, 202)

        began = clock.seconds()
        async with clock.running(monkeypatch):
            await asyncio.gather(*(sender(parts) for _ in range(shape.senders)))
            await it.settle()
            took = clock.seconds() - began
        it.dataverse.guard.take({})
        calls = Counter(call["status"] for call in it.dataverse.calls if "sdkmessage" not in call["path"])
        assert len(await it.rows("contacts")) == count
        assert len(await it.rows("prefix_patientidentifiers")) == 3 * count
        assert all(it.versions(f"Patient/p{n}") == 2 for n in range(count))
        assert await it.dead() == []
        assert await it.store.length("inbound") == 0
    return took, calls


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", SHAPES)
async def test_a_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: str) -> None:
    """At most 1.2 requests for each that is needed, at most a quarter more time than the limit asks for, and no row lost."""
    shape = SHAPES[name]
    _, peace = await job(tmp_path / "peace", monkeypatch, shape, write, {})
    assert peace.keys() == {200}
    needed = peace[200]
    took, storm = await job(tmp_path / "storm", monkeypatch, shape, write, shape.limits)
    assert storm[429] > 0, "a storm, and not a calm"
    assert storm.total() <= 1.2 * needed
    assert took <= 1.25 * shape.ideal_seconds(needed)

"""The server takes the time that its model says: so much a call, and on top so much an entry."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Connect

Paused = list[float]


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Paused:
    """Return the seconds that the server would have waited, call by call."""
    pauses: Paused = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    return pauses


def batch_of(count: int) -> dict[str, object]:
    """Return a batch of so many reads."""
    entry = {"request": {"method": "GET", "url": "Patient/nobody"}}
    return {"resourceType": "Bundle", "type": "batch", "entry": [entry] * count}


async def test_a_batch_costs_a_call_and_its_entries(connect: Connect, paused: Paused) -> None:
    """A batch of three takes one call and three entries, a read alone one of each."""
    client = connect(call_ms=50, entry_ms=5)
    await client.post("/", json=batch_of(3))
    await client.get("/Patient/nobody-at-all/_history")
    assert paused == [0.065]
    await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"})
    assert paused == [0.065, 0.055]


async def test_without_a_model_nothing_waits(connect: Connect, paused: Paused) -> None:
    """By default no call is slowed."""
    await connect().post("/", json=batch_of(3))
    assert paused == []

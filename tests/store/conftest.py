from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devstack.host.azure import AzureStorage
from relay.store.local import LocalStore
from support.azurite import emptied


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.time = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.time

    def advance(self, **span: float) -> None:
        """Move on."""
        self.time += timedelta(**span)

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.advance(seconds=seconds)

    def tells(self, moment: datetime) -> bool:
        """Tell whether a moment is now."""
        return moment == self.time


class RealClock:
    """The time of a store that has its own: it passes by waiting, and is told to some seconds only."""

    def __call__(self) -> datetime:
        """Tell the time."""
        return datetime.now(UTC)

    async def passes(self, seconds: float) -> None:
        """Let time pass, and a little more."""
        await asyncio.sleep(seconds + 0.2)

    def tells(self, moment: datetime) -> bool:
        """Tell whether a moment is about now."""
        return abs(moment - self()) < timedelta(seconds=10)


@pytest.fixture(params=["local", pytest.param("azurite", marks=pytest.mark.real)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store: a folder, or a storage account."""
    return str(request.param)


@pytest.fixture
def clock(kind: str) -> Any:
    return Clock() if kind == "local" else RealClock()


@pytest.fixture
async def store(kind: str, clock: Any, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Every test that takes it runs on both stores."""
    if kind == "local":
        store = LocalStore(request.getfixturevalue("tmp_path") / "store", now=clock)
        yield store
        await store.close()
        return
    async with emptied(request.getfixturevalue("azurite")) as account:
        yield account


@pytest.fixture
async def twin(store: Any, clock: Any) -> AsyncIterator[Any]:
    """Another store on the same folder or account, as another process has it."""
    twin = LocalStore(store.folder, now=clock) if isinstance(store, LocalStore) else AzureStorage(store.account)
    yield twin
    await twin.close()


@pytest.fixture
def local_clock() -> Clock:
    return Clock()


@pytest.fixture
async def local(tmp_path: Path, local_clock: Clock) -> AsyncIterator[LocalStore]:
    """Open the local store, for what only a folder has."""
    store = LocalStore(tmp_path / "store", now=local_clock)
    yield store
    await store.close()

"""Time that runs only while everybody waits, so that what happens side by side takes as long as the longest of it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import pytest

from support.world import Clock

T = TypeVar("T")


class RunningClock(Clock):
    """A clock that jumps to the next moment somebody waits for, once nothing else is left to do at this one."""

    def __init__(self) -> None:
        super().__init__()
        self._order = count()
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Return when the clock is there."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.seconds() + seconds, next(self._order), woken))
        await woken

    @asynccontextmanager
    async def running(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Let it run; what the store does in threads is done at once, since nobody could tell when those are done."""

        async def at_once(work: Callable[..., T], *parts: Any) -> T:
            return work(*parts)

        monkeypatch.setattr(asyncio, "to_thread", at_once)
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    async def _tick(self) -> None:
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if loop._ready or not self._sleeping:
                continue
            at, _, woken = heapq.heappop(self._sleeping)
            if not woken.done():
                self.time = max(self.time, self.time + timedelta(seconds=at - self.seconds()))
                woken.set_result(None)

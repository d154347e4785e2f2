"""Calls to the store that do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

AT_ONCE: Final = 16

T = TypeVar("T")


async def side_by_side(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Make calls to the store, a bounded number at once; returns their answers in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def made(call: Awaitable[T]) -> T:
        async with gate:
            return await call

    return await asyncio.gather(*map(made, calls))

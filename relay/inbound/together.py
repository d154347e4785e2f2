"""Group commit: what arrives while a group is carried out makes up the next group, so a crowd costs few groups and nobody waits for company."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from relay.errors import RelayError

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Place(Generic[T, R]):
    """One in the queue; `taken` once a group has it, and then `over` comes; `result` is empty if it is to go alone."""

    one: T
    taken: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    result: tuple[R, ...] = ()
    error: Exception | None = None


class Together(Generic[T, R]):
    """Carries things out in groups, one group at a time; a group that fails as a whole goes again one by one.

    Not so for an error that is `everybodys`, whoever asks and for whatever: each of the group has it then.
    `carry` returns a result for each of a group, in order. A group holds at most `most` by `size`, and one thing at
    least. Whoever waits longer than `patience` seconds for its group to begin goes alone. After a group of several the
    next one waits `linger` seconds at most until as many are there again: they come back one just before the other.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        size: Callable[[T], int],
        most: int,
        patience: float,
        linger: float,
        everybodys: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._carry = carry
        self._size = size
        self._most = most
        self._patience = patience
        self._linger = linger
        self._everybodys = everybodys
        self._waiting: list[_Place[T, R]] = []
        self._last = 1  # how many the last group was
        self._came = asyncio.Event()
        self._turn = asyncio.Lock()

    async def join(self, one: T) -> R:
        """Have a thing carried out and return its result; raises what carrying it out alone raises."""
        place: _Place[T, R] = _Place(one)
        self._waiting.append(place)
        self._came.set()
        try:
            await self._in_turn(place)
        finally:
            if not place.taken:
                self._waiting.remove(place)
        if place.taken:
            await place.over.wait()
        if place.error is not None:
            raise place.error
        if place.result:
            return place.result[0]
        (result,) = await self._carry([one])
        return result

    async def _in_turn(self, place: _Place[T, R]) -> None:
        """Wait for the turn and lead a group, unless a group has taken the place before, or none does for too long."""
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            return
        try:
            if not place.taken:
                await self._company()
            if not place.taken:
                await self._lead(self._take())
        finally:
            self._turn.release()

    async def _company(self) -> None:
        """Wait for as many as the last group was; after one that went alone, for nobody."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger):
                while len(self._waiting) < self._last:
                    self._came.clear()
                    await self._came.wait()

    def _take(self) -> list[_Place[T, R]]:
        """Take those who wait longest, as many as a group holds."""
        group: list[_Place[T, R]] = []
        room = self._most
        while self._waiting and (not group or self._size(self._waiting[0].one) <= room):
            place = self._waiting.pop(0)
            place.taken = True
            room -= self._size(place.one)
            group.append(place)
        self._last = len(group)
        return group

    async def _lead(self, group: Sequence[_Place[T, R]]) -> None:
        """Carry a group out; its members are told in any case, if this is cancelled too."""
        try:
            results = await self._carry([place.one for place in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be nobody's but its own
            if len(group) == 1 or self._everybodys(error):
                for place in group:
                    place.error = error
            else:
                log.warning("%d carried out together failed: %s", len(group), _code(error))
        else:
            for place, result in zip(group, results, strict=True):
                place.result = (result,)
        finally:
            for place in group:
                place.over.set()


def _code(error: Exception) -> str:
    return error.code if isinstance(error, RelayError) else type(error).__name__

"""How much is worked on at once: bytes of bundles, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relay.inbound.limits import size_inflated


class Gate:
    """Lets work in while what is in holds fewer than `most` bytes; larger work goes in alone.

    Who waits keeps its place: a large bundle is not passed over by small ones for ever, nor they by it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._inside = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Return the bytes that are worked on now."""
        return self._held

    async def enter(self, size: int, *, within: float) -> bool:
        """Wait for a place for at most so many seconds; True when it was given, and then `leave` must follow."""
        if not self._waiting and self._fits(size):
            self._take(size)
            return True
        if within <= 0:
            return False
        place = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            async with asyncio.timeout(within):
                await place[1]
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
                self._admit()  # who stood behind may fit now
            elif not place[1].cancelled():  # it was let in, and did not come to know
                self.leave(size)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def leave(self, size: int) -> None:
        """Give the place back."""
        self._held -= size
        self._inside -= 1
        self._admit()

    @contextmanager
    def inside(self, size: int) -> Iterator[Turn]:
        """Hold a place that `enter` gave, and give it back in the end."""
        turn = Turn(self, size)
        try:
            yield turn
        finally:
            self.leave(turn.size)

    def grow(self, more: int) -> None:
        """Count more bytes of work that is in; nobody is put out for them, and fewer come in."""
        self._held += more

    def _fits(self, size: int) -> bool:
        return not self._inside or self._held + size <= self._most

    def _take(self, size: int) -> None:
        self._held += size
        self._inside += 1

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, place = self._waiting.popleft()
            if not place.done():
                self._take(size)
                place.set_result(None)


@dataclass(slots=True)
class Turn:
    """A place inside the gate, and how many bytes it stands for."""

    gate: Gate
    size: int

    def weigh(self, found: int) -> None:
        """Let the place stand for the bytes that were found, if they are more than was thought."""
        if found > self.size:
            self.gate.grow(found - self.size)
            self.size = found


def weight(body: bytes, most: int) -> int:
    """Return how many bytes a body takes while it is worked on, gzip what it inflates to: what it says of itself is its sender's word."""
    return max(len(body), size_inflated(body, most))

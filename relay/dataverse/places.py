"""Places for what runs at once, given out in turn between the pieces of work that wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Final

_Line = dict[Hashable, deque[asyncio.Future[None]]]

_AHEAD: Final = 4
"""Calls of work that was begun for each call with which work begins, while both wait."""


class Places:
    """At most `limit` at once; those who wait are served in turn by `work`, and of one work first come, first served.

    Work that was `begun` goes before work that was not, so that little is half done when a limit ends all of it; but new
    work has every fifth place.
    So a bundle of a thousand calls and one of two share the places, and the small one is not kept until the large is done.
    """

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit
        self._new: _Line = {}
        self._begun: _Line = {}
        self._ahead = 0

    @property
    def limit(self) -> int:
        """How many may run at once; a lower limit takes no place away."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._give()

    async def take(self, work: Hashable = None, *, begun: bool = False) -> None:
        """Take a place when it is this work's turn; cancelled, it leaves no hole."""
        if self.taken < self._limit and not self._begun and not self._new:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._begun if begun else self._new).setdefault(work, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place was given already: pass it on
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._give()

    def _give(self) -> None:
        while self.taken < self._limit and (self._begun or self._new):
            line = self._begun if self._begun and (not self._new or self._ahead < _AHEAD) else self._new
            self._ahead = self._ahead + 1 if line is self._begun else 0
            work, turns = next(iter(line.items()))
            turn = turns.popleft()
            del line[work]
            if turns:
                line[work] = turns  # behind all others
            if not turn.done():  # else it was cancelled while it waited
                self.taken += 1
                turn.set_result(None)


class Repeats:
    """How many calls may be made again: one for every five made, and `spare` ones that come back within a minute.

    So a server in trouble is not asked much more often than it would be in peace. `now` is in seconds.
    """

    def __init__(self, now: float, *, share: float = 0.2, spare: float = 10) -> None:
        self._share, self._spare = share, spare
        self._left = spare
        self._earned = 0.0
        self._at = now

    def earn(self) -> None:
        """Count a call that is made for the first time."""
        self._earned = min(self._earned + self._share, 5 * self._spare)

    def spend(self, now: float) -> bool:
        """Tell whether one more call may be made again, and count it."""
        self._left = min(self._spare, self._left + (now - self._at) * self._spare / 60)
        self._at = now
        if self._earned >= 1:
            self._earned -= 1
        elif self._left >= 1:
            self._left -= 1
        else:
            return False
        return True

"""How much goes into a window of service protection: learned from what had passed when Dataverse said that it was too much."""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Final

_TOLD: Final = re.compile(rb"over time window of ([1-9][0-9]{0,3}) seconds")
_TIME: Final = b"0x80072321"
_LONGEST: Final = 300.0  # seconds of a window, by default
_GRAIN: Final = 0.05  # seconds: what ends within them is remembered as one
_LEAST: Final = 0.001  # seconds that a wait takes: a shorter one might not move the clock
_CLEAN: Final = 3  # windows without a refusal after which twice as much is tried, and
_QUIET: Final = 60.0  # … seconds at least


class Pace:
    """Lets as much into a sliding window as had passed in the one that Dataverse ended with a 429: calls, or their time.

    Learns only from an answer that names the window. What passes is counted when it ends: by then Dataverse has counted
    it. So a process that shares the limit with others, or that talks to several web servers, finds its own share. After
    two windows without a refusal twice as much is tried. Times are in seconds.
    """

    def __init__(self) -> None:
        self._window = _LONGEST
        self._most: int | None = None
        self._by_time = 0
        self._since = 0.0
        self._passed: deque[tuple[float, list[int]]] = deque()  # when: calls, their milliseconds, works begun
        self._used = [0, 0, 0]
        self._took = 0.0

    def note(self, now: float, took: float, *, begins: bool) -> None:
        """Count a call that passed, and whether a piece of work began with it."""
        when = math.ceil(now / _GRAIN) * _GRAIN
        if not self._passed or when > self._passed[-1][0]:
            self._passed.append((when, [0, 0, 0]))
        for n, amount in enumerate((1, round(took * 1000), int(begins))):
            self._passed[-1][1][n] += amount
            self._used[n] += amount
        self._took = took
        self._forget(now)

    def learn(self, refusal: bytes, now: float, running: int) -> bool:
        """Take what passed in the window, and runs, for all that it holds; False if the refusal names no window."""
        if (told := _TOLD.search(refusal)) is None:
            return False
        self._window, self._by_time, self._since = float(told[1]), int(_TIME in refusal), now
        self._forget(now if self._by_time else now + self._took)  # time counts from the end of a call, a call from its beginning
        self._most = max(1, self._used[self._by_time] + (0 if self._by_time else running))
        return True

    def wait(self, now: float, running: int, *, begun: bool, patience: float) -> float:
        """Return how long until the window has room for one more call beside those that run.

        Work that has not `begun` needs room for two, and for one more of each call that runs: else what was begun cannot
        go on, and has to begin anew.
        """
        if self._most is None:
            return 0
        if now > self._since + max(_QUIET, _CLEAN * self._window):
            self._most, self._since = self._most * 2, now
        self._forget(now)
        begun = begun or self._window <= patience
        passed, used = self._used[0], self._used[self._by_time]
        each = used / passed if passed and self._by_time else 1.0
        need = 1.0 if begun and self._by_time else each  # Dataverse counts time when it is over, a call when it begins
        if not begun:
            need *= min(max(2.0, passed / max(1, self._used[2])), 1 + self._most / each / 2)
        besides = 0.0 if begun and self._by_time else running * need
        over = used + need - self._most
        if not passed + running or over + besides <= 0:
            return 0
        if over <= 0:  # it is those that run: when they have ended, it shows how much is left
            return max(_LEAST, self._took)
        for when, amounts in self._passed:
            over -= amounts[self._by_time]
            if over <= 0:
                return max(_LEAST, when + self._window - now)
        return max(_LEAST, self._took)

    def _forget(self, now: float) -> None:
        while self._passed and self._passed[0][0] <= now - self._window:
            for n, amount in enumerate(self._passed.popleft()[1]):
                self._used[n] -= amount

"""How much goes into a window of service protection: learned from what had passed when Dataverse said that it was too much."""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Final

_TOLD: Final = re.compile(rb"limit of ([0-9,]{1,15}) +(?:milliseconds +)?over time window of ([1-9][0-9]{0,3}) seconds")
_TIME: Final = b"0x80072321"
_LONGEST: Final = 300.0  # seconds that a window has by default
_GRAIN: Final = 0.05  # seconds: calls that end within them are remembered as one
_LEAST: Final = 0.001  # seconds: a shorter wait might not move the clock
_SHARE: Final = 8  # an instance that others crowd out does not stay so for long: it may use one part in eight
_QUIET: Final = 60.0  # seconds without a refusal, and
_WINDOWS: Final = 3  # … windows, after which twice as much is tried
_BOUNDLESS: Final = 1 << 40  # calls, or milliseconds: more than any window can see


class Pace:
    """Lets as much into a sliding window as had passed in the one that Dataverse ended with a 429: calls, or their time.

    Learns only from an answer that names limit and window. What passes is counted when it ends: by then Dataverse has
    counted it. So a process that shares the limit with others, or talks to several web servers, finds its own share.
    Times are in seconds; `patience` is how long a call may wait.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._window = _LONGEST
        self._by_time = False
        self._most: int | None = None
        self._since = 0.0
        self._took = 0.0
        self._passed: deque[tuple[float, list[int]]] = deque()  # when: calls, their milliseconds, pieces of work begun
        self._used = [0, 0, 0]

    def note(self, now: float, took: float, *, begins: bool) -> None:
        """Count a call that passed, for a millisecond at least, and whether a piece of work began with it."""
        when = math.ceil(now / _GRAIN) * _GRAIN
        if not self._passed or when > self._passed[-1][0]:
            self._passed.append((when, [0, 0, 0]))
        for n, amount in enumerate((1, max(1, round(took * 1000)), int(begins))):
            self._passed[-1][1][n] += amount
            self._used[n] += amount
        self._took = took
        self._forget(now)

    def learn(self, refusal: bytes, now: float, running: int) -> bool:
        """Take what passed in the window for all that it holds; False if the refusal does not name limit and window."""
        if (told := _TOLD.search(refusal)) is None:
            return False
        self._window, self._by_time, self._since = float(told[2]), _TIME in refusal, now
        # calls are counted when they begin, time when it is over
        self._forget(now if self._by_time else now + self._took)
        share = int(told[1].replace(b",", b"") or 0) // _SHARE
        self._most = max(1, share, self._used[self._by_time] + (0 if self._by_time else running))
        return True

    def wait(self, now: float, running: int, *, begun: bool) -> float:
        """Return how long until the window has room for one more call beside those that run; 0 if it has.

        Work that has not `begun` needs room for all the calls that such work takes, and so does each that runs: else it
        is put off half done, and has to begin anew. Not so where a whole window can be waited for.
        """
        if self._most is None:
            return 0
        if quiet := int((now - self._since) / max(_QUIET, _WINDOWS * self._window)):
            self._most, self._since = self._most << min(quiet, 32), now
            if self._most > _BOUNDLESS:  # doubled for ever, it would be more than a float can say
                self._most = None
                return 0
        self._forget(now)
        passed, used, works = self._used[0], self._used[self._by_time], max(1, self._used[2])
        each = used / passed if passed and self._by_time else 1.0
        need, beside = each, running * each
        if not begun and self._window > self._patience:
            calls = min(max(2.0, passed / works), 1 + self._most / each / 2)
            need, beside = need * calls, beside * calls
        elif self._by_time:  # Dataverse lets in what comes before the limit is reached, however long it will take
            need, beside = 1.0, 0.0
        over = used + min(need, self._most) - self._most
        if over + beside <= 0:
            return 0
        if over > 0:
            for when, amounts in self._passed:
                over -= amounts[self._by_time]
                if over <= 0:
                    return max(_LEAST, when + self._window - now)
        return max(_LEAST, self._took)  # once those that run have ended, it shows what is left

    def _forget(self, now: float) -> None:
        while self._passed and self._passed[0][0] <= now - self._window:
            for n, amount in enumerate(self._passed.popleft()[1]):
                self._used[n] -= amount

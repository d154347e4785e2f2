"""One governor per process: how many requests run at once, and who waits how long when Dataverse says so."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from relay.dataverse.errors import read_retry_after
from relay.dataverse.pace import Pace
from relay.dataverse.places import Places, Repeats
from relay.errors import Transient
from relay.telemetry import current_meter, current_work

THROTTLED: Final = "throttled"
"""The code of a call that was not made, since Dataverse has no time for anybody for longer than may be waited."""

_THROTTLED: Final = 429
_AGAIN: Final = frozenset({_THROTTLED, 502, 503, 504})
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 8.0
_MOST_AT_ONCE: Final = 52  # the concurrency that a web server of Dataverse allows one user
_TRIES: Final = 6
_CROWDED: Final = b"0x80072326"
_QUIET: Final = 60.0  # seconds without crowding after which one more at once is tried
_IN_LINE: Final = (
    4  # times `max_wait` that a call may take to be sent, behind others and for a window whose end is known
)


class Governor:
    """Bounds concurrency, pauses everybody on 429, and repeats a call a few times within `max_wait` seconds of waiting.

    The bound starts at `concurrency`, follows `x-ms-dop-hint`, falls to one after a 429 and grows with each success,
    up to what ran at once when Dataverse last said that it was too many at once. Into a window of service protection
    goes what had passed when Dataverse last said that it was too much.
    Pieces of work that wait share it in turn. Only about one call in five is made again, whatever happens.
    `sleep`, `clock` (seconds) and `jitter` (0 to 1) can be replaced, so that tests need no time.
    """

    def __init__(
        self,
        *,
        concurrency: int = 8,
        max_wait: float = 20.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency} (valid: 1 or more)")
        self.max_wait = max_wait
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._most = concurrency
        self._ceiling = concurrency
        self._crowd = _MOST_AT_ONCE
        self._crowded_at = float("-inf")
        self._successes = 0
        self._sent = 0
        self._places = Places(concurrency)
        self._repeats = Repeats(clock())
        self._in_line = _IN_LINE * max_wait
        self._pace = Pace(self._in_line)
        self._open_at = float("-inf")

    @property
    def limit(self) -> int:
        """Return how many requests may run at once now."""
        return self._places.limit

    def pause(self, seconds: float, *, crowded: bool = False, paced: bool = False) -> None:
        """Let nobody send for that long; then one at a time until it goes well.

        `crowded` says that a call was refused for those that ran beside it, not for what was asked before; `paced` that
        it is known how much may be asked in a while, so that fewer at once are no help.
        """
        now = self._clock()
        begins = now >= self._open_at  # one storm counts once, however many calls it hits
        if crowded:  # what ran at once, less those that were refused
            self._crowd = max(1, self._sent if begins else self._crowd - 1)
            self._ceiling, self._crowded_at = self._crowd, now
        elif begins and not paced:
            self._ceiling = max(1, self.limit // 2)
        self._places.limit = 1
        self._successes = 0
        self._open_at = max(self._open_at, now + seconds)

    async def call(self, send: Callable[[], Awaitable[httpx.Response]], *, repeat: bool = True) -> httpx.Response:
        """Send, and again while Dataverse is busy; return the last answer, busy or not.

        `repeat` says that doing it twice is as good as once; without it only 429, which did nothing, and failures
        to connect are repeated. A multipart answer is never asked for again: its parts speak for themselves.
        Raises Transient if the gate or the window stays closed longer than may be waited, or if no answer comes.
        """
        waited, came = 0.0, self._clock()
        self._repeats.earn()
        for attempt in range(_TRIES):
            waited += await self._enter(self.max_wait - waited, came)
            outcome, again = await self._try(send, repeat=repeat)
            if isinstance(outcome, httpx.Response) and not again:
                return outcome
            delay = self._delay(outcome, attempt)
            throttled = False
            if isinstance(outcome, httpx.Response) and outcome.status_code == _THROTTLED:
                throttled = True
                paced = self._pace.learn(outcome.content, self._clock(), self._sent)
                self.pause(delay, crowded=_CROWDED in outcome.content, paced=paced)
            if not again or attempt == _TRIES - 1 or waited + delay > self.max_wait:
                break
            if not self._repeats.spend(self._clock()):
                break
            if not throttled:  # who is throttled waits at the gate, like everybody
                waited += await self._wait(delay)
        if isinstance(outcome, httpx.Response):
            return outcome
        raise Transient(f"Dataverse gave no answer ({type(outcome).__name__})", code="unavailable")

    async def _try(
        self, send: Callable[[], Awaitable[httpx.Response]], *, repeat: bool
    ) -> tuple[httpx.Response | Exception, bool]:
        """Send once; return the answer or the failure, and whether to try again."""
        self._sent += 1
        began = self._clock()
        try:
            answer = await send()
            self._observe(answer)
            if answer.status_code != _THROTTLED:
                self._passed(began)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return error, True
        except (httpx.TimeoutException, TimeoutError) as error:
            return error, False  # it has used up minutes already: back to the queue
        except (httpx.RequestError, OSError) as error:
            return error, repeat
        finally:
            self._sent -= 1
            self._places.leave()
        return answer, _is_busy(answer) and (repeat or answer.status_code == _THROTTLED)

    def _delay(self, outcome: httpx.Response | Exception | None, attempt: int) -> float:
        asked = read_retry_after(outcome.headers) if isinstance(outcome, httpx.Response) else None
        if asked is not None:
            return asked
        return float(min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempt) * (0.5 + self._jitter() / 2))

    def _observe(self, answer: httpx.Response) -> None:
        hint = answer.headers.get("x-ms-dop-hint", "")
        if hint.isascii() and hint.isdigit() and int(hint[:4]) > 0:
            at_full = self.limit == self._most
            self._most = min(int(hint[:4]), _MOST_AT_ONCE)
            self._places.limit = self._most if at_full else min(self.limit, self._most)
            self._ceiling = self._most if at_full else min(self._ceiling, self._most)
        if self._crowd < self._most and self._clock() > self._crowded_at + _QUIET:
            self._crowd, self._crowded_at = self._crowd + 1, self._clock()
        if answer.is_success and self.limit < min(self._most, self._crowd):
            self._successes += 1
            # up to half of what was too much: one more per success; from there: one more per round
            if self.limit < self._ceiling or self._successes >= self.limit:
                self._places.limit += 1
                self._successes = 0

    def _passed(self, began: float) -> None:
        now, meter = self._clock(), current_meter()
        self._pace.note(now, now - began, begins=not meter.begun)
        meter.begun = True

    async def again(self, attempt: int) -> bool:
        """Wait a while that grows with the attempt before a call is made again; returns False, at once, if it may not be."""
        if not self._repeats.spend(self._clock()):
            return False
        await self._wait(self._delay(None, attempt))
        return True

    async def _wait(self, seconds: float) -> float:
        current_meter().waits_ms += round(seconds * 1000)
        await self._sleep(seconds)
        return seconds

    async def _enter(self, budget: float, came: float) -> float:
        """Take a place, and keep it until the gate is open and the window has room; return the seconds waited at the gate.

        Raises Transient when those are more than the budget, or when it all ends too long after the call `came`.
        """
        waited, begun = 0.0, current_meter().begun
        while True:
            await self._places.take(current_work(), begun=begun)
            try:
                while closed := (gate := self._gate()) or self._pace.wait(self._clock(), self._sent, begun=begun):
                    if waited + gate > budget or self._clock() + closed > came + self._in_line:
                        raise Transient("Dataverse asked to wait", code=THROTTLED, retry_after=closed)  # noqa: TRY301 - the place is given back
                    await self._wait(closed)
                    waited += gate
            except BaseException:
                self._places.leave()
                raise
            if self._places.taken <= self._places.limit:
                return waited
            # somebody was refused meanwhile: one goes before the others
            self._places.leave()

    def _gate(self) -> float:
        """Return how long nobody may send, a little longer so that several processes do not all come at once; 0 for now."""
        closed = self._open_at - self._clock()
        return closed + self._jitter() * 0.1 if closed > 0 else 0.0


def _is_busy(answer: httpx.Response) -> bool:
    return answer.status_code in _AGAIN and not answer.headers.get("content-type", "").startswith("multipart/")

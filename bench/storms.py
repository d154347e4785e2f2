"""Measures the governor under service protection, in virtual time: requests made per call needed, seconds per second of the ideal.

Usage: storms.py [--all] [--bad] [--only TEXT]…

Bundles are sent all at once to a relay of which only the pace is real: the governor, the back-off of work that is put
off, and the host's number of messages at once; the limits are those of the emulator. A bundle is one call that locates
and then its writes: `fewest-calls` one, `bulk` two levels of calls side by side. A bundle that is put off locates again.

The ideal is what a client takes that knows the limits: it sends call n at the first moment at which a web server has
room in its sliding window, at most 8 at once, and is never refused. So calls that fit into the window go at once, and
each later one when the calls before it leave the window: not at the end of a period, but one window after each was made.
Of time it uses no more than there is, although Dataverse counts a call's time only when it has ended.
That there is a limit it learns by being refused once, and is told in whole seconds how long to wait: what that rounds up
(a second, for calls at once) is part of the ideal.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import math
import random
import selectors
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from figures import HANDED_OVER

from devstack.dataverse.protection import Guard, Latency, Protection
from relay.dataverse.throttle import Governor
from relay.errors import Transient
from relay.sides import SOON
from relay.store.work import Backoff
from relay.telemetry import Meter, current_meter, metered

CALL = 0.1
"""Seconds that a call takes."""

AT_ONCE = 8
BULK = (3, 4)
"""The calls side by side of each level of a bundle in bulk."""

GIVEN_UP = 20
"""How many times the ideal a run may take before it is cut off."""

MOST_REQUESTS, MOST_WAIT = 1.2, 1.25


@dataclass(frozen=True, slots=True)
class Shape:
    """One storm: `budget` is calls (or what they take) per window and web server, or calls at once; `others` use half."""

    facet: str
    window: float
    budget: int
    bundles: int
    write: str
    servers: int
    others: bool

    @property
    def levels(self) -> tuple[int, ...]:
        """Return how many calls side by side each step of a bundle is."""
        return (1, 1) if self.write == "fewest-calls" else (1, *BULK)

    @property
    def needed(self) -> int:
        """Return how many calls it takes without limits."""
        return self.bundles * sum(self.levels)

    def protection(self) -> Protection:
        """Return the limits of each web server."""
        limits: dict[str, dict[str, Any]] = {
            "requests": {"requests": self.budget},
            "time": {"execution_ms": self.budget * CALL * 1000},
            "concurrency": {"concurrency": self.budget},
        }
        return Protection(window_seconds=self.window, servers=self.servers, **limits[self.facet])

    def ideal(self) -> float:
        """Return the seconds that all calls take who knows the limits; the others' half is not to be had."""
        room = self.budget * self.servers - (self.budget // 2 * self.servers if self.others else 0)
        at_once = min(AT_ONCE, room) if self.facet == "concurrency" else AT_ONCE
        running = [0.0] * at_once
        made: deque[float] = deque()  # when each call is counted: as it begins, or (what takes time) as it ends
        last = learning = 0.0
        for _ in range(self.needed):
            now = heapq.heappop(running)
            if self.facet != "concurrency" and len(made) >= room:
                free = made[-room] + self.window
                if not learning and free > now:
                    learning = math.ceil(free - now) - (free - now)
                now = max(now, free)
            last = now + CALL
            made.append(now if self.facet == "requests" else last)
            heapq.heappush(running, last)
        return last + (1 if self.facet == "concurrency" and room < AT_ONCE else learning)


class Leaping(selectors.DefaultSelector):  # type: ignore[misc,valid-type]  # which one it is, is the platform's
    """A selector for which waiting takes no time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Be at the moment that would be waited for."""
        self.now += max(timeout or 0.0, 0.0)
        return list(super().select(0))


@dataclass
class Storm:
    """One run of a shape."""

    shape: Shape
    clock: Any
    draw: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - the same jitter each time
    sent: int = 0
    refused: int = 0
    put_off: int = 0

    def __post_init__(self) -> None:
        """Make both sides."""
        self.guard = Guard(self.shape.protection(), Latency(call_ms=CALL * 1000), clock=self.clock)
        self.governor = Governor(max_wait=SOON, clock=self.clock, jitter=self.draw.random)
        seconds = timedelta(seconds=1)
        self.backoff = Backoff(5 * seconds, 900 * seconds, 86400 * seconds, self.draw.random)
        self.hands = asyncio.Semaphore(HANDED_OVER)

    async def send(self) -> httpx.Response:
        """Make one request."""
        self.sent += 1
        current_meter().dataverse += 1
        async with self.guard.serving({}) as visit:
            pass
        if visit.refused is None:
            return httpx.Response(204)
        self.refused += 1
        error = {"error": {"code": visit.refused.code, "message": str(visit.refused)}}
        return httpx.Response(429, headers=visit.refused.headers, json=error)

    async def call(self) -> None:
        """Make one call as the client does."""
        answer = await self.governor.call(self.send)
        if answer.is_error:
            raise Transient("busy", code="throttled", retry_after=float(answer.headers["Retry-After"]))

    async def carry(self, left: list[int], meter: Meter) -> None:
        """Locate, and make the writes that are left; raises Transient."""
        with metered(meter):
            await self.call()
            for level, count in enumerate(left):
                results = await asyncio.gather(*(self.call() for _ in range(count)), return_exceptions=True)
                left[level] = sum(each is not None for each in results)
                for each in results:
                    if isinstance(each, BaseException):
                        raise each

    async def bundle(self) -> None:
        """Send a bundle and see it through."""
        left, meter = list(self.shape.levels[1:]), Meter()
        for attempt in itertools.count():
            try:
                async with self.hands if attempt else nullcontext():
                    await self.carry(left, meter)
                break
            except Transient as error:
                self.put_off += 1
                await asyncio.sleep(self.backoff.delay(attempt, error.retry_after).total_seconds())

    async def others(self) -> None:
        """Use half of the budget of each web server for ever, evenly; told to wait, wait."""
        half = self.shape.budget // 2 * self.shape.servers
        if not half:
            return

        async def visit() -> int:
            async with self.guard.serving({}) as one:
                pass
            return 0 if one.refused is None else int(one.refused.headers["Retry-After"])

        if self.shape.facet == "concurrency":

            async def stay() -> None:
                while True:
                    await visit()
                    await asyncio.sleep(0.001)

            await asyncio.gather(*(stay() for _ in range(half)))
        visits: set[asyncio.Task[int]] = set()
        while True:
            visits.add(asyncio.create_task(visit()))
            await asyncio.sleep(self.shape.window / half)
            ended = {each for each in visits if each.done()}
            visits -= ended
            await asyncio.sleep(max((each.result() for each in ended), default=0))

    async def run(self) -> float:
        """Carry out all bundles and return the seconds."""
        began = self.clock()
        noise = asyncio.create_task(self.others()) if self.shape.others else None
        if noise is not None:  # they were there before
            await asyncio.sleep(self.shape.window)
            began = self.clock()
        self.sent = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_UP * self.shape.ideal()):
                await asyncio.gather(*(self.bundle() for _ in range(self.shape.bundles)))
        took = float(self.clock() - began)
        if noise is not None:
            noise.cancel()
        return took


def measure(shape: Shape) -> tuple[float, float, Storm]:
    """Return requests per call needed, seconds per second of the ideal, and the run."""
    selector = Leaping()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        storm = Storm(shape, lambda: selector.now)
        took = runner.run(storm.run())
    return storm.sent / shape.needed, took / shape.ideal(), storm


def grid(*, everything: bool) -> Iterator[Shape]:
    """Yield the shapes; without `everything` those in which limits bind most."""
    bundles = (10, 40, 80, 200) if everything else (10, 80)
    windows = (1.0, 2.0, 4.0, 10.0, 60.0, 300.0) if everything else (1.0, 4.0, 10.0, 60.0)
    for facet in ("requests", "time", "concurrency"):
        for window, budget, count, write, servers, others in itertools.product(
            windows if facet != "concurrency" else (300.0,),
            (2, 4, 16) if facet == "concurrency" else (25, 40, 170),
            bundles,
            ("fewest-calls", "bulk"),
            (1, 3),
            (False, True),
        ):
            yield Shape(facet, window, budget, count, write, servers, others)


def main() -> int:
    """Print a line per shape and a summary; 1 if a shape does not hold."""
    parser = argparse.ArgumentParser(prog="bench/storms.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every shape")
    parser.add_argument("--bad", action="store_true", help="print those that do not hold only")
    parser.add_argument("--only", action="append", default=[], help="print shapes whose line has this text")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    missed = 0
    print("facet        window budget bundles write        servers others | requests wait  refused put-off ideal s")
    for shape in grid(everything=options.all):
        told = (
            f"{shape.facet:12} {shape.window:6g} {shape.budget:6} {shape.bundles:7} {shape.write:12} {shape.servers:7}"
            f" {'half' if shape.others else '-':6}"
        )
        if not all(each in told for each in options.only):
            continue
        requests, wait, storm = measure(shape)
        holds = requests <= MOST_REQUESTS and wait <= MOST_WAIT
        missed += not holds
        found.setdefault(f"{shape.facet} {shape.window:g} s", []).append((requests, wait))
        if not (options.bad and holds):
            numbers = f"{requests:8.2f} {wait:5.2f} {storm.refused:7} {storm.put_off:7} {shape.ideal():7.1f}"
            print(f"{told} | {numbers}{'' if holds else '  *'}", flush=True)
    for name, each in found.items():
        requests, waits = zip(*each, strict=True)
        good = [sum(x <= most for x in xs) for xs, most in ((requests, MOST_REQUESTS), (waits, MOST_WAIT))]
        middle = sorted(waits)[len(waits) // 2]
        print(
            f"{name}: {len(each)} shapes; requests hold in {good[0]}, worst {max(requests):.2f};"
            f" wait holds in {good[1]}, middle {middle:.2f}, worst {max(waits):.2f}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())

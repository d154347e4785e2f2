"""The gate lets in so many bytes of work at once, in the order of arrival, and loses no place when somebody gives up."""

from __future__ import annotations

import asyncio
import gzip
import random

import pytest

from relay.inbound.gate import Gate, weight

LONG = 60.0


async def inside(gate: Gate, size: int, log: list[str], name: str, done: asyncio.Event) -> None:
    if await gate.enter(size, within=LONG):
        log.append(name)
        await done.wait()
        gate.leave(size)


async def test_what_fits_goes_in_together() -> None:
    """Work goes in while the sum fits; the next waits until enough has left."""
    gate, log, done = Gate(100), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(inside(gate, 50, log, name, done)) for name in "abc"]
    await asyncio.sleep(0)
    assert (log, gate.held) == (["a", "b"], 100)
    done.set()
    await asyncio.gather(*tasks)
    assert (log, gate.held) == (["a", "b", "c"], 0)


async def test_larger_work_goes_in_alone_and_is_not_passed_over() -> None:
    """What is larger than the gate waits until nobody is in; small work that came later waits behind it."""
    gate, log = Gate(100), list[str]()
    doors = {name: asyncio.Event() for name in ("a", "big", "b")}
    sizes = {"a": 10, "big": 500, "b": 10}
    tasks = [asyncio.create_task(inside(gate, sizes[name], log, name, door)) for name, door in doors.items()]
    await asyncio.sleep(0)
    assert log == ["a"]
    doors["a"].set()
    await tasks[0]
    await asyncio.sleep(0)
    assert (log, gate.held) == (["a", "big"], 500)
    doors["big"].set()
    doors["b"].set()
    await asyncio.gather(*tasks)
    assert log == ["a", "big", "b"]


async def test_who_will_not_wait_is_turned_away() -> None:
    """Without patience the answer comes at once; a wait that ends leaves its place to those behind."""
    gate = Gate(100)
    assert await gate.enter(90, within=0)
    assert not await gate.enter(20, within=0)
    big = asyncio.create_task(gate.enter(50, within=0.01))
    small = asyncio.create_task(gate.enter(10, within=LONG))
    assert not await big
    assert await small
    gate.leave(10)
    gate.leave(90)
    assert gate.held == 0


@pytest.mark.parametrize("seed", range(5))
async def test_cancelled_waits_leak_nothing(seed: int) -> None:
    """However work comes, leaves and is cancelled, the sum stays within the bound and ends at nothing."""
    draw, gate, most = random.Random(seed), Gate(100), 0  # noqa: S311 - no secret

    async def work() -> None:
        nonlocal most
        size = draw.choice([1, 20, 60, 100, 150])
        if await gate.enter(size, within=LONG):
            try:
                most = max(most, gate.held)
                assert gate.held <= 100 or gate.held == size
                await asyncio.sleep(0)
            finally:
                gate.leave(size)

    tasks = [asyncio.create_task(work()) for _ in range(60)]
    while any(not task.done() for task in tasks):
        draw.choice(tasks).cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
    assert (gate.held, await gate.enter(500, within=0), most > 0) == (0, True, True)


def test_what_a_body_weighs() -> None:
    """A gzip body weighs what it inflates to, whatever it says, and never more than the largest body."""
    plain = b"x" * 5000
    assert weight(plain, 10_000) == 5000
    assert weight(gzip.compress(plain), 10_000) == 5000
    assert weight(gzip.compress(plain), 1000) == 1000
    assert weight(gzip.compress(plain) + gzip.compress(b""), 10_000) == 5000
    assert weight(gzip.compress(plain) + bytes(8), 10_000) == 5000
    assert weight(gzip.compress(plain) + gzip.compress(plain), 10_000) == 10_000
    assert weight(b"\x1f\x8b\xff\xff\xff\xff", 1000) == 1000

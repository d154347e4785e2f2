"""What arrives while a group is carried out is the next group; each gets its own result, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.inbound.together import Together


class Carrying:
    """Carries numbers out by doubling them, a group whenever `steps` lets one; odd ones from 101 on cannot be."""

    def __init__(self, most: int = 5, patience: float = 60.0, linger: float = 0.0) -> None:
        self.groups: list[list[int]] = []
        self.inside = 0
        self.most_inside = 0
        self.second = asyncio.Event()
        self.steps = asyncio.Semaphore(0)
        self.together: Together[int, int] = Together(
            self.carry, size=lambda _: 1, most=most, patience=patience, linger=linger
        )

    async def carry(self, group: Sequence[int]) -> list[int]:
        self.groups.append(list(group))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        if self.inside == 2:
            self.second.set()
        try:
            await self.steps.acquire()
            for number in group:
                if number > 100 and number % 2:
                    raise ValueError(number)
            return [2 * number for number in group]
        finally:
            self.inside -= 1

    def let(self) -> None:
        """Let all groups through."""
        for _ in range(1000):
            self.steps.release()

    async def start(self, *numbers: int) -> list[asyncio.Task[int]]:
        """Let numbers join, one after the other, and go as far as they can."""
        tasks = [asyncio.create_task(self.together.join(number)) for number in numbers]
        await still()
        return tasks


async def still() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_first_goes_alone_and_the_rest_together() -> None:
    """One at a time, at most `most` in a group, in the order in which they came."""
    it = Carrying()
    tasks = await it.start(*range(9))
    assert it.groups == [[0]]
    it.let()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(9)]
    assert it.groups == [[0], [1, 2, 3, 4, 5], [6, 7, 8]]
    assert it.most_inside == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=25), st.integers(1, 6))
def test_each_has_its_own_result(numbers: list[int], most: int) -> None:
    """However they are grouped: what can be carried out is, and what cannot fails for its own reason alone."""

    async def run() -> None:
        it = Carrying(most)
        tasks = await it.start(*numbers)
        it.let()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for number, end in zip(numbers, ended, strict=True):
            if number > 100 and number % 2:
                assert isinstance(end, ValueError)
                assert end.args == (number,)
            else:
                assert end == 2 * number

    asyncio.run(run())


async def test_a_leader_that_is_cancelled_leaves_nobody_behind() -> None:
    """Those of its group go alone, and those behind it go on."""
    it = Carrying()
    tasks = await it.start(*range(4))
    it.steps.release()
    await tasks[0]
    await still()
    assert it.groups == [[0], [1, 2, 3]]
    tasks += await it.start(4)
    tasks[1].cancel()
    it.let()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended[1], asyncio.CancelledError)
    assert [ended[0], *ended[2:]] == [0, 4, 6, 8]


async def test_one_that_is_cancelled_while_it_waits_is_not_carried_out() -> None:
    """It leaves no place behind; one whose group has begun is carried out with the others."""
    it = Carrying()
    tasks = await it.start(0, 1, 2)
    tasks[1].cancel()
    it.let()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert it.groups == [[0], [2]]
    assert ended[2] == 4


async def test_a_crowd_waits_for_its_own_to_come_back() -> None:
    """After a group of several the next begins when as many are there, so it is not one of the first who is back alone."""
    it = Carrying(linger=60.0)
    tasks = await it.start(0, 1, 2, 3)
    it.steps.release()
    it.steps.release()
    await asyncio.gather(*tasks)
    tasks = await it.start(4, 5)
    assert it.groups == [[0], [1, 2, 3]]
    tasks += await it.start(6)
    assert it.groups == [[0], [1, 2, 3], [4, 5, 6]]
    it.let()
    await asyncio.gather(*tasks)


async def test_it_does_not_wait_for_ever() -> None:
    """Where the crowd is gone, one that comes goes a moment later, and the next at once."""
    it = Carrying(linger=0.01)
    tasks = await it.start(0, 1, 2)
    it.let()
    await asyncio.gather(*tasks)
    assert await asyncio.gather(*await it.start(3)) == [6]
    it.together._linger = 60.0
    assert await asyncio.gather(*await it.start(4)) == [8]
    assert it.groups == [[0], [1, 2], [3], [4]]


async def test_whoever_waits_too_long_goes_alone() -> None:
    """A group that takes for ever holds up nobody who has not joined it."""
    it = Carrying(patience=0.01)
    first, second = await it.start(0, 1)
    await asyncio.wait_for(it.second.wait(), 10)
    assert it.groups == [[0], [1]]
    it.let()
    assert await asyncio.gather(first, second) == [0, 2]


@pytest.mark.parametrize("number", [0, 101])
async def test_alone_it_is_as_if_nobody_else_were_there(number: int) -> None:
    """One alone is carried out once, and raises what that raises."""
    it = Carrying()
    it.let()
    if number:
        with pytest.raises(ValueError, match="101"):
            await it.together.join(number)
    else:
        assert await it.together.join(number) == 0
    assert it.groups == [[number]]

"""Lanes: whoever holds a key has it to himself, everybody gets his turn, and those who give up leave nothing behind."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse.lanes import Lanes

wishes = st.lists(
    st.tuples(
        st.sets(st.integers(0, 5), max_size=4), st.integers(0, 3), st.sampled_from(["ends", "fails", "cancelled"])
    ),
    max_size=12,
)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(wishes)
def test_no_two_share_a_key_and_nobody_starves(wanted: list[tuple[set[int], int, str]]) -> None:
    """Whatever is wished for, by however many, and however each ends: keys are never shared, and in the end all are free."""

    async def run() -> None:
        lanes, held, ended = Lanes(), set[int](), list[int]()

        async def work(number: int, keys: set[int], lasts: int, ends: str) -> None:
            async with lanes.hold(keys):
                assert not keys & held
                held.update(keys)
                try:
                    await turns(lasts)
                    if ends == "fails":
                        raise KeyError(number)
                finally:
                    held.difference_update(keys)
            ended.append(number)

        tasks = [asyncio.create_task(work(number, *wish)) for number, wish in enumerate(wanted)]
        for task, (_, lasts, ends) in zip(tasks, wanted, strict=True):
            if ends == "cancelled":
                await turns(lasts)
                task.cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert {type(each) for each in results} <= {type(None), KeyError, asyncio.CancelledError}
        assert {number for number, (*_, ends) in enumerate(wanted) if ends == "ends"} <= set(ended)
        assert len(lanes) == 0
        assert not held

    asyncio.run(run())


async def test_first_come_first_served() -> None:
    """One who wishes for two keys is not passed over by those who come later for one of them."""
    lanes, order = Lanes(), list[str]()

    async def work(name: str, *keys: str) -> None:
        async with lanes.hold(keys):
            order.append(name)
            await turns(2)

    tasks = [
        asyncio.create_task(work("first", "a")),
        asyncio.create_task(work("both", "a", "b")),
        asyncio.create_task(work("later", "b")),
        asyncio.create_task(work("apart", "c")),
    ]
    await asyncio.gather(*tasks)
    assert order == ["first", "apart", "both", "later"]


async def test_one_who_gives_up_lets_the_next_in() -> None:
    """A wish that is cancelled while it waits neither keeps its keys nor stops those behind it."""
    lanes = Lanes()
    async with lanes.hold("a"):
        waiting = asyncio.create_task(lanes.hold("ab").__aenter__())
        await turns(2)
        async with asyncio.timeout(5):
            behind = asyncio.create_task(lanes.hold("b").__aenter__())
            await turns(2)
            assert not behind.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await behind
    assert len(lanes) == 1

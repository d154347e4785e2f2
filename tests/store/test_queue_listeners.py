"""Two listeners on one queue: each message is worked on by one of them at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from devstack.host.queues import Policy, QueueListener
from relay.store.local import Message

POLICY = Policy(batch=4, threshold=2, tries=3, retry_after=timedelta(seconds=1), longest_poll=timedelta(seconds=0.2))


async def test_two_workers_do_not_do_one_message_twice_at_once(store: Any, twin: Any) -> None:
    """Whatever two hosts receive side by side, no message runs in both at once, and in the end each ran once."""
    running: set[str] = set()
    done: list[str] = []
    all_done = asyncio.Event()

    async def work(message: Message) -> None:
        assert message.text not in running
        running.add(message.text)
        await asyncio.sleep(0.01)
        running.discard(message.text)
        done.append(message.text)
        if len(done) == 24:
            all_done.set()

    for number in range(24):
        await store.send("inbound", str(number))
    stop = asyncio.Event()
    listeners = [QueueListener("inbound", each, POLICY, work) for each in (store, twin)]
    tasks = [asyncio.create_task(each.run(stop)) for each in listeners]
    async with asyncio.timeout(30):
        await all_done.wait()
    stop.set()
    await asyncio.gather(*tasks)
    await asyncio.gather(*(each.drain(10) for each in listeners))
    assert sorted(map(int, done)) == list(range(24))
    assert all(each.rounds for each in listeners)
    assert await store.length("inbound") == 0

"""Receives messages for one function, with the tries, delays and poison queue of the platform."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from devstack.host.protos import Message as Proto
from devstack.host.storage import HostStore
from relay.errors import StoreUnavailable
from relay.store.local import Message, PopReceiptMismatch

POISON = "-poison"

HELD = timedelta(minutes=10)
"""How long the platform holds a message while its function runs; if the host dies it comes back only then."""

FIRST_POLL = 0.1
"""Seconds until an empty queue is asked again where sends are not heard; doubled each time, as the platform does."""

_PAUSE = 1.0  # seconds after the store failed, before it is asked again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """How many at a time, how often, and what a failure costs."""

    batch: int
    threshold: int
    tries: int
    retry_after: timedelta
    longest_poll: timedelta


class QueueListener:
    """Feeds one queue to `work`; `poison` is called in place of the copy to `<queue>-poison` when given."""

    def __init__(
        self,
        queue: str,
        store: HostStore,
        policy: Policy,
        work: Callable[[Message], Awaitable[None]],
        *,
        poison: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        self.queue = queue
        self.rounds = 0
        self._store = store
        self._policy = policy
        self._work = work
        self._poison = poison or (None if queue.endswith(POISON) else self._copy_to_poison)
        self._running: set[asyncio.Task[None]] = set()
        self._receiving = False
        self._empty = 0

    @property
    def busy(self) -> bool:
        """Whether a message is being received or worked on."""
        return self._receiving or bool(self._running)

    async def next_visible(self) -> datetime | None:
        """Tell when the first message is or becomes visible; None when there is none."""
        return await self._store.next_visible(self.queue)

    async def step(self) -> int:
        """Receive one batch, work on it, and return how many messages that were."""
        started = await self._receive(self._policy.batch)
        await asyncio.gather(*started)
        return len(started)

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until told to stop, a new batch whenever no more than the threshold are being worked on.

        It is told rather than cancelled: a message whose receiver was cancelled would be held with nobody at work.
        """
        while not stop.is_set():
            seen = self._store.sends
            try:
                if len(self._running) > self._policy.threshold:
                    await _first(stop.wait(), *self._running)
                elif not await self._receive(self._policy.batch):
                    await self._pause(seen, stop)
            except StoreUnavailable as error:
                _log.warning("queue %s: %s", self.queue, error)
                await _first(stop.wait(), timeout=_PAUSE)

    async def drain(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs, then cancel it; those messages become visible at once."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _receive(self, most: int) -> list[asyncio.Task[None]]:
        self._receiving = True
        try:
            messages = await self._store.receive(self.queue, most=most, visibility=HELD)
            started = [asyncio.create_task(self._process(each)) for each in messages]
            self._running.update(started)
        finally:
            self._receiving = False
        self.rounds += len(started)
        self._empty = 0 if started else self._empty + 1
        for task in started:
            task.add_done_callback(self._running.discard)
        return started

    async def _pause(self, seen: int, stop: asyncio.Event) -> None:
        """Wait until something is sent, a delayed message becomes visible, or the polling interval is over."""
        seconds = self._policy.longest_poll.total_seconds()
        if not self._store.hears:
            await _first(stop.wait(), timeout=min(seconds, FIRST_POLL * 2.0 ** min(self._empty - 1, 20)))
            return
        upcoming = await self.next_visible()
        if upcoming is not None:
            seconds = min(seconds, max(0.0, (upcoming - self._store.now()).total_seconds()))
        await _first(stop.wait(), self._store.wait(seen), timeout=seconds)

    async def _process(self, message: Message) -> None:
        try:
            if message.dequeue_count > self._policy.tries:
                await self._give_up(message)
                return
            try:
                await self._work(message)
            except asyncio.CancelledError:
                await self._store.update(message, timedelta(0))
                raise
            except Exception as error:  # noqa: BLE001 - whatever a function raises costs one try
                _log.warning("queue %s: try %d of message %s: %s", self.queue, message.dequeue_count, message.id, error)
                if message.dequeue_count >= self._policy.tries and self._poison:
                    await self._give_up(message)
                else:
                    await self._store.update(message, self._policy.retry_after)
            else:
                await self._store.delete(message)
        except (StoreUnavailable, PopReceiptMismatch) as error:
            # The message comes back by itself: at least once, as promised.
            _log.warning("queue %s: message %s: %s", self.queue, message.id, error)

    async def _give_up(self, message: Message) -> None:
        if self._poison is None:
            # The platform has no poison queue of a poison queue: the message stays until it expires.
            _log.error("queue %s: message %s failed %d times", self.queue, message.id, self._policy.tries)
            return
        await self._poison(message)
        await self._store.delete(message)

    async def _copy_to_poison(self, message: Message) -> None:
        _log.error("queue %s: message %s goes to %s%s", self.queue, message.id, self.queue, POISON)
        await self._store.send(self.queue + POISON, message.text)


async def _first(*waits: Awaitable[object], timeout: float | None = None) -> None:  # noqa: ASYNC109 - a plain wait
    """Return when the first of them is done; those that are no tasks of somebody else's are cancelled."""
    tasks = {each: asyncio.ensure_future(each) for each in waits}
    await asyncio.wait(tasks.values(), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    own = [task for each, task in tasks.items() if task is not each]
    for task in own:
        task.cancel()
    await asyncio.gather(*own, return_exceptions=True)


def trigger_data(message: Message) -> tuple[Proto, dict[str, Proto]]:
    """Give what the platform hands to a queue function: the text, and the message's properties."""
    return Proto(string=message.text), {
        "QueueTrigger": Proto(string=message.text),
        "DequeueCount": Proto(json=json.dumps(message.dequeue_count)),
        "Id": Proto(string=message.id),
        "PopReceipt": Proto(string=message.pop_receipt),
        "InsertionTime": Proto(json=json.dumps(message.inserted.isoformat())),
        "ExpirationTime": Proto(json=json.dumps(message.expires.isoformat())),
        "NextVisibleTime": Proto(json=json.dumps(message.next_visible.isoformat())),
    }


def texts_of(value: Proto) -> list[str]:
    """Give the messages that an output binding sends: one text, or each text of a list; ValueError for others."""
    if value.bytes is not None:
        return [bytes(value.bytes).decode()]
    if value.string is not None:
        return [str(value.string)]
    content = json.loads(value.json or "null")
    if not isinstance(content, list) or not all(isinstance(each, str) for each in content):
        raise ValueError("a queue output takes str, bytes or a list of str; func.QueueMessage is not served")
    return content

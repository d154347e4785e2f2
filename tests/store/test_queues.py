"""Queues of either store: visibility, pop receipts, delays, limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from relay.store import Receipt
from relay.store.local import PopReceiptMismatch
from relay.store.names import LONGEST_TEXT

SECOND = timedelta(seconds=1)
HALF_MINUTE = timedelta(seconds=30)


async def test_a_message_is_received_once_while_invisible(store: Any, clock: Any) -> None:
    """A received message is invisible to others until its visibility is over; each receive counts."""
    await store.send("inbound", "one")
    (first,) = await store.receive("inbound", most=5, visibility=2 * SECOND)
    assert (first.text, first.dequeue_count) == ("one", 1)
    assert clock.tells(first.inserted)
    assert clock.tells(first.next_visible - 2 * SECOND)
    assert await store.receive("inbound", most=5, visibility=HALF_MINUTE) == []
    await clock.passes(2)
    (second,) = await store.receive("inbound", most=5, visibility=HALF_MINUTE)
    assert (second.id, second.dequeue_count) == (first.id, 2)
    assert second.pop_receipt != first.pop_receipt


async def test_messages_come_in_the_order_they_were_sent(store: Any) -> None:
    """The oldest visible message comes first, and no more than asked for."""
    for text in ("a", "b", "c"):
        await store.send("inbound", text)
    assert [m.text for m in await store.receive("inbound", most=2, visibility=HALF_MINUTE)] == ["a", "b"]
    assert [m.text for m in await store.receive("inbound", most=2, visibility=HALF_MINUTE)] == ["c"]


async def test_queues_are_apart(store: Any) -> None:
    """A message is in the queue it was sent to, and in no other."""
    await store.send("inbound", "one")
    assert await store.receive("writeback", most=5, visibility=HALF_MINUTE) == []
    assert (await store.length("inbound"), await store.length("writeback")) == (1, 0)


async def test_a_delayed_message_becomes_visible_later(store: Any, clock: Any) -> None:
    """`delay` hides a message, and `next_visible` tells that there is one."""
    assert await store.next_visible("inbound") is None
    await store.send("inbound", "later", delay=2 * SECOND)
    hidden_until = await store.next_visible("inbound")
    assert clock() < hidden_until <= clock() + 2 * SECOND
    assert await store.receive("inbound", most=1, visibility=HALF_MINUTE) == []
    assert await store.peek("inbound") == []
    assert await store.length("inbound") == 1
    await clock.passes(2)
    assert [m.text for m in await store.peek("inbound")] == ["later"]
    assert await store.next_visible("inbound") <= clock()
    assert len(await store.receive("inbound", most=1, visibility=HALF_MINUTE)) == 1


async def test_the_longest_delay_is_a_week(store: Any) -> None:
    """A message can be hidden for as long as a message lives, and taken back meanwhile."""
    receipt = await store.send("inbound", "later", delay=timedelta(days=7))
    assert await store.length("inbound") == 1
    assert await store.cancel(receipt) is True


@pytest.mark.parametrize("delay", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
async def test_a_delay_beyond_the_life_of_a_message_is_refused(store: Any, delay: timedelta) -> None:
    """A message can be hidden for 0 to 7 days, as in Azure."""
    with pytest.raises(ValueError, match="cannot be invisible"):
        await store.send("inbound", "never", delay=delay)


async def test_a_deleted_message_is_gone(store: Any, clock: Any) -> None:
    """What was deleted does not come back."""
    await store.send("inbound", "one")
    (message,) = await store.receive("inbound", most=1, visibility=SECOND)
    await store.delete(message)
    await clock.passes(1)
    assert await store.length("inbound") == 0


async def test_a_stale_pop_receipt_is_refused(store: Any, clock: Any) -> None:
    """Once somebody else received a message, the first receiver can neither delete nor update it."""
    await store.send("inbound", "one")
    (stale,) = await store.receive("inbound", most=1, visibility=SECOND)
    await clock.passes(1)
    (current,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    with pytest.raises(PopReceiptMismatch, match="received again or is gone"):
        await store.delete(stale)
    with pytest.raises(PopReceiptMismatch, match="received again or is gone"):
        await store.update(stale, timedelta(0))
    updated = await store.update(current, timedelta(minutes=1))
    assert clock.tells(updated.next_visible - timedelta(minutes=1))
    assert updated.text == "one"
    with pytest.raises(PopReceiptMismatch):
        await store.delete(current)
    await store.delete(updated)
    with pytest.raises(PopReceiptMismatch):
        await store.update(updated, timedelta(0))


async def test_a_message_given_back_is_visible_at_once(store: Any) -> None:
    """A receiver that cannot go on makes its message visible; each receive still counts."""
    await store.send("inbound", "one")
    (message,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    await store.update(message, timedelta(0))
    (again,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    assert (again.id, again.text, again.dequeue_count) == (message.id, "one", 2)


async def test_cancel_takes_back_only_what_nobody_received(store: Any) -> None:
    """A sender can take a message back until somebody received it."""
    kept, taken = await store.send("inbound", "a"), await store.send("inbound", "b", delay=HALF_MINUTE)
    assert await store.cancel(taken) is True
    assert await store.cancel(taken) is False
    await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    assert await store.cancel(kept) is False
    assert await store.cancel(Receipt("inbound", "unknown", "unknown")) is False


async def test_the_largest_message_is_48_kib_of_utf8(store: Any) -> None:
    """48 KiB of text fit an Azure message once they are base64; one byte more is refused."""
    text = "é" * (LONGEST_TEXT // 2)
    await store.send("inbound", text)
    assert [message.text for message in await store.receive("inbound", most=1, visibility=HALF_MINUTE)] == [text]
    with pytest.raises(ValueError, match="49153 bytes"):
        await store.send("inbound", "é" * (LONGEST_TEXT // 2) + "x")


@pytest.mark.parametrize("name", ["In", "a", "in--bound", "-inbound", "in_bound", "x" * 64, "in/bound", ""])
async def test_a_queue_name_that_azure_refuses_is_refused(store: Any, name: str) -> None:
    """Queue names follow Azure's rules, so that they carry over."""
    with pytest.raises(ValueError, match="queue"):
        await store.send(name, "text")


async def test_two_receivers_never_share_a_message(store: Any, twin: Any) -> None:
    """Receivers side by side, on two stores, split the messages between them."""
    for number in range(40):
        await store.send("inbound", str(number))
    batches = await asyncio.gather(
        *((store, twin)[i % 2].receive("inbound", most=7, visibility=HALF_MINUTE) for i in range(8))
    )
    texts = [message.text for batch in batches for message in batch]
    assert sorted(map(int, texts)) == list(range(40))

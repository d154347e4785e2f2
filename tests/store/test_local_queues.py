"""Queues of the local store: visibility, pop receipts, expiry, waking."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.store import Receipt
from relay.store.local import LONGEST_TEXT, LocalStore, PopReceiptMismatch

HALF_MINUTE = timedelta(seconds=30)


async def test_a_message_is_received_once_while_invisible(store: LocalStore, clock: Any) -> None:
    """A received message is invisible to others until its visibility is over; each receive counts."""
    await store.send("inbound", "one")
    (first,) = await store.receive("inbound", most=5, visibility=HALF_MINUTE)
    assert (first.text, first.dequeue_count, first.inserted) == ("one", 1, clock())
    assert first.next_visible == clock() + HALF_MINUTE
    assert await store.receive("inbound", most=5, visibility=HALF_MINUTE) == []
    clock.advance(seconds=30)
    (second,) = await store.receive("inbound", most=5, visibility=HALF_MINUTE)
    assert (second.id, second.dequeue_count) == (first.id, 2)
    assert second.pop_receipt != first.pop_receipt


async def test_messages_come_in_the_order_they_were_sent(store: LocalStore) -> None:
    """The oldest visible message comes first, and no more than asked for."""
    for text in ("a", "b", "c"):
        await store.send("inbound", text)
    assert [m.text for m in await store.receive("inbound", most=2, visibility=HALF_MINUTE)] == ["a", "b"]
    assert [m.text for m in await store.receive("inbound", most=2, visibility=HALF_MINUTE)] == ["c"]


async def test_queues_are_apart(store: LocalStore) -> None:
    """A message is in the queue it was sent to, and in no other."""
    await store.send("inbound", "one")
    assert await store.receive("writeback", most=5, visibility=HALF_MINUTE) == []
    assert (await store.length("inbound"), await store.length("writeback")) == (1, 0)


async def test_a_delayed_message_becomes_visible_later(store: LocalStore, clock: Any) -> None:
    """`delay` hides a message; `next_visible` tells until when."""
    assert await store.next_visible("inbound") is None
    await store.send("inbound", "later", delay=timedelta(minutes=5))
    assert await store.next_visible("inbound") == clock() + timedelta(minutes=5)
    assert await store.receive("inbound", most=1, visibility=HALF_MINUTE) == []
    assert [m.text for m in await store.peek("inbound", hidden=True)] == ["later"]
    assert await store.peek("inbound") == []
    clock.advance(minutes=5)
    assert [m.text for m in await store.peek("inbound")] == ["later"]
    assert len(await store.receive("inbound", most=1, visibility=HALF_MINUTE)) == 1


@pytest.mark.parametrize("delay", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
async def test_a_delay_beyond_the_life_of_a_message_is_refused(store: LocalStore, delay: timedelta) -> None:
    """A message can be hidden for 0 to 7 days, as in Azure."""
    with pytest.raises(ValueError, match="cannot be invisible"):
        await store.send("inbound", "never", delay=delay)


async def test_a_deleted_message_is_gone(store: LocalStore, clock: Any) -> None:
    """What was deleted does not come back."""
    await store.send("inbound", "one")
    (message,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    await store.delete(message)
    clock.advance(hours=1)
    assert await store.length("inbound") == 0


async def test_a_stale_pop_receipt_is_refused(store: LocalStore, clock: Any) -> None:
    """Once somebody else received a message, the first receiver can neither delete nor update it."""
    await store.send("inbound", "one")
    (stale,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    clock.advance(seconds=30)
    (current,) = await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    with pytest.raises(PopReceiptMismatch, match="received again or is gone"):
        await store.delete(stale)
    with pytest.raises(PopReceiptMismatch, match="received again or is gone"):
        await store.update(stale, timedelta(0))
    updated = await store.update(current, timedelta(minutes=1))
    assert updated.next_visible == clock() + timedelta(minutes=1)
    with pytest.raises(PopReceiptMismatch):
        await store.delete(current)
    await store.delete(updated)


async def test_cancel_takes_back_only_what_nobody_received(store: LocalStore) -> None:
    """A sender can take a message back until somebody received it."""
    kept, taken = await store.send("inbound", "a"), await store.send("inbound", "b", delay=HALF_MINUTE)
    assert await store.cancel(taken) is True
    assert await store.cancel(taken) is False
    await store.receive("inbound", most=1, visibility=HALF_MINUTE)
    assert await store.cancel(kept) is False
    assert await store.cancel(Receipt("inbound", "unknown", "unknown")) is False


async def test_a_message_expires_after_seven_days(store: LocalStore, clock: Any) -> None:
    """A message that nobody took for 7 days is gone."""
    await store.send("inbound", "old")
    clock.advance(days=7)
    assert await store.length("inbound") == 0
    assert await store.next_visible("inbound") is None
    assert await store.receive("inbound", most=1, visibility=HALF_MINUTE) == []


async def test_the_largest_message_is_48_kib_of_utf8(store: LocalStore) -> None:
    """48 KiB of text fit an Azure message once they are base64; one byte more is refused."""
    await store.send("inbound", "é" * (LONGEST_TEXT // 2))
    with pytest.raises(ValueError, match="49153 bytes"):
        await store.send("inbound", "é" * (LONGEST_TEXT // 2) + "x")


@pytest.mark.parametrize("name", ["In", "a", "in--bound", "-inbound", "in_bound", "x" * 64, "in/bound", ""])
async def test_a_queue_name_that_azure_refuses_is_refused(store: LocalStore, name: str) -> None:
    """Queue names follow Azure's rules, so that they carry over."""
    with pytest.raises(ValueError, match="queue"):
        await store.send(name, "text")


async def test_wait_wakes_for_a_send_on_another_store_of_the_folder(store: LocalStore) -> None:
    """Whoever waits on a folder hears every send on it in this process, also one just before the wait."""
    other = LocalStore(store.folder)
    seen = store.sends
    waiting = asyncio.create_task(store.wait())
    await asyncio.sleep(0)
    await other.send("inbound", "one")
    assert await waiting == seen + 1
    assert await store.wait(seen) == seen + 1
    await other.close()


async def test_wait_can_be_given_up(store: LocalStore, tmp_path: Path) -> None:
    """A wait that is cancelled leaves nothing behind; a send on another folder does not end one."""
    other = LocalStore(tmp_path / "other")
    waiting = asyncio.create_task(store.wait())
    await asyncio.sleep(0)
    await other.send("inbound", "one")
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await store.send("inbound", "two")
    await other.close()


async def test_two_receivers_never_share_a_message(store: LocalStore) -> None:
    """Receivers side by side, on two stores, split the messages between them."""
    other = LocalStore(store.folder, now=store.now)
    for number in range(40):
        await store.send("inbound", str(number))
    batches = await asyncio.gather(
        *((store, other)[i % 2].receive("inbound", most=7, visibility=HALF_MINUTE) for i in range(8))
    )
    texts = [message.text for batch in batches for message in batch]
    assert sorted(map(int, texts)) == list(range(40))
    await other.close()

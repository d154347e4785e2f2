"""Queues of the local store: what is hidden can be seen, expiry, waking."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from relay.store.local import LocalStore

HALF_MINUTE = timedelta(seconds=30)


async def test_a_hidden_message_can_be_looked_at(local: LocalStore, local_clock: Any) -> None:
    """`next_visible` tells until when the first one is hidden, and `hidden` shows it."""
    await local.send("inbound", "later", delay=timedelta(minutes=5))
    assert await local.next_visible("inbound") == local_clock() + timedelta(minutes=5)
    assert [m.text for m in await local.peek("inbound", hidden=True)] == ["later"]
    assert await local.peek("inbound") == []


async def test_a_message_expires_after_seven_days(local: LocalStore, local_clock: Any) -> None:
    """A message that nobody took for 7 days is gone."""
    await local.send("inbound", "old")
    local_clock.advance(days=7)
    assert await local.length("inbound") == 0
    assert await local.next_visible("inbound") is None
    assert await local.receive("inbound", most=1, visibility=HALF_MINUTE) == []


async def test_wait_wakes_for_a_send_on_another_store_of_the_folder(local: LocalStore) -> None:
    """Whoever waits on a folder hears every send on it in this process, also one just before the wait."""
    other = LocalStore(local.folder)
    seen = local.sends
    waiting = asyncio.create_task(local.wait())
    await asyncio.sleep(0)
    await other.send("inbound", "one")
    assert await waiting == seen + 1
    assert await local.wait(seen) == seen + 1
    await other.close()


async def test_wait_can_be_given_up(local: LocalStore, tmp_path: Path) -> None:
    """A wait that is cancelled leaves nothing behind; a send on another folder does not end one."""
    other = LocalStore(tmp_path / "other")
    waiting = asyncio.create_task(local.wait())
    await asyncio.sleep(0)
    await other.send("inbound", "one")
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await local.send("inbound", "two")
    await other.close()

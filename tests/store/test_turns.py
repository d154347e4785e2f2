"""Turns: of two at work on one thing, one waits; a holder that died loses its turn."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from relay.errors import Transient
from relay.store.turns import LONGEST, Turns
from relay.telemetry import Pseudonyms


async def test_two_at_once_take_turns(store: Any, twin: Any, clock: Any) -> None:
    """While one holds the turn another is told to come back; afterwards it can have it."""
    one, other = (Turns(each, Pseudonyms("key"), clock) for each in (store, twin))
    async with one.taking("contact", "1"):
        async with other.taking("contact", "2"):
            pass
        with pytest.raises(Transient, match="another one is at it"):
            async with other.taking("contact", "1"):
                pass
    async with other.taking("contact", "1"):
        pass
    assert await store.list_rows("turns") == []


async def test_a_dead_holder_loses_its_turn(store: Any, twin: Any, clock: Any) -> None:
    """A turn that lasted too long is taken over, and the late one's end does not end the new one's."""
    dead = Turns(store, Pseudonyms("key"), lambda: clock() - LONGEST - timedelta(seconds=1))
    async with dead.taking("contact", "1"):
        taken = Turns(twin, Pseudonyms("key"), clock).taking("contact", "1")
        await taken.__aenter__()
    assert len(await store.list_rows("turns")) == 1
    await taken.__aexit__(None, None, None)
    assert await store.list_rows("turns") == []

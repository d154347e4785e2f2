"""Two at once take turns: a note in the store for as long as one is at work. Losing it costs a repeat, never correctness."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import uuid4

from relay.errors import Transient
from relay.store import Store
from relay.telemetry import Pseudonyms

TABLE = "turns"
LONGEST = timedelta(minutes=10)
"""How long a turn lasts at most: longer than the few calls of one piece of work may take. After that its holder is taken for dead."""


class Turns:
    """Turns by name; the name is kept as a keyed hash."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms, now: Callable[[], datetime]) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._now = now

    @asynccontextmanager
    async def taking(self, *name: str) -> AsyncIterator[None]:
        """Hold the turn while the block runs; raises Transient `under-way` when another holds it."""
        word = self._pseudonyms(*name)
        note = {"at": self._now().isoformat(), "by": uuid4().hex}
        if not await self._store.add_row(TABLE, "turn", word, note):
            there = await self._store.get_row(TABLE, "turn", word)
            if there is not None and self._now() - datetime.fromisoformat(str(there["at"])) < LONGEST:
                raise Transient("another one is at it", code="under-way", retry_after=5)
            await self._store.put_row(TABLE, "turn", word, note)
        try:
            yield
        finally:
            there = await self._store.get_row(TABLE, "turn", word)
            if there is not None and there.get("by") == note["by"]:  # else somebody took over
                await self._store.delete_row(TABLE, "turn", word)

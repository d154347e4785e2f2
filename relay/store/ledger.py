"""What the relay wrote itself, by tag, so that its own echoes cost nothing. Losing it costs calls, never correctness.

Each unit of work writes to Dataverse under a tag of its own; the tag comes back in the events those writes cause. One
row per tag says whether the write-backs of that work are done, and of which rows they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Literal

from relay.store import Store
from relay.telemetry import Pseudonyms

WORKS = "works"
DELIVERIES = "deliveries"
PREFIX = "relay-"

MOST_OPEN = 1900  # names of 16 digits and a space in one text of a table row (32 Ki); more are written as "all"

LONGEST_TAG = 64
"""Characters; what is longer comes back in an event, but was never ours."""

State = Literal["done", "running", "open", "unknown"]


class Ledger:
    """The table of works and of the deliveries their tags brought back."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms, now: Callable[[], datetime]) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._now = now

    async def begin(self, tag: str) -> None:
        """Note that work under this tag is under way."""
        await self._store.put_row(WORKS, "tag", tag, {"state": "running", "open": "", "at": self._now().isoformat()})

    async def finish(self, tag: str, still_open: Iterable[str] = ()) -> None:
        """Note that the work is over; `still_open` are the GUIDs whose write-back is not done."""
        names = sorted({self._pseudonyms(guid) for guid in still_open})
        listed = "all" if len(names) > MOST_OPEN else " ".join(names)
        row = {"state": "over", "open": listed, "key": self._pseudonyms("key"), "at": self._now().isoformat()}
        await self._store.put_row(WORKS, "tag", tag, row)

    async def state(self, tag: str, guid: str | None) -> tuple[State, timedelta]:
        """Tell how the write-back of one row stands, and how long ago that was noted.

        Without a GUID the answer is `done` only if every row of the work is.
        """
        row = await self._store.get_row(WORKS, "tag", tag) if _ours(tag) else None
        if row is None:
            return "unknown", timedelta(0)
        age = self._now() - datetime.fromisoformat(str(row["at"]))
        if row["state"] == "running":
            return "running", age
        still_open = str(row["open"]).split()
        if not still_open:
            return "done", age
        foreign = row.get("key") != self._pseudonyms("key")  # hashed under another key: nobody can say which are open
        if guid is None or foreign or still_open == ["all"] or self._pseudonyms(guid) in still_open:
            return "open", age
        return "done", age

    async def delivered(self, tag: str, operation: str) -> None:
        """Count one event that a write under this tag caused; the same operation counts once."""
        if _ours(tag):
            await self._store.add_row(DELIVERIES, tag, self._pseudonyms(operation), {"at": self._now().isoformat()})

    async def deliveries(self, tag: str) -> int:
        """Return how many events the writes under this tag have brought back so far."""
        return len(await self._store.list_rows(DELIVERIES, tag))

    async def expire(self, before: datetime) -> int:
        """Forget works and deliveries noted before that; returns their number."""
        gone = 0
        for table in (WORKS, DELIVERIES):
            for partition, name, values in await self._store.list_rows(table):
                if datetime.fromisoformat(str(values["at"])) < before:
                    await self._store.delete_row(table, partition, name)
                    gone += 1
        return gone


def _ours(tag: str) -> bool:
    """Tell whether a tag may be one of the relay's; an event's sender can put any text there."""
    return tag.startswith(PREFIX) and len(tag) <= LONGEST_TAG

"""What each Subscription has told so far: the numbers of its events, so that a gap is seen and a repetition dropped.

A number alone proves nothing: a Subscription that is made anew counts from the beginning. So an event is a repetition
only when the same notification came before, and a gap only while the event is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from relay.store import Row, Store
from relay.telemetry import Pseudonyms

EVENTS = "heardevents"
SUBSCRIPTIONS = "subscriptions"
MOST = 1000  # event numbers that one gap is looked through for

_HEAD = "head"
_SEARCHED = "searched"


@dataclass(frozen=True, slots=True)
class Head:
    """The last that was heard: how many events there were, up to when they tell of everything, and of which types they told."""

    last: int
    at: datetime
    types: tuple[str, ...] = ()


class Heard:
    """Notes of Subscriptions by key; `key_of` makes one of whatever names it. Of a notification only a keyed hash is kept."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms, now: Callable[[], datetime]) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._now = now

    async def head(self, key: str) -> Head | None:
        """Return the last that was heard of a Subscription."""
        row = await self._store.get_row(SUBSCRIPTIONS, key, _HEAD)
        if row is None:
            return None
        types = tuple(str(row["types"]).split(",")) if row["types"] else ()
        return Head(int(row["last"]), datetime.fromisoformat(str(row["at"])), types)

    async def put_head(self, key: str, last: int, types: Iterable[str], at: datetime) -> None:
        """Note how many events there were by then, and of which types."""
        row: Row = {"last": last, "at": at.isoformat(), "types": ",".join(sorted(set(types)))}
        await self._store.put_row(SUBSCRIPTIONS, key, _HEAD, row)

    async def came(self, key: str, number: int, body: bytes) -> bool:
        """Tell whether this very notification of an event came before."""
        row = await self._store.get_row(EVENTS, key, str(number))
        return row is not None and row["body"] == self._word(body)

    async def note(self, key: str, number: int, body: bytes) -> None:
        """Note that an event was told of by this notification."""
        await self._store.put_row(EVENTS, key, str(number), {"body": self._word(body), "at": self._now().isoformat()})

    def _word(self, body: bytes) -> str:
        return self._pseudonyms("notification", hashlib.sha256(body).hexdigest())

    async def missing(self, key: str, first: int, last: int, since: datetime) -> bool:
        """Tell whether an event of these numbers has not come since then; of too many numbers one is taken to be missing."""
        if last - first >= MOST:
            return True
        for number in range(first, last + 1):
            row = await self._store.get_row(EVENTS, key, str(number))
            if row is None or datetime.fromisoformat(str(row["at"])) < since:
                return True
        return False

    async def searched(self, key: str) -> datetime | None:
        """Return up to when the changes of a key were searched for, by the server's clock."""
        row = await self._store.get_row(SUBSCRIPTIONS, key, _SEARCHED)
        return datetime.fromisoformat(str(row["upto"])) if row else None

    async def put_searched(self, key: str, upto: datetime) -> None:
        """Note up to when changes were searched for."""
        await self._store.put_row(
            SUBSCRIPTIONS, key, _SEARCHED, {"upto": upto.isoformat(), "at": self._now().isoformat()}
        )

    async def asked(self, key: str, bucket: int) -> bool:
        """Tell whether a search is on its way that begins after this span of time."""
        row = await self._store.get_row(SUBSCRIPTIONS, key, "asked")
        return row is not None and row["bucket"] == bucket

    async def put_asked(self, key: str, bucket: int) -> None:
        """Note that a search is on its way that begins after this span of time."""
        await self._store.put_row(SUBSCRIPTIONS, key, "asked", {"bucket": bucket, "at": self._now().isoformat()})

    async def expire(self, before: datetime) -> int:
        """Delete the notes of events older than that and return their number."""
        gone = 0
        for key, number, row in await self._store.list_rows(EVENTS):
            if datetime.fromisoformat(str(row["at"])) < before:
                await self._store.delete_row(EVENTS, key, number)
                gone += 1
        return gone


def key_of(*name: str) -> str:
    """Return what stands for a Subscription, or for a path with types, in tables."""
    return hashlib.sha256("\0".join(name).encode("utf-8", "surrogatepass")).hexdigest()[:32]

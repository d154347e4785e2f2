"""Resources that are no more: what the FHIR server says of them, and what is known of the rows they had."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from relay.fhir.answers import instant_of
from relay.fhir.client import Read, raise_if_busy
from relay.inbound.located import Located
from relay.inbound.operations import Planned
from relay.inbound.versions import compare
from relay.mapping.model import Draft
from relay.mapping.states import is_retired
from relay.mapping.translate import is_replaced
from relay.store.tombstones import Key, Tombstone, Tombstones

GONE = 410
UNKNOWN = 404
THERE = 200

ReadMany = Callable[[Sequence[Key]], Awaitable[list[Read]]]
"""Reads resources of the FHIR server by type and id."""


class Endings:
    """What one window of a bundle has to know of ends; asked once, however often the window is planned."""

    def __init__(self, read: ReadMany, tombstones: Tombstones, now: Callable[[], datetime]) -> None:
        self._read = read
        self._tombstones = tombstones
        self._now = now
        self._asked: set[Key] = set()
        self._before: dict[Key, Tombstone] = {}  # as they were when the window began
        self._known: dict[Key, Tombstone] = {}
        self._seen: dict[Key, int] = {}
        self._in_use: set[Key] = set()

    async def see(self, drafts: Iterable[Draft], located: Located, *, ordered: bool, again: bool = False) -> None:
        """Tell `located` of tombstones and of what the FHIR server answers where it matters.

        It matters for what was deleted; for what has a tombstone that says it was deleted and is not itself older than
        that; and for what is replaced now and has a row in use: told late, it may be replaced no more. `again` says that the drafts lost a race, perhaps against who put a resource back: the server is asked
        once more. Raises Transient when it is busy.
        """
        # Also of rows in use: who brought one back may have died before its tombstone went.
        wanted = [draft for draft in drafts if {draft.map.deletes, draft.map.merges} != {"ignore"}]
        new = [draft.key for draft in wanted if draft.key not in self._asked]
        self._asked.update(new)
        found = await self._tombstones.get(new) if new else {}
        self._before |= found
        self._known |= found
        if again:
            for draft in wanted:
                self._seen.pop(draft.key, None)
        ask = [
            draft
            for draft in wanted
            if draft.key not in self._seen and (_is_merging(draft, located) or self._is_to_be_read(draft, ordered))
        ]
        reads = await self._read([draft.key for draft in ask]) if ask else []
        for draft, read in zip(ask, reads, strict=True):
            raise_if_busy(read)
            self._seen[draft.key] = read.status
            if read.status == THERE and _is_overtaken(draft, json.loads(read.text)):
                self._in_use.add(draft.key)
            else:
                self._in_use.discard(draft.key)
        located.tombstones, located.seen, located.unreplaced = self._known, self._seen, self._in_use

    async def bury(self, planned: Iterable[Planned]) -> None:
        """Set the tombstones that a plan asks for, before it is carried out: what dies after this is still known."""
        for each in planned:
            if each.tombstone is not None:
                await self._put(each.draft.key, each.tombstone)

    async def settle(self, planned: Iterable[Planned]) -> None:
        """Take away the tombstones of what is back, and put right those of what could not be carried out."""
        for each in planned:
            key = each.draft.key
            before = self._before.get(key)
            if each.result in ("created", "updated", "unchanged"):
                if each.tombstone is None:
                    await self._put(key, None)
            elif each.tombstone is not None and each.tombstone.why == "deleted":
                row = before.row if before is not None else "untouched"
                await self._put(key, replace(each.tombstone, row=row))
            else:
                await self._put(key, before)

    async def _put(self, key: Key, tombstone: Tombstone | None) -> None:
        """Let a resource have this tombstone, or none."""
        if tombstone == self._known.get(key):
            return
        if tombstone is None:
            await self._tombstones.drop(key)
            del self._known[key]
        else:
            await self._tombstones.put(key, tombstone, self._now())
            # If the plan loses a race, a row that is out of use by then may well be so by our own write.
            self._known[key] = tombstone

    def _is_to_be_read(self, draft: Draft, ordered: bool) -> bool:
        if draft.end == "deleted":
            return True
        tombstone = self._known.get(draft.key)
        return tombstone is not None and tombstone.why == "deleted" and not is_late(draft, tombstone, ordered=ordered)


def _is_merging(draft: Draft, located: Located) -> bool:
    """Tell whether a row in use is to go out of use since another resource replaces its own."""
    rows = located.by_fhir_id(*draft.key) if draft.end == "merged" else []
    return any(not is_retired(draft.map.table, row.values) for row in rows)


def _is_overtaken(draft: Draft, there: Mapping[str, Any]) -> bool:
    """Tell whether the server's version is replaced no more, and not one from before the draft's, which a replica may show."""
    if is_replaced(there):
        return False
    meta = there.get("meta")
    time = instant_of(meta.get("lastUpdated")) if isinstance(meta, Mapping) else ""
    told = draft.columns.get(draft.map.last_updated)
    if not time or not isinstance(told, str):
        return True
    said, ours = datetime.fromisoformat(time), datetime.fromisoformat(told)
    if ours.tzinfo is None:  # a column of days: it holds the date as it was written
        return said.date() >= ours.date()
    return said >= ours


def is_late(draft: Draft, tombstone: Tombstone, *, ordered: bool) -> bool:
    """Tell whether what comes in is older than what the row had when the resource was deleted.

    The same version may be back: a server that is restored from a backup has the resources of then.
    """
    known: Mapping[str, str] = {draft.map.version: tombstone.version, draft.map.last_updated: tombstone.updated}
    return compare(draft, known, ordered=ordered) == -1

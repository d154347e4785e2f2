"""Resources that are no more: what the FHIR server says of them, and what is known of the rows they had."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from relay.fhir.client import Read, raise_if_busy
from relay.inbound.located import Located
from relay.inbound.operations import Planned
from relay.inbound.versions import compare
from relay.mapping.model import Draft
from relay.mapping.states import is_retired
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
        self._known: dict[Key, Tombstone] = {}
        self._seen: dict[Key, int] = {}

    async def see(self, drafts: Iterable[Draft], located: Located, *, ordered: bool) -> None:
        """Tell `located` of tombstones and of what the FHIR server answers where it matters.

        It matters for what was deleted; and for what has no row to be found, or one that is out of use, if it has a
        tombstone that says it was deleted and is not itself older than that. Raises Transient when the server is busy.
        """
        wanted = [draft for draft in drafts if _matters(draft, located)]
        new = [draft.key for draft in wanted if draft.key not in self._asked]
        self._asked.update(new)
        self._known |= await self._tombstones.get(new) if new else {}
        ask = [draft.key for draft in wanted if draft.key not in self._seen and self._is_to_be_read(draft, ordered)]
        for key, read in zip(ask, await self._read(ask) if ask else [], strict=True):
            raise_if_busy(read)
            self._seen[key] = read.status
        located.tombstones, located.seen = self._known, self._seen

    async def bury(self, planned: Iterable[Planned]) -> None:
        """Set the tombstones that a plan asks for, before it is carried out: what dies after this is still known."""
        for each in planned:
            if each.tombstone is not None and each.tombstone != self._known.get(each.draft.key):
                await self._tombstones.put(each.draft.key, each.tombstone, self._now())

    async def settle(self, planned: Iterable[Planned]) -> None:
        """Take away the tombstones of what is back, and put right those of what could not be carried out."""
        for each in planned:
            key = each.draft.key
            known = self._known.get(key)
            if each.tombstone is not None and each.result == "failed" and each.tombstone != known:
                if each.tombstone.why == "deleted":
                    row = known.row if known is not None else "untouched"
                    await self._tombstones.put(key, replace(each.tombstone, row=row), self._now())
                else:
                    await (
                        self._tombstones.drop(key) if known is None else self._tombstones.put(key, known, self._now())
                    )
            elif each.tombstone is None and known is not None and each.result in ("created", "updated", "unchanged"):
                await self._tombstones.drop(key)

    def _is_to_be_read(self, draft: Draft, ordered: bool) -> bool:
        if draft.end == "deleted":
            return True
        tombstone = self._known.get(draft.key)
        return tombstone is not None and tombstone.why == "deleted" and not is_late(draft, tombstone, ordered=ordered)


def is_late(draft: Draft, tombstone: Tombstone, *, ordered: bool) -> bool:
    """Tell whether what comes in is older than what the row had when the resource was deleted.

    The same version may be back: a server that is restored from a backup has the resources of then.
    """
    known: Mapping[str, str] = {draft.map.version: tombstone.version, draft.map.last_updated: tombstone.updated}
    return compare(draft, known, ordered=ordered) == -1


def _matters(draft: Draft, located: Located) -> bool:
    """Tell whether a tombstone of the resource could decide anything."""
    if draft.map.deletes == draft.map.merges == "ignore":
        return False
    rows = located.by_fhir_id(*draft.key)
    return draft.end != "" or not rows or any(is_retired(draft.map.table, row.values) for row in rows)

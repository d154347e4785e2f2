"""What became of the rows of resources that are no more: which the relay took out of use, which it deleted.

Losing it costs a person's look, never a row: without its tombstone an inactive row counts as one that a user took out
of use, and stays so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from relay.store import Row, Store
from relay.store.side_by_side import side_by_side
from relay.telemetry import Pseudonyms

TABLE = "tombstones"
ONE_BY_ONE = 32
"""Up to so many resources of a type are asked for one by one; for more, all tombstones of the type are listed."""
LISTED = 1000
"""… if they are not more than this, which is a page of Azure's; they may become many over the years."""

Key = tuple[str, str]
"""A resource's type and id."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Why a resource is no more, what the relay did to its row, and what the row had by then.

    `version` and `updated` are the resource's, as the row had them; empty where it had none. `was` is the row's state
    and status reason before the relay took it out of use.
    """

    why: Literal["deleted", "merged"]
    row: Literal["deactivated", "deleted", "untouched"]
    version: str = ""
    updated: str = ""
    was: tuple[int, int] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it was the relay that took the row out of use, so that it may bring it back."""
        return self.row == "deactivated"


class Tombstones:
    """The table of tombstones: a partition for each resource type, a row for each resource (hashed)."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms) -> None:
        self._store = store
        self._pseudonyms = pseudonyms

    async def get(self, keys: Collection[Key]) -> dict[Key, Tombstone]:
        """Return the tombstones of those resources that have one."""
        found: dict[Key, Tombstone] = {}
        for kind in sorted({kind for kind, _ in keys}):
            names = {self._name(key): key for key in keys if key[0] == kind}
            rows = await self._rows(kind, names)
            found |= {names[name]: _tombstone(values) for name, values in rows.items() if name in names}
        return found

    async def put(self, key: Key, tombstone: Tombstone, at: datetime) -> None:
        """Set a resource's tombstone; one that is there is replaced."""
        state, status = tombstone.was or (-1, -1)
        values: Row = {
            "why": tombstone.why,
            "row": tombstone.row,
            "version": tombstone.version,
            "updated": tombstone.updated,
            "state": state,
            "status": status,
            "at": at.isoformat(),
        }
        await self._store.put_row(TABLE, key[0], self._name(key), values)

    async def drop(self, key: Key) -> None:
        """Take a tombstone away: the resource is back."""
        await self._store.delete_row(TABLE, key[0], self._name(key))

    async def expire(self, before: datetime) -> int:
        """Forget those set before that; one of a row that is out of use stays, so that it can be brought back."""
        gone = 0
        for kind, name, values in await self._store.list_rows(TABLE):
            if values["row"] != "deactivated" and datetime.fromisoformat(str(values["at"])) < before:
                await self._store.delete_row(TABLE, kind, name)
                gone += 1
        return gone

    async def _rows(self, kind: str, names: Collection[str]) -> Mapping[str, Row]:
        if len(names) > ONE_BY_ONE:
            listed = await self._store.list_rows(TABLE, kind, most=LISTED)
            if len(listed) < LISTED:
                return {name: values for _, name, values in listed}
        rows = await side_by_side(self._store.get_row(TABLE, kind, name) for name in names)
        return {name: row for name, row in zip(names, rows, strict=True) if row is not None}

    def _name(self, key: Key) -> str:
        return self._pseudonyms(*key)


def _tombstone(values: Row) -> Tombstone:
    state, status = int(values["state"]), int(values["status"])
    return Tombstone(
        why=cast("Literal['deleted', 'merged']", values["why"]),
        row=cast("Literal['deactivated', 'deleted', 'untouched']", values["row"]),
        version=str(values["version"]),
        updated=str(values["updated"]),
        was=None if state < 0 else (state, status),
    )

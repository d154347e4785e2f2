"""Which bundle and which line of which map wrote a column: kept per bundle, without values, rows as keyed hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relay.store import Store
from relay.telemetry import Pseudonyms

CONTAINER = "relay-written"

Line = tuple[str, int, str]
"""(file, line, element path) of a map; the path is empty for a constant."""


@dataclass(frozen=True, slots=True)
class RowWritten:
    """What one bundle wrote of one row: the line that each column came from."""

    table: str
    id: str
    columns: Mapping[str, Line]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One time that a column was written: by which bundle, when, and by which line."""

    bundle: str
    at: str
    file: str
    line: int
    path: str


class WrittenColumns:
    """The record of written columns, one blob a bundle: written once, read only when somebody asks."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms) -> None:
        self._store = store
        self._pseudonyms = pseudonyms

    async def put(self, bundle: str, at: datetime, rows: Sequence[RowWritten]) -> None:
        """Keep what a bundle wrote; a bundle that is carried on later adds to what it wrote before."""
        if not rows:
            return
        there = await self._store.get_blob(CONTAINER, f"{bundle}.json")
        kept = json.loads(there) if there is not None else {"lines": [], "rows": {}}
        numbers: dict[Line, int] = {tuple(line): number for number, line in enumerate(kept["lines"])}
        for row in rows:
            columns = kept["rows"].setdefault(self._pseudonyms(row.table, row.id.lower()), {})
            for column, line in row.columns.items():
                columns[column] = numbers.setdefault(line, len(numbers))
        kept |= {"at": at.isoformat(), "lines": list(numbers)}
        await self._store.put_blob(CONTAINER, f"{bundle}.json", json.dumps(kept, separators=(",", ":")).encode())

    async def find(self, table: str, guid: str, column: str) -> list[Explanation]:
        """Return the times that bundles wrote this column of this row, the newest first, as far back as is kept."""
        word = self._pseudonyms(table, guid.lower())
        found: list[Explanation] = []
        for blob in sorted(await self._store.list_blobs(CONTAINER), key=lambda blob: blob.modified, reverse=True):
            data = await self._store.get_blob(CONTAINER, blob.name)
            kept = json.loads(data) if data is not None else {"rows": {}}
            if (number := kept["rows"].get(word, {}).get(column)) is not None:
                file, line, path = kept["lines"][number]
                found.append(Explanation(blob.name.removesuffix(".json"), kept["at"], file, line, path))
        return found

    async def expire(self, before: datetime) -> int:
        """Delete what is older than that and return how many bundles' records went."""
        gone = 0
        for blob in await self._store.list_blobs(CONTAINER):
            if blob.modified < before:
                await self._store.delete_blob(CONTAINER, blob.name)
                gone += 1
        return gone

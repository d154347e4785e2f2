"""Rows written in bulk: one bad row is found by halving, and what passes by itself is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final

from relay.dataverse.bulk import create_multiple
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseError
from relay.inbound.judge import Judge
from relay.inbound.levels import Piece, filled

ALONE: Final = 10
"""Rows of a refused call that are few enough to be asked one by one, in one batch: fewer calls than halving further."""

DEADLOCKS: Final = 3
"""How often a call that lost a deadlock is sent again."""

_NO_MESSAGE: Final = "0x80060888"
_DENIED: Final = frozenset({"0x80040220", "0x80048306"})  # a right that is missing is missing for nearly every row

log = logging.getLogger(__name__)


class BulkWriter:
    """Creates rows of one table a call; the answer never says which row was at fault, and a failed call wrote none."""

    def __init__(self, client: DataverseClient, tag: str, judge: Judge) -> None:
        self._client = client
        self._tag = tag
        self._judge = judge

    async def create(self, rows: Sequence[Piece]) -> None:
        """Create the rows and tell the judge of each; raises Transient when Dataverse is away."""
        error = await self._send(rows)
        if error is not None and error.code == _NO_MESSAGE:
            log.warning("%s has no bulk messages: its rows go in batches", rows[0].table)
            self._client.bulk_tables.lacks(rows[0].table)
            await self._one_by_one(rows)
        elif error is not None and error.kind == "terminal" and (len(rows) <= ALONE or error.code in _DENIED):
            await self._one_by_one(rows)
        elif error is None or len(rows) == 1 or not (error.kind == "terminal" or error.sql == "timeout"):
            for piece in rows:
                self._judge.take(piece, error)
        else:
            middle = len(rows) // 2
            await side_by_side(map(self.create, (rows[:middle], rows[middle:])))

    async def _send(self, rows: Sequence[Piece]) -> DataverseError | None:
        """Send one call, again if it lost a deadlock; returns why Dataverse did not carry it out."""
        operations = [operation for piece in rows for operation in piece.operations]
        table = operations[0].table
        request = create_multiple(table.entity_set, table.name, (each.row for each in operations), self._tag)
        for attempt in range(DEADLOCKS + 1):
            try:
                await self._client.send(request)
            except DataverseError as error:
                lost = error
            else:
                return None
            if lost.sql != "deadlock" or attempt == DEADLOCKS or not await self._client.governor.again(attempt):
                break
        return lost

    async def _one_by_one(self, rows: Sequence[Piece]) -> None:
        for run in filled(rows):
            requests = [operation.request(self._tag) for piece in run for operation in piece.operations]
            for piece, (answer,) in zip(run, await self._client.batch(requests), strict=True):
                self._judge.take(piece, answer.error)


async def side_by_side(calls: Iterable[Awaitable[None]]) -> None:
    """Await all of them, and only then raise what the first of them raised: nothing is still being written by then."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome

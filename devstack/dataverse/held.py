"""Transactions that wait: what a suspended one wrote and holds, and whom it waits for.

What others wait for is what SQL Server's locks would have them wait for, which is inferred ([inf]): rows that it wrote or
that it is told to look up, values of unique keys that it took, and the deletion of a row that its own rows look up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Place = tuple[str, str]
"""A row: its table and its id."""


class Write(NamedTuple):
    """One SQL statement with its values, the row it is about, and the columns it gives to it (none: a deletion)."""

    sql: str
    parameters: Sequence[object]
    table: str
    row: str
    columns: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Claims:
    """What writes need to themselves: rows, those of them that are gone, values of unique keys, rows they look up."""

    rows: frozenset[Place] = frozenset()
    gone: frozenset[Place] = frozenset()
    keys: frozenset[tuple[object, ...]] = frozenset()
    needs: frozenset[Place] = frozenset()

    def clash(self, other: Claims) -> bool:
        """Tell whether writes with these claims have to wait for a transaction with the other ones."""
        return not (
            self.rows.isdisjoint(other.rows)
            and self.keys.isdisjoint(other.keys)
            and self.needs.isdisjoint(other.rows)
            and self.gone.isdisjoint(other.needs)
        )


@dataclass(slots=True, eq=False)
class Transaction:
    """One that waits or has waited: what it wrote, which events that made, what it holds, whom it waits for.

    `since` is the row version before it; one that is not `alive` never takes effect; `over` is set at its end.
    """

    since: int
    writes: list[Write] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    claims: Claims = Claims()
    alive: bool = True
    waits_for: Sequence[Transaction] = ()
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def holds(self, table: str, row: str) -> bool:
        """Tell whether it wrote a row; any row of the table where the id is not known ("")."""
        return any(name == table and row in ("", held) for name, held in self.claims.rows)

    def keeps_waiting(self, others: Iterable[Transaction]) -> bool:
        """Tell whether one of the others waits for this one, directly or not: then it must not wait for them."""
        return any(each is self or self.keeps_waiting(each.waits_for) for each in others)

"""Which operations of a plan go out together, and in which calls. Pure.

Dataverse carries the parts of a `$batch` out one after the other, and the rows of a bulk call much faster. So a large
plan is cut into pieces, the pieces into levels (what a piece points to is a level below it), and each level into calls
that run side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from relay.dataverse import quoting
from relay.dataverse.batch import MAX_OPERATIONS
from relay.inbound.operations import Operation, Plan, Planned

ROW_MS: Final = 10
"""What a row takes in a bulk call: Microsoft's samples create 100 in about a second."""

OPERATION_MS: Final = 40
"""What an operation takes in a batch."""

LONGEST_MS: Final = 10_000
"""How long one call may take: service protection counts the time, and a long call holds its locks."""

SHORTEST_MS: Final = 100
"""Work below this is not spread over more calls: each call costs a round trip and counts as a request."""


APART_MS: Final = 500
"""The same for resources that came apart from each other: about what one waits for others for the sake of fewer calls."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Operations that are carried out together or not at all: a change set, or (`bulk`) one row of a bulk call.

    `planned` is None for a codeable concept, which several resources share. `closes` says that it is the update that
    closes a cycle: its resource's row is there already.
    """

    operations: Sequence[Operation]
    planned: Planned | None
    bulk: bool = False
    closes: bool = False

    @property
    def table(self) -> str:
        """The table of its first operation."""
        return self.operations[0].table.name

    @cached_property
    def makes(self) -> AbstractSet[str]:
        """The rows it makes, as lookups name them."""
        return {quoting.bind(each.table.entity_set, each.id) for each in self.operations if each.kind == "create"}

    @cached_property
    def binds(self) -> AbstractSet[str]:
        """The rows it points to and does not make itself."""
        bound = {
            value
            for each in self.operations
            for name, value in each.body.items()
            if value is not None and name.endswith("@odata.bind")
        }
        return bound - self.makes


@dataclass(frozen=True, slots=True)
class Call:
    """Pieces of one level that one call carries: rows of one table in bulk, or change sets."""

    pieces: Sequence[Piece]

    @property
    def bulk(self) -> bool:
        """Whether this is a bulk call."""
        return self.pieces[0].bulk


def pieces(plan: Plan) -> Iterable[Piece]:
    """Yield the plan as change sets in an order in which one call may carry them out one after the other."""
    for concept in plan.concepts:
        yield _piece((concept,), None)
    for planned in plan.resources:
        if planned.operations:
            yield _piece(planned.operations, planned)
    yield from _closing(plan)


def levels(plan: Plan, bulk: Collection[str]) -> list[list[Piece]]:
    """Return the plan in levels: a piece binds rows of lower levels only, and what closes cycles is the last level.

    `bulk` are the tables that take bulk calls. The rows of a resource that consists of creates in such tables are
    pieces of their own, wherever they stand; any other resource stays whole.
    """
    made: dict[str, int] = {}
    found: list[list[Piece]] = []

    def add(piece: Piece) -> None:
        level = max((made[bind] + 1 for bind in piece.binds if bind in made), default=0)
        found.extend([] for _ in range(level + 1 - len(found)))
        found[level].append(piece)
        made.update(dict.fromkeys(piece.makes, level))

    for concept in plan.concepts:
        add(_piece((concept,), None, bulk=concept.table.name in bulk))
    for planned in plan.resources:
        if all(each.kind == "create" and each.table.name in bulk for each in planned.operations):
            for operation in planned.operations:
                add(_piece((operation,), planned, bulk=True))
        else:
            add(_piece(planned.operations, planned))
    closing = list(_closing(plan))
    return [*found, closing] if closing else found


def calls(level: Sequence[Piece], *, at_once: int, rows: int, least: int = SHORTEST_MS) -> list[Call]:
    """Cut a level into about as many calls as may run at once, each short, and none so small that it is not worth it.

    Work below `least` milliseconds is not spread. `rows` is the most rows in one bulk call. Pieces stay in order; what one call carries is alike: rows of one table,
    or change sets of at most `LONGEST_MS` (a larger piece goes alone) and never more than a batch may hold.
    """
    groups: dict[str, list[Piece]] = {}
    for piece in level:
        groups.setdefault(piece.table if piece.bulk else "", []).append(piece)
    costs = {name: sum(map(_cost, group)) for name, group in groups.items()}
    share = max(sum(costs.values()) / at_once, least)
    found: list[Call] = []
    for name, group in groups.items():
        number = max(1, round(costs[name] / share))
        if name:
            found += map(Call, _evenly(group, max(number, -(-len(group) // rows))))
        else:
            found += map(Call, _reaching(group, costs[name] / number))
    return found


def filled(group: Iterable[Piece], most: int = MAX_OPERATIONS) -> Iterable[list[Piece]]:
    """Yield the pieces in runs of at most that many operations; a larger piece is a run of its own."""
    run: list[Piece] = []
    size = 0
    for piece in group:
        if run and size + len(piece.operations) > most:
            yield run
            run, size = [], 0
        run.append(piece)
        size += len(piece.operations)
    if run:
        yield run


def _reaching(group: Iterable[Piece], share: float) -> Iterable[list[Piece]]:
    """Yield the pieces in runs that reach their share, so no more runs than shares, unless a run would take too long."""
    run: list[Piece] = []
    cost = 0
    for piece in group:
        if run and (cost >= share or cost + _cost(piece) > LONGEST_MS):
            yield run
            run, cost = [], 0
        run.append(piece)
        cost += _cost(piece)
    if run:
        yield run


def size(plan: Plan) -> int:
    """Return the number of operations in a plan."""
    return len(plan.concepts) + sum(len(each.operations) + len(each.afterwards) for each in plan.resources)


def _closing(plan: Plan) -> Iterable[Piece]:
    for planned in plan.resources:
        if planned.afterwards:
            yield _piece(planned.afterwards, planned, closes=True)


def _piece(
    operations: Iterable[Operation], planned: Planned | None, *, bulk: bool = False, closes: bool = False
) -> Piece:
    return Piece(tuple(operations), planned, bulk, closes)  # the plan's own lists are emptied when a resource fails


def _cost(piece: Piece) -> int:
    return ROW_MS if piece.bulk else OPERATION_MS * len(piece.operations)


def _evenly(group: Sequence[Piece], number: int) -> Iterable[Sequence[Piece]]:
    """Yield the pieces in that many runs whose sizes differ by one at most."""
    number = min(number, len(group))
    ends = [len(group) * each // number for each in range(number + 1)]
    return (group[start:end] for start, end in pairwise(ends))

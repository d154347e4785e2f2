"""A large bundle in parts, each of which needs only what came before it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from relay.dataverse.keys import row_key
from relay.inbound.identity import match_values
from relay.inbound.nesting import targets_of
from relay.mapping.model import ByFhirId, Draft


def windows(drafts: Mapping[int, Draft], most: int, source_name: str) -> list[list[int]]:
    """Return the drafts' numbers in windows of at most `most`, each after those that its resources refer to.

    Resources that refer to each other in a circle, or that may mean one row (a Dynamics identifier that several carry or
    that is the key of another's row to be, the same match values), are in one window, however many they are.
    """
    if len(drafts) <= most:
        return [list(drafts)] if drafts else []
    found: list[list[int]] = [[]]
    for together in _in_order(list(drafts), _edges(drafts, source_name)):
        if found[-1] and len(found[-1]) + len(together) > most:
            found.append([])
        found[-1] += together
    return [sorted(window) for window in found]


def _edges(drafts: Mapping[int, Draft], source_name: str) -> dict[int, list[int]]:
    """Return for each draft those that have to be there before it; those that belong together need each other."""
    numbers = {(draft.map.resource, draft.id): number for number, draft in drafts.items()}
    edges: dict[int, list[int]] = {}
    shared: dict[object, list[int]] = {}
    for number, draft in drafts.items():
        wanted = (
            numbers.get((target.type, target.id)) for _, target in targets_of(draft) if isinstance(target, ByFhirId)
        )
        edges[number] = sorted({other for other in wanted if other is not None and other != number})
        for guid in {row_key(source_name, draft.map.resource, draft.id), *draft.claims}:
            shared.setdefault((draft.map.table.name, guid), []).append(number)
        if (values := match_values(draft)) is not None:
            shared.setdefault((draft.map.resource, values), []).append(number)
    for group in shared.values():
        for one, other in pairwise(group):
            edges[one].append(other)
            edges[other].append(one)
    return edges


def _in_order(numbers: Sequence[int], edges: Mapping[int, Iterable[int]]) -> Iterable[list[int]]:
    """Yield the strongly connected components, each after those that it has edges to (Tarjan's algorithm, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: dict[int, None] = {}
    for root in numbers:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        open_[root] = None
        walk = [(root, iter(edges[root]))]
        while walk:
            number, rest = walk[-1]
            other = next(rest, None)
            if other is None:
                walk.pop()
                if walk:
                    above = walk[-1][0]
                    low[above] = min(low[above], low[number])
                if low[number] == index[number]:
                    yield _taken(open_, number)
            elif other not in index:
                index[other] = low[other] = len(index)
                open_[other] = None
                walk.append((other, iter(edges[other])))
            elif other in open_:
                low[number] = min(low[number], index[other])


def _taken(open_: dict[int, None], number: int) -> list[int]:
    """Take everything from the open ones that was opened since a number, it included."""
    found: list[int] = []
    while not found or found[-1] != number:
        found.append(open_.popitem()[0])
    return found

"""A large bundle in parts, each of which needs only what came before it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from relay.dataverse.keys import row_key
from relay.inbound.identity import match_values
from relay.inbound.nesting import descendants, targets_of
from relay.mapping.model import ByFhirId, ByIdentifier, Draft, EntityMap

Thing = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Ties:
    """Which drafts (by number) may mean a thing, and which refer to it in another way than by FHIR id.

    A thing is a row (table, GUID), an identifier (type, system, value) or match values (type, values): what is written of
    those that mean it decides what those that refer to it find.
    """

    means: dict[Thing, set[int]] = field(default_factory=lambda: defaultdict(set))
    refers: dict[Thing, set[int]] = field(default_factory=lambda: defaultdict(set))


def windows(drafts: Mapping[int, Draft], most: int, source_name: str, known: Ties | None = None) -> list[list[int]]:
    """Return the drafts' numbers in windows of at most `most`, each after those that its resources refer to.

    In one window, however many they are, are resources that refer to each other in a circle; that may mean one row (a
    Dynamics identifier that several carry or that is the key of another's row to be, the same match values, a row that
    `known` says both may take); and that have an identifier, with those that refer to them by it.
    """
    if len(drafts) <= most:
        return [list(drafts)] if drafts else []
    found: list[list[int]] = [[]]
    for together in _by_level(drafts, _edges(drafts, source_name, known or Ties())):
        if found[-1] and len(found[-1]) + len(together) > most:
            found.append([])
        found[-1] += together
    return [sorted(window) for window in found]


def _by_level(drafts: Mapping[int, Draft], edges: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Return what belongs together, what refers to nothing first, and tables side by side: a bulk write takes one table of one level."""
    levels: dict[int, int] = {}
    found: list[tuple[int, str, int, list[int]]] = []
    for together in in_order(list(drafts), edges):
        inside = set(together)
        level = 1 + max((levels[other] for each in together for other in edges[each] if other not in inside), default=0)
        levels |= dict.fromkeys(together, level)
        first = min(together)
        found.append((level, drafts[first].map.table.name, first, together))
    return [together for *_, together in sorted(found)]


def _edges(drafts: Mapping[int, Draft], source_name: str, known: Ties) -> dict[int, list[int]]:
    """Return for each draft those that have to be there before it; those that belong together need each other."""
    numbers = {(draft.map.resource, draft.id): number for number, draft in drafts.items()}
    edges: dict[int, list[int]] = {}
    for number, draft in drafts.items():
        wanted = (
            numbers.get((target.type, target.id)) for _, target in targets_of(draft) if isinstance(target, ByFhirId)
        )
        edges[number] = sorted({other for other in wanted if other is not None and other != number})
    ties = _ties(drafts, source_name)
    for thing in known.means.keys() | ties.means.keys():
        means = known.means.get(thing, set()) | ties.means.get(thing, set())
        refers = known.refers.get(thing, set()) | ties.refers.get(thing, set())
        for one, other in pairwise(sorted(means | refers)):
            edges[one].append(other)
            edges[other].append(one)
    return edges


def _ties(drafts: Mapping[int, Draft], source_name: str) -> Ties:
    """Return what the drafts alone say about rows and identifiers that several of them have to do with."""
    ties = Ties()
    maps = {draft.map.resource: draft.map for draft in drafts.values()}
    for number, draft in drafts.items():
        for guid in {row_key(source_name, draft.map.resource, draft.id), *draft.claims}:
            ties.means[draft.map.table.name, guid].add(number)
        if (values := match_values(draft)) is not None:
            ties.means[draft.map.resource, values].add(number)
        for _, target in targets_of(draft):
            if isinstance(target, ByIdentifier) and (entity_map := maps.get(target.type)) is not None:
                ties.refers[_thing(target, entity_map)].add(number)
    if ties.refers:
        for number, draft in drafts.items():
            for named in _identifiers(draft):
                ties.means[named].add(number)
    return ties


def _thing(target: ByIdentifier, entity_map: EntityMap) -> Thing:
    """Return what an identifier is of: of a row if it is the Dynamics identifier, else of whoever has it."""
    if entity_map.identifier is not None and target.system == entity_map.identifier.system:
        return entity_map.table.name, target.value.lower()
    return target.type, target.system, target.value


def _identifiers(draft: Draft) -> Iterator[Thing]:
    """Yield the identifiers that the draft's row will have."""
    identifier = draft.map.identifier
    for child in descendants(draft.children) if identifier is not None else ():
        if identifier is not None and child.expansion.table.name == identifier.table.name:
            system, value = (child.columns.get(each) for each in (identifier.system_column, identifier.value_column))
            if isinstance(system, str) and isinstance(value, str):
                yield draft.map.resource, system, value


def in_order(numbers: Sequence[int], edges: Mapping[int, Iterable[int]]) -> Iterable[list[int]]:
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

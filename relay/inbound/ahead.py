"""What has to be known of Dataverse before a large bundle is cut: rows that resources may mean without naming their key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from relay.inbound.identity import match_values
from relay.inbound.locate import Wanted
from relay.inbound.located import Located
from relay.inbound.nesting import targets_of
from relay.inbound.windows import Ties
from relay.mapping.model import ByIdentifier, Draft, EntityMap

Read = Callable[[Wanted], Awaitable[Located]]
"""Reads what is wanted of Dataverse."""


async def look_ahead(drafts: Mapping[int, Draft], read: Read) -> Ties:
    """Return which rows the drafts may take by match columns, and which ones they refer to by an identifier.

    Asks only for what the writes of another draft could change: match columns, and identifiers of types that are among
    the drafts. Where there are none, nothing is read. Raises what `read` raises.
    """
    ties = Ties()
    maps = {draft.map.resource: draft.map for draft in drafts.values()}
    named = _named(drafts, maps)
    wanted = Wanted()
    for draft in drafts.values():
        if (values := match_values(draft)) is not None:
            wanted.matches[draft.map.resource][values] = None
    for target in named:
        wanted.target(target)
    if not wanted.matches and not named:
        return ties
    located = await read(wanted)
    for number, draft in drafts.items():
        for row in located.matched.get((draft.map.resource, match_values(draft) or ()), ()):
            ties.means[draft.map.table.name, row.id].add(number)
    parents = Wanted()
    for target, numbers in named.items():
        table = maps[target.type].table.name
        for guid in located.identified.get((target.type, target.system, target.value), ()):
            parents.guids[table][guid] = None
            ties.refers[table, guid] |= numbers
    if parents.guids:  # whose rows they are: a draft's write may take the identifier away from its own
        _add_owners(ties, drafts, maps.values(), await read(parents))
    return ties


def _named(drafts: Mapping[int, Draft], maps: Mapping[str, EntityMap]) -> dict[ByIdentifier, set[int]]:
    """Return the identifiers of these types that are referred to, each with the drafts that do."""
    named: dict[ByIdentifier, set[int]] = defaultdict(set)
    for number, draft in drafts.items():
        for _, target in targets_of(draft):
            if isinstance(target, ByIdentifier) and target.type in maps:
                named[target].add(number)
    return named


def _add_owners(ties: Ties, drafts: Mapping[int, Draft], maps: Iterable[EntityMap], located: Located) -> None:
    """Tie the drafts to the rows that carry their FHIR ids."""
    numbers = {(draft.map.resource, draft.id): number for number, draft in drafts.items()}
    for entity_map in maps:
        for (table, guid), row in located.guids.items():
            number = numbers.get((entity_map.resource, row.values.get(entity_map.key) or ""))
            if table == entity_map.table.name and number is not None:
                ties.means[table, guid].add(number)

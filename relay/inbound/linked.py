"""What ties a resource to Dataverse that has no row to be found by its FHIR id: the GUID in what it refers to.

A map with `create: linked` makes rows of resources that refer to linked ones. A linked one may be somebody else's work,
its row without the FHIR id; only its Dynamics identifier, on the FHIR server, says which row it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from relay.fhir.client import raise_if_busy
from relay.fhir.identifiers import dynamics_ids
from relay.guid import is_guid
from relay.inbound.endings import THERE, ReadMany
from relay.inbound.locate import Wanted
from relay.inbound.located import Located, fits
from relay.inbound.nesting import targets_of
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, Draft, EntityMap
from relay.store.tombstones import Key

Locate = Callable[[Wanted], Awaitable[Located]]
"""Reads what is wanted of Dataverse."""


class Linked:
    """Looks up what the linked-only resources of one window refer to: one read of the FHIR server, one of Dataverse."""

    def __init__(self, read: ReadMany) -> None:
        self._read = read
        self._claims: dict[Key, str] = {}
        self._asked: set[Key] = set()

    async def tie(self, drafts: Mapping[int, Draft], located: Located, maps: MapSet, locate: Locate) -> None:
        """Tell `located` which of the resources that are referred to, and have no row, carry a Dynamics identifier.

        Such a resource's row is the one that the identifier names, if it may be: it fits the map and is no other
        resource's, nor claimed by two. Asks nothing where nothing is referred to. Raises Transient when a side is away or busy.
        """
        wanted = _referred(drafts, located, maps)
        ask = [key for key in wanted if key not in self._asked]
        self._asked.update(ask)
        for key, read in zip(ask, await self._read(ask) if ask else [], strict=True):
            raise_if_busy(read)
            identifier = wanted[key].identifier
            if read.status == THERE and identifier is not None:
                current, _ = dynamics_ids(json.loads(read.text), identifier.system)
                if len(current) == 1 and is_guid(current[0]):
                    self._claims[key] = current[0]
        claims = {key: self._claims[key] for key in wanted if key in self._claims}
        if not claims:
            return
        rows = Wanted()
        for key, guid in claims.items():
            rows.guids[wanted[key].table.name][guid] = None
        found = await locate(rows)
        said = Counter(self._claims.values())  # of all that were read for the window, however often it is planned
        for key, guid in claims.items():
            located.tied.add(key)
            row = found.guids.get((wanted[key].table.name, guid))
            if said[guid] > 1:  # a copy of a resource: nobody can tell whose row it is
                continue
            if row is not None and fits(wanted[key], row.values) and not row.values.get(wanted[key].key):
                located.keyed[key].append(row)


def _referred(drafts: Mapping[int, Draft], located: Located, maps: MapSet) -> dict[Key, EntityMap]:
    """Return what linked-only resources without a row refer to that is not in the bundle and has no row to be found."""
    sent = {draft.key for draft in drafts.values()}
    found: dict[Key, EntityMap] = {}
    for draft in drafts.values():
        if draft.map.create != "linked" or draft.claims or located.by_fhir_id(*draft.key):
            continue
        for _, target in targets_of(draft):
            if not isinstance(target, ByFhirId) or (key := (target.type, target.id)) in sent:
                continue
            entity_map = maps.for_resource(target.type)
            if entity_map is not None and entity_map.identifier is not None and not located.by_fhir_id(*key):
                found[key] = entity_map
    return found

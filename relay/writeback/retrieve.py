"""Microsoft's msind_RetrieveBundle: one row of Dataverse as the FHIR resource that it stands for, through the maps in reverse.

The row is found by the resource's FHIR id. What comes out are the mapped elements alone, with nothing filled in; lines
that say `writeback: false` never leave Dataverse and stay out here too.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from relay.dataverse.client import DataverseClient
from relay.dataverse.json_text import dumps
from relay.errors import Terminal
from relay.mapping.elements import meant, narrowed
from relay.mapping.load import MapSet
from relay.mapping.model import EntityMap, Issue, Resolve
from relay.mapping.r4 import REQUIRED, RESOURCE_TYPES
from relay.mapping.reverse import Outgoing, resource_of
from relay.writeback.rows import Row, RowReader, standing_for

FOUND: Final = "The resource was retrieved successfully."

_QUERY = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:\?_elements=([A-Za-z0-9,]{1,2000}))?")
_ELEMENT = re.compile(r"[a-z][A-Za-z0-9]{0,63}")
_ALWAYS = ("resourceType", "id", "meta")
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """Which resource is asked for, and which of its elements; None for all of them."""

    type: str
    id: str
    elements: tuple[str, ...] | None = None

    @classmethod
    def read(cls, text: str) -> Query | None:
        """Read `Type/id` or `Type/id?_elements=a,b`; None for anything else, searches and other parameters too."""
        found = _QUERY.fullmatch(text.replace("%2C", ",").replace("%2c", ","))
        if found is None:
            return None
        if found[3] is None:
            return cls(found[1], found[2])
        elements = tuple(dict.fromkeys(found[3].split(",")))
        return cls(found[1], found[2], elements) if all(map(_ELEMENT.fullmatch, elements)) else None

    @property
    def wanted(self) -> tuple[str, ...]:
        """What a part of the resource consists of: the elements asked for, and those that no part goes without."""
        return (*_ALWAYS, *REQUIRED.get(self.type, ()), *(self.elements or ()))


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A resource, or None and in `message` why there is none; `warnings` are what the row could not say in FHIR."""

    resource: Mapping[str, Any] | None
    message: str = FOUND
    warnings: tuple[str, ...] = ()


class Retriever:
    """Answers msind_RetrieveBundle."""

    def __init__(
        self, maps: MapSet, dataverse: DataverseClient, *, resolve: Resolve, now: Callable[[], datetime]
    ) -> None:
        self._maps = maps
        self._dataverse = dataverse
        self._rows = RowReader(maps, dataverse)
        self._resolve = resolve
        self._now = now

    async def retrieve(self, text: str) -> dict[str, Any]:
        """Return the response for a query; what cannot be had has msind_Status false and says why in msind_StatusDetail.

        Raises Transient when Dataverse is away or busy.
        """
        found = await self.find(text)
        at = self._now().isoformat()
        warnings = [{"Time Stamp": at, "Message": each} for each in found.warnings]
        return {
            "msind_Status": found.resource is not None,
            "msind_StatusDetail": json.dumps({"Message": found.message, "Warning": warnings}),
            "msind_JSON": None if found.resource is None else dumps(found.resource),
        }

    async def find(self, text: str) -> Retrieved:
        """Find the row of a query and make its resource."""
        query = Query.read(text)
        if query is None:
            return Retrieved(None, "Error: The FHIR query is neither Type/id nor Type/id?_elements=a,b.")
        entity_map = self._maps.for_resource(query.type)
        if entity_map is None:
            if self._maps.disabled(query.type) is not None:
                return Retrieved(None, f"Error: The entity map for {query.type} is disabled. Enable the map.")
            kind = query.type if query.type in RESOURCE_TYPES else "this type"
            return Retrieved(None, f"Error: There is no entity map for {kind}.")
        try:
            return await self._read(entity_map, query)
        except Terminal as error:  # a right is missing, or Dataverse does not know a column of the map
            log.warning("a %s could not be retrieved: %s", entity_map.resource, error.code)
            return Retrieved(None, f"Error: {error}.")

    async def _read(self, entity_map: EntityMap, query: Query) -> Retrieved:
        guids = await standing_for(self._dataverse, entity_map, query.id)
        if len(guids) > 1:
            return Retrieved(None, f"Error: {len(guids)} rows of {entity_map.table.name} stand for this resource.")
        row, made = await self._make(entity_map, query, guids[0]) if guids else (None, None)
        if row is None or made is None:
            return Retrieved(None, f"Error: No row of {entity_map.table.name} stands for this resource.")
        resource = _identified(entity_map, row, query, made.resource)
        if query.elements is not None:
            kept = frozenset[str]().union(*(meant(each, resource) for each in query.wanted))
            resource = {name: value for name, value in resource.items() if name in kept}
        warnings = [*map(_warning, made.issues), *_lacks(entity_map, query, resource)]
        log.info("a %s was retrieved, with %d warnings", entity_map.resource, len(warnings))
        return Retrieved(resource, warnings=tuple(warnings))

    async def _make(self, entity_map: EntityMap, query: Query, guid: str) -> tuple[Row, Outgoing] | tuple[None, None]:
        """Read a row and make the resource; of one that is asked for in part, only what that part needs."""
        if query.elements is not None:
            entity_map = narrowed(entity_map, query.wanted)
        row = await self._rows.read(entity_map, guid, entity_map.columns, children=True)
        return (None, None) if row is None else (row, resource_of(entity_map, row.view, self._resolve))


def _identified(entity_map: EntityMap, row: Row, query: Query, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource with its id, its version and the Dynamics identifier, as the FHIR server has it."""
    values = row.view.values
    meta = dict(made.get("meta", {}))
    for element, column in (("versionId", entity_map.version), ("lastUpdated", entity_map.last_updated)):
        if column and values.get(column):
            meta[element] = values[column]
    if query.elements is not None:
        meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]  # so that nobody takes a part for the whole
    head = {"resourceType": query.type, "id": query.id, **({"meta": meta} if meta else {})}
    resource = head | {name: value for name, value in made.items() if name not in head}
    identifier = entity_map.identifier
    if identifier is not None and identifier.writeback:
        own = {"system": identifier.system, "value": row.id}
        resource["identifier"] = [*resource.get("identifier", ()), own]
    return resource


def _lacks(entity_map: EntityMap, query: Query, resource: Mapping[str, Any]) -> Iterator[str]:
    """Say what is missing in the resource: what R4 wants, and what was asked for and no line could have made."""
    for element in REQUIRED.get(query.type, ()):
        if not meant(element, resource):
            yield f"{element}: FHIR R4 wants it, and the row has nothing for it"
    for element in query.elements or ():
        if not meant(element, {*_ALWAYS, *entity_map.elements, *resource}):
            yield f"{element}: no line of the entity map makes it"


def _warning(issue: Issue) -> str:
    return f"{issue.at}: {issue.message}"

"""The bodies of creates and updates: columns that differ, lookups as binds, cycles left for later. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from relay.dataverse import quoting
from relay.inbound.located import Row
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, Draft, Scalar, Table, Target
from relay.mapping.values import same

Lookups = Mapping[str, Target | None]


class Links:
    """Lookup columns as `@odata.bind`, for one resource whose targets are all resolved."""

    def __init__(self, maps: MapSet, resolved: Mapping[Target, str], later: AbstractSet[str]) -> None:
        self._maps = maps
        self._resolved = resolved
        self._later = later
        self._deferred: dict[str, str] = {}

    def guid(self, target: Target) -> str:
        """Return the GUID of the row a target means."""
        return self._resolved[target]

    def bind(self, table: Table, column: str, target: Target) -> dict[str, str]:
        """Return the bind of one lookup."""
        pointed = self._table(target)
        navigation = table.columns[column].navigation[pointed.name]
        return {f"{navigation}@odata.bind": quoting.bind(pointed.entity_set, self._resolved[target])}

    def bind_or_defer(self, table: Table, column: str, target: Target) -> dict[str, str]:
        """Return the bind, or nothing when the row it points to is written later; `take_deferred` has it then."""
        bind = self.bind(table, column, target)
        if self._resolved[target] not in self._later:
            return bind
        self._deferred |= bind
        return {}

    def take_deferred(self) -> dict[str, str]:
        """Return the binds that had to wait, once."""
        deferred, self._deferred = self._deferred, {}
        return deferred

    def _table(self, target: Target) -> Table:
        match target:
            case Concept():
                return self._maps.tables["msemr_codeableconcept"]
            case ByFhirId(type=kind) | ByIdentifier(type=kind):
                entity_map = self._maps.for_resource(kind)
                if entity_map is None:
                    raise KeyError(kind)  # maps are checked at load: a target without a map cannot come here
                return entity_map.table


def create_body(table: Table, columns: Mapping[str, Scalar], lookups: Lookups, links: Links) -> dict[str, Any]:
    """Return the body of a create: everything that has a value."""
    body: dict[str, Any] = {name: value for name, value in columns.items() if value is not None}
    for column, target in lookups.items():
        if target is not None:
            body |= links.bind_or_defer(table, column, target)
    return body


def update_body(
    draft: Draft, row: Row, links: Links, *, touched: bool, left_out: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    """Return the body of an update: only what differs and is not left out; empty when nothing is.

    FHIR version and time travel with another change (`touched`: one of the children's), never alone, so that the
    echo of a write-back writes nothing.
    """
    entity_map = draft.map
    stamps = (entity_map.version, entity_map.last_updated)
    columns = {name: value for name, value in draft.columns.items() if name not in left_out}
    lookups = {name: target for name, target in draft.lookups.items() if name not in left_out}
    body = changed_columns(entity_map.table, columns, lookups, row, links)
    stamped = {name: body.pop(name) for name in stamps if name in body}
    return body | stamped if body or touched else {}


def changed_columns(
    table: Table, columns: Mapping[str, Scalar], lookups: Lookups, row: Row, links: Links
) -> dict[str, Any]:
    """Return the columns and binds whose value differs from the row's."""
    body: dict[str, Any] = {
        name: value for name, value in columns.items() if not same(table.columns[name], row.values.get(name), value)
    }
    for column, target in lookups.items():
        if target is None:
            if row.lookup(column) is not None:
                body |= {f"{name}@odata.bind": None for name in table.columns[column].navigation.values()}
        elif row.lookup(column) != links.guid(target):
            body |= links.bind_or_defer(table, column, target)
    return body

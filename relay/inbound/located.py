"""What Dataverse has of the things a bundle means: rows by FHIR id, by GUID, by match columns; children; concepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.model import Column, EntityMap, ExpansionMap, Scalar
from relay.store.tombstones import Tombstone


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the Web API returned it; `id` is lower case, `etag` empty where the table has none."""

    id: str
    etag: str
    values: Mapping[str, Any]

    def lookup(self, column: str) -> str | None:
        """Return the GUID a lookup column holds, lower case, or None."""
        value = self.values.get(f"_{column}_value")
        return value.lower() if isinstance(value, str) else None

    def value(self, column: Column) -> Any:
        """Return what the row holds in a column, of a lookup the GUID."""
        return self.lookup(column.name) if column.targets else self.values.get(column.name)


MatchValues = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Agreements:
    """What both sides last agreed on, for rows whose map tracks columns with two writers.

    `mark` makes the mark of a column's value in one row (table, GUID, column, value); `marks` are those that the store
    has, by (table, GUID), each by column.
    """

    mark: Callable[[str, str, Column, Any], str]
    marks: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Located:
    """The answers of one locate; an absent key means that Dataverse has no such row.

    `keyed` holds rows whose key column equals the FHIR id to the letter, per resource type. `guids` holds the rows
    read by primary key, per table. `matched` holds rows without a FHIR id by their match values, per resource type.
    `children` holds child rows by (expansion table, lookup, parent GUID); the parent may be a child row itself.
    `identified` holds parents by (resource type, system, value), `in_use` those of them that are. `agreed` is None where no map tracks columns.
    `tied` are resources without a row that are known to carry a Dynamics identifier.
    `tombstones` are those of resources for which one matters, `seen` the statuses of reads of the FHIR server, `unreplaced` those of the read that no other one replaces.
    """

    keyed: dict[tuple[str, str], list[Row]] = field(default_factory=lambda: defaultdict(list))
    guids: dict[tuple[str, str], Row] = field(default_factory=dict)
    matched: dict[tuple[str, MatchValues], list[Row]] = field(default_factory=lambda: defaultdict(list))
    children: dict[tuple[str, str, str], list[Row]] = field(default_factory=lambda: defaultdict(list))
    concepts: dict[tuple[int, str], str] = field(default_factory=dict)
    identified: dict[tuple[str, str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    in_use: dict[tuple[str, str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    agreed: Agreements | None = None
    tied: set[tuple[str, str]] = field(default_factory=set)
    tombstones: Mapping[tuple[str, str], Tombstone] = field(default_factory=dict)
    seen: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unreplaced: Collection[tuple[str, str]] = ()

    def by_fhir_id(self, resource_type: str, fhir_id: str) -> list[Row]:
        """Return the rows that carry this FHIR id."""
        return self.keyed.get((resource_type, fhir_id), [])

    def children_of(self, expansion: ExpansionMap, parent: str) -> list[Row]:
        """Return the child rows of one parent."""
        return self.children.get((expansion.table.name, expansion.lookup, parent), [])


def fits(entity_map: EntityMap, values: Mapping[str, Any]) -> bool:
    """Tell whether a row, as the Web API returned it, is one that this map speaks for."""
    return all(values.get(column) == value for column, value in entity_map.where.items())

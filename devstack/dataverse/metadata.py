"""Tables, columns and keys as the emulator knows them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from devstack.dataverse.errors import NotSupported, UnknownSegment

NUMBERS: Final = frozenset({"Integer", "BigInt", "Decimal", "Double", "Money"})
CHOICES: Final = frozenset({"Picklist", "State", "Status"})
LOOKUPS: Final = frozenset({"Lookup", "Customer", "Owner"})
TEXTS: Final = frozenset({"String", "Memo"})
STORED: Final = NUMBERS | CHOICES | LOOKUPS | TEXTS | {"Boolean", "DateTime", "Uniqueidentifier"}
READ_ONLY: Final = frozenset(
    {
        "createdby",
        "createdon",
        "createdonbehalfby",
        "fullname",
        "modifiedby",
        "modifiedon",
        "modifiedonbehalfby",
        "owningbusinessunit",
        "owningteam",
        "owninguser",
        "organizationid",
        "versionnumber",
    }
)
"""Columns the server alone sets; a client's value is dropped without an error."""
LOGICAL_NAME: Final = re.compile(r"(?!sqlite_)[a-z][a-z0-9_]{0,127}", re.ASCII)
"""What names of tables, columns and keys look like (those that SQLite keeps for itself left out)."""
_NAMESPACE: Final = uuid.UUID("6f0cdb62-6d4e-4a0c-8f2e-33a7a0a5bb6e")


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `states` gives each option of a Status column its state, `navigation` each target its property.

    `delete` says what deleting the target does to this row: RemoveLink, Cascade or Restrict. `custom` columns were
    made through the API, which alone may remove them. A date with the format DateOnly has no time at all; one that
    only looks so has `shown` DateOnly. `default` is kept where a create names no value. `relationships` and
    `collections` give each target the schema name and the property on its side.
    """

    name: str
    type: str
    schema_name: str = ""
    label: str = ""
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    format: str = ""
    required: str = ""
    options: Mapping[int, str] = field(default_factory=dict)
    states: Mapping[int, int] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    navigation: Mapping[str, str] = field(default_factory=dict)
    collections: Mapping[str, str] = field(default_factory=dict)
    relationships: Mapping[str, str] = field(default_factory=dict)
    delete: str = "RemoveLink"
    read_only: bool = False
    secret: bool = False
    unique: bool = False
    custom: bool = False
    precision: int | None = None
    shown: str = ""
    behavior: str = ""
    default: int | None = None
    description: str = ""

    def relationship(self, table: str, target: str) -> str:
        """Name the relationship to a target."""
        return self.relationships.get(target) or self.collection(table, target)

    def collection(self, table: str, target: str) -> str:
        """Name the target's property that holds the rows of `table`."""
        return self.collections.get(target) or f"{table}_{self.navigation[target]}_{target}"

    @property
    def wire_name(self) -> str:
        """The name on the wire: `_x_value` for a lookup, else the logical name."""
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name

    @property
    def stored(self) -> bool:
        """Whether the emulator keeps values of this type; others (Image, Virtual, …) are facts only."""
        return self.type in STORED


@dataclass(frozen=True, slots=True)
class Key:
    """One alternate key: its name, columns, and the label people know it by.

    `status` is that of its index: Pending, InProgress, Active or Failed; `made` when building began, in seconds.
    """

    name: str
    columns: tuple[str, ...]
    label: str
    schema_name: str = ""
    status: str = "Active"
    made: float = 0.0
    custom: bool = False

    @property
    def active(self) -> bool:
        """Whether it names rows in URLs and keeps them apart."""
        return self.status == "Active"

    @property
    def building(self) -> bool:
        """Whether its index is still to be made."""
        return self.status in ("Pending", "InProgress")


@dataclass(frozen=True, slots=True)
class Navigation:
    """A single-valued navigation property: the lookup column it sets and the tables it leads to.

    One table for all but `ownerid`, whose users and teams share one property.
    """

    name: str
    column: Column
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection-valued navigation property: the child table and its lookup column."""

    name: str
    child: str
    column: Column


@dataclass(slots=True)
class Table:
    """One table; `properties` are its columns by their names on the wire, `blank` is a row that has no values.

    `custom` tables were made through the API, which alone may remove them; `flags` are facts that are kept and told
    and change nothing here, by their names in EntityMetadata.
    """

    name: str
    schema_name: str
    display_name: str
    entity_set: str
    primary_id: str
    primary_name: str
    ownership: str
    optimistic_concurrency: bool
    columns: dict[str, Column]
    keys: list[Key]
    properties: dict[str, Column] = field(init=False)
    navigations: dict[str, Navigation] = field(init=False)
    collections: dict[str, Collection] = field(default_factory=dict)
    key_in_url: str = ""
    collection_name: str = ""
    description: str = ""
    custom: bool = False
    change_tracking: bool = True
    flags: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, int] = field(init=False)
    blank: dict[str, None] = field(init=False)

    def __post_init__(self) -> None:
        self.defaults = {each.name: each.default for each in self.columns.values() if each.default is not None}
        self.blank = {column.name: None for column in self.columns.values() if column.stored}
        self.properties = {column.wire_name: column for column in self.columns.values() if column.stored}
        self.navigations = {
            name: Navigation(name, column, tuple(to for to, by in column.navigation.items() if by == name))
            for column in self.columns.values()
            for name in column.navigation.values()
        }
        self.key_in_url = self.key_in_url or self.primary_id
        for key in self.keys:
            self.check_key(key)

    @property
    def metadata_id(self) -> str:
        """The table's own id, the same in every run."""
        return metadata_id(self.name)

    def copy(self) -> Table:
        """Return a table of the same facts, whose columns and keys may become others."""
        other = copy(self)
        other.columns, other.keys = dict(self.columns), list(self.keys)
        other.properties, other.navigations = dict(self.properties), dict(self.navigations)
        other.collections = dict(self.collections)
        return other

    def check_key(self, key: Key) -> None:
        """Raise ValueError when a key names columns that are not there."""
        if unknown := [column for column in key.columns if column not in self.columns]:
            raise ValueError(f"{self.name}: key {key.name}: unknown columns {', '.join(unknown)}")
        if not key.columns:
            raise ValueError(f"{self.name}: key {key.name} has no columns")


class Metadata:
    """All tables, by logical name and by entity set: those given, those of `system` (made for the names of the others).

    `references` are the lookups of all tables, `building` the keys whose index is still to be made.
    """

    def __init__(self, tables: Iterable[Table], system: Callable[[list[str]], Iterable[Table]] = lambda _: ()) -> None:
        self._given = {table.name: table for table in tables}
        self._system = system
        self.tables: dict[str, Table] = {}
        self.by_set: dict[str, Table] = {}
        self.references: list[tuple[Table, Column]] = []
        self.building: list[tuple[Table, Key]] = []
        self.redefine({})

    def redefine(self, changed: Mapping[str, Table]) -> None:
        """Make the tables those given, with these in the place of those of the same name or added to them."""
        own = self._given | {name: table for name, table in changed.items() if table.custom}
        system = {table.name: table for table in self._system(list(own))}
        self.tables.clear()
        self.tables.update(own | system | dict(changed))
        self.by_set.clear()
        self.by_set.update({table.entity_set: table for table in self.tables.values()})
        self.references[:] = [
            (table, column) for table in self.tables.values() for column in table.columns.values() if column.targets
        ]
        self.building[:] = [(table, key) for table in self.tables.values() for key in table.keys if key.building]
        for table in self.tables.values():
            table.collections = {}
        for table, column in self.references:
            for target in column.targets:
                if target in self.tables:
                    name = column.collection(table.name, target)
                    self.tables[target].collections[name] = Collection(name, table.name, column)

    def copy(self) -> Metadata:
        """Return the same given tables, of which each may become another."""
        return Metadata([table.copy() for table in self._given.values()], self._system)

    def set(self, name: str) -> Table:
        """Return the table of an entity set; raises UnknownSegment (404)."""
        if (table := self.by_set.get(name)) is None:
            raise UnknownSegment(name)
        return table

    def target(self, navigation: Navigation) -> Table:
        """Return the table that a navigation property leads to; raises NotSupported for unknown or several tables."""
        if len(navigation.targets) > 1:
            raise NotSupported(f"reading along '{navigation.name}', which leads to {' or '.join(navigation.targets)}")
        if navigation.targets[0] not in self.tables:
            raise NotSupported(f"the table {navigation.targets[0]}, which '{navigation.name}' leads to")
        return self.tables[navigation.targets[0]]


@lru_cache(maxsize=1 << 16)
def metadata_id(*parts: str) -> str:
    """Derive the id of a definition from its names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))

"""Tables, columns and keys as the emulator knows them, read from a facts file such as `maps/metadata.json`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
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
_NAMESPACE: Final = uuid.UUID("6f0cdb62-6d4e-4a0c-8f2e-33a7a0a5bb6e")


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `states` gives each option of a Status column its state, `navigation` each target its property.

    `delete` says what deleting the target does to this row: RemoveLink, Cascade or Restrict.
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
    delete: str = "RemoveLink"
    read_only: bool = False
    secret: bool = False

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
    """One alternate key: its name, columns, and the label people know it by."""

    name: str
    columns: tuple[str, ...]
    label: str


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
    """One table; `properties` are its columns by their names on the wire."""

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

    def __post_init__(self) -> None:
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
    """All tables, by logical name and by entity set."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.tables = {table.name: table for table in tables}
        self.by_set = {table.entity_set: table for table in self.tables.values()}
        for table in self.tables.values():
            for column in table.columns.values():
                for target in column.targets:
                    if target in self.tables:
                        name = column.collections.get(target) or f"{table.name}_{column.navigation[target]}_{target}"
                        self.tables[target].collections[name] = Collection(name, table.name, column)

    def copy(self) -> Metadata:
        """Return the same tables, of which each may become another."""
        other = copy(self)
        other.tables = {name: table.copy() for name, table in self.tables.items()}
        other.by_set = {table.entity_set: table for table in other.tables.values()}
        return other

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


def load(path: Path) -> list[Table]:
    """Read the tables of a facts file; raises ValueError naming the file, table and what is missing."""
    tables = []
    for name, facts, columns in _facts(path, path.stat().st_mtime_ns):
        try:
            tables.append(_table(name, facts, columns))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: table {name}: {type(error).__name__}: {error}") from error
    return tables


@lru_cache(maxsize=4)
def _facts(path: Path, _modified: int) -> list[tuple[str, Mapping[str, Any], Mapping[str, Column]]]:
    """Read a facts file once: its columns never change, the tables that are made of them may."""
    read: list[tuple[str, Mapping[str, Any], Mapping[str, Column]]] = []
    for name, facts in json.loads(path.read_text("utf-8"))["tables"].items():
        try:
            read.append((name, facts, {each: _column(each, column) for each, column in facts["columns"].items()}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: table {name}: {type(error).__name__}: {error}") from error
    return read


def table(name: str, facts: Mapping[str, Any]) -> Table:
    """Build a table from its facts; raises KeyError naming a fact that is missing."""
    return _table(name, facts, {each: _column(each, column) for each, column in facts["columns"].items()})


def _table(name: str, facts: Mapping[str, Any], columns: Mapping[str, Column]) -> Table:
    keys = [
        Key(each["name"], tuple(each["columns"]), each.get("label") or each["name"]) for each in facts.get("keys", ())
    ]
    return Table(
        name=name,
        schema_name=facts["schemaName"],
        display_name=facts["displayName"],
        entity_set=facts["entitySet"],
        primary_id=facts["primaryId"],
        primary_name=facts["primaryName"],
        ownership=facts["ownership"],
        optimistic_concurrency=facts.get("optimisticConcurrency", True),
        columns=dict(columns),
        keys=keys,
        key_in_url=facts.get("keyInUrl", ""),
    )


def _column(name: str, facts: Mapping[str, Any]) -> Column:
    options = facts.get("options", ())
    return Column(
        name=name,
        type=facts["type"],
        schema_name=facts.get("schemaName") or name,
        label=facts.get("label") or name,
        max_length=facts.get("maxLength"),
        minimum=facts.get("min"),
        maximum=facts.get("max"),
        format=facts.get("format", ""),
        required=facts.get("required", ""),
        options={option[0]: option[1] for option in options},
        states={option[0]: option[2] for option in options if len(option) > 2},  # noqa: PLR2004 - value, label, state
        targets=tuple(facts.get("targets", ())),
        navigation=dict(facts.get("navigation", {})),
        collections=dict(facts.get("collections", {})),
        delete=facts.get("delete", "RemoveLink"),
        read_only=name in READ_ONLY or bool(facts.get("readOnly")),
        secret=bool(facts.get("secret")),
    )

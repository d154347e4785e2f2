"""Changing tables while rows are in them: tables, columns, relationships and alternate keys.

Customizations go one at a time: with `Lock.ms` each takes that long, and another that begins meanwhile is refused.
An alternate key is usable once its index is made, which begins when it is asked for and takes `key_ms`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from devstack.dataverse import system
from devstack.dataverse.columns import now
from devstack.dataverse.definition_body import Body
from devstack.dataverse.definition_errors import (
    DefinitionNotFound,
    DuplicateAttribute,
    DuplicateKey,
    DuplicateKeyColumns,
    DuplicateName,
    DuplicateNavigation,
    DuplicateRelationship,
    NotCustomAttribute,
    NotCustomizable,
    StillNeeded,
)
from devstack.dataverse.errors import DuplicateRecordEntityKey, InvalidArgument, NotSupported
from devstack.dataverse.metadata import LOGICAL_NAME, Column, Key, Table
from devstack.dataverse.relationship_bodies import Relationship
from devstack.dataverse.rows import Store
from devstack.dataverse.troubles import CustomizationLock

MAX_KEYS: Final = 10
MAX_KEY_COLUMNS: Final = 16
MAX_KEY_BYTES: Final = 900
MAX_COLUMNS: Final = 1000
_KEY_TYPES: Final = {"Decimal": 13, "Integer": 4, "DateTime": 8, "Lookup": 16, "Picklist": 4, "String": 0}
"""Types that a key may have, with the bytes of each; a text has two for each character."""
UNSETTLED: Final = (
    "A table stays while another table's lookup leads to it, or a step is registered on it (0x8004F01F).",
    "A key that is not active is, in a URL, no key at all: the same 400 as for columns that are none.",
    "A key's index is pending for the first half of its time and in progress for the second.",
    "While a transaction waits for a synchronous step, customizations are refused as if another one ran.",
)
"""What no page settles, and how it is here."""
_KEY: Final = ("SchemaName", "LogicalName", "DisplayName", "KeyAttributes", "EntityLogicalName", "MetadataId")


_TAKEN: ContextVar[list[str]] = ContextVar("_TAKEN")
"""The customizations of the request that is being answered."""


class Lock:
    """Lets one request at a time customize, and none while a transaction is suspended (`held`).

    A request that customizes several times has the lock already. Each operation takes `ms`.
    """

    def __init__(self, clock: Callable[[], float], ms: float, held: Callable[[], bool]) -> None:
        self.ms = ms
        self._clock = clock
        self._held = held
        self._until = 0.0
        self._running = ""

    def request(self) -> None:
        """Begin a request, which has not customized yet."""
        _TAKEN.set([])

    def enter(self, operation: str) -> None:
        """Begin an operation; raises CustomizationLock while that of another request runs."""
        taken = _TAKEN.get([])
        if self._held():
            raise CustomizationLock(operation, "Plugin")
        if self.ms and not taken and self._clock() < self._until:
            raise CustomizationLock(operation, self._running)
        taken.append(operation)
        self._running = operation
        self._until = self._clock() + len(taken) * self.ms / 1000

    @property
    def pause(self) -> float:
        """How many milliseconds the operations of this request take."""
        return len(_TAKEN.get([])) * self.ms


class Customizing:
    """Carries out changes of definitions on a store; every method but `settle` runs inside the caller's transaction."""

    def __init__(self, store: Store, clock: Callable[[], float], key_ms: float) -> None:
        self._store = store
        self._tables = store.metadata.tables
        self._clock = clock
        self.key_ms = key_ms

    # tables

    def add_table(self, table: Table) -> None:
        """Add a table; raises DuplicateName for a name or an entity set that is taken."""
        if table.name in self._tables or table.entity_set in self._store.metadata.by_set:
            raise DuplicateName(table.name)
        _fits(table)
        self._store.define(table)
        for name, row in system.rows_of_table(table.name):
            self._insert(name, row)

    def _insert(self, name: str, row: dict[str, Any]) -> None:
        stamps = {"createdon": now(), "modifiedon": now(), "versionnumber": self._store.next_version()}
        self._store.insert(self._tables[name], row | stamps)

    def change_table(self, table: Table) -> None:
        """Put a definition in the place of the one of its name."""
        self._store.define(table)

    def remove_table(self, table: Table) -> None:
        """Remove a table, its rows and what the organization keeps about it; raises NotCustomizable or StillNeeded."""
        if not table.custom:
            raise NotCustomizable(table.name)
        for child, column in self._store.metadata.references:
            if table.name in column.targets and child.name not in (table.name, *system.NAMES):
                raise StillNeeded("Entity", table.name, f"{child.name}.{column.name}")
        for name, row in system.rows_of_table(table.name):
            own = self._tables[name]
            for user, column, _ in self._store.referring(own, row[own.primary_id]):
                raise StillNeeded("Entity", table.name, f"{user.name}.{column.name}")
            self._store.delete(own, row[own.primary_id])
        forms = self._tables["systemform"]
        for row in self._store.query('SELECT "formid" FROM "systemform" WHERE "objecttypecode" = ?', [table.name]):
            self._store.delete(forms, row["formid"])
        self._store.undefine(table.name)

    # columns

    def add_column(self, table: Table, column: Column) -> None:
        """Add a column; raises DuplicateAttribute."""
        if column.name in table.columns or column.name in table.properties:
            raise DuplicateAttribute(column.name, table.name)
        changed = replace(table, columns={**table.columns, column.name: column})
        _fits(changed)
        self._store.define(changed)

    def change_column(self, table: Table, column: Column) -> None:
        """Put a column in the place of the one of its name."""
        self._store.define(replace(table, columns={**table.columns, column.name: column}))

    def remove_column(self, table: Table, column: Column) -> None:
        """Remove a column with its values; raises NotCustomAttribute, or StillNeeded for one that a key has."""
        if not column.custom or column.name == table.primary_name:
            raise NotCustomAttribute(column.name)
        if key := next((key for key in table.keys if column.name in key.columns), None):
            raise StillNeeded("Attribute", column.name, f"key {key.name}")
        self._store.drop_column(table, column)
        rest = {name: each for name, each in table.columns.items() if name != column.name}
        self._store.define(replace(table, columns=rest))

    # relationships

    def add_relationship(self, asked: Relationship) -> tuple[Table, Column]:
        """Add a relationship with its lookup, and return both ends' table and column; raises the errors of names taken."""
        parent, child = self.table(asked.parent), self.table(asked.child)
        column = asked.lookup
        if any(
            each.relationship(table.name, target).lower() == asked.name.lower()
            for table, each in self._store.metadata.references
            for target in each.targets
        ):
            raise DuplicateRelationship(asked.name)
        navigation, collection = column.navigation[parent.name], column.collections[parent.name]
        if navigation in child.navigations or navigation in child.collections or navigation in child.properties:
            raise DuplicateNavigation(navigation)
        taken = {*parent.navigations, *parent.collections, *parent.properties}
        if collection in taken or (parent is child and collection == navigation):
            raise DuplicateNavigation(collection)
        self.add_column(child, column)
        return child, column

    def remove_relationship(self, child: Table, column: Column) -> None:
        """Remove a relationship with its lookup and that column's values."""
        self.remove_column(child, column)

    # keys

    def add_key(self, table: Table, document: object) -> Key:
        """Ask for a key; raises DuplicateKey, DuplicateKeyColumns, or InvalidArgument for what exceeds the limits."""
        body = Body(document, "EntityKeyMetadata")
        body.known(_KEY, flags=True)
        schema_name = body.schema_name()
        names: list[str] = []
        for each in body.items("KeyAttributes"):
            if not isinstance(each, str):
                raise body.wrong("KeyAttributes", "is not an array of strings")
            names.append(each.lower())
        name = schema_name.lower()
        if any(each.name == name for each in table.keys):
            raise DuplicateKey(name, table.name)
        if any(set(each.columns) == set(names) for each in table.keys):
            raise DuplicateKeyColumns
        _check_key(table, names)
        key = Key(
            name,
            tuple(names),
            body.label("DisplayName", schema_name),
            schema_name,
            status="Pending",
            made=self._clock(),
            custom=True,
        )
        self._put_keys(table, [*table.keys, key])
        return key

    def remove_key(self, table: Table, key: Key) -> None:
        """Remove a key."""
        self._store.drop_key(table, key)
        self._put_keys(table, [each for each in table.keys if each.name != key.name])

    def build_again(self, table: Table, name: str) -> None:
        """Begin once more to make a key's index; raises DefinitionNotFound, or InvalidArgument for one not failed."""
        key = next((each for each in table.keys if each.name == name.lower()), None)
        if key is None:
            raise DefinitionNotFound("an entity key", name)
        if key.status != "Failed":
            raise InvalidArgument(f"The entity key {key.name} is {key.status}; only a Failed one can be reactivated.")
        self._put_key(table, replace(key, status="Pending", made=self._clock()))

    def settle(self) -> None:
        """Bring keys whose time has come to their next status: InProgress half way, then Active or Failed.

        This is a transaction of its own, and waits while another one is suspended.
        """
        if not self._store.metadata.building or self._store.held:
            return
        moment = self._clock()
        with self._store.transaction():
            for table, key in list(self._store.metadata.building):
                passed = (moment - key.made) * 1000
                if passed >= self.key_ms:
                    self._finish(self._tables[table.name], key)
                elif passed >= self.key_ms / 2 and key.status == "Pending":
                    self._put_key(self._tables[table.name], replace(key, status="InProgress"))

    def _finish(self, table: Table, key: Key) -> None:
        try:
            self._store.create_key(table, key)
        except DuplicateRecordEntityKey:
            self._put_key(table, replace(key, status="Failed"))
        else:
            self._put_key(table, replace(key, status="Active"))

    def _put_key(self, table: Table, key: Key) -> None:
        self._put_keys(table, [key if each.name == key.name else each for each in table.keys])

    def _put_keys(self, table: Table, keys: list[Key]) -> None:
        self._store.define(replace(table, keys=keys))

    def table(self, name: str) -> Table:
        """Return a table by its logical name; raises DefinitionNotFound."""
        if (table := self._tables.get(name.lower())) is None:
            raise DefinitionNotFound("an entity", name)
        return table


def _fits(table: Table) -> None:
    if len(table.columns) > MAX_COLUMNS:
        raise NotSupported(f"tables of more than {MAX_COLUMNS} columns")
    if not LOGICAL_NAME.fullmatch(table.primary_id):
        raise InvalidArgument(f"The name of the table {table.name} is too long.")


def _check_key(table: Table, names: list[str]) -> None:
    if not names or len(set(names)) < len(names) or len(names) > MAX_KEY_COLUMNS:
        raise InvalidArgument(f"An entity key has from 1 to {MAX_KEY_COLUMNS} different attributes, not {len(names)}.")
    if len(table.keys) >= MAX_KEYS:
        raise InvalidArgument(f"The entity {table.name} has {MAX_KEYS} entity keys already, the most that it can have.")
    size = 0
    for name in names:
        column = table.columns.get(name)
        if column is None:
            raise DefinitionNotFound("an attribute", name)
        if column.type not in _KEY_TYPES or column.read_only:
            raise InvalidArgument(
                f"The attribute {name} of type {column.type} cannot be part of an entity key (valid: "
                f"{', '.join(_KEY_TYPES)}, writable)."
            )
        size += 2 * (column.max_length or 0) if column.type == "String" else _KEY_TYPES[column.type]
    if size > MAX_KEY_BYTES:
        raise InvalidArgument(f"The attributes of the entity key take {size} bytes, more than {MAX_KEY_BYTES}.")

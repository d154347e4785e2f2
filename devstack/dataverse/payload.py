"""Reading a body: columns checked, lookups resolved, everything undeclared refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devstack.dataverse.columns import check, check_limits
from devstack.dataverse.errors import (
    BadSyntax,
    InvalidPayload,
    NotSupported,
    ObjectDoesNotExist,
    RecordNotFoundByEntityKey,
)
from devstack.dataverse.keys import Address, ById, ByKey, record
from devstack.dataverse.metadata import LOOKUPS, Navigation, Table
from devstack.dataverse.rows import Row, Store


@dataclass(slots=True)
class Changes:
    """What a body asks for: `values` by column as kept, `sent` the columns that the client named."""

    values: Row = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    def put(self, column: str, value: object) -> None:
        """Set a column."""
        self.values[column] = value
        if column not in self.sent:
            self.sent.append(column)


class Reader:
    """Reads the bodies of one request; `references` are the URIs that Content-IDs stand for."""

    def __init__(self, store: Store, references: Mapping[str, str]) -> None:
        self._store = store
        self._references = references

    def changes(self, table: Table, body: Mapping[str, Any]) -> Changes:
        """Check a body against a table; raises InvalidPayload and the errors of columns and lookups."""
        changes = Changes()
        for name, value in body.items():
            if name.endswith("@odata.bind"):
                self._bind(table, changes, name.removesuffix("@odata.bind"), value)
            elif "@" in name:
                _control(table, name, value)
            elif (column := table.properties.get(name)) is not None and column.type not in LOOKUPS:
                kept = check(table, column, value)
                if not column.read_only:
                    changes.put(name, kept)
            else:
                self._navigation(table, changes, name, value)
        return changes

    def _bind(self, table: Table, changes: Changes, name: str, value: Any) -> None:
        navigation = table.navigations.get(name)
        if navigation is None:
            if name in table.collections:
                raise NotSupported(f"@odata.bind on collections ('{name}')")
            raise InvalidPayload(
                table.entity_set,
                f"An undeclared property '{name}' which only has property annotations in the payload but no property "
                "value was found in the payload. In OData, only declared navigation properties and declared named "
                "streams can be represented as properties without values.",
            )
        if value is None:
            _set(changes, navigation, None)
            return
        if not isinstance(value, str):
            raise InvalidPayload(table.entity_set, f"The value of '{name}@odata.bind' is not a string.")
        _set(changes, navigation, self.resolve(navigation, value))

    def resolve(self, navigation: Navigation, reference: str) -> tuple[str, str]:
        """Find the table and row that a reference names; raises ObjectDoesNotExist or RecordNotFoundByEntityKey."""
        table, where = record(self._store.metadata, self.expand(reference))
        if table.name not in navigation.targets:
            raise InvalidPayload(
                table.entity_set,
                f"'{reference}' is of type 'Microsoft.Dynamics.CRM.{table.name}'; '{navigation.name}' expects "
                f"'{', '.join(f'Microsoft.Dynamics.CRM.{target}' for target in navigation.targets)}'.",
            )
        return table.name, str(existing(self._store, table, where, table.primary_id)[table.primary_id])

    def expand(self, reference: str) -> str:
        """Put the URI in place of a Content-ID reference (`$1`, `$1/column`); raises BadSyntax for an unknown one."""
        if not reference.startswith("$"):
            return reference
        name, slash, rest = reference[1:].partition("/")
        if name not in self._references:
            raise BadSyntax(f"Content-ID Reference: '${name}' does not exist in the batch context.")
        return self._references[name] + slash + rest

    def _navigation(self, table: Table, changes: Changes, name: str, value: Any) -> None:
        navigation = table.navigations.get(name)
        column = table.columns.get(name)
        if navigation is not None and value is None:
            _set(changes, navigation, None)
        elif navigation is not None and isinstance(value, dict):
            raise NotSupported(f"nested rows in anything but a POST (an object under '{name}')")
        elif navigation is not None:
            raise InvalidPayload(
                table.entity_set,
                "A 'PrimitiveValue' node with non-null value was found when trying to read the value of the "
                f"navigation property '{name}'; however, a 'StartArray' node, a 'StartObject' node, or a "
                "'PrimitiveValue' node with null value was expected.",
            )
        elif name in table.collections:
            raise NotSupported(f"nested rows in anything but a POST (a value of the collection '{name}')")
        elif name in table.properties:
            raise InvalidPayload(
                table.entity_set,
                "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead.",
            )
        elif column is not None and not column.stored:
            raise NotSupported(f"writing columns of type {column.type} ('{name}')")
        else:
            raise InvalidPayload(
                table.entity_set,
                f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'. Make sure to "
                "only use property names that are defined by the type.",
            )


def existing(store: Store, table: Table, where: Address, *columns: str) -> Row:
    """Return the row at an address, or the named columns of it; raises ObjectDoesNotExist or RecordNotFoundByEntityKey."""
    if isinstance(where, ById):
        if (row := store.get(table, where.id, *columns)) is None:
            raise ObjectDoesNotExist(table.name, where.id)
    elif (row := store.find(table, where.values, *columns)) is None:
        raise RecordNotFoundByEntityKey(table.name)
    return row


def add_key(table: Table, where: ByKey, changes: Changes) -> None:
    """Copy an address's key into what is created; the body wins where it names the same column."""
    for column, value in where.values.items():
        if column not in changes.values:
            check_limits(table, table.columns[column], value)
            changes.put(column, value)


def drop_key(where: ByKey, changes: Changes) -> None:
    """Take the key that found a row out of what changes it: a row cannot lose the key it was found by."""
    for column in where.values:
        changes.values.pop(column, None)
    changes.sent = [column for column in changes.sent if column not in where.values]


def _set(changes: Changes, navigation: Navigation, found: tuple[str, str] | None) -> None:
    column = navigation.column
    if column.read_only:
        return
    if found is None and changes.values.get(column.name) is not None:
        return  # one target was bound and another cleared: the bound one stays
    changes.put(column.name, found[1] if found else None)
    if len(column.targets) > 1:
        changes.values[f"{column.name}@table"] = found[0] if found else None


def _control(table: Table, name: str, value: Any) -> None:
    """Accept control information; refuse a type that is not the table's."""
    expected = f"Microsoft.Dynamics.CRM.{table.name}"
    if name == "@odata.type" and (not isinstance(value, str) or value.removeprefix("#") != expected):
        raise InvalidPayload(table.entity_set, f"The type '{value}' is not '{expected}'.")

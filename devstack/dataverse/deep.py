"""Deep insert: a POST whose body holds related rows, all created in one transaction (docs: webapi/create-entity-web-api.md).

An object under a single-valued navigation property is created before the row that looks it up, the objects of an array under
a collection-valued one after the row that they look up. It always creates: a nested object never names a row that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devstack.dataverse.errors import InvalidPayload, NotSupported
from devstack.dataverse.metadata import Collection, Table
from devstack.dataverse.payload import Reader
from devstack.dataverse.records import Origin, Records
from devstack.dataverse.rows import Row

MAX_DEPTH: Final = 50
"""How deep bodies may nest; no page gives the real limit."""


class DeepInsert:
    """Creates rows with what their bodies nest, inside the caller's transaction."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._metadata = records.store.metadata

    def create(self, table: Table, body: Mapping[str, Any], reader: Reader, origin: Origin, depth: int = 1) -> Row:
        """Create a row and all below it, and return the row; raises InvalidPayload and what creates raise."""
        if depth > MAX_DEPTH:
            raise InvalidPayload(table.entity_set, f"The body nests more than {MAX_DEPTH} rows.")
        flat = dict(body)
        below: list[tuple[Collection, list[Any]]] = []
        for name, value in body.items():
            if isinstance(value, dict) and (navigation := table.navigations.get(name)) is not None:
                bind = f"{name}@odata.bind"
                if bind in body:
                    raise InvalidPayload(table.entity_set, f"'{name}' is given as an object and by '{bind}'.")
                if navigation.column.read_only:
                    raise NotSupported(f"nested rows that the server itself would choose ('{name}')")
                target = self._metadata.target(navigation)
                made = self.create(target, value, reader, origin, depth + 1)
                del flat[name]
                flat[bind] = _reference(target, made)
            elif name in table.collections:
                below.append((table.collections[name], _objects(table, name, value)))
                del flat[name]
        row = self._records.create(table, reader.changes(table, flat), origin)
        for collection, bodies in below:
            child = self._metadata.tables[collection.child]
            bind = f"{collection.column.navigation[table.name]}@odata.bind"
            for each in bodies:
                self.create(child, {**each, bind: _reference(table, row)}, reader, origin, depth + 1)
        return row


def _objects(table: Table, name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidPayload(table.entity_set, f"The value of the collection '{name}' is not an array of objects.")
    return value


def _reference(table: Table, row: Row) -> str:
    return f"{table.entity_set}({row[table.primary_id]})"

"""CreateMultiple, UpdateMultiple, UpsertMultiple: many rows of one standard table in one call, all or none.

The answers are those of Microsoft's page bulk-operations; elastic tables, which succeed in part, are not emulated.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from devstack.dataverse.errors import (
    InvalidArgument,
    InvalidPayload,
    KeyInBody,
    NotSupported,
    ObjectDoesNotExist,
    UnknownSegment,
)
from devstack.dataverse.keys import ByKey, record
from devstack.dataverse.metadata import Table
from devstack.dataverse.payload import Changes, Reader, add_key, drop_key
from devstack.dataverse.records import Origin, Records
from devstack.dataverse.rows import Row, Store
from devstack.dataverse.wire import Answer, Call, Work, answer

NAMESPACE: Final = "Microsoft.Dynamics.CRM."
ACTIONS: Final = ("CreateMultiple", "UpdateMultiple", "UpsertMultiple")
Target = dict[str, Any]


class Bulk:
    """Carries out bulk actions inside the caller's transaction; `without` are the tables that have none."""

    def __init__(self, store: Store, records: Records, without: Collection[str] = ()) -> None:
        self.without = set(without)
        self._store = store
        self._records = records

    def answer(self, call: Call, table: Table, action: str, origin: Origin) -> Answer:
        """Carry out one action; raises the error of the first row that has one, without saying which row it was."""
        if table.name in self.without:
            # No page gives the words for a table without the message; these are what any unknown segment gets.
            raise UnknownSegment(NAMESPACE + action)
        if call.headers.get("if-match") or call.headers.get("if-none-match", "null") != "null":
            raise NotSupported(f"conditions on {action}")
        targets = _targets(call, table)
        reader = Reader(self._store, call.references)
        if action == "CreateMultiple":
            ids = [self._create(table, each, reader, origin) for each in targets]
            document = {"@odata.context": f"{call.root}$metadata#{NAMESPACE}CreateMultipleResponse", "Ids": ids}
            answered = answer(200, document)
        else:
            if action == "UpdateMultiple":
                self._update(table, targets, reader, origin)
            else:
                self._upsert(table, targets, reader, origin)
            answered = Answer(204, {"OData-Version": "4.0"})
        answered.work = Work(rows=len(targets))
        return answered

    def _create(self, table: Table, target: Target, reader: Reader, origin: Origin) -> str:
        if "@odata.id" in target:
            raise InvalidPayload(table.entity_set, "'@odata.id' names a record, and CreateMultiple makes new ones.")
        return str(self._records.create(table, reader.changes(table, target), origin)[table.primary_id])

    def _update(self, table: Table, targets: list[Target], reader: Reader, origin: Origin) -> None:
        done: set[str] = set()
        for target in targets:
            if "@odata.id" in target:
                raise InvalidPayload(table.entity_set, "UpdateMultiple does not take alternate keys ('@odata.id').")
            changes = reader.changes(table, target)
            row_id = changes.values.get(table.primary_id)
            if row_id is None:
                raise InvalidPayload(table.entity_set, f"A target has no '{table.primary_id}'.")
            if row_id in done:
                continue  # the first wins, and nobody is told
            done.add(row_id)
            row = self._store.get(table, row_id)
            if row is None:
                raise ObjectDoesNotExist(table.name, row_id)
            self._records.update(table, row, changes, origin)

    def _upsert(self, table: Table, targets: list[Target], reader: Reader, origin: Origin) -> None:
        done: set[str] = set()
        for target in targets:
            named = self._named(table, target)
            changes = reader.changes(table, target)
            row = self._find(table, named, changes)
            if row is None and named is not None:
                if any(column in changes.values for column in named.values):
                    raise KeyInBody
                add_key(table, named, changes)
            row_id = str((row or self._records.create(table, changes, origin))[table.primary_id])
            if row_id in done:
                raise InvalidArgument(f"The same record of '{table.name}' is in Targets more than once.")
            done.add(row_id)
            if row is not None:
                if named is not None:
                    drop_key(named, changes)
                self._records.update(table, row, changes, origin)

    def _named(self, table: Table, target: Target) -> ByKey | None:
        """Read what `@odata.id` names: a record of this table by an alternate key; None where there is none."""
        if "@odata.id" not in target:
            return None
        reference = target["@odata.id"]
        if not isinstance(reference, str):
            raise InvalidPayload(table.entity_set, "The value of '@odata.id' is not a string.")
        named, where = record(self._store.metadata, reference)
        if named is not table:
            raise InvalidPayload(table.entity_set, f"'@odata.id' names a record of '{named.entity_set}'.")
        if not isinstance(where, ByKey):
            raise NotSupported("a primary key in '@odata.id' of UpsertMultiple (its column in the body names it)")
        return where

    def _find(self, table: Table, named: ByKey | None, changes: Changes) -> Row | None:
        row_id = changes.values.get(table.primary_id)
        found = self._store.get(table, row_id) if row_id is not None else None
        return found or (self._store.find(table, named.values) if named is not None else None)


def _targets(call: Call, table: Table) -> list[Target]:
    """Read Targets; each is an object that names its type, which is the table's."""
    body = call.json(table.entity_set)
    targets = body.get("Targets")
    if body.keys() != {"Targets"} or not isinstance(targets, list):
        raise InvalidPayload(table.entity_set, 'The body is not {"Targets": […]}.')
    if not targets:
        raise InvalidArgument("Targets is empty.")
    for each in targets:
        if not isinstance(each, dict):
            raise InvalidPayload(table.entity_set, "A target is not an object.")
        if "@odata.type" not in each:
            raise InvalidPayload(table.entity_set, "A target has no '@odata.type'.")
    return targets

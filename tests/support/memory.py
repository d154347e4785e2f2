"""Rows in a dictionary: what `plan` is given and what its operations make, without servers, clocks or awaits."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.dataverse.keys import row_key
from relay.inbound.locate import CONCEPT_TABLE, Wanted, wanted_by
from relay.inbound.located import Located, Row, fits
from relay.inbound.nesting import walked
from relay.inbound.operations import Operation, Plan, Planned
from relay.inbound.plan import PlanOptions, plan
from relay.mapping.load import MapSet
from relay.mapping.model import Draft, Table

_BIND = re.compile(r"/?([a-z_]+)\(([0-9a-f-]{36})\)")

Asked = Collection[tuple[str, str]]


class Taken(Exception):
    """The primary key of a create is there already."""


class Missing(Exception):
    """The row of an update, or the row that a bind names, is not there."""


@dataclass
class Memory:
    """Tables of rows by GUID; a row's values have wire names, lookups as `_<column>_value`."""

    maps: MapSet
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    writes: int = 0

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a table."""
        return self.tables.setdefault(table, {})

    def save(self, table: str, guid: str, values: Mapping[str, Any]) -> None:
        """Write columns of a row, under a new ETag."""
        self.writes += 1
        facts = self.maps.tables[table]
        row = self.rows(table).setdefault(guid, {facts.primary_id: guid, "statecode": 0, "statuscode": 1})
        row.update(values)
        row["@odata.etag"] = f'W/"{self.writes}"'

    def delete(self, table: str, guid: str) -> None:
        """Delete a row; lookups that hold it become empty."""
        del self.rows(table)[guid]
        for name in self.tables:
            for other, row in self.rows(name).items():
                emptied = {column: None for column, value in row.items() if value == guid and column.startswith("_")}
                if emptied:
                    self.save(name, other, emptied)

    def locate(self, drafts: Sequence[Draft], asked: Asked = ()) -> Located:
        """Answer as a locate of Dataverse would; rows under the drafts' own keys of source `fhir` are read too."""
        keys = [(each.map.table.name, row_key("fhir", each.map.resource, each.id)) for each in drafts]
        return self.read(wanted_by(drafts, [*asked, *keys]))

    def read(self, wanted: Wanted) -> Located:
        """Answer what is wanted; children are all there, whoever's they are."""
        located = Located()
        for kind, ids in wanted.ids.items():
            entity_map = self.maps.for_resource(kind)
            assert entity_map is not None
            for row in self._all(entity_map.table):
                if row.values.get(entity_map.key) in ids and fits(entity_map, row.values):
                    located.keyed[kind, row.values[entity_map.key]].append(row)
        for table, guids in wanted.guids.items():
            located.guids |= {(table, row.id): row for row in self._all(self.maps.tables[table]) if row.id in guids}
        self._matched(wanted, located)
        self._identified(wanted, located)
        for entity_map in self.maps:
            for *_, expansion in walked(entity_map.expansions):
                for row in self._all(expansion.table):
                    if (parent := row.lookup(expansion.lookup)) is not None:
                        located.children[expansion.table.name, expansion.lookup, parent].append(row)
        for guid, values in sorted(self.rows(CONCEPT_TABLE).items()):
            located.concepts.setdefault((values["msemr_type"], values["msemr_code"]), guid)
        return located

    def _matched(self, wanted: Wanted, located: Located) -> None:
        for kind, matches in wanted.matches.items():
            entity_map = self.maps.for_resource(kind)
            assert entity_map is not None
            for row in self._all(entity_map.table):
                found = tuple(row.values.get(column) for column in entity_map.match)
                if found in matches and row.values.get(entity_map.key) is None and fits(entity_map, row.values):
                    located.matched[kind, found].append(row)

    def _identified(self, wanted: Wanted, located: Located) -> None:
        for kind, values in wanted.identifiers.items():
            entity_map = self.maps.for_resource(kind)
            assert entity_map is not None
            identifier = entity_map.identifier
            assert identifier is not None
            for row in self._all(identifier.table):
                value, parent = row.values.get(identifier.value_column), row.lookup(identifier.lookup)
                if value in values and parent is not None and row.values["statecode"] == 0:
                    located.identified[kind, row.values[identifier.system_column], value].add(parent)

    def _all(self, table: Table) -> Iterable[Row]:
        for guid, values in self.rows(table.name).items():
            yield Row(guid, values["@odata.etag"], dict(values))

    def carry_out(self, planned: Plan) -> dict[int, Planned]:
        """Do what a plan says, a resource whole or not at all; returns those that lost against a row they did not know.

        Fails where a plan breaks its promise: no bind names a row that is not there by then (but for one whose own
        create was lost), no update goes out without the row's ETag, and no child of another row is touched.
        """
        for concept in planned.concepts:
            self._do(concept, None)
        lost: dict[int, Planned] = {}
        unmade: set[str] = set()
        for closing in (False, True):
            for each in planned.resources:
                operations = each.afterwards if closing else each.operations
                before = {name: {guid: dict(row) for guid, row in rows.items()} for name, rows in self.tables.items()}
                try:
                    for operation in operations if each.number not in lost else ():
                        assert closing or operation.kind == "create" or operation.etag
                        self._do(operation, each)
                except (Taken, Missing) as error:
                    if isinstance(error, Missing) and str(error) not in unmade:
                        raise  # a bind to a row that nobody makes
                    self.tables = before
                    lost[each.number] = each
                    unmade.add(each.row_id)
        return lost

    def _do(self, operation: Operation, planned: Planned | None) -> None:
        table = operation.table
        row = self.rows(table.name).get(operation.id)
        if operation.kind == "create":
            if row is not None:
                raise Taken(operation.id)
            self.save(table.name, operation.id, self._wire(table, operation.body))
            return
        if row is None:
            raise Missing(operation.id)
        assert operation.etag in ("", row["@odata.etag"])
        self._check_parent(operation, planned, row)
        if operation.kind == "delete":
            self.delete(table.name, operation.id)
        else:
            self.save(table.name, operation.id, self._wire(table, operation.body))

    def _check_parent(self, operation: Operation, planned: Planned | None, row: Mapping[str, Any]) -> None:
        for path in walked(planned.draft.map.expansions) if planned else ():
            if path[-1].table.name != operation.table.name or planned is None:
                continue
            parent = row.get(f"_{path[-1].lookup}_value")
            if len(path) > 1 and parent is not None:
                parent = self.rows(path[-2].table.name)[parent].get(f"_{path[-2].lookup}_value")
            assert parent in (None, planned.row_id), "a child of another row"

    def _wire(self, table: Table, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body as a read would show it."""
        navigation = {name: column.name for column in table.columns.values() for name in column.navigation.values()}
        sets = {facts.entity_set: facts.name for facts in self.maps.tables.values()}
        values: dict[str, Any] = {}
        for name, value in body.items():
            if not name.endswith("@odata.bind"):
                values[name] = value
                continue
            column = f"_{navigation[name.removesuffix('@odata.bind')]}_value"
            if value is None:
                values[column] = None
                continue
            match = _BIND.fullmatch(value)
            assert match, value
            if match[2] not in self.rows(sets[match[1]]) and match[2] != body.get(table.primary_id):
                raise Missing(match[2])
            values[column] = match[2]
        return values

    def send(self, drafts: Mapping[int, Draft], options: PlanOptions, *, rounds: int = 12) -> dict[int, Planned]:
        """Locate, plan and carry out until nobody loses, as a bundle is; asserts that this comes to an end."""
        pending = dict(drafts)
        asked: dict[tuple[str, str], None] = {}
        done: dict[int, Planned] = {}
        for _ in range(rounds):
            planned = plan(pending, self.locate(list(pending.values()), asked), self.maps, options)
            lost = self.carry_out(planned)
            done |= {each.number: each for each in planned.resources if each.number not in lost}
            pending = {number: pending[number] for number in sorted(lost)}
            if not pending:
                return done
            for each in lost.values():
                asked |= {(made.table.name, made.id): None for made in each.operations if made.kind == "create"}
        raise AssertionError(f"{len(pending)} resources lost {rounds} rounds with nobody else there")

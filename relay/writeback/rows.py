"""A row as the way out needs it: its columns, what its lookups stand for, the rows of its expansions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from relay.dataverse import quoting
from relay.dataverse.batch import MAX_OPERATIONS, Request, Response
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseMissing, DataverseRace
from relay.errors import Transient
from relay.mapping.load import MapSet
from relay.mapping.lookups import CONCEPT_TABLE
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, EntityMap, ExpansionMap, Scalar, Table
from relay.mapping.outward import RowView
from relay.mapping.reverse import selected
from relay.mapping.values import LOOKUP_TYPES, same

PARENTS = 100
"""Conditions of one filter: a query takes at most 500, a URL 32 KiB."""

Pointed = tuple[str, str]
"""(table, GUID) that a lookup may point to."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row read whole: `etag` guards a write to it."""

    id: str
    etag: str
    view: RowView


class RowReader:
    """Reads rows for the way out, in as few calls as there are levels: the row, its children, what they point to."""

    def __init__(self, maps: MapSet, dataverse: DataverseClient) -> None:
        self._maps = maps
        self._dataverse = dataverse

    async def read(
        self, entity_map: EntityMap, guid: str, columns: Collection[str], *, children: bool = False
    ) -> Row | None:
        """Return a row with `columns` and, if asked for, its active children; None when it is gone.

        Raises Transient when Dataverse is away or busy.
        """
        table = entity_map.table
        requests = [_record(table, guid, selected(table, columns))]
        expansions = entity_map.expansions if children else ()
        requests += [_children(expansion, [guid]) for expansion in expansions]
        answers = [answer for (answer,) in await self._dataverse.batch(requests)]
        if isinstance(answers[0].error, DataverseMissing):
            return None
        values = _body(answers[0])
        found = {each.table.name: _rows(answer) for each, answer in zip(expansions, answers[1:], strict=True)}
        grown = await self._grandchildren(expansions, found)
        wanted: dict[Pointed, None] = {}
        _point(table, [values], wanted)
        for expansion in expansions:
            _point(expansion.table, found[expansion.table.name], wanted)
            for inner in expansion.expansions:
                _point(inner.table, grown.get(inner.table.name, ()), wanted)
        meant = await self._meanings(wanted)
        views = {each.table.name: _views(each, found, grown, meant) for each in expansions}
        return Row(guid, str(values.get("@odata.etag", "")), RowView(values, meant, views))

    async def find(self, target: ByFhirId | ByIdentifier | Concept) -> tuple[Table, str] | None:
        """Return the table and GUID of the one row that a reference or concept in a resource means; None if it is unknown."""
        named: Mapping[str, Scalar]
        if isinstance(target, Concept):
            table = self._maps.tables[CONCEPT_TABLE]
            named = {"msemr_type": target.type, "msemr_code": target.code}
            return await self._only(table, table.primary_id, named)
        if (entity_map := self._maps.for_resource(target.type)) is None:
            return None
        if isinstance(target, ByFhirId):
            found = await standing_for(self._dataverse, entity_map, target.id)
            return (entity_map.table, found[0]) if len(found) == 1 else None
        if (identifier := entity_map.identifier) is None:
            return None
        named = {identifier.system_column: target.system, identifier.value_column: target.value, "statecode": 0}
        parent = await self._only(identifier.table, f"_{identifier.lookup}_value", named)
        return None if parent is None else (entity_map.table, parent[1])

    async def _only(self, table: Table, wanted: str, named: Mapping[str, Scalar]) -> tuple[Table, str] | None:
        """Return the one GUID that rows have in a column, compared again: SQL ignores case, FHIR does not."""
        condition = quoting.both(*(quoting.equals(name, value) for name, value in named.items()))
        columns = dict.fromkeys((wanted, *named))
        page = await self._dataverse.get(quoting.query(table.entity_set, select=tuple(columns), filter=condition))
        found = {
            str(row[wanted]).lower()
            for row in page["value"]
            if row[wanted] and all(same(table.columns[name], row[name], value) for name, value in named.items())
        }
        return (table, found.pop()) if len(found) == 1 else None

    async def _grandchildren(
        self, expansions: Iterable[ExpansionMap], found: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[Mapping[str, Any]]]:
        asked: list[tuple[str, Request]] = []
        for expansion in expansions:
            parents = [str(row[expansion.table.primary_id]) for row in found[expansion.table.name]]
            for inner in expansion.expansions:
                chunks = (parents[start : start + PARENTS] for start in range(0, len(parents), PARENTS))
                asked += [(inner.table.name, _children(inner, chunk)) for chunk in chunks]
        grown: dict[str, list[Mapping[str, Any]]] = {}
        for (name, _), answer in zip(asked, await self._all([request for _, request in asked]), strict=True):
            grown.setdefault(name, []).extend(_rows(answer))
        return grown

    async def _all(self, requests: Sequence[Request]) -> list[Response]:
        """Send reads in as few calls as the batch limit allows."""
        chunks = (requests[start : start + MAX_OPERATIONS] for start in range(0, len(requests), MAX_OPERATIONS))
        return [answer for chunk in chunks for (answer,) in await self._dataverse.batch(chunk)]

    async def _meanings(self, wanted: Iterable[Pointed]) -> dict[str, ByFhirId | Concept | None]:
        """Tell what each row pointed to stands for: None for one no map speaks for, nothing for one without a FHIR id."""
        meant: dict[str, ByFhirId | Concept | None] = {}
        asked: list[tuple[Pointed, Request]] = []
        for name, guid in wanted:
            meant[guid] = None
            if name == CONCEPT_TABLE and name in self._maps.tables:
                columns = ("msemr_type", "msemr_code", "msemr_name")
                asked.append(((name, guid), _record(self._maps.tables[name], guid, columns)))
            elif maps := self._maps.for_table(name):
                named = dict.fromkeys(column for each in maps for column in (each.key, *each.where))
                asked.append(((name, guid), _record(maps[0].table, guid, named)))
        if not asked:
            return meant
        answers = await self._all([request for _, request in asked])
        for ((name, guid), _), answer in zip(asked, answers, strict=True):
            if isinstance(answer.error, DataverseMissing):
                continue
            values = _body(answer)
            if name == CONCEPT_TABLE:
                code, words = (str(values.get(name) or "") for name in ("msemr_code", "msemr_name"))
                if values["msemr_type"] is not None and code:  # a row without either stands for no code
                    meant[guid] = Concept(int(values["msemr_type"]), code, words)
            elif (entity_map := self._maps.fitting(name, values)) is not None:
                if fhir_id := values.get(entity_map.key):
                    meant[guid] = ByFhirId(entity_map.resource, str(fhir_id))
                else:
                    meant.pop(guid, None)
        return meant


async def standing_for(dataverse: DataverseClient, entity_map: EntityMap, fhir_id: str) -> list[str]:
    """Return the GUIDs of the rows with this FHIR id, compared again: SQL ignores case, FHIR does not."""
    table = entity_map.table
    where = (quoting.equals(column, value) for column, value in entity_map.where.items())
    condition = quoting.both(quoting.equals(entity_map.key, fhir_id), *where)
    page = await dataverse.get(
        quoting.query(table.entity_set, select=(table.primary_id, entity_map.key), filter=condition)
    )
    return [str(row[table.primary_id]).lower() for row in page["value"] if row[entity_map.key] == fhir_id]


async def save(dataverse: DataverseClient, table: Table, row: Row, body: Mapping[str, Any], tag: str) -> None:
    """Write columns of a row that nobody saved since it was read; raises Transient `row-changed` when somebody did."""
    url = quoting.tagged(quoting.record(table.entity_set, row.id), tag)
    try:
        await dataverse.send(Request("PATCH", url, body, headers={"If-Match": row.etag or "*"}))
    except DataverseRace as error:
        raise Transient("the row was changed meanwhile; reading it again tells", code="row-changed") from error


def _point(table: Table, rows: Iterable[Mapping[str, Any]], wanted: dict[Pointed, None]) -> None:
    """Collect what the lookups among the columns of these rows point to; a lookup may have several tables."""
    for row in rows:
        for name, value in row.items():
            column = table.columns.get(name.removeprefix("_").removesuffix("_value")) if name.startswith("_") else None
            if column is not None and column.type in LOOKUP_TYPES and isinstance(value, str):
                wanted |= {(target, value.lower()): None for target in column.targets}


def _views(
    expansion: ExpansionMap,
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    grown: Mapping[str, Sequence[Mapping[str, Any]]],
    meant: Mapping[str, ByFhirId | Concept | None],
) -> list[RowView]:
    views = []
    for values in found[expansion.table.name]:
        own = str(values[expansion.table.primary_id]).lower()
        inside = {
            inner.table.name: [
                RowView(each, meant)
                for each in grown.get(inner.table.name, ())
                if str(each.get(f"_{inner.lookup}_value")).lower() == own
            ]
            for inner in expansion.expansions
        }
        views.append(RowView(values, meant, inside))
    return views


def _record(table: Table, guid: str, columns: Iterable[str]) -> Request:
    select = ",".join(dict.fromkeys(quoting.logical_name(each) for each in (table.primary_id, *columns)))
    return Request("GET", f"{quoting.record(table.entity_set, guid)}?$select={select}")


def _children(expansion: ExpansionMap, parents: Iterable[str]) -> Request:
    lookup = f"_{expansion.lookup}_value"
    condition = quoting.both(
        quoting.any_of(*(quoting.equals(lookup, UUID(parent)) for parent in parents)), quoting.equals("statecode", 0)
    )
    columns = dict.fromkeys((*selected(expansion.table, expansion.columns), lookup, "statecode"))
    return Request("GET", quoting.query(expansion.table.entity_set, select=tuple(columns), filter=condition))


def _rows(answer: Response) -> list[Mapping[str, Any]]:
    # One page is the server's default of thousands of rows; a row with more children than that is not one.
    return list(_body(answer)["value"])


def _body(answer: Response) -> Mapping[str, Any]:
    if answer.error is not None:
        raise answer.error
    body: Mapping[str, Any] = answer.body
    return body

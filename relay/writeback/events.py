"""An identifier event → the row read again → its identifier row → the link to make, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from relay.dataverse import quoting
from relay.dataverse.batch import Request, Response
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseMissing, DataverseRace
from relay.dataverse.keys import child_keys
from relay.dataverse.states import ACTIVE
from relay.errors import Failed, Transient
from relay.fhir.links import Link
from relay.mapping.load import MapSet
from relay.mapping.model import EntityMap, IdentifierMap
from relay.mapping.states import STATE, is_retired
from relay.store.ledger import PREFIX, Ledger
from relay.writeback.messages import EventMessage
from relay.writeback.rows import standing_for

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why an event asks for nothing.

    `not-mapped`, `not-create`, `row-gone`, `row-inactive`, `no-fhir-id`, `no-identifier`, `no-writeback`, `own-write`.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The link to make; `tag` is what its identifier row was written under just now, empty if it was there.

    `carries` is the map whose write-back columns go to the resource as well.
    """

    link: Link
    tag: str
    carries: EntityMap | None = None


@dataclass(frozen=True, slots=True)
class Born:
    """A row without a FHIR id, of a map that makes resources of such rows."""

    map: EntityMap
    id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A row whose write-back columns may have changed."""

    map: EntityMap
    id: str


class EventReader:
    """Turns events into links; the event is a hint, the row is what counts."""

    def __init__(
        self,
        maps: MapSet,
        dataverse: DataverseClient,
        ledger: Ledger,
        *,
        identifier_rows: Literal["relay", "plugin"],
        new_tag: Callable[[], str],
    ) -> None:
        self._maps = maps
        self._dataverse = dataverse
        self._ledger = ledger
        self._identifier_rows = identifier_rows
        self._new_tag = new_tag

    def is_ours(self, event: EventMessage) -> bool:
        """Tell whether the event is one that a map asks for: see `asked_for`."""
        return event.message in asked_for(self._maps, event.table)

    def is_root(self, event: EventMessage) -> bool:
        """Tell whether the event is about a mapped table's own row, not about an identifier row."""
        return bool(self._maps.for_table(event.table))

    async def read(self, event: EventMessage) -> Found | Born | Changed | Ignored:
        """Read the row of an event, see to its identifier row, and return what is to be done.

        Raises Transient when Dataverse is away, Failed when the row cannot be linked.
        """
        if event.message == "Update":
            return await self._updated(event)
        if event.message != "Create":
            return Ignored("not-create")
        ours = event.posted or event.tag.startswith(PREFIX)
        if self._maps.for_table(event.table):
            return await self._row(event.table, event.id, ours=ours)
        for entity_map in self._maps.for_identifier_table(event.table):
            identifier = entity_map.identifier
            parent = await self._parent(identifier, event.id) if identifier else None
            return await self._row(entity_map.table.name, parent, ours=ours) if parent else Ignored("row-gone")
        return Ignored("not-mapped")

    async def _updated(self, event: EventMessage) -> Changed | Born | Ignored:
        if event.tag.startswith(PREFIX):
            return Ignored("own-write")  # both sides are alike in it; a user's change has an event of its own
        maps = self._maps.for_table(event.table)
        if not maps:
            return Ignored("not-mapped")
        answer = (await self._dataverse.batch([_row_request(maps, event.id)]))[0][0]
        if isinstance(answer.error, DataverseMissing):
            return Ignored("row-gone")
        values = _body(answer)
        entity_map = self._maps.fitting(event.table, values)
        if entity_map is None:
            return Ignored("not-mapped")
        if not values.get(entity_map.key):
            return Born(entity_map, event.id) if entity_map.outward.create else Ignored("no-fhir-id")
        return Changed(entity_map, event.id) if entity_map.outward.tracked else Ignored("no-writeback")

    async def _parent(self, identifier: IdentifierMap, guid: str) -> str | None:
        column = f"_{identifier.lookup}_value"
        url = f"{quoting.record(identifier.table.entity_set, guid)}?$select={column}"
        try:
            row = await self._dataverse.get(url)
        except DataverseMissing:
            return None
        parent = row.get(column)
        return parent.lower() if isinstance(parent, str) else None

    async def _row(self, table: str, guid: str, *, ours: bool) -> Found | Born | Ignored:
        maps = self._maps.for_table(table)
        requests = [_row_request(maps, guid)]
        known = [entity_map for entity_map in maps if entity_map.identifier is not None]
        requests += [_identifiers_request(each.identifier, guid) for each in known if each.identifier]
        answers = [answer for (answer,) in await self._dataverse.batch(requests)]
        if isinstance(answers[0].error, DataverseMissing):
            return Ignored("row-gone")
        values = _body(answers[0])
        entity_map = self._maps.fitting(table, values)
        if entity_map is None or (entity_map.merges != "ignore" and is_retired(entity_map.table, values)):
            return Ignored("not-mapped" if entity_map is None else "row-inactive")
        identifier = entity_map.identifier
        if identifier is None:
            return Ignored("no-identifier")
        fhir_id = values.get(entity_map.key)
        if not fhir_id:
            return Born(entity_map, guid) if entity_map.outward.create else Ignored("no-fhir-id")
        if not isinstance(fhir_id, str) or not _FHIR_ID.fullmatch(fhir_id):
            raise Failed(f"{table}.{entity_map.key} does not hold a FHIR id", code="invalid-id", at=entity_map.key)
        if not ours:
            await self._check_alone(entity_map, fhir_id)
        if self._identifier_rows == "relay":
            rows = _body(answers[1 + known.index(entity_map)])["value"]
            try:
                tag = await self._ensure(entity_map, identifier, guid, rows)
            except DataverseMissing as error:
                raise Transient("the row was deleted meanwhile; reading it again tells", code="row-changed") from error
        else:
            tag = ""
        if not identifier.writeback:
            return Ignored("no-writeback")
        # A row the relay made may be of a resource that was posted to the relay alone and never reached the server.
        carries = entity_map if "create" in entity_map.outward.messages and not ours else None
        return Found(Link(entity_map.resource, fhir_id, table, guid, identifier.system, posted=ours), tag, carries)

    async def _check_alone(self, entity_map: EntityMap, fhir_id: str) -> None:
        """Raise Failed `ambiguous-match` when several rows carry the FHIR id; the relay's own creates looked already."""
        if len(await standing_for(self._dataverse, entity_map, fhir_id)) > 1:
            message = f"several rows of {entity_map.table.name} carry this FHIR id"
            raise Failed(message, code="ambiguous-match", at=entity_map.key)

    async def _ensure(
        self, entity_map: EntityMap, identifier: IdentifierMap, guid: str, rows: Sequence[Mapping[str, Any]]
    ) -> str:
        """See that the (URN, GUID) row is there and active, and return the tag if it had to be written.

        It is made under a derived key, so that nobody makes a second one. Raises Failed `identity-conflict` when the
        row that stands under it was given to another row.
        """
        ours = [row for row in rows if str(row[identifier.value_column]).lower() == guid]
        if any(row.get("statecode", 0) == 0 for row in ours):
            return ""
        tag = self._new_tag()
        await self._ledger.begin(tag)
        for row in ours:
            await self._write(identifier, str(row[identifier.table.primary_id]), ACTIVE, tag)
            return tag
        navigation = identifier.table.columns[identifier.lookup].navigation[entity_map.table.name]
        body = {
            identifier.system_column: identifier.system,
            identifier.value_column: guid,
            f"{navigation}@odata.bind": quoting.bind(entity_map.table.entity_set, guid),
        }
        for key in child_keys(guid, identifier.table.name, (identifier.system, guid)):
            create = Request(
                "POST", quoting.tagged(identifier.table.entity_set, tag), {identifier.table.primary_id: key, **body}
            )
            try:
                await self._dataverse.send(create)
            except DataverseRace:
                if await self._is_another(identifier, key, guid):
                    continue
                # Somebody made it just now; or it was left behind, without its parent, when a user deleted the row.
                await self._write(identifier, key, {**body, **ACTIVE}, tag)
            return tag
        raise _taken(identifier)

    async def _is_another(self, identifier: IdentifierMap, key: str, guid: str) -> bool:
        """Tell whether a user made another identifier of the row under this key; then it is the user's."""
        lookup = f"_{identifier.lookup}_value"
        select = f"{identifier.system_column},{identifier.value_column},{lookup}"
        row = await self._dataverse.get(f"{quoting.record(identifier.table.entity_set, key)}?$select={select}")
        owner = row[lookup]
        if owner is not None and owner.lower() != guid:
            raise _taken(identifier)
        held = (row[identifier.system_column], str(row[identifier.value_column]).lower())
        return owner is not None and held != (identifier.system, guid)

    async def _write(self, identifier: IdentifierMap, key: str, body: Mapping[str, Any], tag: str) -> None:
        url = quoting.tagged(quoting.record(identifier.table.entity_set, key), tag)
        await self._dataverse.send(Request("PATCH", url, body, headers={"If-Match": "*"}))


def asked_for(maps: MapSet, table: str) -> frozenset[str]:
    """Return the messages (Create, Update) of a table that some map asks for.

    Create for every mapped table and every identifier table; Update where changes of columns go to FHIR, or where a
    condition on making resources may come true later.
    """
    mapped = maps.for_table(table)
    asked = {"Create"} if mapped or maps.for_identifier_table(table) else set()
    if any(each.outward.tracked or (each.outward.create and each.outward.when) for each in mapped):
        asked.add("Update")
    return frozenset(asked)


def _taken(identifier: IdentifierMap) -> Failed:
    return Failed(
        f"a row of {identifier.table.name} that the relay made for this resource belongs to another row now",
        code="identity-conflict",
        at=identifier.lookup,
    )


def _row_request(maps: Sequence[EntityMap], guid: str) -> Request:
    table = maps[0].table
    columns = dict.fromkeys(column for entity_map in maps for column in (entity_map.key, *entity_map.where))
    columns |= dict.fromkeys({STATE} & table.columns.keys())
    select = ",".join(quoting.logical_name(column) for column in (table.primary_id, *columns))
    return Request("GET", f"{quoting.record(table.entity_set, guid)}?$select={select}")


def _identifiers_request(identifier: IdentifierMap, guid: str) -> Request:
    table = identifier.table
    condition = quoting.both(
        quoting.equals(f"_{identifier.lookup}_value", UUID(guid)),
        quoting.equals(identifier.system_column, identifier.system),
    )
    columns = (table.primary_id, identifier.system_column, identifier.value_column, "statecode")
    return Request("GET", quoting.query(table.entity_set, select=columns, filter=condition))


def _body(answer: Response) -> Mapping[str, Any]:
    if answer.error is not None:
        raise answer.error
    body: Mapping[str, Any] = answer.body
    return body

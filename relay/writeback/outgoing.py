"""What users do in Dataverse reaches FHIR: a row becomes a resource, a changed column its element. Never over anybody.

A resource is made once: it is looked for by the row's identifiers first and created on the condition that none carries
the row's Dynamics identifier. A change is a PUT of the resource just read with that element alone changed, under
If-Match. Which side changed is told by the mark of the value both last agreed on; where both did, the map's rule decides.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from relay.dataverse import quoting
from relay.dataverse.batch import Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseRace
from relay.errors import Failed, Transient
from relay.fhir.client import BUSY, FhirClient, Put, Read
from relay.fhir.edits import apply_edits
from relay.mapping.load import MapSet
from relay.mapping.model import Column, Concept, EntityMap, Resolve
from relay.mapping.outward import outward_lines, wire_name
from relay.mapping.reverse import Outgoing, changes, resource_of
from relay.mapping.translate import translate
from relay.mapping.values import same
from relay.store.agreed import Agreed
from relay.writeback.rows import Row, RowReader
from relay.writeback.writer import CONFLICT, GONE, TRIES

How = Literal["created", "linked", "written", "unchanged", "ignored"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a row's way out: `ignored` says why in `reason`; `kept` are columns whose two changes conflict."""

    how: How
    reason: str = ""
    kept: tuple[str, ...] = ()


class Outward:
    """Carries rows and changes out to the FHIR server. Raises Transient to be tried again, Failed for a person."""

    def __init__(
        self,
        maps: MapSet,
        dataverse: DataverseClient,
        fhir: FhirClient,
        agreed: Agreed,
        *,
        resolve: Resolve,
        new_tag: Callable[[], str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rows = RowReader(maps, dataverse)
        self._dataverse = dataverse
        self._fhir = fhir
        self._agreed = agreed
        self._resolve = resolve
        self._new_tag = new_tag
        self._sleep = sleep
        self._draw = draw

    # --- a row that users made becomes a resource

    async def bear(self, entity_map: EntityMap, guid: str) -> Sent:
        """Find or make the resource that a row without a FHIR id stands for, and write its id on the row.

        Raises Failed: `several-matches`, `ambiguous-match`, `unlinked-reference` as Transient, `fhir-<status>`.
        """
        identifier = entity_map.identifier
        if identifier is None:
            return Sent("ignored", "no-identifier")
        columns = dict.fromkeys((*entity_map.columns, *entity_map.outward.when, *entity_map.where))
        row = await self._rows.read(entity_map, guid, columns, children=True)
        if row is None:
            return Sent("ignored", "row-gone")
        values = row.view.values
        if values.get(entity_map.key) or not fits(entity_map, values):
            return Sent("ignored", "linked-already" if values.get(entity_map.key) else "not-wanted")
        own = (identifier.system, guid)
        named = row.view.children.get(identifier.table.name, ())
        tokens = [
            (str(each.values.get(identifier.system_column) or ""), each.values.get(identifier.value_column))
            for each in named
        ]
        found = await self._fhir.search(
            entity_map.resource,
            list(dict.fromkeys([own, *((system, str(value)) for system, value in tokens if value)])),
        )
        if found.several:
            raise Failed(
                f"several {entity_map.resource} resources carry this row's identifiers",
                code="several-matches",
                at="identifier",
            )
        if found.hits:
            await self._claim(entity_map, row, found.hits[0].id)
            return Sent("linked")
        outgoing = resource_of(entity_map, row.view, self._resolve)
        _refuse(outgoing)
        entries = [*outgoing.resource.get("identifier", ()), {"system": identifier.system, "value": guid}]
        text = _dump({**outgoing.resource, "identifier": entries})
        made = await self._fhir.create(entity_map.resource, text, own)
        if made.status in BUSY:
            raise Transient(
                f"the FHIR server answered {made.status} to a create",
                code=f"fhir-{made.status}",
                retry_after=made.retry_after,
            )
        if not made.id:
            codes = f" ({', '.join(made.codes)})" if made.codes else ""
            raise Failed(f"the FHIR server answered {made.status}{codes} to a create", code=f"fhir-{made.status}")
        await self._claim(entity_map, row, made.id)
        await self._agree(entity_map, row, dict.fromkeys(entity_map.outward.tracked))
        return Sent("created")

    async def _claim(self, entity_map: EntityMap, row: Row, fhir_id: str) -> None:
        """Write the FHIR id on the row, unless another row carries it or somebody changed this one meanwhile."""
        table, column = entity_map.table, entity_map.table.columns[entity_map.key]
        if column.max_length is not None and len(fhir_id) > column.max_length:
            raise Failed(
                f"{column.name} holds {column.max_length} characters, the id has {len(fhir_id)}",
                code="id-too-long",
                at=column.name,
            )
        where = (quoting.equals(name, value) for name, value in entity_map.where.items())
        condition = quoting.both(quoting.equals(entity_map.key, fhir_id), *where)
        url = quoting.query(table.entity_set, select=(table.primary_id, entity_map.key), filter=condition)
        page = await self._dataverse.get(url)
        if any(
            each[entity_map.key] == fhir_id and str(each[table.primary_id]).lower() != row.id for each in page["value"]
        ):
            raise Failed(
                f"another row of {table.name} stands for this resource", code="ambiguous-match", at=entity_map.key
            )
        url = quoting.tagged(quoting.record(table.entity_set, row.id), self._new_tag())
        try:
            await self._dataverse.send(
                Request("PATCH", url, {entity_map.key: fhir_id}, headers={"If-Match": row.etag or "*"})
            )
        except DataverseRace as error:
            raise Transient("the row was changed meanwhile; reading it again tells", code="row-changed") from error

    # --- a changed column becomes its element

    async def carry(self, entity_map: EntityMap, guid: str) -> Sent:
        """Bring a row's write-back columns into its resource; raises Failed `gone` for a resource that is not there."""
        outward = entity_map.outward
        columns = dict.fromkeys(
            (entity_map.key, *outward.columns, *_kinds(entity_map), *outward.when, *entity_map.where)
        )
        row = await self._rows.read(entity_map, guid, columns)
        if row is None:
            return Sent("ignored", "row-gone")
        if not fits(entity_map, row.view.values):
            return Sent("ignored", "not-wanted")
        if not (fhir_id := row.view.values.get(entity_map.key)):
            return Sent("ignored", "no-fhir-id")
        marks = await self._agreed.get(entity_map.table.name, guid)
        for attempt in range(TRIES):
            if attempt:
                await self._sleep(0.05 * 2**attempt * (0.5 + self._draw()))
            (read,) = await self._fhir.read([(entity_map.resource, str(fhir_id))])
            _check_read(read)
            sides = await self._compare(entity_map, row, json.loads(read.text, parse_float=Decimal), marks)
            outgoing = changes(entity_map, sides.resource, row.view, sides.ours, self._resolve)
            _refuse(outgoing)
            if outgoing.edits:
                put = Put(entity_map.resource, str(fhir_id), apply_edits(read.text, outgoing.edits), read.etag)
                (written,) = await self._fhir.write([put])
                if written.status in CONFLICT:
                    continue
                if not 200 <= written.status < 300:  # noqa: PLR2004 - success
                    raise _refused(written.status, written.codes, written.retry_after)
            await self._give_way(entity_map, row, sides.theirs)
            lost = {issue.at for issue in outgoing.issues}
            await self._agree(entity_map, row, [*sides.alike, *(each for each in sides.ours if each not in lost)])
            if lost:
                raise Failed(
                    f"no place in the resource for: {', '.join(sorted(lost))}", code="cannot-write", at=min(lost)
                )
            return Sent("written" if outgoing.edits else "unchanged", kept=tuple(sides.kept))
        raise Transient("the resource kept changing under the write-back", code="contended")

    async def _compare(
        self, entity_map: EntityMap, row: Row, resource: Mapping[str, Any], marks: Mapping[str, str]
    ) -> Sides:
        """Tell for each write-back column which side changed it since both agreed."""
        draft = translate(entity_map, resource, self._resolve)
        sides = Sides(resource)
        for name in entity_map.outward.columns:
            column = entity_map.table.columns[name]
            theirs: Any = draft.lookups.get(name) if column.targets else draft.columns.get(name)
            if _is_same(column, row, theirs):
                sides.alike.append(name)
                continue
            if column.targets:
                theirs = await self._rows.guid_of(theirs)
            decision = self._decide(entity_map, row, column, theirs, marks.get(name))
            if decision == "ours":
                sides.ours.append(name)
            elif decision == "theirs":
                sides.theirs[name] = theirs
            elif decision == "kept":
                sides.kept.append(name)
        return sides

    def _decide(
        self, entity_map: EntityMap, row: Row, column: Column, theirs: Any, mark: str | None
    ) -> Literal["ours", "theirs", "kept", "wait"]:
        table, rule, mine = entity_map.table.name, entity_map.outward.conflict, _held(column, row)
        if mark is None:
            # Never agreed on, so nobody can tell who changed it; a value where the other side has none harms nobody.
            mine_changed, theirs_changed = mine is not None, theirs is not None
        else:
            mine_changed = self._agreed.mark(table, row.id, column, mine) != mark
            theirs_changed = self._agreed.mark(table, row.id, column, theirs) != mark
        if not mine_changed:
            return "wait"  # FHIR's change comes in by its own way
        if not theirs_changed or rule == "dataverse":
            return "ours"
        return "theirs" if rule == "fhir" else "kept"

    async def _give_way(self, entity_map: EntityMap, row: Row, theirs: Mapping[str, Any]) -> None:
        """Bring what FHIR has into columns that both sides changed, where the map says that FHIR decides."""
        table = entity_map.table
        body: dict[str, Any] = {}
        for name, value in theirs.items():
            column = table.columns[name]
            if not column.targets:
                body[name] = value
            elif len(column.navigation) == 1:  # of several tables the GUID alone does not tell which
                ((target, navigation),) = column.navigation.items()
                entity_set = self._rows.entity_set(target)
                body[f"{navigation}@odata.bind"] = quoting.bind(entity_set, value) if value else None
        if not body:
            return
        url = quoting.tagged(quoting.record(table.entity_set, row.id), self._new_tag())
        try:
            await self._dataverse.send(Request("PATCH", url, body, headers={"If-Match": row.etag or "*"}))
        except DataverseRace as error:
            raise Transient("the row was changed meanwhile; reading it again tells", code="row-changed") from error
        marks = {name: self._agreed.mark(table.name, row.id, table.columns[name], theirs[name]) for name in theirs}
        await self._agreed.put(table.name, row.id, marks)

    async def _agree(self, entity_map: EntityMap, row: Row, columns: Any) -> None:
        """Note that both sides hold the row's values of these columns."""
        table, tracked = entity_map.table, entity_map.outward.tracked
        marks = {
            name: self._agreed.mark(table.name, row.id, column, _held(column, row))
            for name in columns
            if name in tracked and (column := table.columns[name])
        }
        if marks:
            await self._agreed.put(table.name, row.id, marks)


@dataclass(slots=True)
class Sides:
    """A resource, and the write-back columns in which it and its row are alike or not.

    `ours` go to FHIR, `theirs` (with FHIR's values; GUIDs for lookups) to the row, `kept` changed on both sides and stay.
    """

    resource: Mapping[str, Any]
    alike: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: dict[str, Any] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


def _held(column: Column, row: Row) -> Any:
    """Return what the row has in a column; of a lookup the GUID."""
    return row.view.values.get(wire_name(column))


def _is_same(column: Column, row: Row, theirs: Any) -> bool:
    mine = _held(column, row)
    if not column.targets:
        return same(column, mine, theirs)
    meant = row.view.meant.get(str(mine).lower()) if mine is not None else None
    if isinstance(meant, Concept) and isinstance(theirs, Concept):
        return (meant.type, meant.code) == (theirs.type, theirs.code)
    return bool(meant == theirs) and (mine is None or meant is not None)


def fits(entity_map: EntityMap, values: Mapping[str, Any]) -> bool:
    """Tell whether a row is one that the map speaks for and that its `writeback_when` lets out."""
    wanted = {**entity_map.where, **entity_map.outward.when}
    return all(same(entity_map.table.columns[name], values.get(name), value) for name, value in wanted.items())


def _kinds(entity_map: EntityMap) -> list[str]:
    """Return the columns that say which alternative of a choice a row holds."""
    return [column for line in outward_lines(entity_map.lines) for column, _ in line.reading.beside]


def _refuse(outgoing: Outgoing) -> None:
    for issue in outgoing.issues:
        if issue.severity == "error":  # the row that is pointed to may get its FHIR id yet
            raise Transient(issue.message, code=issue.code)


def _check_read(read: Read) -> None:
    if read.status in GONE:
        raise Failed("the resource is not on the FHIR server (any more); it is not brought there", code="gone")
    if read.status != 200:  # noqa: PLR2004 - OK
        raise _refused(read.status, (), read.retry_after)
    if not read.etag:
        raise Failed("the FHIR server names no version to guard the PUT", code="no-version")


def _refused(status: int, codes: tuple[str, ...], retry_after: float | None) -> Failed | Transient:
    told = f" ({', '.join(codes)})" if codes else ""
    message = f"the FHIR server answered {status}{told}"
    if status in GONE:
        return Failed("the resource is gone from the FHIR server; it is not brought back", code="gone")
    if status in BUSY:
        return Transient(message, code=f"fhir-{status}", retry_after=retry_after)
    return Failed(message, code=f"fhir-{status}")


def _dump(resource: Mapping[str, Any]) -> str:
    """Write a resource that the relay made; numbers keep their digits."""
    return apply_edits('{"resourceType":""}', [((name,), value) for name, value in resource.items()])

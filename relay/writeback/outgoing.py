"""A column that users changed reaches FHIR: a PUT of the resource just read with that element alone changed, under If-Match.

Which side changed is told by the mark of the value both last agreed on; where both did, the map's rule decides.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from relay.dataverse import quoting
from relay.dataverse.client import DataverseClient
from relay.errors import Failed, Transient
from relay.fhir.client import BUSY, FhirClient, Put, Read
from relay.fhir.edits import apply_edits
from relay.fhir.identifiers import dynamics_ids
from relay.mapping.model import Column, Concept, EntityMap, Resolve
from relay.mapping.outward import outward_lines, wire_name
from relay.mapping.reverse import Outgoing, changes
from relay.mapping.states import STATE, is_retired
from relay.mapping.translate import translate
from relay.mapping.values import same
from relay.store.agreed import Agreed, sent_name, sent_of
from relay.writeback.rows import Row, RowReader, save
from relay.writeback.writer import BROUGHT_BACK, CONFLICT, GONE, MADE, TRIES

UNKNOWN = "?"
"""What FHIR refers to has no row, or several: it has a value, and nobody knows which."""

_ETAG = "@odata.etag"

How = Literal["created", "linked", "written", "unchanged", "ignored"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a row's way out: `ignored` says why in `reason`; `kept` are columns whose two changes conflict.

    `lost` are columns that have a value and no place in the resource.
    """

    how: How
    reason: str = ""
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class Changes:
    """Carries changed columns out to the FHIR server. Raises Transient to be tried again, Failed for a person."""

    def __init__(
        self,
        rows: RowReader,
        dataverse: DataverseClient,
        fhir: FhirClient,
        agreed: Agreed,
        *,
        resolve: Resolve,
        new_tag: Callable[[], str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rows = rows
        self._dataverse = dataverse
        self._fhir = fhir
        self._agreed = agreed
        self._resolve = resolve
        self._new_tag = new_tag
        self._sleep = sleep
        self._draw = draw

    async def carry(self, entity_map: EntityMap, guid: str) -> Sent:
        """Bring a row's write-back columns into its resource.

        Raises Failed `gone` for a resource that is not there, `identifier-conflict` for one that is another row's.
        """
        for attempt in range(TRIES):
            if attempt:
                await self._sleep(0.05 * 2**attempt * (0.5 + self._draw()))
            if (sent := await self._try(entity_map, guid)) is not None:
                return sent
        raise Transient("the row or its resource kept changing under the write-back", code="contended")

    async def _try(self, entity_map: EntityMap, guid: str) -> Sent | None:
        """Do it once; None when somebody wrote meanwhile: then all is to be read again."""
        # In this order: a mark older than the row at worst looks like a conflict, which is looked at again; a row older
        # than its mark would look like a user's change, and an old value would go out.
        marks = await self._agreed.get(entity_map.table.name, guid)
        row = await self._read(entity_map, guid)
        if row is None:
            await self._agreed.forget(entity_map.table.name, guid)
            return Sent("ignored", "row-gone")
        fhir_id = row.view.values.get(entity_map.key)
        if not fhir_id or (why := _stays(entity_map, row)):
            return Sent("ignored", why if fhir_id else "no-fhir-id")
        (read,) = await self._fhir.read([(entity_map.resource, str(fhir_id))])
        _check_read(read)
        resource = json.loads(read.text, parse_float=Decimal)
        _check_own(entity_map, resource, guid)
        sides = await self._compare(entity_map, row, resource, marks)
        if sides.contested and not await self._is_still(entity_map, row, marks):
            return None
        outgoing = changes(entity_map, resource, row.view, sides.ours, self._resolve)
        lost = {issue.at for issue in outgoing.issues}
        ours = [each for each in sides.ours if each not in lost]
        if outgoing.edits:
            await self._note(entity_map, row, ours, sides.version)
            put = Put(entity_map.resource, str(fhir_id), apply_edits(read.text, outgoing.edits), read.etag)
            (written,) = await self._fhir.write([put])
            if written.status in CONFLICT:
                return None
            if written.status == MADE:
                raise Failed(BROUGHT_BACK, code="brought-back")
            if not 200 <= written.status < 300:  # noqa: PLR2004 - success
                raise _refused(written.status, written.codes, written.retry_after)
        await self._give_way(entity_map, row, sides.theirs)
        agreed = marks_of(
            self._agreed,
            entity_map,
            row,
            [each for each in (*sides.alike, *ours) if each in entity_map.outward.tracked],
        )
        await self._agreed.put(
            entity_map.table.name, guid, {name: mark for name, mark in agreed.items() if marks.get(name) != mark}
        )
        if outgoing.edits:
            await self._note(entity_map, row, ours, sides.version, done=True)
            if not sides.theirs and not await self._is_still(entity_map, row):
                return None  # saved meanwhile, and its event may have been looked at before the PUT
        refuse(outgoing)
        if lost:
            raise Failed(f"no place in the resource for: {', '.join(sorted(lost))}", code="cannot-write", at=min(lost))
        return Sent("written" if outgoing.edits else "unchanged", kept=tuple(sides.kept))

    async def _read(self, entity_map: EntityMap, guid: str) -> Row | None:
        outward = entity_map.outward
        states = {STATE} & entity_map.table.columns.keys()
        columns = (entity_map.key, *outward.columns, *_kinds(entity_map), *outward.when, *entity_map.where, *states)
        return await self._rows.read(entity_map, guid, dict.fromkeys(columns))

    async def _is_still(self, entity_map: EntityMap, row: Row, marks: Mapping[str, str] | None = None) -> bool:
        """Tell whether the row, and its marks if they are given, are what they were: another worker may be at it."""
        now = await self._read(entity_map, row.id)
        if now is None or {**now.view.values, _ETAG: ""} != {**row.view.values, _ETAG: ""}:
            return False
        return marks is None or await self._agreed.get(entity_map.table.name, row.id) == marks

    async def _note(
        self, entity_map: EntityMap, row: Row, names: Iterable[str], version: str, *, done: bool = False
    ) -> None:
        """Note what is about to be put for columns, over which version: FHIR having it since is no change of FHIR's."""
        tracked = [each for each in names if each in entity_map.outward.tracked]
        marks = marks_of(self._agreed, entity_map, row, tracked)
        notes = {sent_name(name): f"{'' if done else mark} {version}" for name, mark in marks.items()}
        await self._agreed.put(entity_map.table.name, row.id, notes)

    async def _compare(
        self, entity_map: EntityMap, row: Row, resource: Mapping[str, Any], marks: Mapping[str, str]
    ) -> Sides:
        """Tell for each write-back column which side changed it since both agreed."""
        draft = translate(entity_map, resource, self._resolve)
        sides = Sides(
            " ".join(str(draft.columns.get(each) or "") for each in (entity_map.version, entity_map.last_updated))
        )
        for name in entity_map.outward.columns:
            column = entity_map.table.columns[name]
            theirs: Any = draft.lookups.get(name) if column.targets else draft.columns.get(name)
            if _is_same(column, row, theirs):
                sides.alike.append(name)
                continue
            if theirs is not None and column.targets:
                theirs = await self._rows.find(theirs) or UNKNOWN
            mark, (sent, _, _) = marks.get(name), sent_of(marks, name)
            if sent and theirs != UNKNOWN and self._mark(entity_map, row, column, _plain(theirs)) == sent:
                mark = sent  # FHIR has what went out last: that was agreed on, though nobody came to say so
            decision, contested = self._decide(entity_map, row, column, theirs, mark)
            sides.contested |= contested
            if decision == "ours":
                sides.ours.append(name)
            elif decision == "theirs":
                sides.theirs[name] = theirs
            elif decision == "kept":
                sides.kept.append(name)
        return sides

    def _mark(self, entity_map: EntityMap, row: Row, column: Column, value: Any) -> str:
        return self._agreed.mark(entity_map.table.name, row.id, column, value)

    def _decide(
        self, entity_map: EntityMap, row: Row, column: Column, theirs: Any, mark: str | None
    ) -> tuple[Literal["ours", "theirs", "kept", "wait"], bool]:
        """Return who is followed, and whether both sides changed the column."""
        rule, mine = entity_map.outward.conflict, _held(column, row)
        if mark is None:
            # Never agreed on, so nobody can tell who changed it; a value where the other side has none harms nobody.
            mine_changed, theirs_changed = mine is not None, theirs is not None
        else:
            mine_changed = self._mark(entity_map, row, column, mine) != mark
            theirs_changed = theirs == UNKNOWN or self._mark(entity_map, row, column, _plain(theirs)) != mark
        if not mine_changed:
            return "wait", False  # FHIR's change comes in by its own way
        if not theirs_changed or rule == "dataverse":
            return "ours", theirs_changed
        return "theirs" if rule == "fhir" and theirs != UNKNOWN else "kept", True

    async def _give_way(self, entity_map: EntityMap, row: Row, theirs: Mapping[str, Any]) -> None:
        """Bring what FHIR has into columns that both sides changed, where the map says that FHIR decides."""
        table = entity_map.table
        body: dict[str, Any] = {}
        for name, value in theirs.items():
            column = table.columns[name]
            if not column.targets:
                body[name] = value
            elif value is None:
                body |= dict.fromkeys(f"{each}@odata.bind" for each in column.navigation.values())
            else:
                pointed, guid = value
                body[f"{column.navigation[pointed.name]}@odata.bind"] = quoting.bind(pointed.entity_set, guid)
        if not body:
            return
        await save(self._dataverse, table, row, body, self._new_tag())
        marks = {name: self._mark(entity_map, row, table.columns[name], _plain(theirs[name])) for name in theirs}
        await self._agreed.put(table.name, row.id, marks)


@dataclass(slots=True)
class Sides:
    """The write-back columns in which a resource and its row are alike or not.

    `version` is the resource's version and time, as far as the map has columns for them. `contested` is whether both
    sides changed a column. `ours` go to FHIR, `theirs` (with FHIR's values; table and GUID for lookups) to the row, `kept` changed on both sides and stay.
    """

    version: str
    alike: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: dict[str, Any] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    contested: bool = False


def _plain(value: Any) -> Any:
    """Return the value that stands in a column; of a lookup the GUID."""
    return value[1] if isinstance(value, tuple) else value


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


def _stays(entity_map: EntityMap, row: Row) -> str:
    """Say why a row's changes stay in Dataverse; empty if they do not. A row out of use is looked at again once it is back."""
    if not fits(entity_map, row.view.values):
        return "not-wanted"
    retired = entity_map.merges != "ignore" and is_retired(entity_map.table, row.view.values)
    return "row-inactive" if retired else ""


def fits(entity_map: EntityMap, values: Mapping[str, Any]) -> bool:
    """Tell whether a row is one that the map speaks for and that its `writeback_when` lets out."""
    wanted = {**entity_map.where, **entity_map.outward.when}
    return all(same(entity_map.table.columns[name], values.get(name), value) for name, value in wanted.items())


def marks_of(agreed: Agreed, entity_map: EntityMap, row: Row, columns: Iterable[str]) -> dict[str, str]:
    """Return the marks of the row's values in these columns."""
    facts = entity_map.table.columns
    return {name: agreed.mark(entity_map.table.name, row.id, facts[name], _held(facts[name], row)) for name in columns}


def _kinds(entity_map: EntityMap) -> list[str]:
    """Return the columns that say which alternative of a choice a row holds."""
    return [column for line in outward_lines(entity_map.lines) for column, _ in line.reading.beside]


def refuse(outgoing: Outgoing) -> None:
    """Raise Transient for what cannot go out yet."""
    for issue in outgoing.issues:
        if issue.severity == "error":  # the row that is pointed to may get its FHIR id yet
            raise Transient(issue.message, code=issue.code)


def _check_own(entity_map: EntityMap, resource: Mapping[str, Any], guid: str) -> None:
    """Raise Failed for a resource that another row stands for: a key or a contact type may be changed by mistake."""
    identifier = entity_map.identifier
    current, _ = dynamics_ids(resource, identifier.system) if identifier is not None else ((), ())
    if current and current != (guid,):
        message = "the resource carries another row's Dynamics identifier"
        raise Failed(message, code="identifier-conflict", at="identifier")


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

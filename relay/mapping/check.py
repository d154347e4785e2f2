"""What is allowed in maps and still worth telling: columns that the table wants and no line writes, and the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.mapping.load import MapSet
from relay.mapping.lookups import Reference
from relay.mapping.model import EntityMap, Issue, Table

_GIVEN = frozenset({"ownerid", "statecode", "statuscode"})
"""SystemRequired columns that Dataverse fills itself."""


def check(maps: MapSet) -> tuple[Issue, ...]:
    """List what a person should know about loaded maps; `at` is `table.column`.

    A SystemRequired column without a source is an error (the Web API refuses the create); a merely required one is a
    warning (only forms enforce it). A reference to a type that has no map is a warning: the lookup stays empty.
    """
    return tuple(issue for entity in maps for issue in _entity(entity))


def _entity(entity: EntityMap) -> Iterator[Issue]:
    yield from _unsourced(entity.table, entity.columns, entity)
    for expansion in entity.expansions:
        yield from _unsourced(expansion.table, (*expansion.columns, expansion.lookup), entity)
    lines = [*entity.lines, *(line for expansion in entity.expansions for line in expansion.lines)]
    for line in lines:
        if isinstance(line, Reference):
            for kind in sorted(line.declared - line.targets):
                message = f"{entity.file}: no map for {kind}, so a reference to it stays empty"
                yield Issue("warning", "unmapped-target", message, f"{entity.table.name}.{line.reading.column}")
    if entity.identifier is None:
        message = f"{entity.file}: no identifier block, so nothing is written back to {entity.resource}"
        yield Issue("information", "no-writeback", message, entity.table.name)


def _unsourced(table: Table, written: Iterable[str], entity: EntityMap) -> Iterator[Issue]:
    known = {*written, table.primary_id, *_GIVEN}
    for column in table.columns.values():
        if column.name in known:
            continue
        if column.required == "systemrequired":
            message = f"{entity.file}: no line writes {column.name}, which {table.name} cannot be created without"
            yield Issue("error", "system-required", message, f"{table.name}.{column.name}")
        elif column.required == "required":
            message = f"{entity.file}: no line writes {column.name}, which forms of {table.name} require"
            yield Issue("warning", "required", message, f"{table.name}.{column.name}")

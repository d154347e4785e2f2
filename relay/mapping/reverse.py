"""Rows back into resources: a whole resource from a row, or the edits that carry changed columns. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.mapping.actions import Copy, Sourced
from relay.mapping.expansions import IDENTIFIER, Expand
from relay.mapping.model import EntityMap, ExpansionMap, Issue, Resolve, Table
from relay.mapping.outward import RowView, Unlinked, adding, edits_of, meaning, outward_lines, takes_part, wire_name
from relay.mapping.paths import Member
from relay.mapping.placing import Edit, NoPlace, edited, merged


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a row says of a resource: the resource as it should be, the edits that make it so, and what did not go.

    An issue of severity error (`unlinked-reference`) means that it must not be written yet.
    """

    resource: Mapping[str, Any]
    edits: tuple[Edit, ...]
    issues: tuple[Issue, ...]


def resource_of(entity_map: EntityMap, row: RowView, resolve: Resolve) -> Outgoing:
    """Make the resource that a row stands for, with the rows of its expansions; it has no id and no Dynamics identifier.

    Lines that say `writeback: false` stay out. Nothing is filled in: an empty column leaves no element.
    """
    writer = _Writer(resolve)
    made = writer.item(entity_map.lines, entity_map.table, row, {"resourceType": entity_map.resource})
    identifier = entity_map.identifier
    if identifier is not None and IDENTIFIER in made:
        others = [each for each in made.pop(IDENTIFIER) if each.get("system") != identifier.system]
        made |= {IDENTIFIER: others} if others else {}
    return Outgoing(made, (), tuple(writer.issues))


def changes(
    entity_map: EntityMap, resource: Mapping[str, Any], row: RowView, columns: Collection[str], resolve: Resolve
) -> Outgoing:
    """Return the edits that bring the row's `columns` into the resource, and nothing else.

    As on the way in, no line sees the Dynamics identifiers: they are neither read nor written.
    """
    edits: list[Edit] = []
    current, own = _without_own(entity_map, resource)
    columns = {*columns, *_given_up(entity_map, row, columns)}
    # A code goes before its display, which goes with the code that it named.
    lines = sorted(
        (each for each in outward_lines(entity_map.lines) if each.reading.column in columns), key=_is_display
    )
    while True:
        writer, left = _Writer(resolve), []
        for line in lines:
            more = writer.edits(line, entity_map.table, row, current, fresh=False)
            if any(issue.at == line.reading.column for issue in writer.issues):
                left.append(line)
            current = edited(current, more)
            edits += more
        if not left or len(left) == len(lines):
            edits = list(_beside_own(edits, own))
            return Outgoing(edited(resource, edits), tuple(edits), tuple(writer.issues))
        lines = left  # what another line wrote or took away may have made room


def _without_own(entity_map: EntityMap, resource: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[bool]]:
    """Return the resource as the lines read it, without Dynamics identifiers, and which of its identifiers those are."""
    array = resource.get(IDENTIFIER)
    if entity_map.identifier is None or not isinstance(array, list):
        return resource, []
    own = [isinstance(each, Mapping) and each.get("system") == entity_map.identifier.system for each in array]
    others = [each for each, is_own in zip(array, own, strict=True) if not is_own]
    return ({**resource, IDENTIFIER: others}, own) if any(own) else (resource, [])


def _beside_own(edits: Iterable[Edit], own: list[bool]) -> Iterator[Edit]:
    """Turn edits of the resource without its Dynamics identifiers into edits of the whole: those are no line's to write."""
    for pointer, value in edits:
        if not own or pointer[0] != IDENTIFIER:
            yield pointer, value
            continue
        others = [position for position, is_own in enumerate(own) if not is_own]
        if len(pointer) == 1:  # the whole array, of which only the others are meant
            yield from (((IDENTIFIER, position), None) for position in reversed(others))
            own = [is_own for is_own in own if is_own]
            yield from (((IDENTIFIER, len(own) + number), each) for number, each in enumerate(value or ()))
            own += [False] * len(value or ())
            continue
        number = int(pointer[1])
        at = others[number] if number < len(others) else len(own)
        yield (IDENTIFIER, at, *pointer[2:]), value
        if at == len(own):
            own = [*own, False]
        elif value is None and len(pointer) == 2:  # noqa: PLR2004 - the item itself
            own = [*own[:at], *own[at + 1 :]]


def _given_up(entity_map: EntityMap, row: RowView, columns: Collection[str]) -> Iterator[str]:
    """List the columns of the alternatives that the row did not take, of each choice that is written: FHIR has one alone."""
    for choice in entity_map.choices:
        alternatives = {column for each in choice.alternatives.values() for column in each}
        if not alternatives.isdisjoint(columns):
            for line in outward_lines(entity_map.lines):
                if line.reading.column in alternatives and not takes_part(line, row):
                    yield line.reading.column


def _is_display(line: Sourced[Any]) -> bool:
    steps = line.reading.readers[0][0].steps
    return bool(steps) and steps[-1] == Member("display")


class _Writer:
    """Writes rows into objects and gathers what could not be written."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.issues: list[Issue] = []

    def item(self, lines: Sequence[Any], table: Table, row: RowView, made: Any) -> Any:
        """Write one row into one object: its columns, then its expansions."""
        spoken = list(outward_lines(lines))
        coded = frozenset[str]().union(*(line.elements for line in spoken if not isinstance(line, Copy)))
        words = [line for line in spoken if isinstance(line, Copy) and _is_label(line, coded)]
        for line in spoken:
            if line not in words:
                made = edited(made, self.edits(line, table, row, made, fresh=True))
        for line in words:
            # A label is what another line said in words: said again it would be a text that nobody wrote.
            if row.values.get(line.reading.column) not in [path.first(made) for path, _ in line.reading.readers]:
                made = edited(made, self.edits(line, table, row, made, fresh=True))
        for line in lines:
            if isinstance(line, Expand) and not line.disabled and (array := list(self._array(line.expansion, row))):
                made[line.expansion.element] = _joined(made.get(line.expansion.element, ()), array)
        return made

    def _array(self, expansion: ExpansionMap, row: RowView) -> Iterator[Any]:
        for child in row.children.get(expansion.table.name, ()):
            if made := self.item(expansion.lines, expansion.table, child, {}):
                yield made

    def edits(self, line: Sourced[Any], table: Table, row: RowView, resource: Any, *, fresh: bool) -> list[Edit]:
        """Return what brings one column into the object; what cannot be brought becomes an issue.

        `fresh` is whether the object is being made of this row: then an empty column has nothing to take away.
        """
        column = line.reading.column
        try:
            value = meaning(line, row, table) if takes_part(line, row) else None
            if fresh:
                return [] if value is None else adding(line, value, resource)
            return edits_of(line, value, resource, self._resolve)
        except Unlinked:
            message = f"the row that {column} points to stands for no resource"
            self.issues.append(Issue("error", "unlinked-reference", message, column))
        except NoPlace as problem:
            self.issues.append(
                Issue("warning", "cannot-write", f"{line.reading.readers[0][0].text}: {problem}", column)
            )
        return []


def _is_label(line: Copy, coded: frozenset[str]) -> bool:
    """Tell whether a line takes its text from one of several places in an element that other lines read as a code."""
    return len(line.reading.readers) > 1 and bool(line.elements & coded)


def _joined(there: Sequence[Any], array: Sequence[Any]) -> list[Any]:
    """Return one array of both; an identifier that a column gave is that of the one row with its value and system.

    One without a system whose value several rows have could be either's, so it stays one of its own.
    """
    joined = list(array)
    for each in there:
        alike = [item for item in joined if _is_same_identifier(each, item)]
        if len(alike) == 1:
            joined[joined.index(alike[0])] = merged(each, alike[0])
        else:
            joined.append(each)
    return joined


def _is_same_identifier(one: Any, row: Any) -> bool:
    if "value" not in one or one["value"] != row.get("value"):
        return False
    return "system" not in one or one["system"] == row.get("system")


def selected(table: Table, columns: Collection[str]) -> tuple[str, ...]:
    """Return what to $select so that a row can go out."""
    return (table.primary_id, *(wire_name(table.columns[column]) for column in columns))

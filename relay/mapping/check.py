"""Checks a folder of maps: what loading refuses, what is allowed and has no effect, and what is worth knowing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.errors import MapError
from relay.mapping.actions import Mapped, Sourced
from relay.mapping.expansions import Expand
from relay.mapping.findings import Finding, faults
from relay.mapping.lint import lint
from relay.mapping.load import MapSet, load_maps
from relay.mapping.lookups import ConceptLine, Reference
from relay.mapping.metadata import METADATA_FILE
from relay.mapping.model import EntityMap, ExpansionMap, Source, Table
from relay.mapping.outline import MapOutline, read_outlines
from relay.mapping.outward import edits_of, outward_lines
from relay.mapping.placing import NoPlace
from relay.mapping.r4 import REQUIRED
from relay.mapping.values import LOOKUP_TYPES, OPTION_TYPES

GIVEN = frozenset(["activitytypecode", "instancetypecode", "isregularactivity", "ownerid", "statecode", "statuscode"])
"""SystemRequired columns that Dataverse fills itself; the first three are those of activities."""
_CHOICE = "[x]"


def check_folder(folder: Path) -> tuple[Finding, ...]:
    """List what there is to tell about the maps of a folder, by file and line.

    The faults for which `load_maps` refuses the folder are errors; while there are any, only single files are looked
    at besides. Raises OSError when there is no such folder.
    """
    outlines = read_outlines(folder, lenient=True)
    found = [finding for outline in outlines for finding in lint(outline)]
    try:
        maps = load_maps(folder)
    except MapError as error:
        found += faults(error)
    else:
        found += check(maps, outlines)
        found += assumed_navigation(maps, json.loads((folder / METADATA_FILE).read_text(encoding="utf-8-sig")))
    return tuple(sorted(found, key=lambda finding: (finding.file, finding.line)))


def check(maps: MapSet, outlines: Sequence[MapOutline] = ()) -> tuple[Finding, ...]:
    """List what a person should know about loaded maps; with their outlines, each finding has its line.

    A SystemRequired column without a source is an error (the Web API refuses the create), and so is an element that R4
    requires of a resource made from a row. A merely required column is a warning (only forms enforce it), and so is a
    reference to a type that has no map: the lookup stays empty.
    """
    by_file = {outline.document.file: outline for outline in outlines}
    return tuple(finding for entity in maps for finding in _Entity(maps, entity, by_file.get(entity.file)).findings())


def every_expansion(expansions: Iterable[ExpansionMap]) -> Iterator[ExpansionMap]:
    """List expansions, and those inside them."""
    for each in expansions:
        yield each
        yield from every_expansion(each.expansions)


def every_line(entity: EntityMap) -> Iterator[tuple[Table, Any]]:
    """List (table, line) of every line that a map carries out, those of its expansions included."""
    for line in entity.lines:
        yield entity.table, line
    for expansion in every_expansion(entity.expansions):
        for line in expansion.lines:
            yield expansion.table, line


def assumed_navigation(maps: MapSet, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """List, by map, the lookups it writes whose navigation names nobody has read from an org."""
    for entity in maps:
        written = [(entity.table, entity.columns)]
        written += [(each.table, (each.lookup, *each.columns)) for each in every_expansion(entity.expansions)]
        assumed = sorted(
            f"{table.name}.{name}"
            for table, columns in written
            for name in columns
            if table.columns[name].type in LOOKUP_TYPES
            and facts["tables"][table.name]["columns"][name].get("navigationAssumed")
        )
        if assumed:
            message = f"navigation names of lookups are assumed, not read from an org: {', '.join(assumed)}"
            yield Finding("information", "assumed-navigation", message, entity.file)


class _Entity:
    """The findings of one loaded map."""

    def __init__(self, maps: MapSet, entity: EntityMap, outline: MapOutline | None) -> None:
        self.maps = maps
        self.entity = entity
        self.document = outline.document if outline else None
        self.resource = entity.resource

    def findings(self) -> Iterator[Finding]:
        entity = self.entity
        yield from self._unsourced(entity.table, entity.columns, entity.unfilled)
        for expansion in every_expansion(entity.expansions):
            yield from self._unsourced(expansion.table, (*expansion.columns, expansion.lookup), expansion.unfilled)
        for table, line in every_line(entity):
            if isinstance(line, Reference):
                yield from self._targets(table, line)
            elif isinstance(line, Mapped):
                yield from self._options(table, line)
        if entity.outward.create:
            yield from self._required_elements()
        if entity.identifier is None:
            message = f"no identifier block, so nothing is written back to {self.resource}"
            yield Finding(
                "information", "no-writeback", message, entity.file, self._line("resource"), entity.table.name
            )

    def _line(self, key: str) -> int:
        return self.document.line((key,)) if self.document else 0

    def _unsourced(self, table: Table, written: Iterable[str], unfilled: Collection[str]) -> Iterator[Finding]:
        known = {*written, table.primary_id, *GIVEN}
        for column in table.columns.values():
            if column.name in known or column.required not in {"systemrequired", "required"}:
                continue
            at, line = f"{table.name}.{column.name}", self._line("table")
            if column.required == "systemrequired":
                message = f"no line writes {column.name}, which {table.name} cannot be created without"
                yield Finding("error", "system-required", message, self.entity.file, line, at)
            elif column.name not in unfilled:
                message = f"no line writes {column.name}, which forms of {table.name} require"
                yield Finding("warning", "required", message, self.entity.file, line, at)

    def _targets(self, table: Table, line: Reference) -> Iterator[Finding]:
        source = _source(line)
        for kind in sorted(line.declared - line.targets):
            why = f"the map of {kind} is disabled" if self.maps.disabled(kind) else f"there is no map for {kind}"
            message = f"{why}, so a reference to it stays empty"
            at = f"{table.name}.{line.reading.column}"
            yield Finding("warning", "unmapped-target", message, source.file, source.line, at)

    def _options(self, table: Table, line: Mapped) -> Iterator[Finding]:
        """Tell the options that the line never writes: codes may be missing from its `values`."""
        column = table.columns[line.reading.column]
        if column.type not in OPTION_TYPES:
            return
        written = {*line.values.values(), line.fallback}
        left = [f"{value} {label}" for value, label in column.options.items() if value not in written]
        if left:
            source = _source(line)
            message = f"options of {column.name} that no code stands for: {', '.join(left)}"
            at = f"{table.name}.{column.name}"
            yield Finding("information", "unmapped-option", message, source.file, source.line, at)

    def _required_elements(self) -> Iterator[Finding]:
        """Tell the elements that R4 requires and no line can make from a row."""
        made = {line.expansion.element for line in self.entity.lines if isinstance(line, Expand) and not line.disabled}
        made |= {element for line in outward_lines(self.entity.lines) for element in _made(line)}
        for element in REQUIRED.get(self.resource, ()):
            name = element.removesuffix(_CHOICE)
            if not any(each == name or (element.endswith(_CHOICE) and each.startswith(name)) for each in made):
                message = f"create_in_fhir is on, and no line makes {element}, which R4 requires of {self.resource}"
                yield Finding("error", "required-element", message, self.entity.file, self._line("create_in_fhir"))


def _made(line: Sourced[Any]) -> set[str]:
    """Return the element that a line makes in a resource that has nothing yet; empty when it has no place for it."""
    value: Any = "a"
    if isinstance(line, Reference):
        value = {"reference": f"{min(line.declared)}/a"}
    elif isinstance(line, ConceptLine):
        value = {"coding": [{"code": "a"}]}
    try:
        return {str(pointer[0]) for pointer, _ in edits_of(line, value, {}, lambda _: None)}
    except NoPlace:
        return set()


def _source(line: Sourced[Any]) -> Source:
    return line.reading.readers[0][1]

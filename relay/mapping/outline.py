"""What map files say, line by line and as written: for the tools that compare, list and check maps without carrying them out.

An outline takes wrong maps as well: what has not the shape of a map is left out, since loading tells it with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.errors import MapError
from relay.mapping.actions import ACTIONS
from relay.mapping.document import Document, Place, read_document
from relay.mapping.expansions import DEEPEST, IDENTIFIER
from relay.mapping.load import is_map
from relay.mapping.lookups import CONCEPT_TABLE

CONCEPT_COLUMNS = ("msemr_type", "msemr_code", "msemr_name")
"""Columns of the codeable concept table that every concept line reads or writes."""
SCHEMA_FILE = "schema.json"


@dataclass(frozen=True, slots=True)
class LineOutline:
    """One line that writes a column; `under` names the arrays around it, from the outside in.

    `disabled` says whether the line or anything around it is.
    """

    place: Place
    under: tuple[str, ...]
    table: str
    action: str
    column: str
    data: Mapping[str, Any]
    disabled: bool

    def columns(self) -> Iterator[tuple[str, str, Place, tuple[Any, ...]]]:
        """List what `MapOutline.columns` does, of this line."""
        constants = tuple(_object(self.data.get("values")).values())
        yield (
            self.table,
            self.column,
            self.place,
            (*constants, self.data["default"]) if "default" in self.data else constants,
        )
        for name, value in _object(self.data.get("beside")).items():
            yield self.table, name, (*self.place, "beside", name), (value,)
        if self.action == "concept":
            for name in CONCEPT_COLUMNS:
                yield CONCEPT_TABLE, name, self.place, ()


@dataclass(frozen=True, slots=True)
class ExpansionOutline:
    """One array that becomes rows; `under` ends in its own name, `name` is that of the definition it uses, if any."""

    place: Place
    under: tuple[str, ...]
    table: str
    name: str
    data: Mapping[str, Any]
    disabled: bool


@dataclass(frozen=True, slots=True)
class MapOutline:
    """One map file."""

    document: Document
    resource: str
    table: str
    disabled: bool
    lines: tuple[LineOutline, ...]
    expansions: tuple[ExpansionOutline, ...]
    unused: tuple[str, ...]
    """Named expansions that no line uses."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The whole file as plain data."""
        data: Mapping[str, Any] = self.document.data
        return data

    @property
    def tables(self) -> frozenset[str]:
        """Every table that the map reads or writes rows of."""
        named = {self.table, *(each.table for each in self.expansions)}
        identifier = self.data.get(IDENTIFIER)
        if isinstance(identifier, Mapping):
            named.add(str(identifier.get("table", "")))
        if any(line.action == "concept" for line in self.lines):
            named.add(CONCEPT_TABLE)
        return frozenset(named - {""})

    def columns(self) -> Iterator[tuple[str, str, Place, tuple[Any, ...]]]:
        """List (table, column, place, values) of every column that the map reads or writes; `values` are its constants.

        Disabled lines are left out.
        """
        for key in ("key", "version", "last_updated"):
            if self.data.get(key):
                yield self.table, str(self.data[key]), (key,), ()
        for key in ("where", "writeback_when"):
            for name, value in _object(self.data.get(key)).items():
                yield self.table, name, (key, name), (value,)
        identifier = _object(self.data.get(IDENTIFIER))
        for key in ("lookup", "system_column", "value_column"):
            if identifier.get(key):
                yield str(identifier.get("table", "")), str(identifier[key]), (IDENTIFIER, key), ()
        for each in self.expansions:
            if not each.disabled and each.data.get("lookup"):
                yield each.table, str(each.data["lookup"]), each.place, ()
        for line in self.lines:
            if not line.disabled:
                yield from line.columns()


def map_files(folder: Path) -> list[Path]:
    """Return the map files of a folder, by name."""
    return sorted(filter(is_map, folder.iterdir()))


def read_outlines(at: Path, *, lenient: bool = False) -> list[MapOutline]:
    """Read a folder of maps, or one map file; raises MapError for what is no map, unless `lenient` leaves it out."""
    if not at.is_dir():
        return [outline(read_document(at))]
    found = []
    for path in map_files(at):
        try:
            found.append(outline(read_document(path)))
        except MapError:
            if not lenient:
                raise
    return found


def outline(document: Document) -> MapOutline:
    """Outline one map; raises MapError when the file holds no object."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), "a map is an object of keys", ["resource", "table", "key", "attributes"])
    walk = _Walk(_object(data.get("expansions")))
    table, disabled = str(data.get("table", "")), data.get("disabled") is True
    walk.lines_of(data.get("attributes"), ("attributes",), (), table, disabled=disabled)
    unused = tuple(name for name in walk.named if name not in walk.used)
    return MapOutline(
        document,
        str(data.get("resource", "")),
        table,
        disabled,
        tuple(walk.lines),
        tuple(walk.expansions),
        unused,
    )


@dataclass(slots=True)
class _Walk:
    """Goes through the lines of one map, and through an expansion wherever a line uses it."""

    named: Mapping[str, Any]
    used: set[str] = field(default_factory=set)
    lines: list[LineOutline] = field(default_factory=list)
    expansions: list[ExpansionOutline] = field(default_factory=list)

    def lines_of(self, lines: Any, at: Place, under: tuple[str, ...], table: str, *, disabled: bool) -> None:
        for place, line in _items(lines, at):
            off = disabled or line.get("disabled") is True
            named = [name for name in ACTIONS if name in line]
            if named == ["expand"]:
                self._expansion(line, place, (*under, str(line["expand"])), disabled=off)
            elif len(named) == 1:
                column = str(line.get("column", ""))
                self.lines.append(LineOutline(place, under, table, named[0], column, line, off))

    def _expansion(self, line: Mapping[str, Any], place: Place, under: tuple[str, ...], *, disabled: bool) -> None:
        name = str(line.get("using") or "")
        self.used.add(name)
        definition, at = (_object(self.named.get(name)), ("expansions", name)) if name else (line, place)
        off = disabled or definition.get("disabled") is True
        table = str(definition.get("table", ""))
        self.expansions.append(ExpansionOutline(place, under, table, name, definition, off))
        if len(under) <= DEEPEST:
            self.lines_of(definition.get("attributes"), (*at, "attributes"), under, table, disabled=off)


def _items(lines: Any, at: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for index, line in enumerate(lines if isinstance(lines, list) else ()):
        if isinstance(line, dict):
            yield (*at, index), line


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

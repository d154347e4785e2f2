"""What an export holds, as records: the Web API's JSON or the sheets of a workbook, row by row and column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.guid import canonical_guid
from relay.mapping.toolkit.columns import TABLES, Kind, folded

_FORMATTED = "@OData.Community.Display.V1.FormattedValue".lower()
_NEXT = "@odata.nextLink"
_CONTEXT = "@odata.context"
_TELLING: Mapping[Kind, tuple[frozenset[str], ...]] = {
    "value": (frozenset({"msindazurefhirvalue", "azurefhirvalue"}),),
    "attribute": (
        frozenset({"msindactiontype", "actiontype"}),
        frozenset({"msindcdsattributename", "attributename", "msindfhirelementmap", "fhirelementmap"}),
    ),
    "entity": (
        frozenset({"msindentityname", "entityname"}),
        frozenset({"msindazurefhirresource", "azurefhirresource"}),
    ),
}
"""What the rows of each table have, one name of each group, where nothing names the table; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of one row: the stored value, what people see of it, and the row that a lookup was expanded to."""

    value: Any = None
    text: str = ""
    row: Mapping[str, Cell] | None = None

    @property
    def shown(self) -> str:
        """Return what people see: the formatted value where there is one, else the value as text."""
        return self.text or ("" if self.value is None else str(self.value)).strip()


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a toolkit table; `id` is its GUID in lower case, `source` where it stands in which file."""

    kind: Kind
    cells: Mapping[str, Cell]
    id: str
    source: str


@dataclass(slots=True)
class Records:
    """All rows that were read, and what could not be."""

    rows: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add_json(self, document: Any, file: str) -> None:
        """Read an answer of the Web API, several of them by entity set, or a bare list of rows."""
        if isinstance(document, Mapping) and _kind_of_row(document) is not None:
            self._batch([document], "", file)
        elif isinstance(document, Mapping) and not isinstance(document.get("value"), list):
            for name, part in document.items():
                if isinstance(part, list) or (isinstance(part, Mapping) and isinstance(part.get("value"), list)):
                    self._answer(part, name, f"{file}: {name}")
                elif not name.startswith("@"):
                    self.problems.append(f"{file}: {name} holds no rows")
        else:
            self._answer(document, "", file)

    def add_sheet(self, rows: Iterable[Sequence[Any]], file: str, sheet: str) -> None:
        """Read one sheet, whose first row that is not empty names the columns; a sheet of another table is left."""
        numbered = ((number, row) for number, row in enumerate(rows, 1) if any(cell is not None for cell in row))
        _, header = next(numbered, (0, ()))
        names = ["" if cell is None else str(cell).strip() for cell in header]
        kind = _kind_of_names(names)
        if kind is None:
            if any(names) and not sheet.lower().startswith("hidden"):
                self.problems.append(f"{file}: {sheet}: the first row names no columns of a toolkit table")
            return
        own = folded(f"(Do Not Modify) {TABLES[kind].label}")
        for number, row in numbered:
            cells: dict[str, Cell] = {}
            for name, value in zip(names, row, strict=False):
                if name:
                    cells.setdefault(name, Cell(value, "" if value is None else str(value).strip()))
            guid = next((cell.shown for name, cell in cells.items() if folded(name) == own), "")
            self.rows.append(Record(kind, cells, canonical_guid(guid), f"{file}: {sheet}: row {number}"))

    def _answer(self, part: Any, name: str, source: str) -> None:
        rows = part.get("value") if isinstance(part, Mapping) else part
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            self.problems.append(f"{source}: holds no rows")
            return
        context = str(part.get(_CONTEXT, "")) if isinstance(part, Mapping) else ""
        if isinstance(part, Mapping) and part.get(_NEXT):
            self.problems.append(f"{source}: is one page of several, the others are behind {_NEXT}")
        self._batch(rows, name or context.rpartition("#")[2].partition("(")[0], source)

    def _batch(self, rows: Sequence[Mapping[str, Any]], name: str, source: str) -> None:
        """Read rows of one table, named or known by what they have."""
        spelling = folded(name)
        named = [each.kind for each in TABLES.values() if spelling in {folded(each.entity_set), folded(each.logical)}]
        for index, row in enumerate(rows):
            kind = named[0] if named else _kind_of_row(row)
            if kind is None:
                self.problems.append(f"{source}: the rows are of no toolkit table that is read")
                return
            self._row(kind, row, f"{source}[{index}]", {})

    def _row(self, kind: Kind, row: Mapping[str, Any], source: str, given: Mapping[str, Cell]) -> None:
        cells = {**given, **_cells(row)}
        guid = cells.get(f"{TABLES[kind].logical}id", Cell()).shown
        self.rows.append(Record(kind, cells, canonical_guid(guid), source))
        below: Mapping[str, Cell] = {TABLES[kind].logical: Cell(canonical_guid(guid))}
        for name, value in row.items():  # rows of a child table that the query expanded
            for index, each in enumerate(value if isinstance(value, list) else ()):
                child = _kind_of_row(each) if isinstance(each, Mapping) else None
                if child is not None:
                    self._row(child, each, f"{source}.{name}[{index}]", below)


def _cells(row: Mapping[str, Any]) -> dict[str, Cell]:
    """Read one row of the Web API: `_x_value` is the lookup x, annotations go with their column."""
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    rows: dict[str, Mapping[str, Cell]] = {}
    for name, value in row.items():
        column, _, annotation = name.lower().partition("@")
        column = column[1:-6] if column.startswith("_") and column.endswith("_value") else column
        if annotation:
            if f"@{annotation}" == _FORMATTED and value is not None:
                texts[column] = str(value).strip()
        elif isinstance(value, Mapping):
            rows[column] = _cells(value)
            keys = (f"{table.logical}id" for table in TABLES.values())
            values.setdefault(column, next((rows[column][key].value for key in keys if key in rows[column]), None))
            texts.setdefault(column, rows[column].get("msind_name", Cell()).shown)
        elif not isinstance(value, list):
            values[column] = value
    names = [name for name in dict.fromkeys([*values, *rows]) if name]
    return {name: Cell(values.get(name), texts.get(name, ""), rows.get(name)) for name in names}


def _kind_of_row(row: Mapping[str, Any]) -> Kind | None:
    names = list(_cells(row))
    primary = (table.kind for table in TABLES.values() if f"{table.logical}id" in names)
    return _telling(names) or next(primary, None)


def _kind_of_names(names: Sequence[str]) -> Kind | None:
    spellings = [folded(name) for name in names]
    own = (table.kind for table in TABLES.values() if folded(f"(Do Not Modify) {table.label}") in spellings)
    return next(own, None) or _telling(names)


def _telling(names: Iterable[str]) -> Kind | None:
    spellings = {folded(name) for name in names}
    fitting = (kind for kind, groups in _TELLING.items() if all(spellings & each for each in groups))
    return next(fitting, None)

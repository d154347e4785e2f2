"""What lines need while they are built (Scope) and while they are carried out (Building)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from relay.errors import MapError
from relay.mapping.document import Document, Place
from relay.mapping.model import ChildDraft, Column, Issue, Resolve, Scalar, Source, Table, Target
from relay.mapping.paths import Path, PathError, compile_path
from relay.mapping.shape import LineShape, Nothing
from relay.mapping.values import Unfit

# what Dataverse itself writes in every table, and the contact's name made of its parts
_READ_ONLY = frozenset(
    [
        "createdon",
        "createdby",
        "createdonbehalfby",
        "modifiedon",
        "modifiedby",
        "modifiedonbehalfby",
        "versionnumber",
        "owningbusinessunit",
        "owninguser",
        "owningteam",
        "fullname",
    ]
)


@dataclass(slots=True)
class Scope:
    """One list of lines being built: the file, the facts, and the columns that are taken."""

    document: Document
    table: Table
    tables: Mapping[str, Table]
    mapped: Mapping[str, str]
    """Resource type → table, of every map in the folder."""
    null: Nothing
    child: bool
    taken: dict[str, str] = field(default_factory=dict)
    """Column → what writes it."""

    def column(self, spec: LineShape, place: Place) -> Column:
        """Return the column a line writes; raises MapError when it is unknown, read-only or written already."""
        at = (*place, "column")
        if spec.writeback:
            raise self.document.error(
                (*place, "writeback"),
                "writing a column back to FHIR is not supported; the identifier block writes the Dynamics identifier back",
                ["false"],
            )
        column = find_column(self.document, at, self.table, spec.column)
        if column.name in _READ_ONLY or column.name == self.table.primary_id:
            raise self.document.error(at, f"{self.table.name}.{column.name} is written by Dataverse alone")
        if spec.disabled:
            return column
        if column.name in self.taken:
            raise self.document.error(at, f"{column.name} is written by {self.taken[column.name]} already")
        self.taken[column.name] = f"line {self.document.line(place)}"
        return column

    def paths(self, texts: str | list[str], place: Place) -> tuple[tuple[Path, Source], ...]:
        """Compile alternative paths; raises MapError with the caret under the fault."""
        found = []
        for text in [texts] if isinstance(texts, str) else texts:
            try:
                path = compile_path(text)
            except PathError as error:
                raise MapError(f"{self.document.file}:{self.document.line(place)}: {error}") from None
            found.append((path, self.source(place, path.text)))
        return tuple(found)

    def source(self, place: Place, path: str) -> Source:
        """Where a value comes from, for preview."""
        return Source(self.document.file, self.document.line(place), path)


def find_table(document: Document, place: Place, tables: Mapping[str, Table], name: str) -> Table:
    """Return the facts of a table; raises MapError with the nearest names."""
    if name not in tables:
        raise document.error(place, f"unknown table {name}", near(name, tables))
    return tables[name]


def find_column(document: Document, place: Place, table: Table, name: str) -> Column:
    """Return the facts of a column; raises MapError with the nearest names."""
    if name not in table.columns:
        raise document.error(place, f"unknown column {name} in table {table.name}", near(name, table.columns))
    return table.columns[name]


def near(name: str, names: Iterable[str]) -> list[str]:
    """Return the names most like `name`, or all of them when none is."""
    listed = list(names)
    return get_close_matches(name, listed, n=6, cutoff=0.5) or sorted(listed)


class Building:
    """One draft in the making: lines write into it."""

    __slots__ = ("children", "columns", "concepts", "issues", "item", "left_out", "lookups", "resolve", "sources")

    def __init__(self, resolve: Resolve, *, concepts: bool, issues: list[Issue] | None = None, item: str = "") -> None:
        self.columns: dict[str, Scalar] = {}
        self.lookups: dict[str, Target | None] = {}
        self.children: list[ChildDraft] = []
        self.sources: dict[str, Source] = {}
        self.issues: list[Issue] = [] if issues is None else issues
        self.resolve = resolve
        self.concepts = concepts
        self.item = item
        """The item of the array that is being expanded, such as `identifier[2]`; empty at the root."""
        self.left_out = False

    def issue(self, severity: Literal["error", "warning", "information"], code: str, message: str, path: Path) -> None:
        """Report something about the element at `path`; the message never holds a value."""
        text = path.text.removeprefix("\\")
        if self.item:
            text = text.removeprefix("$")
            text = self.item + (text if text[:1] in {"", ".", "["} else f".{text}")
        self.issues.append(Issue(severity, code, message, text))

    def misfit(self, path: Path) -> None:
        """Report that the element at `path` has another JSON shape than FHIR gives it."""
        self.issue("error", "invalid-element", "the JSON here is not what FHIR R4 has at this element", path)

    def unfit(self, unfit: Unfit, path: Path) -> None:
        """Report that a value does not fit its column."""
        self.issue(unfit.severity, unfit.code, str(unfit), path)

    def missing(self, column: str) -> None:
        """Report that a required line has no source: a warning at the root, the end of the item in an expansion."""
        if self.item:
            self.left_out = True
        else:
            self.issues.append(Issue("warning", "required", f"{column} is required and has no source", column))

    def value_of(self, column: str) -> Any:
        """Return what the draft has for a column, plain or lookup; None when nothing."""
        return self.columns.get(column) if column in self.columns else self.lookups.get(column)

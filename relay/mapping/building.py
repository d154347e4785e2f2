"""What lines need while they are built (Scope) and while they are carried out (Building)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from relay.errors import MapError
from relay.mapping.document import Document, Place
from relay.mapping.model import ChildDraft, Choice, Column, Issue, Resolve, Scalar, Source, Table, Target
from relay.mapping.paths import Path, PathError, compile_path
from relay.mapping.shape import LineShape, Nothing
from relay.mapping.values import Unfit

if TYPE_CHECKING:
    from relay.mapping.reading import Reading

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

_BESIDE = "a line it stands beside"

BuildLines = Callable[[list[dict[str, Any]], "Scope", Place], list[Any]]


@dataclass(slots=True)
class Scope:
    """One list of lines being built: the file, the facts, and the columns that are taken."""

    document: Document
    table: Table
    tables: Mapping[str, Table]
    mapped: Mapping[str, str]
    """Resource type → table, of every map in the folder."""
    null: Nothing
    named: Mapping[str, dict[str, Any]]
    """The map's named expansions."""
    lines: BuildLines
    """Builds the lines of an expansion."""
    depth: int = 0
    """0 at the root, 1 in an expansion, 2 in an expansion of its items."""
    taken: dict[str, str] = field(default_factory=dict)
    """Column → what writes it."""
    alternatives: dict[str, dict[Scalar, list[Column]]] = field(default_factory=dict)
    """Column that lines have beside them → its value → the columns of the lines with that value."""

    @property
    def child(self) -> bool:
        """Whether the lines write a child table."""
        return self.depth > 0

    def column(self, spec: LineShape, place: Place) -> Column:
        """Return the column a line writes; raises MapError when it is unknown, read-only or written already."""
        at = (*place, "column")
        column = self._writable(spec.column, at)
        if spec.disabled:
            return column
        if column.name in self.taken:
            raise self.document.error(at, f"{column.name} is written by {self.taken[column.name]} already")
        self.taken[column.name] = f"line {self.document.line(place)}"
        return column

    def _writable(self, name: str, place: Place) -> Column:
        column = find_column(self.document, place, self.table, name)
        if column.name in _READ_ONLY or column.name == self.table.primary_id:
            raise self.document.error(place, f"{self.table.name}.{column.name} is written by Dataverse alone")
        return column

    def beside(self, name: str, place: Place) -> Column:
        """Return a column that lines have beside them: several lines may share it, no line may write it otherwise."""
        column = self._writable(name, place)
        what = self.taken.setdefault(name, _BESIDE)
        if what != _BESIDE:
            raise self.document.error(place, f"{name} is written by {what} already")
        return column

    def unfilled(self, names: Iterable[str], place: Place) -> frozenset[str]:
        """Check the columns that are said to be left empty; raises MapError for one that is not there or is written."""
        for position, name in enumerate(names):
            at = (*place, position)
            find_column(self.document, at, self.table, name)
            if name in self.taken:
                raise self.document.error(at, f"{name} is written by {self.taken[name]}")
        return frozenset(names)

    def choices(self) -> tuple[Choice, ...]:
        """Return the choices that the lines built so far make up."""
        return tuple(
            Choice(
                name,
                {value: tuple(column.name for column in columns) for value, columns in alternatives.items()},
                frozenset(each.name for columns in alternatives.values() for each in columns if each.targets),
            )
            for name, alternatives in self.alternatives.items()
        )

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

    def put(
        self,
        reading: Reading,
        value: Scalar | Target,
        source: Source,
        values: dict[str, Scalar] | dict[str, Target | None],
    ) -> None:
        """Write a column, and what stands beside it; of a choice the first alternative that has a value counts."""
        for column, kind in reading.beside:
            if self.columns.setdefault(column, kind) != kind:
                return
            self.sources.setdefault(column, source)
        values[reading.column] = value  # type: ignore[assignment]  # the caller pairs them
        self.sources[reading.column] = source

    def settle(self, choices: tuple[Choice, ...]) -> None:
        """Clear what the alternatives not taken left in the row."""
        for choice in choices:
            taken = self.columns.get(choice.column)
            if taken is None:
                continue
            for column in dict.fromkeys(each for columns in choice.alternatives.values() for each in columns):
                if column not in choice.alternatives[taken]:
                    (self.lookups if column in choice.lookups else self.columns).setdefault(column, None)

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

    def unfit(self, unfit: Unfit, path: Path, source: Source) -> None:
        """Report that a value does not fit its column, and which line of the map wanted it there."""
        where = f"{PurePath(source.file).name}:{source.line}"
        self.issue(unfit.severity, unfit.code, f"{unfit} ({where})", path)

    def missing(self, column: str) -> None:
        """Report that a required line has no source: a warning at the root, the end of the item in an expansion."""
        if self.item:
            self.left_out = True
        else:
            self.issues.append(Issue("warning", "required", f"{column} is required and has no source", column))

    def value_of(self, column: str) -> Any:
        """Return what the draft has for a column, plain or lookup; None when nothing."""
        return self.columns.get(column) if column in self.columns else self.lookups.get(column)

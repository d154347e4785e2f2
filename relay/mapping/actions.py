"""Actions: what one line of a map does. A registry of line kinds, and those that write plain values.

A line is built once from its shape (`build`, all checks there) and then carried out per resource (`write`), which
never raises: what does not fit becomes an issue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from relay.mapping.building import Building, Scope
from relay.mapping.document import Place, plain
from relay.mapping.model import Scalar, Source
from relay.mapping.paths import Member, Misfit, Path, Step
from relay.mapping.reading import Reading, constant, conversion, must_have_a_value
from relay.mapping.shape import CopyShape, DefaultShape, MappedShape, Shape
from relay.mapping.values import OPTION_TYPES, TEXT_TYPES, Unfit

ACTIONS: dict[str, type[Line[Any]]] = {}
"""Every action by the key that names it in a map."""

S = TypeVar("S", bound=Shape)
L = TypeVar("L", bound="type[Line[Any]]")


class Line(ABC, Generic[S]):
    """One line of a map, ready to be carried out."""

    __slots__ = ()
    shape: ClassVar[type[Shape]]

    @classmethod
    @abstractmethod
    def build(cls, spec: S, scope: Scope, place: Place) -> Line[S]:
        """Check `spec` against the facts; raises MapError."""

    @abstractmethod
    def write(self, item: Any, into: Building) -> None:
        """Carry the line out for one resource or one item of an array."""

    @property
    def elements(self) -> frozenset[str]:
        """The elements of the resource that the line reads."""
        return frozenset()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the map's own table that the line writes."""
        return ()


def action(name: str) -> Callable[[L], L]:
    """Register a kind of line under the key that names it; a name taken already is a programming error."""

    def register(kind: L) -> L:
        if name in ACTIONS:
            raise ValueError(f"the action {name} is registered already")
        ACTIONS[name] = kind
        return kind

    return register


@dataclass(frozen=True, slots=True)
class Sourced(Line[S]):
    """A line that reads the resource."""

    reading: Reading

    @property
    def elements(self) -> frozenset[str]:
        """The elements that its paths begin with."""
        return frozenset(path.root_element for path, _ in self.reading.readers if path.root_element)

    @property
    def columns(self) -> tuple[str, ...]:
        """Its column, and those beside it."""
        return (self.reading.column, *(column for column, _ in self.reading.beside))


@action("copy")
@dataclass(frozen=True, slots=True)
class Copy(Sourced[CopyShape]):
    """The value as it is, converted to the column's type."""

    shape: ClassVar[type[Shape]] = CopyShape
    convert: Callable[[Any], Scalar] = field(repr=False)
    cuts: bool

    @classmethod
    def build(cls, spec: CopyShape, scope: Scope, place: Place) -> Copy:
        """Refuse columns that need a map, and lengths and dates that the column does not have."""
        column = scope.column(spec, place)
        if column.type in OPTION_TYPES:
            raise scope.document.error(
                (*place, "copy"), f"{column.name} is of type {column.type}, a FHIR code must be mapped to it", ["map"]
            )
        convert = conversion(column, scope, place, length=spec.length, partial=spec.partial)
        if spec.length == "truncate" and spec.match:
            raise scope.document.error((*place, "length"), "a match column is never truncated", ["error"])
        if spec.length == "truncate" and spec.writeback:
            raise scope.document.error(
                (*place, "length"), "what was cut must not replace the whole: no writeback with it", ["error"]
            )
        if spec.length == "truncate" and column.type not in TEXT_TYPES:
            raise scope.document.error((*place, "length"), f"{column.name} is not text", ["error"])
        if spec.partial == "first-day" and column.type != "DateTime":
            raise scope.document.error((*place, "partial"), f"{column.name} is not a date", ["skip"])
        reading = Reading.of(spec, column, spec.copy_, scope, place)
        for path, _ in reading.readers:
            if not scope.child and (key := _META.get(path.steps)):
                raise scope.document.error((*place, "copy"), f"{path.text} belongs in the key {key} of the map")
        return cls(reading, convert, spec.length == "truncate")

    def write(self, item: Any, into: Building) -> None:
        """Copy the value of the first path that has one; an empty text is none."""
        reading = self.reading
        for path, source in reading.readers:
            try:
                value = path.read(item)
                if value is None or value == "":
                    continue
                converted = self.convert(value)
            except Misfit:
                into.misfit(path)
                return
            except Unfit as unfit:
                into.unfit(unfit, path, source)
                return
            if self.cuts and converted is not value:
                into.issue("information", "truncated", f"{reading.column} holds the beginning of the text", path)
            into.put(reading, converted, source, into.columns)
            return
        reading.absent(into, into.columns)


_META: Mapping[tuple[Step, ...], str] = {
    (Member("meta"), Member("versionId")): "version",
    (Member("meta"), Member("lastUpdated")): "last_updated",
}


@action("default")
@dataclass(frozen=True, slots=True)
class Default(Line[DefaultShape]):
    """Always this constant, whatever the resource says."""

    shape: ClassVar[type[Shape]] = DefaultShape
    column: str
    value: Scalar
    source: Source

    @classmethod
    def build(cls, spec: DefaultShape, scope: Scope, place: Place) -> Default:
        """Convert the constant once."""
        column = scope.column(spec, place)
        value = constant(column, spec.default, scope, (*place, "default"))
        return cls(column.name, value, scope.source(place, ""))

    @property
    def columns(self) -> tuple[str, ...]:
        """Its one column."""
        return (self.column,)

    def write(self, item: Any, into: Building) -> None:  # noqa: ARG002  # a constant reads nothing
        """Write the constant."""
        into.columns[self.column] = self.value
        into.sources[self.column] = self.source


@action("map")
@dataclass(frozen=True, slots=True)
class Mapped(Sourced[MappedShape]):
    """A FHIR code → an option, a yes/no, a number or a text; of several codes the first that is listed counts."""

    shape: ClassVar[type[Shape]] = MappedShape
    values: Mapping[str, Scalar]
    unmapped: Literal["fail", "keep", "clear", "default"]
    fallback: Scalar

    @classmethod
    def build(cls, spec: MappedShape, scope: Scope, place: Place) -> Mapped:
        """Convert every listed value once."""
        column = scope.column(spec, place)
        values = {code: constant(column, value, scope, (*place, "values", code)) for code, value in spec.values.items()}
        policy, _, text = spec.unmapped.partition(":")
        if policy == "clear" and (spec.match or must_have_a_value(column)):
            raise scope.document.error((*place, "unmapped"), f"{column.name} cannot be empty", ["fail", "keep"])
        fallback = constant(column, plain(text.strip()), scope, (*place, "unmapped")) if text else None
        reading = Reading.of(spec, column, spec.map, scope, place)
        return cls(reading, values, policy, fallback)  # type: ignore[arg-type]  # the shape allows these four

    def write(self, item: Any, into: Building) -> None:
        """Write what the first listed code stands for."""
        reading, first = self.reading, None
        for path, source in reading.readers:
            found: list[Any] = []
            try:
                path.collect(item, found)
            except Misfit:
                into.misfit(path)
                return
            for value in found:
                code = code_of(value)
                if code is None:
                    into.misfit(path)
                    return
                if code in self.values:
                    into.put(reading, self.values[code], source, into.columns)
                    return
                first = first or (path, source)
        if first is None:
            reading.absent(into, into.columns)
        else:
            self._unlisted(*first, into)

    def _unlisted(self, path: Path, source: Source, into: Building) -> None:
        if self.unmapped == "default":
            into.put(self.reading, self.fallback, source, into.columns)
        elif self.unmapped in {"keep", "clear"}:
            if self.unmapped == "clear":
                into.put(self.reading, None, source, into.columns)
            into.issue("information", "unmapped-value", f"no value for {self.reading.column} is listed", path)
        else:
            into.issue("error", "unmapped-value", f"no value for {self.reading.column} is listed", path)


def code_of(value: Any) -> str | None:
    """Return a code as the text by which a map lists it; None for what is no code."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def matching(lines: Iterable[Line[Any]]) -> tuple[str, ...]:
    """Return the columns of the lines that say `match`."""
    return tuple(line.reading.column for line in lines if isinstance(line, Sourced) and line.reading.match)

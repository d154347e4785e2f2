"""Where a line's value comes from, what stands beside it, and whether it may go the other way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.mapping.document import Place
from relay.mapping.model import Column, Scalar, Source
from relay.mapping.paths import Every, Path
from relay.mapping.placing import Creation, invertible
from relay.mapping.shape import SourcedShape
from relay.mapping.values import LOOKUP_TYPES, Unfit, converter

if TYPE_CHECKING:
    from relay.mapping.building import Building, Scope

ROUNDED = frozenset({"Decimal", "Double", "Money"})
_NEVER_EMPTY = frozenset({"State", "Status"})


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a line's value comes from: alternative paths, and what an absent value does."""

    column: str
    readers: tuple[tuple[Path, Source], ...]
    match: bool
    required: bool
    clear: bool
    beside: tuple[tuple[str, Scalar], ...] = ()
    outward: bool | None = None
    """Whether the line may write the resource: in updates too, never, or (None) only when one is made from a row."""
    create: Creation | None = None

    @classmethod
    def of(cls, spec: SourcedShape, column: Column, texts: str | list[str], scope: Scope, place: Place) -> Reading:
        """Compile the paths of a line that reads the resource, and check what absent values may do."""
        clear = (spec.null or scope.null) == "clear" and not spec.match
        if spec.null == "clear" and spec.match:
            raise scope.document.error((*place, "null"), "a match column is never cleared", ["keep"])
        if clear and must_have_a_value(column):
            if spec.null == "clear":
                raise scope.document.error((*place, "null"), f"{column.name} cannot be empty", ["keep"])
            clear = False
        beside = tuple(_beside(spec, column, name, value, scope, place) for name, value in spec.beside.items())
        readers = scope.paths(texts, place)
        create = _creation(spec, scope, place)
        if spec.writeback and scope.child:
            raise scope.document.error((*place, "writeback"), "changes of child rows do not go to FHIR", ["false"])
        # a lookup stands for a whole element, of which one more can be appended
        stepped = [path.steps[:-1] if column.targets and path.steps else path.steps for path, _ in readers]
        if spec.writeback and create is None and not any(invertible(steps) for steps in stepped):
            raise scope.document.error(
                (*place, "writeback"),
                f"{readers[0][0].text} does not say where a new value goes",
                ["an index or a filter instead of [*]", "a create block"],
            )
        if spec.writeback and column.type in ROUNDED and column.precision is None:
            raise scope.document.error(
                (*place, "writeback"),
                f"the facts do not say to how many places {column.name} is rounded, so a rounded value would go out "
                "(relay maps metadata reads it from the org)",
                ["false"],
            )
        if any(path.root_element == "contained" for path, _ in readers) and spec.writeback:
            raise scope.document.error((*place, "writeback"), "contained resources are not written", ["false"])
        return cls(column.name, readers, spec.match, spec.required, clear, beside, spec.writeback, create)

    def absent(self, into: Building, values: dict[str, Any]) -> None:
        """No source has a value: keep the column (write nothing) or clear it."""
        if self.clear:
            values[self.column] = None
        if self.required:
            into.missing(self.column)


def _creation(spec: SourcedShape, scope: Scope, place: Place) -> Creation | None:
    if spec.create is None:
        return None
    at = (*place, "create", "at")
    ((path, _),) = scope.paths(spec.create.at, at)
    if any(isinstance(step, Every) for step in path.steps[:-1]):
        raise scope.document.error(at, "[*] can only be the last step: there an item is appended")
    return Creation(path, spec.create.set)


def constant(column: Column, value: Any, scope: Scope, place: Place) -> Scalar:
    """Convert a constant of the map to its column; raises MapError naming the options."""
    try:
        return conversion(column, scope, place)(value)
    except Unfit as unfit:
        options = [f"{number} {label}" for number, label in column.options.items()]
        raise scope.document.error(
            place, str(unfit), options or (["true", "false"] * (column.type == "Boolean"))
        ) from None


def conversion(column: Column, scope: Scope, place: Place, **policies: Any) -> Callable[[Any], Scalar]:
    """Choose how values become those of the column; raises MapError for a column that holds no plain value."""
    try:
        return converter(column, **policies)
    except ValueError as error:
        lookup = ["reference", "concept"] if column.targets else ()
        raise scope.document.error(place, str(error), lookup) from None


def must_have_a_value(column: Column) -> bool:
    """Tell whether Dataverse does not let a column be empty."""
    return column.type in _NEVER_EMPTY or column.required == "systemrequired"


def _beside(  # noqa: PLR0917 - what a line is made of
    spec: SourcedShape, column: Column, name: str, value: Any, scope: Scope, place: Place
) -> tuple[str, Scalar]:
    """Check a column that says which alternative this line is; lines with the same one make up a choice."""
    at = (*place, "beside", name)
    beside = scope.beside(name, at)
    if beside.type in LOOKUP_TYPES:
        raise scope.document.error(at, f"{name} is a lookup; beside takes plain columns")
    # what identifies a child is never changed, so there it can tell alternatives apart
    if (spec.match and not scope.child) or must_have_a_value(column):
        what = "a match column" if spec.match else f"{column.name}, which cannot be empty,"
        raise scope.document.error(at, f"{what} cannot be one alternative of several")
    kind = constant(beside, value, scope, at)
    if not spec.disabled:
        scope.alternatives.setdefault(name, {}).setdefault(kind, []).append(column)
    return name, kind

r"""Element paths: a closed subset of JSONPath (RFC 9535), compiled once to closures.

A path is members (`.name`, `['name']`), indexes (`[0]`, `[-1]`), every item (`[*]`) and filters of equalities
(`[?(@.use=='official' && @.type.coding[0].code=='MR')]`), in any order. The spellings of Json.NET are taken too: no
leading `$`, `@use==`, `.[`, and the `\$` that Markdown leaves behind. Unlike in RFC 9535, `[*]` and filters select
items of arrays only. Everything else is refused with its place and the valid choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.path_text import Equality, Every, Filter, Index, Member, PathError, Step, parse_steps

__all__ = [
    "Equality",
    "Every",
    "Filter",
    "Index",
    "Member",
    "Misfit",
    "Path",
    "PathError",
    "Step",
    "accepted",
    "compile_path",
    "path_of",
]


class Misfit(ValueError):  # names the resource's fault, as Failed and Refused do
    """A resource has another JSON shape than a path needs, such as an object where an array belongs."""


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path. `text` is as written; `read` is `first`, but raises Misfit where the resource's shape is wrong."""

    text: str
    steps: tuple[Step, ...]
    read: Callable[[Any], Any] = field(repr=False, compare=False)
    collect: Callable[[Any, list[Any]], None] = field(repr=False, compare=False)

    def first(self, resource: Any) -> Any:
        """Return the first value that is not null; None when there is none or the shape is wrong."""
        try:
            return self.read(resource)
        except Misfit:
            return None

    def all(self, resource: Any) -> list[Any]:
        """Every value that is not null, in document order; empty when the shape is wrong."""
        found: list[Any] = []
        try:
            self.collect(resource, found)
        except Misfit:
            return []
        return found

    @property
    def root_element(self) -> str:
        """The element of the resource that the path begins with; empty when it does not begin with a member."""
        return self.steps[0].name if self.steps and isinstance(self.steps[0], Member) else ""

    @property
    def single(self) -> bool:
        """Whether the path can find one value at most."""
        return all(isinstance(step, (Member, Index)) for step in self.steps)


def compile_path(text: str) -> Path:
    """Compile a path; raises PathError naming the position and the valid choices."""
    return path_of(text, parse_steps(text))


def path_of(text: str, steps: tuple[Step, ...]) -> Path:
    """Compile steps that are parsed already."""
    read: Callable[[Any], Any] = _itself
    collect: Callable[[Any, list[Any]], None] = _gather_itself
    for step in reversed(steps):
        if isinstance(step, Member):
            read, collect = _read_member(step.name, read), _gather_member(step.name, collect)
        elif isinstance(step, Index):
            read, collect = _read_index(step.position, read), _gather_index(step.position, collect)
        else:
            accepts = _accepts(step.tests) if isinstance(step, Filter) else None
            read, collect = _read_items(accepts, read), _gather_items(accepts, collect)
    return Path(text, steps, read, collect)


# --- reading: one closure per step, each calling the next; null is absent everywhere


def _itself(value: Any) -> Any:
    return value


def _gather_itself(value: Any, found: list[Any]) -> None:
    if value is not None:
        found.append(value)


def _member(value: Any, name: str) -> Any:
    try:
        return value.get(name)
    except AttributeError:
        if value is None:
            return None
        raise Misfit from None


def _read_member(name: str, following: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if following is _itself:

        def read_last(value: Any) -> Any:
            try:
                return value.get(name)
            except AttributeError:
                if value is None:
                    return None
                raise Misfit from None

        return read_last

    def read(value: Any) -> Any:
        try:
            inner = value.get(name)
        except AttributeError:
            if value is None:
                return None
            raise Misfit from None
        return None if inner is None else following(inner)

    return read


def _gather_member(name: str, following: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
    def collect(value: Any, found: list[Any]) -> None:
        inner = _member(value, name)
        if inner is not None:
            following(inner, found)

    return collect


def _read_index(position: int, following: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            if value is None:
                return None
            raise Misfit
        try:
            inner = value[position]
        except IndexError:
            return None
        return None if inner is None else following(inner)

    return read


def _gather_index(position: int, following: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
    def collect(value: Any, found: list[Any]) -> None:
        for item in _items(value)[position : position + 1 or None]:
            if item is not None:
                following(item, found)

    return collect


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        return []
    raise Misfit


def _read_items(accepts: Callable[[Any], bool] | None, following: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        for item in _items(value):
            if item is not None and (accepts is None or accepts(item)):
                inner = following(item)
                if inner is not None:
                    return inner
        return None

    return read


def _gather_items(
    accepts: Callable[[Any], bool] | None, following: Callable[[Any, list[Any]], None]
) -> Callable[[Any, list[Any]], None]:
    def collect(value: Any, found: list[Any]) -> None:
        for item in _items(value):
            if item is not None and (accepts is None or accepts(item)):
                following(item, found)

    return collect


def _accepts(tests: tuple[Equality, ...]) -> Callable[[Any], bool]:
    """Compile a filter; an item of the wrong shape is not accepted, as RFC 9535 has it."""
    compiled = [(path_of("", test.steps).read, test.value, isinstance(test.value, bool)) for test in tests]

    def accepts(item: Any) -> bool:
        try:
            for read, wanted, truth in compiled:
                value = read(item)
                # True == 1 in Python, not in JSON
                if value != wanted or isinstance(value, bool) is not truth:
                    return False
        except Misfit:
            return False
        return True

    return accepts


def accepted(step: Filter, item: Any) -> bool:
    """Tell whether a filter selects an item."""
    return _accepts(step.tests)(item)

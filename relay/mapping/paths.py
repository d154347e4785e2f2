r"""Element paths: a closed subset of JSONPath (RFC 9535), compiled once to closures.

A path is members (`.name`, `['name']`), indexes (`[0]`, `[-1]`), every item (`[*]`) and filters of equalities
(`[?(@.use=='official' && @.type.coding[0].code=='MR')]`), in any order. The spellings of Json.NET are taken too: no
leading `$`, `@use==`, `.[`, and the `\$` that Markdown leaves behind. Unlike in RFC 9535, `[*]` and filters select
items of arrays only. Everything else is refused with its place and the valid choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from relay.errors import MapError

_NAME = re.compile(r"[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_WORD = re.compile(r"[A-Za-z]+")
_SEGMENTS = (".name", "['name']", "[0]", "[*]", "[?(@.name=='value')]")
_LITERALS = ("'text'", "a number", "true", "false")


class PathError(MapError):
    """A path is outside the subset; `reason` says why, `position` where (0-based), `valid` what may stand there."""

    def __init__(self, text: str, position: int, reason: str, valid: Iterable[str] = ()) -> None:
        self.text = text
        self.position = position
        self.reason = reason
        self.valid = tuple(valid)
        choices = f" (valid: {', '.join(self.valid)})" if self.valid else ""
        super().__init__(f"path {text}: {reason}{choices}\n    {text}\n    {' ' * position}^")


class Misfit(ValueError):  # names the resource's fault, as Failed and Refused do
    """A resource has another JSON shape than a path needs, such as an object where an array belongs."""


@dataclass(frozen=True, slots=True)
class Member:
    """The member `name` of an object."""

    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """The item at `position` of an array; negative counts from the end."""

    position: int


@dataclass(frozen=True, slots=True)
class Every:
    """Every item of an array."""


@dataclass(frozen=True, slots=True)
class Equality:
    """One comparison of a filter: what `steps` read from the item equals `value`."""

    steps: tuple[Member | Index, ...]
    value: str | int | Decimal | bool


@dataclass(frozen=True, slots=True)
class Filter:
    """The items of an array that all `tests` accept."""

    tests: tuple[Equality, ...]


Step = Member | Index | Every | Filter


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
    return path_of(text, _Parser(text).parse())


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


# --- parsing


class _Parser:
    """Reads one path from left to right; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def refuse(self, reason: str, valid: Iterable[str] = (), at: int | None = None) -> PathError:
        return PathError(self.text, self.at if at is None else at, reason, valid)

    def looking_at(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def take(self, token: str) -> bool:
        if self.looking_at(token):
            self.at += len(token)
            return True
        return False

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def parse(self) -> tuple[Step, ...]:
        if not self.text.strip():
            raise self.refuse("is empty", ("$", "$.name"))
        steps: list[Step] = []
        self.take("\\")
        if not self.take("$") and not self.looking_at("["):
            steps.append(Member(self.name()))
        while self.at < len(self.text):
            steps.append(self.segment())
        return tuple(steps)

    def segment(self) -> Step:
        if self.looking_at(".."):
            raise self.refuse("searching all levels with '..' is not supported", _SEGMENTS)
        if self.take("."):
            if self.looking_at("*"):
                raise self.refuse("'.*' is not supported", _SEGMENTS)
            if not self.looking_at("["):
                return Member(self.name())
        if self.take("["):
            return self.bracket()
        raise self.refuse("unexpected character", _SEGMENTS)

    def name(self) -> str:
        found = self.match(_NAME)
        if found is None:
            raise self.refuse("a member name must stand here", ("letters, digits and _",))
        if self.looking_at("("):
            raise self.refuse("functions are not supported", _SEGMENTS)
        return found

    def bracket(self) -> Step:
        self.blanks()
        step: Step
        if self.take("*"):
            step = Every()
        elif self.looking_at("'") or self.looking_at('"'):
            step = Member(self.quoted())
        elif self.take("?"):
            step = self.filter()
        else:
            step = self.index()
        self.blanks()
        if self.looking_at(","):
            raise self.refuse("several choices in one [ ] are not supported", _SEGMENTS)
        if self.looking_at(":"):
            raise self.refuse("slices are not supported", _SEGMENTS)
        if not self.take("]"):
            raise self.refuse("the [ is not closed here", ("]",))
        return step

    def index(self) -> Index:
        if self.looking_at(":"):
            raise self.refuse("slices are not supported", _SEGMENTS)
        found = self.match(_INTEGER)
        if found is None:
            raise self.refuse("not an index", ("0", "*", "'name'", "?(@.name=='value')"))
        return Index(int(found))

    def quoted(self) -> str:
        quote, start = self.text[self.at], self.at
        self.at += 1
        out: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == quote:
                self.at += 1
                return "".join(out)
            if character == "\\":
                self.at += 1
                character = self.text[self.at : self.at + 1]
                if character not in {"'", '"', "\\", "/"}:
                    raise self.refuse("unknown escape", ("\\'", '\\"', "\\\\", "\\/"), self.at - 1)
            out.append(character)
            self.at += 1
        raise self.refuse("the text is not closed", (quote,), start)

    def filter(self) -> Filter:
        self.blanks()
        closing = self.take("(")
        tests = [self.equality()]
        self.blanks()
        while self.take("&&"):
            tests.append(self.equality())
            self.blanks()
        for operator in ("||", "<", ">", "=~", "!="):
            if self.looking_at(operator):
                raise self.refuse(f"'{operator}' is not supported in a filter", ("==", "&&"))
        if closing and not self.take(")"):
            raise self.refuse("the filter goes on", ("&&", ")"))
        return Filter(tuple(tests))

    def equality(self) -> Equality:
        self.blanks()
        if not self.take("@"):
            raise self.refuse("a filter compares a member of the item", ("@.name=='value'",))
        steps: list[Member | Index] = []
        if not self.looking_at(".") and not self.looking_at("[") and (found := self.match(_NAME)):
            steps.append(Member(found))  # Json.NET takes @use for @.use
        while self.looking_at(".") or self.looking_at("["):
            start = self.at
            step = self.segment()
            if not isinstance(step, (Member, Index)):
                raise self.refuse("filters do not nest", (".name", "[0]"), start)
            steps.append(step)
        self.blanks()
        if not self.take("=="):
            raise self.refuse("only equality is supported in a filter", ("==",))
        self.blanks()
        return Equality(tuple(steps), self.literal())

    def literal(self) -> str | int | Decimal | bool:
        if self.looking_at("'") or self.looking_at('"'):
            return self.quoted()
        start = self.at
        if (number := self.match(_NUMBER)) is not None:
            return int(number) if _INTEGER.fullmatch(number) else Decimal(number)
        word = self.match(_WORD)
        if word in {"true", "false"}:
            return word == "true"
        raise self.refuse("not a value to compare with", _LITERALS, start)

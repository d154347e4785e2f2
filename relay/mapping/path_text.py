r"""The text of an element path, read into steps.

Taken are the subset of RFC 9535 that `relay.mapping.paths` describes and the spellings of Json.NET; everything else is
refused with its place and the valid choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

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


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read a path; raises PathError naming the position and the valid choices."""
    return _Parser(text).parse()


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
        if self.looking_at("x]"):
            raise self.refuse("a choice element is spelled with its type", ("valueQuantity", "onsetDateTime", "…"))
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

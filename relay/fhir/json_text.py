"""JSON as text: where each member and element stands, so that a document can be changed without being rewritten.

Parsing and printing JSON loses what FHIR cares about (`1.10`, `1e3`, the order and spacing that a server signed or hashed).
Everything here finds spans in the text instead, and cuts and pastes text between them. Only strict JSON is read (RFC 8259):
NaN, Infinity, control characters in strings and anything after the document are refused. Lone surrogate escapes are
legal JSON and stay as they are. Errors are Failed with code `not-json`, `duplicate-member` or `invalid-element`; they
name line and column, never content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from relay.errors import Failed

_SPACE = re.compile(r"[ \t\n\r]*")


class Span(NamedTuple):
    """A value is `text[start:end]`, without the white space around it."""

    start: int
    end: int


def document(text: str) -> Span:
    """Find the one value that the whole text is."""
    start = _skip(text, 0)
    span = Span(start, _end(text, start))
    if _skip(text, span.end) != len(text):
        _not_json(text, span.end)
    return span


def members(text: str, start: int = 0) -> dict[str, Span]:
    """Find the members of the object at `start`, by name, in the order of the text; the same name twice is refused."""
    at = _open(text, start, "{", "an object")
    found: dict[str, Span] = {}
    if text.startswith("}", at):
        return found
    while True:
        if not text.startswith('"', at):
            _not_json(text, at)
        name, at = _decode(text, at)
        at = _skip(text, at)
        if not text.startswith(":", at):
            _not_json(text, at)
        if name in found:
            raise Failed(f"an object has two members of one name, at {_place(text, at)}", code="duplicate-member")
        value = _skip(text, at + 1)
        found[name] = Span(value, _end(text, value))
        at = _skip(text, found[name].end)
        if text.startswith("}", at):
            return found
        at = _comma(text, at)


def elements(text: str, start: int = 0) -> list[Span]:
    """Find the elements of the array at `start`."""
    at = _open(text, start, "[", "an array")
    found: list[Span] = []
    if text.startswith("]", at):
        return found
    while True:
        found.append(Span(at, _end(text, at)))
        at = _skip(text, found[-1].end)
        if text.startswith("]", at):
            return found
        at = _comma(text, at)


def member(text: str, span: Span, name: str) -> Span | None:
    """Find one member of the object that `span` is; None when the object lacks it."""
    return members(text, span.start).get(name)


def value_at(text: str, span: Span) -> Any:
    """Read the value that `span` is; numbers come as their text."""
    return _decode(text, span.start)[0]


def with_last(text: str, start: int, parts: Iterable[Span], piece: str) -> str:
    """Put a piece behind the last of the parts of the object or array at `start`: `"name":value`, or a value."""
    last = max((part.end for part in parts), default=None)
    at, comma = (_skip(text, start) + 1, "") if last is None else (last, ",")
    return f"{text[:at]}{comma}{piece}{text[at:]}"


def without(text: str, start: int, parts: Sequence[Span], position: int) -> str:
    """Cut one of the parts of the object or array at `start`, with its name, one comma and the space between them."""
    if position:
        return text[: parts[position - 1].end] + text[parts[position].end :]
    first, end = _skip(text, _skip(text, start) + 1), parts[0].end
    if len(parts) > 1:
        end = _comma(text, _skip(text, end))
    return text[:first] + text[end:]


def _not_json(text: str, at: int) -> NoReturn:
    raise Failed(f"not JSON, or nested too deep, at {_place(text, at)}", code="not-json")


def _place(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError  # NaN and the infinities are Python's, not JSON's


# Numbers come as their text: reading them would cost time and can fail (more than 4,300 digits).
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse_constant)


def _decode(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        at = error.pos
    except (ValueError, RecursionError):
        pass
    # Raised out here because Python's error holds the whole document.
    _not_json(text, at)


def _end(text: str, at: int) -> int:
    return _decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _open(text: str, start: int, bracket: str, what: str) -> int:
    at = _skip(text, start)
    if not text.startswith(bracket, at):
        raise Failed(f"{what} is expected at {_place(text, at)}", code="invalid-element")
    return _skip(text, at + 1)


def _comma(text: str, at: int) -> int:
    if not text.startswith(",", at):
        _not_json(text, at)
    return _skip(text, at + 1)

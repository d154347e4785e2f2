"""A large bundle read entry by entry: each is decoded when it is asked for, so that all of them are never there at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from relay.errors import Refused
from relay.inbound.limits import check_shape, decode_at
from relay.settings import Settings

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A resource in the text it came in: a value that starts at `start`, or that value's member `resource`."""

    text: str
    start: int
    wrapped: bool = True

    def decode(self) -> Any:
        """Return the resource as parsed JSON, anew each time."""
        value, _ = decode_at(self.text, self.start)
        return value.get("resource") if self.wrapped else value


class Pieces(Sequence[Any]):
    """The entries of a bundle, decoded one by one when they are asked for."""

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        self._text = text
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [decode_at(self._text, start)[0] for start in self._starts[index]]
        return decode_at(self._text, self._starts[index])[0]

    def __iter__(self) -> Iterator[Any]:
        return (decode_at(self._text, start)[0] for start in self._starts)

    def piece(self, index: int) -> Piece:
        """Return the resource of an entry, to be decoded later."""
        return Piece(self._text, self._starts[index])


def scan(text: str, limits: Settings) -> dict[str, Any] | None:
    """Read the members of a JSON object strictly, its array `entry` as Pieces that were each decoded once and dropped.

    None for anything else, and for anything that is wrong with it: what that is, the reader of whole texts tells.
    """
    try:
        check_shape(text, limits)
        return _members(text)
    except (Refused, ValueError, IndexError, RecursionError):
        return None


def _members(text: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    at = _after(text, 0, "{")
    while True:
        if text[at] != '"':
            raise ValueError("not a name")
        name, at = decode_at(text, at)
        at = _after(text, at, ":")
        if name == "entry" and text[at] == "[":
            starts, at = _elements(text, at)
            value: Any = Pieces(text, starts)
        else:
            value, at = decode_at(text, at)
        if name in members:
            raise ValueError("two members of one name")
        members[name] = value
        at = value_start(text, at)
        if text[at] == "}":
            if value_start(text, at + 1) != len(text):
                raise ValueError("more than one value")
            return members
        at = _after(text, at, ",")


def _elements(text: str, at: int) -> tuple[list[int], int]:
    starts: list[int] = []
    at = _after(text, at, "[")
    if text[at] == "]":
        return starts, at + 1
    while True:
        starts.append(at)
        _, at = decode_at(text, at)
        at = value_start(text, at)
        if text[at] == "]":
            return starts, at + 1
        at = _after(text, at, ",")


def value_start(text: str, at: int) -> int:
    """Return where the white space ends that begins there."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _after(text: str, at: int, mark: str) -> int:
    """Return where the next thing begins after a mark, with white space before and behind it; raises ValueError."""
    at = value_start(text, at)
    if text[at] != mark:
        raise ValueError("another mark")
    return value_start(text, at + 1)

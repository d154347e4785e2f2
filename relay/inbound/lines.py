"""A file of lines read as it comes, in windows: never more of it is held than one window and the line that it ends in.

Offsets are bytes of the inflated file, so that a window is found again in gzip too, by inflating what is before it.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from relay.errors import Refused

READ: Final = 1024 * 1024
"""Bytes of a file that are read at once."""

_INFLATED: Final = 256 * 1024
_MEMBERS: Final = 10_000  # a member can be 20 bytes of nothing: without a bound they cost time, not space
_BOM: Final = b"\xef\xbb\xbf"
_GZIP_MAGIC: Final = b"\x1f\x8b"

ReadAt = Callable[[int, int], Awaitable[bytes]]
"""Reads at most so many bytes (second) from an offset on (first); fewer only at the end."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank: its number from 1 on, and its bytes; None when it is longer than it may be."""

    number: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two lines: the bytes and the lines before it."""

    offset: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Lines that are worked on at once, and the places at which they begin and end."""

    start: Place
    end: Place
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a window may hold, in lines and bytes, and how long a line may be."""

    lines: int
    bytes: int
    line_bytes: int


async def windows_from(
    read: ReadAt, place: Place, bounds: Bounds, *, max_ratio: int, max_lines: int
) -> AsyncIterator[Window]:
    """Yield the windows of a file from a place on; gzip is known by its first bytes.

    Raises Refused: `encoding` or `truncated` for what is no whole gzip, `ratio` 413 for what inflates by more than
    `max_ratio`, `too-many-lines` 413 for more than `max_lines`, blank ones too. The windows before it have been yielded then.
    """
    if (await read(0, len(_GZIP_MAGIC))) == _GZIP_MAGIC:
        chunks = _from(_inflated(_chunks(read, 0), max_ratio), place.offset)
    else:
        chunks = _chunks(read, place.offset)
    cutter = _Cutter(place, bounds, max_lines)
    async for chunk in chunks:
        for window in cutter.take(chunk):
            yield window
        if cutter.too_many:
            raise Refused(f"more than {max_lines} lines", code="too-many-lines", status=413)
    for window in cutter.end():
        yield window


class _Cutter:
    """Cuts what comes into lines, and lines into windows."""

    def __init__(self, place: Place, bounds: Bounds, max_lines: int) -> None:
        self.too_many = False
        self._max_lines = max_lines
        self._bounds = bounds
        self._start = self._place = place
        self._lines: list[Line] = []
        self._held = 0
        self._begun = bytearray()  # a line whose end has not come
        self._length = 0  # its bytes so far, of which a line that is too long keeps none

    def take(self, chunk: bytes) -> list[Window]:
        found: list[Window] = []
        at = 0
        while self._place.line < self._max_lines and (end := chunk.find(b"\n", at)) >= 0:
            self._more(chunk[at:end])
            found += self._line(ended=1)
            at = end + 1
        if self._place.line >= self._max_lines and at < len(chunk):
            self.too_many = True
            return [*found, *self._window()]
        self._more(chunk[at:])
        return found

    def end(self) -> list[Window]:
        return [*(self._line(ended=0) if self._length else []), *self._window()]

    def _more(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length <= self._bounds.line_bytes:
            self._begun += piece
        else:
            self._begun.clear()

    def _line(self, *, ended: int) -> list[Window]:
        number = self._place.line + 1
        data = bytes(self._begun) if self._length <= self._bounds.line_bytes else None
        if data is not None and number == 1:
            data = data.removeprefix(_BOM)
        place = Place(self._place.offset + self._length + ended, number)
        self._begun.clear()
        self._length = 0
        found: list[Window] = []
        if data is None or data.strip():
            size = len(data or b"")
            if self._held + size > self._bounds.bytes:
                found = self._window()
            self._lines.append(Line(number, data))
            self._held += size
        self._place = place
        return found + (self._window() if len(self._lines) >= self._bounds.lines else [])

    def _window(self) -> list[Window]:
        if not self._lines:
            return []
        window = Window(self._start, self._place, tuple(self._lines))
        self._start, self._lines, self._held = self._place, [], 0
        return [window]


async def _chunks(read: ReadAt, start: int) -> AsyncIterator[bytes]:
    while data := await read(start, READ):
        yield data
        start += len(data)


async def _from(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """Leave out so many bytes of what comes first."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:]
        offset = max(offset - len(chunk), 0)


async def _inflated(chunks: AsyncIterator[bytes], max_ratio: int) -> AsyncIterator[bytes]:
    """Inflate gzip of one or more members, zero padding between them allowed."""
    inflater = None
    read = written = members = 0
    async for chunk in chunks:
        read += len(chunk)
        rest, full = chunk, False
        while rest or full:
            if inflater is None:
                rest = rest.lstrip(b"\0") if members else rest
                if not rest:
                    break
                members += 1
                if members > _MEMBERS:
                    raise Refused(f"the gzip file has more than {_MEMBERS} members", code="encoding")
                inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            try:
                out = inflater.decompress(rest, _INFLATED)
            except zlib.error:
                raise Refused("the file is not gzip, or damaged", code="encoding") from None
            full = len(out) == _INFLATED and not inflater.eof  # more may wait inside of it
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            inflater = None if inflater.eof else inflater
            written += len(out)
            if written > max_ratio * read:
                raise Refused(f"the file inflates to more than {max_ratio} times its size", code="ratio", status=413)
            if out:
                yield out
    if inflater is not None:
        raise Refused("the gzip file ends early", code="truncated")

"""A strict reader of multipart/mixed bodies (RFC 2046), for batches.

The standard library's email parser forgives what must not be forgiven here: a truncated answer would look whole.
"""

from __future__ import annotations

import re
from typing import Any, Final

_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class Headers(dict[str, str]):
    """Header fields; names are kept in lower case and looked up in any."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name.lower(), value)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value, or the default."""
        return super().get(name.lower(), default)


def is_multipart(content_type: str) -> bool:
    """Say whether a Content-Type is multipart/mixed with a boundary."""
    return content_type.lower().startswith("multipart/mixed") and _BOUNDARY.search(content_type) is not None


def split_parts(content_type: str, body: bytes) -> list[tuple[Headers, bytes]]:
    """Return each part's headers and content; raises ValueError if a delimiter, the end or a header is malformed."""
    match = _BOUNDARY.search(content_type)
    if match is None or not is_multipart(content_type):
        raise ValueError("the content type is not multipart/mixed with a boundary")
    delimiter = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    parts: list[tuple[Headers, bytes]] = []
    data = b"\r\n" + body
    began: int | None = None
    position = data.find(delimiter)
    while position >= 0:
        after = position + len(delimiter)
        closes = data.startswith(b"--", after)
        line_end = _line_end(data, after + 2 * closes)
        if line_end is None:  # another boundary that begins with this one
            position = data.find(delimiter, after)
            continue
        if began is not None:
            parts.append(split_head(data[began:position]))
        if closes:
            return parts
        began = line_end
        # the line break before a delimiter belongs to it, and may be the one that ended the delimiter before
        position = data.find(delimiter, line_end - 2)
    raise ValueError("the closing delimiter is missing")


def _line_end(data: bytes, position: int) -> int | None:
    """Return where the next line begins if only blanks are left on this one."""
    while data[position : position + 1] in (b" ", b"\t"):
        position += 1
    if data.startswith(b"\r\n", position):
        return position + 2
    return position if position == len(data) else None


def split_head(content: bytes) -> tuple[Headers, bytes]:
    """Split `name: value` lines from what follows the empty line; raises ValueError for a malformed line."""
    if content.startswith(b"\r\n"):
        return Headers(), content[2:]
    head, _, rest = content.partition(b"\r\n\r\n")
    headers = Headers()
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            if line:
                raise ValueError("a header line has no name")
            continue
        headers[name.decode("latin-1")] = value.strip().decode("latin-1")
    return headers, rest

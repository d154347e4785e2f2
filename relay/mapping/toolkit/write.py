"""Map data → YAML as people write it here: a line of a map on one line where it fits, comments where they help."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from relay.mapping.document import Place, plain

_WIDTH = 118
_PLAIN = re.compile(r"[A-Za-z_$][\w$./-]*(?:[ :][\w$./-]+)*", re.ASCII)
_ALWAYS_BLOCK = frozenset({"attributes"})
_BLOCK_AT_TOP = frozenset({"identifier", "expansions"})


def write_map(data: Mapping[str, Any], title: Sequence[str], remarks: Mapping[Place, str]) -> str:
    """Write one map; `title` are the comment lines at its head, `remarks` stand behind the value at their place."""
    head = [f"# {_one_line(each)}" for each in title]
    return "\n".join([*head, "", *_block(data, 0, (), remarks), ""])


def _block(data: Mapping[str, Any], indent: int, place: Place, remarks: Mapping[Place, str]) -> Iterator[str]:
    """Write an object key by key."""
    for key, value in data.items():
        at = (*place, key)
        if not place and key in _BLOCK_AT_TOP | _ALWAYS_BLOCK:
            yield ""
        yield from _member(key, value, indent, at, remarks)


def _member(key: str, value: Any, indent: int, at: Place, remarks: Mapping[Place, str]) -> Iterator[str]:
    margin, remark = " " * indent, remarks.get(at)
    short = f"{margin}{_text(key)}: {_flow(value)}"
    inside = any(place[: len(at)] == at and place != at for place in remarks)
    if isinstance(value, list) and key in _ALWAYS_BLOCK:
        yield f"{margin}{_text(key)}:"
        for index, each in enumerate(value):
            yield from _item(each, indent + 2, (*at, index), remarks)
    elif (
        isinstance(value, Mapping)
        and value
        and (_holds_lines(value) or inside or (len(at) == 1 and key in _BLOCK_AT_TOP))
    ) or (isinstance(value, Mapping) and value and len(short) > _WIDTH):
        yield f"{margin}{_text(key)}:"
        yield from _block(value, indent + 2, at, remarks)
    else:
        yield short + (f"  # {_one_line(remark)}" if remark else "")


def _item(value: Mapping[str, Any], indent: int, at: Place, remarks: Mapping[Place, str]) -> Iterator[str]:
    """Write one line of a map: on one line, else key by key."""
    short = f"{' ' * indent}- {_flow(value)}"
    inside = any(place[: len(at)] == at for place in remarks)
    if len(short) <= _WIDTH and not inside and not _holds_lines(value):
        yield short
        return
    first, *rest = _block(value, indent + 2, at, remarks)
    yield f"{' ' * indent}- {first.lstrip()}"
    yield from rest


def _holds_lines(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(key in _ALWAYS_BLOCK or _holds_lines(each) for key, each in value.items())
    return False


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int | float | Decimal):
        return str(value)
    return _text(str(value))


def _text(text: str) -> str:
    """Write a text plain where it then reads as itself, else in double quotes."""
    if _PLAIN.fullmatch(text) and plain(text) == text:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return f"\\{character}"
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text).strip()

"""Edits of a FHIR resource: values put in, replaced and taken out by pointer. Pure; the text keeps every other byte.

An edit is a pointer and a value. The pointer's parts are member names and array positions. They are looked up in the
document as the edits before it left it. The last part may name what is not there yet; every part before it must be
there, so a missing object or array is put in whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from relay.errors import Failed
from relay.fhir.json_text import Span, document, elements, members, with_last, without
from relay.fhir.resource_text import refuse_subset, resource_members

Pointer = tuple[str | int, ...]


def apply_edits(text: str, edits: Sequence[tuple[Pointer, Any]]) -> str:
    """Carry edits out one after the other on the resource that `text` is.

    A value takes the place of what is there; else it becomes the object's last member, or, at the position that is the
    array's length, its last element. None takes the member or element out; what becomes empty so stays, as `{}` or `[]`.
    Values are JSON as Python has it, with Decimal for numbers that keep their digits.
    Raises Failed: `not-json`, `duplicate-member`, `subsetted` (a part of a resource must never replace the whole), or
    `invalid-element` when a pointer leads nowhere. Raises ValueError or TypeError for a value that is not JSON.
    """
    refuse_subset(text, resource_members(text))
    for pointer, value in edits:
        text = _edited(text, pointer, value)
    return text


def element_path(pointer: Pointer) -> str:
    """Write a pointer as FHIR writes element paths: `name[0].family`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in pointer).removeprefix(".")


def _edited(text: str, pointer: Pointer, value: Any) -> str:
    if not pointer:
        raise Failed("an edit without a pointer would replace the whole resource", code="invalid-element")
    *above, last = pointer
    container = document(text)
    for depth, part in enumerate(above):
        inside = _parts(text, container, pointer, depth)
        if part not in inside:
            raise _nothing_at(pointer[: depth + 1])
        container = inside[part]
    inside = _parts(text, container, pointer, len(above))
    if value is None:
        if last not in inside:
            raise _nothing_at(pointer)
        return without(text, container.start, list(inside.values()), list(inside).index(last))
    written = _written(value)
    if last in inside:
        start, end = inside[last]
        return f"{text[:start]}{written}{text[end:]}"
    if isinstance(last, str):
        return with_last(text, container.start, inside.values(), f"{json.dumps(last)}:{written}")
    if last != len(inside):
        raise _nothing_at(pointer)
    return with_last(text, container.start, inside.values(), written)


def _parts(text: str, container: Span, pointer: Pointer, depth: int) -> dict[str | int, Span]:
    """Find what the container holds, by what the pointer has at this depth: names of an object, positions of an array."""
    bracket, kind = ("{", "an object") if isinstance(pointer[depth], str) else ("[", "an array")
    if not text.startswith(bracket, container.start):
        at = element_path(pointer[:depth])
        raise Failed(f"{at or 'the resource'} is not {kind}", code="invalid-element", at=at)
    found = members(text, container.start).items() if bracket == "{" else enumerate(elements(text, container.start))
    return dict(found)


def _nothing_at(pointer: Pointer) -> Failed:
    at = element_path(pointer)
    return Failed(f"there is no {at} in the resource", code="invalid-element", at=at)


def _written(value: Any) -> str:
    """Write JSON in ASCII, a Decimal as its own digits."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a number that is not finite cannot be written as JSON")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(name))}:{_written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, allow_nan=False)

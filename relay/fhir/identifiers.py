"""The Dynamics identifier in a FHIR resource: read it, add it, retire it. Pure; the text keeps every other byte.

A resource's Dynamics identifier is the entry of `identifier` whose system is the map's URN and whose value is the GUID
of the row. Systems are compared exactly (they are URIs); values of that one system as GUIDs, without regard to case
and braces. Entries of other systems, entries without a system or a value, and their order are never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from relay.errors import Failed
from relay.fhir.json_text import Span, document, elements, members, value_at, with_last
from relay.fhir.resource_text import refuse_subset, resource_members
from relay.guid import canonical_guid


@dataclass(frozen=True, slots=True)
class Present:
    """The resource carries the identifier already: there is nothing to write."""


@dataclass(frozen=True, slots=True)
class Added:
    """The resource with the identifier appended; nothing else of the text differs."""

    text: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing may be written: another value stands under the system, or ours stands there as `use: old`."""

    reason: Literal["other-guid", "ours-is-old"]


Merge = Present | Added | Conflict


def add_identifier(text: str, *, system: str, value: str) -> Merge:
    """Append one identifier to the resource that `text` is, unless it is there or another one of the system is.

    An absent `identifier` becomes the resource's last member; null becomes an array. Raises Failed: `not-json`,
    `duplicate-member`, `subsetted` (a part of a resource must never replace the whole), or `invalid-element` when
    `identifier` is neither an array nor null.
    """
    top = _resource(text)
    refuse_subset(text, top)
    ours = canonical_guid(value)
    entry = json.dumps({"system": system, "value": ours}, separators=(",", ":"))
    array = top.get("identifier")
    if array is None:
        return Added(with_last(text, document(text).start, top.values(), f'"identifier":[{entry}]'))
    if text.startswith("null", array.start):
        return Added(f"{text[: array.start]}[{entry}]{text[array.end :]}")
    entries = elements(text, array.start)
    if verdict := _verdict(text, entries, system, ours):
        return verdict
    return Added(with_last(text, array.start, entries, entry))


def mark_old(text: str, *, system: str, value: str) -> str:
    """Give `use: old` to the resource's entries with this system and GUID; the text is unchanged if there are none.

    For a row that its own org reported gone. Raises Failed as `add_identifier` does.
    """
    array = _resource(text).get("identifier")
    if array is None or text.startswith("null", array.start):
        return text
    gone = canonical_guid(value)
    for entry in reversed(elements(text, array.start)):  # from the end, so that earlier spans stay true
        if _claim(text, entry, system) != (gone, False):
            continue
        inside = members(text, entry.start)
        if use := inside.get("use"):
            text = f'{text[: use.start]}"old"{text[use.end :]}'
        else:
            text = with_last(text, entry.start, inside.values(), '"use":"old"')
    return text


def dynamics_ids(resource: Mapping[str, Any], system: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the GUIDs under `system` as (current, `use: old`): lower case, no braces, each once, in order.

    Ill-typed parts are passed over: a claim that cannot be read is no claim.
    """
    current: dict[str, None] = {}
    old: dict[str, None] = {}
    entries = resource.get("identifier")
    for entry in entries if isinstance(entries, list | tuple) else ():
        if not isinstance(entry, Mapping) or entry.get("system") != system:
            continue
        value = entry.get("value")
        if isinstance(value, str) and (guid := canonical_guid(value)):
            (old if entry.get("use") == "old" else current)[guid] = None
    return tuple(current), tuple(old)


def _resource(text: str) -> dict[str, Span]:
    """Find the members of the resource that the whole text is; `identifier` is known to be an array or null."""
    top = resource_members(text)
    array = top.get("identifier")
    if array and not text.startswith(("[", "null"), array.start):
        raise Failed(
            "identifier is not an array, so it has no room for one more", code="invalid-element", at="identifier"
        )
    return top


def _verdict(text: str, entries: list[Span], system: str, ours: str) -> Present | Conflict | None:
    """Judge the entries of our system: another current GUID wins over everything, then ours, then ours as old."""
    claims = [claim for entry in entries if (claim := _claim(text, entry, system))]
    if any(guid != ours and not old for guid, old in claims):
        return Conflict("other-guid")
    if (ours, False) in claims:
        return Present()
    if (ours, True) in claims:
        return Conflict("ours-is-old")
    return None


def _claim(text: str, entry: Span, system: str) -> tuple[str | None, bool] | None:
    """Read an entry as (GUID, is `use: old`); None if it is not of our system or has no value.

    A value that is not text is a GUID of nobody (None): it stands in the way as any other value would.
    """
    if not text.startswith("{", entry.start):
        return None
    inside = members(text, entry.start)
    if "value" not in inside or "system" not in inside or value_at(text, inside["system"]) != system:
        return None
    old = "use" in inside and value_at(text, inside["use"]) == "old"
    value = value_at(text, inside["value"])
    if not text.startswith('"', inside["value"].start):  # a number is read as its text, so the text tells the type
        return None if value is None else (None, old)
    guid = canonical_guid(value)
    return (guid, old) if guid else None

"""What a map has to do with the elements of its resource: a map of some of them alone, and the expansions that are off. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.mapping.expansions import Expand, live_expansions
from relay.mapping.model import EntityMap, ExpansionMap

_CHOICES: Final = frozenset(
    {
        "Age", "Attachment", "Boolean", "Canonical", "CodeableConcept", "Coding", "Date", "DateTime", "Decimal",
        "Duration", "Identifier", "Instant", "Integer", "Money", "Period", "Quantity", "Range", "Ratio", "Reference",
        "SampledData", "String", "Time", "Timing", "Uri",
    }
)  # fmt: skip
"""How a choice of types goes on after its base: `onset` is `onsetDateTime`, `onsetAge`, … (FHIR R4)."""


def meant(element: str, among: Collection[str]) -> frozenset[str]:
    """Return the names among these that an element goes by: its own, or those of a choice (`onset`, `onset[x]`)."""
    if element in among:
        return frozenset({element})
    base = element.removesuffix("[x]")
    return frozenset(each for each in among if each.startswith(base) and each[len(base) :] in _CHOICES)


def narrowed(entity_map: EntityMap, elements: Collection[str]) -> EntityMap:
    """Return the map with the lines of these elements alone, so that no more is read than is asked for."""
    kept = frozenset[str]().union(*(meant(each, entity_map.elements) for each in elements))
    lines = tuple(line for line in entity_map.lines if line.elements & kept)
    own = (*entity_map.where, entity_map.key, entity_map.version, entity_map.last_updated)
    return replace(
        entity_map,
        lines=lines,
        columns=tuple(dict.fromkeys(filter(None, (*own, *(name for line in lines for name in line.columns))))),
        expansions=live_expansions(lines),
        elements=kept,
    )


def disabled_expansions(entity_map: EntityMap) -> Mapping[tuple[str, ...], ExpansionMap]:
    """Return the expansions that the map has and does not carry out, by the elements that lead to them."""
    return dict(_disabled(entity_map.lines, ()))


def _disabled(lines: Sequence[Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ExpansionMap]]:
    for line in lines:
        if not isinstance(line, Expand):
            continue
        at = (*above, line.expansion.element)
        if line.disabled:
            yield at, line.expansion
        else:
            yield from _disabled(line.expansion.lines, at)

"""What differs between two sets of maps, by what they say and not by how they are written, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from typing import Any, Literal

from relay.mapping.actions import ACTIONS
from relay.mapping.outline import ExpansionOutline, LineOutline, MapOutline

_LISTED_APART = frozenset({"attributes", "expansions"})
_NAMES_THE_PLACE = frozenset({"column"})
Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs; `at` is the column with the arrays around it, empty for a key of the map itself.

    `before` and `after` are None where there is nothing; `key` is empty where the whole line or map is meant.
    """

    resource: str
    change: Change
    at: str = ""
    key: str = ""
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        where = " ".join(part for part in (self.at, self.key) if part)
        if self.change == "changed":
            return f"{where}: {words(self.before)} -> {words(self.after)}"
        value = self.after if self.change == "added" else self.before
        return f"{where} {self.change}: {words(value)}" if where else f"map {self.change}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def diff(one: Iterable[MapOutline], other: Iterable[MapOutline]) -> Iterator[Difference]:
    """List what `other` says otherwise than `one`, by resource type: maps, their keys, arrays, lines."""
    before, after = ({each.resource: each for each in outlines} for outlines in (one, other))
    for resource in sorted({*before, *after}):
        if resource not in after:
            yield Difference(resource, "removed")
        elif resource not in before:
            yield Difference(resource, "added")
        else:
            yield from _map(resource, before[resource], after[resource])


def _map(resource: str, before: MapOutline, after: MapOutline) -> Iterator[Difference]:
    yield from _keys(resource, "", _own(before.data, _LISTED_APART), _own(after.data, _LISTED_APART))
    yield from _pairs(resource, _arrays(before.expansions), _arrays(after.expansions))
    yield from _pairs(resource, _columns(before.lines), _columns(after.lines))


def _arrays(expansions: Sequence[ExpansionOutline]) -> dict[str, Mapping[str, Any]]:
    """Describe each array that becomes rows, whether its expansion is named or written in its place."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in expansions:
        plain = _own(each.data, {*_LISTED_APART, "expand", "using", "disabled"})
        name = _free(f"expand {'.'.join(each.under)}", found)
        found[name] = plain | ({"disabled": True} if each.disabled else {})
    return found


def _columns(lines: Sequence[LineOutline]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        found[_free(".".join((*line.under, line.column)), found)] = _own(line.data, _NAMES_THE_PLACE)
    return found


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name for one more thing at the same place: one array may go into two tables, a line may stand disabled."""
    return next(each for each in chain((name,), (f"{name} ({number})" for number in count(2))) if each not in taken)


def _own(data: Mapping[str, Any], without: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in without}


def _pairs(
    resource: str, before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[Difference]:
    for at in dict.fromkeys(chain(before, after)):
        if at not in after:
            yield Difference(resource, "removed", at, before=dict(before[at]))
        elif at not in before:
            yield Difference(resource, "added", at, after=dict(after[at]))
        else:
            yield from _keys(resource, at, before[at], after[at])


def _keys(resource: str, at: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Compare key by key; objects such as `values` one level down, so that one code that moved reads as one."""
    old, new = (next((key for key in data if key in ACTIONS), "") for data in (before, after))
    if old and new and old != new:  # another action: its key says what the old one said
        yield Difference(resource, "changed", at, "action", {old: before[old]}, {new: after[new]})
    skipped = {old, new} if old != new else set()
    for key in dict.fromkeys(chain(before, after)):
        if key in skipped:
            continue
        mine, its = before.get(key), after.get(key)
        if mine == its and (key in before) == (key in after):
            continue
        if isinstance(mine, dict) and isinstance(its, dict):
            yield from _keys(resource, " ".join(part for part in (at, key) if part), mine, its)
        elif key not in after:
            yield Difference(resource, "removed", at, key, before=mine)
        elif key not in before:
            yield Difference(resource, "added", at, key, after=its)
        else:
            yield Difference(resource, "changed", at, key, mine, its)


def words(value: Any) -> str:
    """Write a value of a map as a person would read it in the file."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {words(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " | ".join(map(words, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value is None else str(value)

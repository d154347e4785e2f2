"""The same resource more than once in one body: which entry counts.

Versions of one resource (a history, a notification): the newest counts. Otherwise identical copies are one resource,
and copies that differ are refused together, since nothing says which one is meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from relay.inbound.entries import Entry

_WRITES = frozenset({"", "POST", "PUT"})
_VERSION_DIGITS = 20

_Measure = TypeVar("_Measure", datetime, int)


class Age(NamedTuple):
    """How new an entry says it is: meta.lastUpdated and meta.versionId, None where it does not say."""

    updated: datetime | None
    version: int | None


def age_of(sent: object) -> Age:
    """Read the age of a Bundle.entry from its resource, or, for one without (a deletion), from its response."""
    entry = sent if isinstance(sent, Mapping) else {}
    resource = entry.get("resource")
    meta = resource.get("meta") if isinstance(resource, Mapping) else None
    said = entry.get("response")
    meta = meta if isinstance(meta, Mapping) else {}
    said = said if isinstance(said, Mapping) else {}
    etag = said.get("etag")
    tagged = etag.removeprefix("W/").strip('"') if isinstance(etag, str) else None
    return Age(_instant(meta.get("lastUpdated") or said.get("lastModified")), _number(meta.get("versionId") or tagged))


def settle(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Leave one entry per (type, id) to be carried out: of identical ones the first; those that differ all fail."""
    settled = list(entries)
    for group in _groups(entries):
        _collapse(settled, group)
    return tuple(settled)


def settle_versions(entries: Sequence[Entry], ages: Sequence[Age], *, newest_first: bool) -> tuple[Entry, ...]:
    """Leave the newest entry per (type, id) to be carried out; `newest_first` lets the order decide where ages do not."""
    settled = list(entries)
    for group in _groups(entries):
        newest = _newest(group, ages, newest_first=newest_first)
        if newest is None:
            _collapse(settled, group)
            continue
        for number in group:
            if number != newest:
                settled[number] = settled[number].skipped("older-version")
    return tuple(settled)


def _groups(entries: Sequence[Entry]) -> list[list[int]]:
    """Find the entries that share a (type, id), by their place."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        if entry.key and not entry.skip:
            places[entry.key].append(number)
    return [group for group in places.values() if len(group) > 1]


def _collapse(settled: list[Entry], group: list[int]) -> None:
    first, *others = (settled[number] for number in group)
    if all(_alike(first, other) for other in others):
        for number in group[1:]:
            settled[number] = settled[number].skipped(f"same-as-entry-{first.index}")
        return
    for number in group:
        if not settled[number].problem:
            message = f"{len(group)} entries are one resource, and differ"
            settled[number] = settled[number].failed("duplicate-id", message, f"Bundle.entry[{settled[number].index}]")


def _newest(group: list[int], ages: Sequence[Age], *, newest_first: bool) -> int | None:
    """Find the newest of a group by time, then version, then order; None if these do not tell."""
    best = _most(group, [ages[number].updated for number in group])
    best = _most(best, [ages[number].version for number in best])
    return best[0] if newest_first or len(best) == 1 else None


def _most(group: list[int], measures: Sequence[_Measure | None]) -> list[int]:
    """Keep those with the highest measure; all of them when one has none, since it might be the highest."""
    known = [measure for measure in measures if measure is not None]
    if len(known) < len(measures):
        return group
    most = max(known)
    return [number for number, measure in zip(group, measures, strict=True) if measure == most]


def _alike(one: Entry, other: Entry) -> bool:
    """Tell whether two entries ask for the same: the same resource, written or deleted."""
    same_method = one.method == other.method or {one.method, other.method} <= _WRITES
    return same_method and _same(one.resource, other.resource)


def _same(one: Any, other: Any) -> bool:
    """Compare parsed JSON exactly: `true` is not 1 and 1.10 is not 1.1, as they are for `==`."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Decimal):
        return str(one) == str(other)
    return bool(one == other)


def _instant(value: object) -> datetime | None:
    """Read an instant; one without a time zone says nothing comparable."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo else None


def _number(value: object) -> int | None:
    if not isinstance(value, str) or len(value) > _VERSION_DIGITS:
        return None
    return int(value) if value.isascii() and value.isdecimal() else None

"""Column facts against an org: where what maps rely on in `metadata.json` is not what the org's own definitions say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.check import GIVEN
from relay.mapping.findings import Finding, Severity
from relay.mapping.outline import MapOutline
from relay.mapping.values import LOOKUP_TYPES, OPTION_TYPES, TEXT_TYPES

Facts = Mapping[str, Any]
_ALIKE = (TEXT_TYPES, LOOKUP_TYPES, OPTION_TYPES)
"""Types that travel alike."""


@dataclass(slots=True)
class _Use:
    """What maps do with one column, and where it is first said."""

    file: str
    line: int
    values: list[Any] = field(default_factory=list)


def drift(outlines: Sequence[MapOutline], facts: Facts, live: Facts) -> Iterator[Finding]:
    """Compare the tables of the maps; `facts` and `live` are tables as `metadata.json` holds them, by logical name.

    An error is what makes writes fail or go wrong, a warning what may for some values, the rest is information.
    Columns that no map names are not compared, but for those that the org requires.
    """
    uses = _uses(outlines)
    for table, columns in uses.items():
        place = next(iter(columns.values()))
        if table not in live:
            message = f"the org has no table {table}"
            yield Finding("error", "missing-table", message, place.file, place.line, table)
            continue
        if table not in facts:
            continue  # loading tells it
        yield from _table(table, facts[table], live[table], place)
        for name, use in columns.items():
            if name in facts[table]["columns"]:
                yield from _column(f"{table}.{name}", facts[table]["columns"][name], live[table], use)
        yield from _required(table, columns, live[table], place)


def _uses(outlines: Iterable[MapOutline]) -> dict[str, dict[str, _Use]]:
    uses: dict[str, dict[str, _Use]] = {}
    for outline in outlines:
        if outline.disabled:
            continue
        document = outline.document
        for table, column, place, values in outline.columns():
            new = _Use(document.file, document.line(place))
            uses.setdefault(table, {}).setdefault(column, new).values.extend(values)
    return uses


def _table(name: str, ours: Facts, live: Facts, use: _Use) -> Iterator[Finding]:
    for key, severity in _TABLE_FACTS.items():
        if ours.get(key) != live.get(key):
            yield _differs(severity, name, key, (ours.get(key), live.get(key)), use)


_TABLE_FACTS: Mapping[str, Severity] = {
    "entitySet": "error",
    "primaryId": "error",
    "primaryName": "information",
    "optimisticConcurrency": "warning",
}


def _column(at: str, ours: Facts, table: Facts, use: _Use) -> Iterator[Finding]:
    live = table["columns"].get(at.partition(".")[2])
    if live is None:
        yield Finding("error", "missing-column", f"the org has no column {at}", use.file, use.line, at)
        return
    kind, other = ours["type"], live["type"]
    if kind != other:
        alike = any({kind, other} <= family for family in _ALIKE)
        yield _differs("information" if alike else "error", at, "type", (kind, other), use)
        if not alike:
            return
    if kind == "DateTime" and ours.get("format") != live.get("format"):
        yield _differs("error", at, "format", (ours.get("format"), live.get("format")), use)
    yield from _limits(at, ours, live, use)
    yield from _options(at, ours, live, use)
    yield from _targets(at, ours, live, use)


def _limits(at: str, ours: Facts, live: Facts, use: _Use) -> Iterator[Finding]:
    """Warn of a tighter limit, which refuses values that the relay lets pass; a wider one is only worth knowing."""
    for key, tighter in (("maxLength", -1), ("max", -1), ("min", 1), ("precision", -1)):
        mine, its = ours.get(key), live.get(key)
        if its is None or mine == its:
            continue
        severity: Severity = "warning" if mine is None or (its - mine) * tighter > 0 else "information"
        yield _differs(severity, at, key, (mine, its), use)


def _options(at: str, ours: Facts, live: Facts, use: _Use) -> Iterator[Finding]:
    known = {option[0]: option[1] for option in ours.get("options", ())}
    there = {option[0]: option[1] for option in live.get("options", ())}
    written = [value for value in dict.fromkeys(use.values) if isinstance(value, int) and not isinstance(value, bool)]
    if missing := [f"{value} {known.get(value, '')}".strip() for value in written if value not in there and known]:
        message = f"the org has no such option of {at}, and the maps write it: {', '.join(missing)}"
        yield Finding("error", "missing-option", message, use.file, use.line, at)
    if new := [f"{value} {label}" for value, label in there.items() if value not in known]:
        message = f"the org has more options of {at}: {', '.join(new)}"
        yield Finding("information", "new-option", message, use.file, use.line, at)


def _targets(at: str, ours: Facts, live: Facts, use: _Use) -> Iterator[Finding]:
    names = live.get("navigation", {})
    for target, name in ours.get("navigation", {}).items():
        if target not in names:
            message = f"{at} does not point to {target} in the org"
            yield Finding("warning", "missing-target", message, use.file, use.line, at)
        elif names[target] != name:
            yield _differs("error", at, f"navigation to {target}", (name, names[target]), use)


def _required(table: str, columns: Mapping[str, _Use], live: Facts, use: _Use) -> Iterator[Finding]:
    for name, each in live["columns"].items():
        if each.get("required") != "systemrequired" or name in columns or name in GIVEN or name == live["primaryId"]:
            continue
        message = f"no line writes {name}, which the org's {table} cannot be created without"
        yield Finding("error", "system-required", message, use.file, use.line, f"{table}.{name}")


def _differs(severity: Severity, at: str, what: str, values: tuple[Any, Any], use: _Use) -> Finding:
    ours, live = values
    said = "nothing" if ours is None else ours
    message = f"{what} of {at} is {live} in the org; metadata.json says {said}"
    return Finding(severity, f"different-{what.partition(' ')[0].lower()}", message, use.file, use.line, at)

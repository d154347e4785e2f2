"""Columns with two writers: which side changed since both agreed, and who is followed. Pure.

The mark of a value that both sides had tells who changed it since: the row if it no longer has it, FHIR if what comes in
does not. Without a mark nobody knows who made what a side holds, so whatever it holds counts as its change. A row that
holds nothing is so filled, and a first synchronization goes through; where both hold something else, a user's work from
before the first agreement is never lost unasked: the map's `conflict` decides. What is no newer than the version over
which a user's change went to FHIR cannot know of it: a bundle that comes late, or again, takes nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.inbound.located import Agreements, Row
from relay.inbound.rows import Links
from relay.mapping.model import Draft, EntityMap, Issue
from relay.mapping.values import same
from relay.store.agreed import sent_of

_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Weighed:
    """The columns to leave as the row has them, what to tell, and the marks of what both sides will then hold."""

    left_out: frozenset[str]
    issues: tuple[Issue, ...]
    marks: Mapping[str, str]


NOTHING = Weighed(frozenset(), (), {})


def weigh(draft: Draft, row: Row | None, row_id: str, agreed: Agreements | None, links: Links) -> Weighed:
    """Decide for each tracked column whether what comes in or what the row holds is followed.

    `row` is None for a row about to be made: it takes everything. `marks` leave out what the store has already.
    """
    if agreed is None or not draft.map.outward.tracked:
        return NOTHING
    return _Scales(draft, row, row_id, agreed, links).weigh()


class _Scales:
    """One draft against its row."""

    def __init__(self, draft: Draft, row: Row | None, row_id: str, agreed: Agreements, links: Links) -> None:
        self._draft = draft
        self._map = draft.map
        self._row = row
        self._row_id = row_id
        self._agreed = agreed
        self._marks = agreed.marks.get((draft.map.table.name, row_id), _NONE)
        self._links = links

    def weigh(self) -> Weighed:
        left_out: set[str] = set()
        issues: list[Issue] = []
        if self._row is not None and _may_leave(self._map, self._row):
            for unit in _units(self._map):
                if (decided := self._decide(unit, self._row)) is not None:
                    issue, stays = decided
                    issues.append(issue)
                    left_out |= unit if stays else set()
        return Weighed(frozenset(left_out), tuple(issues), dict(self._to_mark(left_out)))

    def _decide(self, unit: frozenset[str], row: Row) -> tuple[Issue, bool] | None:
        """Return what to tell, and whether the row's columns stay; None when FHIR is followed as ever."""
        tracked = [name for name in self._map.outward.tracked if name in unit]
        differing = [name for name in tracked if self._speaks_of(name) and not self._alike(name, row)]
        if not differing:
            return None
        names, at = ", ".join(differing), differing[0]
        ours = any(self._has_changed(name, self._held(name, row)) for name in differing)
        news = [name for name in differing if not self._is_overtaken(name)]
        if not any(self._has_changed(name, self._incoming(name)) for name in news) and (ours or not news):
            message = f"{names}: Dataverse alone changed it since both sides agreed, so it stays"
            return Issue("information", "kept-dataverse", message, at), True
        if not ours:
            return None
        changed = f"{names}: both sides changed it"
        match self._map.outward.conflict:
            case "fhir":
                return Issue("information", "conflict", f"{changed}; FHIR's value is taken", at), False
            case "dataverse":
                return Issue("information", "conflict", f"{changed}; Dataverse's value stays", at), True
            case "park":
                return Issue("warning", "conflict", f"{changed}; nothing is overwritten until they are alike", at), True

    def _has_changed(self, name: str, value: Any) -> bool:
        """Tell whether a side that holds this value changed it since both agreed."""
        agreed, sent = self._marks.get(name), sent_of(self._marks, name)[0]
        if sent and self._mark(name, self._incoming(name)) == sent:
            agreed = sent  # it went out and came back before anybody could note that both have it
        if agreed is None:
            return value not in (None, "")
        return self._mark(name, value) != agreed

    def _is_overtaken(self, name: str) -> bool:
        """Tell whether what comes in is no newer than the version over which Dataverse's value went to FHIR."""
        _, version, updated = sent_of(self._marks, name)
        columns = self._draft.columns
        mine, at = columns.get(self._map.version), columns.get(self._map.last_updated)
        if version and mine:
            return mine == version or (isinstance(at, str) and at < updated)
        return isinstance(at, str) and at <= updated

    def _to_mark(self, left_out: set[str]) -> Iterator[tuple[str, str]]:
        """Yield the marks of what both sides will hold; a column that FHIR says nothing of is agreed on if it is empty."""
        for name in self._map.outward.tracked:
            empty = self._row is None or self._held(name, self._row) in (None, "")
            if name in left_out or self._is_overtaken(name) or not (empty or self._speaks_of(name)):
                continue
            mark = self._mark(name, self._incoming(name))
            if self._marks.get(name) != mark:
                yield name, mark

    def _mark(self, name: str, value: Any) -> str:
        return self._agreed.mark(self._map.table.name, self._row_id, self._map.table.columns[name], value)

    def _held(self, name: str, row: Row) -> Any:
        return row.value(self._map.table.columns[name])

    def _speaks_of(self, name: str) -> bool:
        return name in self._draft.columns or name in self._draft.lookups

    def _incoming(self, name: str) -> Any:
        """Return what the draft has for a column, of a lookup the GUID; None when nothing."""
        if name in self._draft.columns:
            return self._draft.columns[name]
        target = self._draft.lookups.get(name)
        return None if target is None else self._links.guid(target)

    def _alike(self, name: str, row: Row) -> bool:
        return same(self._map.table.columns[name], self._held(name, row), self._incoming(name))


def _may_leave(entity_map: EntityMap, row: Row) -> bool:
    """Tell whether changes of this row go to FHIR: of another row FHIR is the one writer."""
    columns = entity_map.table.columns
    return all(same(columns[name], row.values.get(name), value) for name, value in entity_map.outward.when.items())


def _units(entity_map: EntityMap) -> Iterator[frozenset[str]]:
    """Yield the columns that stand or fall together: a choice with its alternatives, any other tracked column alone."""
    units = [frozenset({name}) for name in entity_map.outward.tracked]
    for choice in entity_map.choices:
        unit = frozenset({choice.column}).union(*choice.alternatives.values())
        joined = [each for each in units if each & unit]
        if joined:  # otherwise no column of it has two writers
            units = [each for each in units if not each & unit] + [unit.union(*joined)]
    yield from sorted(units, key=min)

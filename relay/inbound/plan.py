"""Drafts and what Dataverse has → what to write, in order, with reasons. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from relay.dataverse.batch import MAX_OPERATIONS
from relay.dataverse.keys import row_key
from relay.errors import Failed
from relay.inbound.agreement import weigh
from relay.inbound.children import plan_children
from relay.inbound.identity import Identity, claimed_twice, identify
from relay.inbound.located import Located, Row
from relay.inbound.nesting import targets_of
from relay.inbound.operations import Operation, Plan, Planned
from relay.inbound.resolve import CONCEPTS, NOT_LINKED, Meant, Resolver
from relay.inbound.retiring import change_of_state, end, too_late
from relay.inbound.rows import Links, create_body, update_body
from relay.inbound.versions import compare
from relay.mapping.load import MapSet
from relay.mapping.model import Concept, Draft, Issue, Table, Target


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a deployment chooses about planning; `identifier_rows` is whether this plan writes (URN, GUID) rows."""

    source_name: str = "fhir"
    row_gone: Literal["fail", "recreate"] = "fail"
    identifier_rows: bool = True
    ordered_versions: bool = False


def plan(drafts: Mapping[int, Draft], located: Located, maps: MapSet, options: PlanOptions) -> Plan:
    """Return what to write so that Dataverse holds these drafts; a resource that cannot be carried out is `failed`."""
    planner = _Planner(located, maps, options)
    planner.resolve(planner.identify(drafts))
    resources = planner.write_order()
    return Plan(planner.missing_concepts(), tuple(resources))


def rows_meant(drafts: Iterable[Draft], located: Located, options: PlanOptions) -> list[tuple[str, str]]:
    """Return (table, GUID) of the rows that are there and that these drafts mean, without doubles."""
    found: dict[tuple[str, str], None] = {}
    for draft in drafts:
        derived = row_key(options.source_name, draft.map.resource, draft.id)
        with suppress(Failed):  # planning tells
            row = identify(draft, located, row_gone=options.row_gone, derived=derived).row
            if row is not None:
                found[draft.map.table.name, row.id] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class _Known:
    """A draft whose row is known, the one it has or the key it will get, and what its lookups mean."""

    planned: Planned
    row: Row | None
    meant: Meant
    targets: Mapping[Target, str]


class _Planner:
    """The state of one run of `plan`; each method is one of its steps."""

    def __init__(self, located: Located, maps: MapSet, options: PlanOptions) -> None:
        self._located = located
        self._maps = maps
        self._options = options
        self._known: dict[int, _Known] = {}
        self._settled: list[Planned] = []
        self._resolver = Resolver(located, {})

    def identify(self, drafts: Mapping[int, Draft]) -> dict[int, tuple[Row | None, Meant]]:
        """Step 1: decide which row each draft means, and drop the drafts that may not or need not be written."""
        identities: dict[int, Identity] = {}
        for number, draft in drafts.items():
            if draft.end == "deleted":
                self._settled.append(end(number, draft, self._located))
                continue
            tombstone = self._located.tombstones.get(draft.key)
            # The claim of a resource whose row the relay deleted is no user's doing: there is nothing to ask about.
            gone = "recreate" if tombstone is not None and tombstone.row == "deleted" else self._options.row_gone
            try:
                identities[number] = identify(draft, self._located, row_gone=gone, derived=self._derived(draft))
            except Failed as failure:
                self._settle(number, draft, failure)
        twice = claimed_twice(identities, {number: drafts[number].map for number in identities})
        identified: dict[int, tuple[Row | None, Meant]] = {}
        for number, identity in identities.items():
            draft, row = drafts[number], identity.row
            if number in twice:
                message = "two resources of this bundle mean the same row"
                self._settle(number, draft, Failed(message, code="identity-conflict"))
            elif (reason := self._skip_reason(draft, row)) is not None:
                self._settle(number, draft, reason, row.id if row else "")
            else:
                identified[number] = row, Meant(draft, row.id if row else self._derived(draft), row is None)
        return identified

    def resolve(self, identified: Mapping[int, tuple[Row | None, Meant]]) -> None:
        """Step 2: find what the lookups mean, and drop the drafts that cannot or need not be written because of it."""
        self._resolver = Resolver(self._located, {number: meant for number, (_, meant) in identified.items()})
        dropped = self._resolver.settle()
        for number, (row, meant) in identified.items():
            if number in dropped:
                self._settle(number, meant.draft, dropped[number])
            else:
                planned = Planned(number, meant.draft, "unchanged", meant.row_id)
                self._known[number] = _Known(planned, row, meant, self._resolver.targets(number))

    def write_order(self) -> list[Planned]:
        """Step 3: rows after the rows they point to; the lowest entry of a cycle goes first and is completed later."""
        written: set[int] = set()
        unwritten = {known.planned.row_id for known in self._known.values() if known.row is None}
        waiting = {number: self._resolver.needs(number) for number in sorted(self._known)}
        ordered: list[Planned] = []
        while waiting:
            ready = [number for number, needs in waiting.items() if needs <= written]
            for number in ready or [_lowest_of_a_cycle(waiting)]:
                del waiting[number]
                self._fill(self._known[number], unwritten)
                unwritten.discard(self._known[number].meant.row_id)
                written.add(number)
                ordered.append(self._known[number].planned)
        self._refuse_dependents()
        return [*ordered, *self._settled]

    def missing_concepts(self) -> tuple[Operation, ...]:
        """Step 4: create each codeable concept that is not there and that something to be written needs, once."""
        table = self._maps.tables.get(CONCEPTS)
        missing = {
            (target.type, target.code): target
            for known in self._known.values()
            if known.planned.result not in ("failed", "skipped")
            for target in known.targets
            if isinstance(target, Concept) and (target.type, target.code) not in self._located.concepts
        }
        if table is None:
            return ()
        return tuple(
            _concept(table, target, self._resolver.concept_key(*names, "msemr_code"))
            for names, target in missing.items()
        )

    # --- the parts of the steps

    def _derived(self, draft: Draft) -> str:
        return row_key(self._options.source_name, draft.map.resource, draft.id)

    def _settle(self, number: int, draft: Draft, reason: Failed | Issue, row_id: str = "") -> None:
        """Note that nothing is written of a draft: it failed, or it is skipped and its row stays as it is."""
        planned = Planned(number, draft, "unchanged")
        if isinstance(reason, Failed):
            planned.fail(reason.code, str(reason), reason.at)
        else:
            planned.skip(reason)
            planned.row_id = row_id
        self._settled.append(planned)

    def _refuse_dependents(self) -> None:
        """Drop what points to a row that is not going to be made after all, and what points to that in turn."""
        new = [known for known in self._known.values() if known.row is None]
        gone: set[str] = set()
        more = {known.meant.row_id for known in new if known.planned.result == "failed"}
        while more:
            gone |= more
            more = {known.meant.row_id for known in new if not gone.isdisjoint(known.targets.values())} - gone
        for known in self._known.values() if gone else ():
            draft, planned = known.meant.draft, known.planned
            lost = [at for at, target in targets_of(draft) if known.targets[target] in gone]
            if planned.result == "failed" or not lost:
                continue
            rows = {guid for target, guid in known.targets.items() if not isinstance(target, Concept)}
            if known.meant.must_be_linked and rows <= gone:
                planned.skip(NOT_LINKED)
            else:
                planned.fail("unresolved-reference", "the resource that is referred to was refused", lost[0])

    def _skip_reason(self, draft: Draft, row: Row | None) -> Failed | Issue | None:
        if row is None and draft.map.create == "never":
            return Issue("information", "create-never", "the map does not create rows")
        ordered = self._options.ordered_versions
        if row is not None and compare(draft, row.values, ordered=ordered) == -1:
            return Issue("information", "stale", "Dataverse has a newer version of this resource")
        return too_late(draft, self._located, ordered=ordered)

    def _fill(self, known: _Known, later: AbstractSet[str]) -> None:
        """Write down the operations of one resource; lookups to rows that come later are set afterwards."""
        planned, row = known.planned, known.row
        draft = planned.draft
        table = draft.map.table
        links = Links(self._maps, known.targets, later)
        try:
            plan_children(planned, self._located, links, write_identifier_row=self._options.identifier_rows)
        except Failed as failure:
            planned.fail(failure.code, str(failure), failure.at)
            return
        touched = bool(planned.operations) and planned.result == "updated"
        weighed = weigh(draft, row, planned.row_id, self._located.agreed, links)
        planned.issues += weighed.issues
        planned.marks |= weighed.marks
        state = change_of_state(planned, row, self._located)
        if row is None:
            body = create_body(draft.map.table, draft.columns, draft.lookups, links)
            planned.operations.insert(0, Operation("create", table, planned.row_id, body, "new", sources=draft.sources))
            planned.result = "created"
        elif body := update_body(draft, row, links, touched=touched or bool(state), left_out=weighed.left_out) | state:
            reason = "changed: " + ", ".join(sorted(body))
            planned.operations.insert(0, Operation("update", table, row.id, body, reason, row.etag, draft.sources))
            planned.result = "updated"
        if row is None and state:  # a row is made in use, and taken out of it in the same change set
            planned.operations.append(Operation("update", table, planned.row_id, state, "merged"))
        if after := links.take_deferred():
            planned.afterwards.append(
                Operation("update", table, planned.row_id, after, "closes a cycle", sources=draft.sources)
            )
        if len(planned.operations) > MAX_OPERATIONS:
            count = len(planned.operations)
            planned.fail(
                "too-many-rows", f"{count} rows for one resource are more than {MAX_OPERATIONS}, one change set's limit"
            )


def _lowest_of_a_cycle(waiting: Mapping[int, AbstractSet[int]]) -> int:
    """Return the lowest number of a cycle that the lowest one waiting is in, or waits for; each waits for another."""
    walked: dict[int, None] = {}
    number = next(iter(waiting))
    while number not in walked:
        walked[number] = None
        number = min(waiting[number] & waiting.keys())
    path = list(walked)
    return min(path[path.index(number) :])


def _concept(table: Table, target: Concept, key: str) -> Operation:
    limits = {name: column.max_length for name, column in table.columns.items()}
    body = {
        "msemr_type": target.type,
        "msemr_code": target.code,
        "msemr_name": (target.name or target.code)[: limits["msemr_name"]],
    }
    return Operation("create", table, key, {name: value for name, value in body.items() if value}, "new concept")

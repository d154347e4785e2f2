"""Drafts and what Dataverse has → what to write, in order, with reasons. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from relay.dataverse.batch import MAX_OPERATIONS
from relay.dataverse.keys import concept_keys, row_key
from relay.errors import Failed
from relay.inbound.children import plan_children
from relay.inbound.identity import Identity, claimed_twice, identify
from relay.inbound.located import Located, Row
from relay.inbound.operations import Operation, Plan, Planned
from relay.inbound.rows import Links, create_body, update_body
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, Draft, Issue, Table, Target

CONCEPTS = "msemr_codeableconcept"


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
    planner.identify(drafts)
    planner.refuse_unresolved()
    resources = planner.write_order()
    return Plan(planner.missing_concepts(), tuple(resources))


@dataclass(slots=True)
class _Known:
    """A draft whose row is known: the one it has, or the key it will get."""

    planned: Planned
    row: Row | None
    targets: dict[Target, str] = field(default_factory=dict)


class _Planner:
    """The state of one run of `plan`; each method is one of its steps."""

    def __init__(self, located: Located, maps: MapSet, options: PlanOptions) -> None:
        self._located = located
        self._maps = maps
        self._options = options
        self._known: dict[int, _Known] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._settled: list[Planned] = []

    def identify(self, drafts: Mapping[int, Draft]) -> None:
        """Step 1: decide which row each draft means, and drop the drafts that may not or need not be written."""
        identities: dict[int, Identity] = {}
        for number, draft in drafts.items():
            derived = self._derived(draft)
            try:
                identities[number] = identify(draft, self._located, row_gone=self._options.row_gone, derived=derived)
            except Failed as failure:
                self._fail(number, draft, failure)
        twice = claimed_twice(identities, {number: drafts[number].map for number in identities})
        for number, identity in identities.items():
            draft = drafts[number]
            if number in twice:
                message = "two resources of this bundle mean the same row"
                self._fail(number, draft, Failed(message, code="identity-conflict"))
                continue
            if identity.row is None and draft.map.create == "linked":
                self._fail(number, draft, Failed("`create: linked` is not supported yet", code="unsupported"))
                continue
            planned = Planned(number, draft, "unchanged", identity.row.id if identity.row else self._derived(draft))
            if (reason := self._skip_reason(draft, identity.row)) is not None:
                planned.result = "skipped"
                planned.row_id = identity.row.id if identity.row else ""
                planned.issues.append(reason)
                self._settled.append(planned)
                continue
            self._known[number] = _Known(planned, identity.row)
            self._numbers[draft.map.resource, draft.id] = number

    def refuse_unresolved(self) -> None:
        """Step 2: a resource is written only if all its references mean a row; refusing one may refuse others."""
        while True:
            refused = False
            for number, known in list(self._known.items()):
                known.targets.clear()
                for at, target in _targets(known.planned.draft):
                    try:
                        known.targets[target] = self._resolve(target, at)
                    except Failed as failure:
                        self._drop(number, failure)
                        refused = True
                        break
            if not refused:
                return

    def write_order(self) -> list[Planned]:
        """Step 3: rows after the rows they point to; the lowest entry of a cycle goes first and is completed later."""
        written: set[int] = set()
        unwritten = {known.planned.row_id for known in self._known.values() if known.row is None}
        waiting = {number: self._needs(number) for number in sorted(self._known)}
        ordered: list[Planned] = []
        while waiting:
            ready = [number for number, needs in waiting.items() if needs <= written]
            for number in ready or [_lowest_of_a_cycle(waiting)]:
                del waiting[number]
                self._fill(self._known[number], unwritten)
                unwritten.discard(self._known[number].planned.row_id)
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
            if known.planned.result != "failed"
            for target in known.targets
            if isinstance(target, Concept) and (target.type, target.code) not in self._located.concepts
        }
        if table is None:
            return ()
        return tuple(
            _concept(table, target, self._concept_key(*names, "msemr_code")) for names, target in missing.items()
        )

    # --- the parts of the steps

    def _derived(self, draft: Draft) -> str:
        return row_key(self._options.source_name, draft.map.resource, draft.id)

    def _fail(self, number: int, draft: Draft, failure: Failed) -> None:
        planned = Planned(number, draft, "failed")
        planned.fail(failure.code, str(failure), failure.at)
        self._settled.append(planned)

    def _drop(self, number: int, failure: Failed) -> None:
        known = self._known.pop(number)
        draft = known.planned.draft
        del self._numbers[draft.map.resource, draft.id]
        self._fail(number, draft, failure)

    def _refuse_dependents(self) -> None:
        """Refuse what points to a row that is not going to be made after all, and what points to that in turn."""
        gone: set[str] = set()
        while True:
            failed = [
                each.planned for each in self._known.values() if each.row is None and each.planned.result == "failed"
            ]
            missing = {self._derived(planned.draft) for planned in failed}
            if missing == gone:
                return
            gone = missing
            for known in self._known.values():
                planned = known.planned
                lost = (at for at, target in _targets(planned.draft) if known.targets[target] in gone)
                if planned.result != "failed" and (at := next(lost, None)) is not None:
                    planned.fail("unresolved-reference", "the resource that is referred to was refused", at)

    def _is_new(self, number: int) -> bool:
        return self._known[number].row is None

    def _skip_reason(self, draft: Draft, row: Row | None) -> Issue | None:
        if row is None:
            if draft.map.create == "never":
                return Issue("information", "create-never", "the map does not create rows")
            return None
        if self._is_stale(draft, row):
            return Issue("information", "stale", "Dataverse has a newer version of this resource")
        return None

    def _is_stale(self, draft: Draft, row: Row) -> bool:
        ours, theirs = draft.columns.get(draft.map.last_updated), row.values.get(draft.map.last_updated)
        if isinstance(ours, str) and isinstance(theirs, str):
            mine, other = datetime.fromisoformat(ours), datetime.fromisoformat(theirs)
            if mine != other:
                return mine < other
        if self._options.ordered_versions:
            new, old = draft.columns.get(draft.map.version), row.values.get(draft.map.version)
            if isinstance(new, str) and isinstance(old, str) and new.isdecimal() and old.isdecimal():
                return int(new) < int(old)
        return False

    def _resolve(self, target: Target, at: str) -> str:
        """Return the GUID of the row that a lookup means; raises Failed `unresolved-reference` when there is none."""
        match target:
            case Concept(type=number, code=code):
                return self._located.concepts.get((number, code)) or self._concept_key(number, code, at)
            case ByFhirId(type=kind, id=fhir_id):
                if (other := self._numbers.get((kind, fhir_id))) is not None:
                    return self._known[other].planned.row_id
                found = [row.id for row in self._located.by_fhir_id(kind, fhir_id)]
            case ByIdentifier(type=kind, system=system, value=value):
                found = list(self._located.identified.get((kind, system, value), ()))
        if len(found) == 1:
            return found[0]
        code = "ambiguous-reference" if found else "unresolved-reference"
        raise Failed(f"{len(found)} rows stand for the {kind} that is referred to", code=code, at=at)

    def _concept_key(self, number: int, code: str, at: str) -> str:
        """Return the key of a concept to create; one under which a user made another concept is passed over."""
        for key in concept_keys(number, code):
            if (CONCEPTS, key) not in self._located.guids:
                return key
        raise Failed("every key for this codeable concept is taken by another one", code="identity-conflict", at=at)

    def _needs(self, number: int) -> set[int]:
        """Return the drafts whose rows must be there before this one's."""
        known = self._known[number]
        targets = {target for target in known.targets if isinstance(target, ByFhirId)}
        numbers = {self._numbers.get((target.type, target.id)) for target in targets}
        return {other for other in numbers if other is not None and self._is_new(other)}

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
        if row is None:
            body = create_body(draft.map.table, draft.columns, draft.lookups, links)
            planned.operations.insert(0, Operation("create", table, planned.row_id, body, "new"))
            planned.result = "created"
        elif body := update_body(draft, row, links, touched=touched):
            reason = "changed: " + ", ".join(sorted(body))
            planned.operations.insert(0, Operation("update", table, row.id, body, reason, row.etag))
            planned.result = "updated"
        if after := links.take_deferred():
            planned.afterwards.append(Operation("update", table, planned.row_id, after, "closes a cycle"))
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


def _targets(draft: Draft) -> list[tuple[str, Target]]:
    """List (column, target) of the draft's lookups and of its children's."""
    pairs = list(draft.lookups.items())
    pairs += [pair for child in draft.children for pair in child.lookups.items()]
    return [(column, target) for column, target in pairs if target is not None]


def _concept(table: Table, target: Concept, key: str) -> Operation:
    limits = {name: column.max_length for name, column in table.columns.items()}
    body = {
        "msemr_type": target.type,
        "msemr_code": target.code,
        "msemr_name": (target.name or target.code)[: limits["msemr_name"]],
        "msemr_text": (target.text or target.name)[: limits["msemr_text"]] or None,
    }
    return Operation("create", table, key, {name: value for name, value in body.items() if value}, "new concept")

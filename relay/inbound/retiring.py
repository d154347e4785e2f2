"""What the end of a resource, and its return, mean for its row. Pure.

A row is taken out of use or deleted only for what the FHIR server says is deleted, or what another resource replaces; it
is brought back only if it was the relay that took it out of use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from relay.errors import Failed
from relay.inbound.endings import GONE, THERE, UNKNOWN, is_late
from relay.inbound.located import Located, Row
from relay.inbound.operations import Operation, Planned
from relay.mapping.model import Draft, Issue
from relay.mapping.states import STATE, STATUS, is_retired, retire, revive
from relay.store.tombstones import Tombstone


def end(number: int, draft: Draft, located: Located) -> Planned:
    """Plan the end of a deleted resource; only a row that carries its FHIR id and fits the map can be its own."""
    planned = Planned(number, draft, "unchanged")
    rows = located.by_fhir_id(*draft.key)
    status = located.seen.get(draft.key)
    if status == THERE:
        planned.skip(Issue("information", "not-deleted", "the FHIR server has this resource: its row stays"))
    elif status == UNKNOWN and not rows:
        planned.skip(
            Issue("information", "unknown-on-server", "the FHIR server knows no such resource, nor is there a row")
        )
    elif status == UNKNOWN:
        message = "the FHIR server knows no such resource, so it cannot have been seen to be deleted: its row stays"
        planned.fail("unknown-on-server", message)
    elif status != GONE:
        planned.fail(f"fhir-{status}", f"the FHIR server answered {status} to the read: the row stays")
    elif len(rows) > 1:
        planned.fail("ambiguous-match", f"{len(rows)} rows of {draft.map.table.name} carry this FHIR id")
    else:
        _end_row(planned, rows[0] if rows else None, located.tombstones.get(draft.key))
    return planned


def _end_row(planned: Planned, row: Row | None, known: Tombstone | None) -> None:
    draft = planned.draft
    if row is None:
        planned.issues.append(Issue("information", "no-row", "there is no row of this resource"))
        if known is None:
            planned.tombstone = Tombstone("deleted", "untouched")
        else:
            what = known.row if known.row == "deleted" else "untouched"
            planned.tombstone = replace(known, why="deleted", row=what)
        return
    planned.row_id = row.id
    if draft.map.deletes == "delete":
        planned.tombstone = _tombstone("deleted", "deleted", draft, row, None)
        _do(planned, Operation("delete", draft.map.table, row.id, {}, "deleted on the FHIR server", row.etag))
        planned.issues.append(
            Issue("information", "deleted", "the row is deleted: the FHIR server has deleted the resource")
        )
    elif is_retired(draft.map.table, row.values):
        ours = known is not None and known.is_ours
        planned.tombstone = _tombstone("deleted", "deactivated" if ours else "untouched", draft, row, known)
    else:
        planned.tombstone = _tombstone("deleted", "deactivated", draft, row, None)
        body = retire(draft.map.table)
        _do(planned, Operation("update", draft.map.table, row.id, body, "deleted on the FHIR server", row.etag))
        message = "the row is out of use: the FHIR server has deleted the resource"
        planned.issues.append(Issue("information", "deactivated", message))


def too_late(draft: Draft, located: Located, *, ordered: bool) -> Failed | Issue | None:
    """Say why a resource is not written: its deletion is newer, or the server cannot tell, or it is replaced no more."""
    if draft.end == "merged" and draft.key in located.unreplaced:
        return Issue("information", "stale", "the FHIR server has a version of this resource that nothing replaces")
    tombstone = located.tombstones.get(draft.key)
    if tombstone is None or tombstone.why != "deleted":
        return None
    if is_late(draft, tombstone, ordered=ordered):
        return Issue("information", "stale", "the resource was deleted after this version of it")
    match located.seen.get(draft.key):
        case 200:
            return None
        case 404 | 410:
            return Issue(
                "information",
                "resource-deleted",
                "the FHIR server has deleted this resource: this version of it came late",
            )
        case status:
            message = f"the resource was deleted, and the FHIR server answered {status} when asked whether it is back"
            return Failed(message, code=f"fhir-{status}")


def change_of_state(planned: Planned, row: Row | None, located: Located) -> dict[str, Any]:
    """Return the columns that take a living resource's row out of use, or bring it back, and note why on the plan."""
    draft = planned.draft
    table = draft.map.table
    known = located.tombstones.get(draft.key)
    inactive = row is not None and is_retired(table, row.values)
    if draft.end == "merged":
        return _merge(planned, row, known, inactive=inactive)
    if draft.map.deletes == draft.map.merges == "ignore":
        return {}
    if not inactive:
        return _held(row, known)
    if known is None or not known.is_ours:
        message = "the row is out of use, and not by the relay's doing: it is kept up to date and stays out of use"
        planned.issues.append(Issue("information", "row-inactive", message, STATE))
        return {}
    planned.issues.append(Issue("information", "reactivated", "the row is in use again: the resource is back", STATE))
    return revive(table, known.was)


def _held(row: Row | None, known: Tombstone | None) -> dict[str, Any]:
    """Return the state of a row in use, to be written once more, where somebody may be about to take it out of use.

    The resource is there. Who saw it gone, and noted so, writes under the ETag of then, and has to look again.
    """
    if row is None or known is None or known.row == "untouched":
        return {}
    return {name: row.values[name] for name in (STATE, STATUS) if row.values.get(name) is not None}


def _merge(planned: Planned, row: Row | None, known: Tombstone | None, *, inactive: bool) -> dict[str, Any]:
    draft = planned.draft
    if inactive and row is not None:
        planned.tombstone = replace(known, why="merged") if known is not None else None
        return {}
    planned.tombstone = _tombstone("merged", "deactivated", draft, row, None)
    pointer = f"{draft.map.merged_into} points to the row of the other one"
    message = (
        pointer if draft.map.merged_into else "no column of the map points to the row of the other one (merged_into)"
    )
    planned.issues.append(
        Issue(
            "information", "merged", f"the row is out of use: another resource replaces this one; {message}", "$.link"
        )
    )
    return retire(draft.map.table)


def _tombstone(
    why: Literal["deleted", "merged"],
    what: Literal["deactivated", "deleted", "untouched"],
    draft: Draft,
    row: Row | None,
    known: Tombstone | None,
) -> Tombstone:
    values = row.values if row is not None else draft.columns
    version, updated = (str(values.get(name) or "") for name in (draft.map.version, draft.map.last_updated))
    state, status = (values.get(name) for name in (STATE, STATUS))
    was = (int(state), int(status)) if isinstance(state, int) and isinstance(status, int) else None
    return Tombstone(why, what, version, updated, known.was if known is not None else was)


def _do(planned: Planned, operation: Operation) -> None:
    planned.operations.append(operation)
    planned.result = "updated"

"""Who is it: which row one resource means, by FHIR id, by its Dynamics identifier, by match columns. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relay.errors import Failed
from relay.inbound.located import Located, Row, fits
from relay.mapping.model import Draft, EntityMap, Scalar
from relay.mapping.states import is_retired


@dataclass(frozen=True, slots=True)
class Identity:
    """The row a draft means, None when it has none yet; `how` tells by what it was found."""

    row: Row | None
    how: Literal["fhir-id", "guid", "match", "new"]


NEW = Identity(None, "new")


def identify(
    draft: Draft, located: Located, *, row_gone: Literal["fail", "recreate"] = "fail", derived: str = ""
) -> Identity:
    """Return the row that the draft means.

    `derived` is the primary key the relay would choose for it: a row found under it is one the relay made before.
    Raises Failed with code `ambiguous-match`, `identity-conflict` or `row-gone`; then nothing may be written.
    """
    keyed = located.by_fhir_id(draft.map.resource, draft.id)
    if len(keyed) > 1:
        raise Failed(f"{len(keyed)} rows of {draft.map.table.name} carry this FHIR id", code="ambiguous-match")
    row = keyed[0] if keyed else None
    claimed = _claimed(draft, located, row, row_gone=row_gone)
    if row is not None:
        return Identity(row, "fhir-id")
    if claimed is not None:
        return Identity(claimed, "guid")
    if (remade := located.guids.get((draft.map.table.name, derived))) is not None:
        return Identity(_free(draft, remade), "guid")
    return _matched(draft, located)


def _claimed(draft: Draft, located: Located, row: Row | None, *, row_gone: Literal["fail", "recreate"]) -> Row | None:
    """Return the row that the resource's Dynamics identifier names; a claim is checked, never believed."""
    claims = [claim for claim in draft.claims if not _is_given_up(draft, located, claim)]
    if len(claims) > 1:
        raise Failed(
            "the resource carries more than one current Dynamics identifier",
            code="identifier-conflict",
            at="identifier",
        )
    for claim in claims:
        claimed = located.guids.get((draft.map.table.name, claim))
        if row is not None:
            # A claim on a row that is gone is settled by write-back, which marks it old.
            if claimed is not None and claimed.id != row.id:
                raise Failed(
                    "the resource's Dynamics identifier names another row than its FHIR id",
                    code="identity-conflict",
                    at="identifier",
                )
        elif claimed is not None:
            return _free(draft, claimed)
        elif row_gone == "fail":
            raise Failed(
                "the row that the resource's Dynamics identifier names is gone (RELAY_ROW_GONE=recreate makes a new one)",
                code="row-gone",
                at="identifier",
            )
    return None


def _is_given_up(draft: Draft, located: Located, claim: str) -> bool:
    """Tell whether a claim is on the row of another resource, which is out of use: a merge left it behind."""
    row = located.guids.get((draft.map.table.name, claim))
    if row is None or draft.map.merges == "ignore" or row.values.get(draft.map.key) in (None, "", draft.id):
        return False
    return is_retired(draft.map.table, row.values)


def _free(draft: Draft, row: Row) -> Row:
    """Return the row if it may become this resource's: it fits the map, and no other resource has it."""
    if not fits(draft.map, row.values):
        raise Failed(
            f"the row is not one this map speaks for ({', '.join(draft.map.where)} differs)",
            code="identity-conflict",
            at="identifier",
        )
    if row.values.get(draft.map.key) not in (None, "", draft.id):
        raise Failed("the row belongs to another FHIR resource", code="identity-conflict", at="identifier")
    return row


def _matched(draft: Draft, located: Located) -> Identity:
    values = match_values(draft)
    found = located.matched.get((draft.map.resource, values), []) if values is not None else []
    if len(found) > 1:
        raise Failed(
            f"{len(found)} rows of {draft.map.table.name} match on {', '.join(draft.map.match)}", code="ambiguous-match"
        )
    return Identity(found[0], "match") if found else NEW


def match_values(draft: Draft) -> tuple[Scalar, ...] | None:
    """Return the values of the map's match columns, or None when it has none or one is missing: nothing can match."""
    values = tuple(draft.columns.get(column) for column in draft.map.match)
    return None if not values or None in values else values


def claimed_twice(identities: Mapping[int, Identity], maps: Mapping[int, EntityMap]) -> set[int]:
    """Return the drafts (by number) that mean one and the same row; none of them may be written."""
    seen: dict[tuple[str, str], int] = {}
    twice: set[int] = set()
    for number, identity in identities.items():
        if identity.row is None:
            continue
        key = (maps[number].table.name, identity.row.id)
        if key in seen:
            twice |= {number, seen[key]}
        seen[key] = number
    return twice

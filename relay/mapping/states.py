"""The states of a table's own rows: which one takes a row out of use, and what a row in use is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.mapping.model import Table

STATE: Final = "statecode"
STATUS: Final = "statuscode"

STATES: Final = (STATE, STATUS)

SYSTEM_LOOKUPS: Final = frozenset({"masterid"})
"""Lookups that Dataverse alone writes: `masterid` when it merges two rows itself."""

_RETIRED: Final = ("Inactive", "Canceled")
_TWO_STATES: Final = {0, 1}


def retired(table: Table) -> int | None:
    """Return the state of a row that is out of use, None where the facts name none.

    Of a table whose rows have two states it is the second, whatever an org calls it; of others the one with the label
    Inactive, else Canceled (activities).
    """
    column = table.columns.get(STATE)
    if column is None:
        return None
    if column.options.keys() == _TWO_STATES:
        return 1
    by_label = {label: value for value, label in column.options.items()}
    return next((by_label[label] for label in _RETIRED if label in by_label), None)


def is_retired(table: Table, values: Mapping[str, Any]) -> bool:
    """Tell whether a row, as the Web API returned it, is out of use."""
    state = values.get(STATE)
    return state is not None and state == retired(table)


def retire(table: Table) -> dict[str, Any]:
    """Return the columns that take a row out of use; a table without such a state has none."""
    state = retired(table)
    return {} if state is None else of_state(table, state)


def revive(table: Table, was: tuple[int, int] | None) -> dict[str, Any]:
    """Return the columns that bring a row back into the state and status reason it had; None: into use as a new row is."""
    if was is not None:
        state, status = was
        options = table.columns[STATUS].options if STATUS in table.columns else {}
        return {STATE: state, STATUS: status} if status in options else of_state(table, state)
    return of_state(table, 0)


def of_state(table: Table, state: int) -> dict[str, Any]:
    """Return a state with the first status reason that belongs to it; without one Dataverse takes its default."""
    status = table.columns.get(STATUS)
    first = next((value for value, of in status.states.items() if of == state), None) if status is not None else None
    return {STATE: state} if first is None else {STATE: state, STATUS: first}

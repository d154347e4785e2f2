"""Which state takes a row out of use, and what brings it back, is read off the facts of its table."""

from __future__ import annotations

from typing import Any

import pytest

from relay.mapping.model import Column, Table
from relay.mapping.states import is_retired, retire, revive

TWO = {0: "Aktiv", 1: "Inaktiv"}
ACTIVITY = {0: "Open", 1: "Completed", 2: "Canceled", 3: "Scheduled"}


def table(states: dict[int, str] | None, reasons: dict[int, int] | None = None) -> Table:
    """Return a table with these states, and status reasons by the state they belong to."""
    columns = {} if states is None else {"statecode": Column("statecode", "State", options=states)}
    if reasons is not None:
        options = {value: str(value) for value in reasons}
        columns["statuscode"] = Column("statuscode", "Status", options=options, states=reasons)
    return Table("t", "ts", "tid", "name", columns)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (table(TWO, {1: 0, 2: 1}), {"statecode": 1, "statuscode": 2}),
        (table(TWO, {1: 0, 5: 1, 2: 1}), {"statecode": 1, "statuscode": 5}),
        (table(TWO, {}), {"statecode": 1}),
        (table(TWO), {"statecode": 1}),
        (table(ACTIVITY, {1: 0, 3: 2}), {"statecode": 2, "statuscode": 3}),
        (table({0: "A", 1: "B", 2: "Inactive", 3: "Canceled"}), {"statecode": 2}),
        (table({0: "Offen", 1: "Fertig", 2: "Storniert"}), {}),
        (table(None), {}),
    ],
    ids=["two", "first-reason", "no-states", "no-reasons", "activity", "inactive-first", "other-words", "none"],
)
def test_what_takes_a_row_out_of_use(facts: Table, expected: dict[str, Any]) -> None:
    """The second of two states, whatever it is called; of more the one with the label Inactive, else Canceled."""
    assert retire(facts) == expected
    assert is_retired(facts, expected or {"statecode": 1}) is bool(expected)
    assert not is_retired(facts, {"statecode": 0})
    assert not is_retired(facts, {})


def test_what_brings_a_row_back() -> None:
    """The state and reason that it had, as far as the table still has them; else those of a new row."""
    facts = table(ACTIVITY, {1: 0, 7: 0, 2: 1, 3: 2})
    assert revive(facts, (1, 2)) == {"statecode": 1, "statuscode": 2}
    assert revive(facts, (0, 9)) == {"statecode": 0, "statuscode": 1}
    assert revive(facts, None) == {"statecode": 0, "statuscode": 1}
    assert revive(table(TWO), (0, 1)) == {"statecode": 0}

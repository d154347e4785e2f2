"""What becomes of a resource several of whose rows went wrong, and what is still sent for it."""

from __future__ import annotations

from itertools import permutations
from uuid import uuid5

import pytest

from relay.dataverse import quoting
from relay.dataverse.errors import DataverseBusy, DataverseError, DataverseMissing, DataverseRace, DataverseRefusal
from relay.dataverse.keys import NAMESPACE
from relay.inbound.judge import Judge
from relay.inbound.levels import Piece, levels
from relay.inbound.operations import Child, Operation, Plan, Planned
from relay.mapping.model import Draft
from support.world import shipped_maps

REFUSED = DataverseRefusal(400, "0x80044331")
BUSY = DataverseBusy(429, "0x80072322", retry_after=7)
RACED = DataverseRace(412, "0x80040237")
MISSING = DataverseMissing(404, "0x80040217")
TABLES = {"contact", "prefix_patientidentifier", "msemr_codeableconcept"}


def create(table: str, name: str, *binds: Operation) -> Operation:
    body = {f"Nav{n}@odata.bind": quoting.bind(each.table.entity_set, each.id) for n, each in enumerate(binds)}
    return Operation("create", shipped_maps().tables[table], str(uuid5(NAMESPACE, name)), body, "new")


def resource(number: int, *binds: Operation, children: int = 3) -> Planned:
    """Return a new patient with that many new identifiers."""
    entity_map = shipped_maps().for_resource("Patient")
    assert entity_map is not None
    row = create("contact", f"{number}", *binds)
    planned = Planned(number, Draft(entity_map, f"p{number}", {}, {}, (), (), ()), "created", row.id, [row])
    for n in range(children):
        child = create("prefix_patientidentifier", f"{number} {n}", row)
        planned.operations.append(child)
        planned.children.append(Child(child.table.name, child.id, "created"))
    return planned


def verdicts(planned: Planned, errors: tuple[DataverseError | None, ...]) -> tuple[Judge, list[Piece]]:
    """Write the row of a resource, and let its children end so."""
    judge = Judge()
    rows, children = levels(Plan((), (planned,)), TABLES)
    for piece in judge.ready(rows):
        judge.take(piece, None)
    sent = judge.ready(children)
    for piece, error in zip(sent, errors, strict=True):
        judge.take(piece, error)
    return judge, children


@pytest.mark.parametrize("errors", [*permutations([REFUSED, BUSY, RACED])])
def test_what_is_refused_for_good_says_more_than_what_may_pass(errors: tuple[DataverseError, ...]) -> None:
    """In whatever order the answers come, a refusal fails the resource, with the row that it has."""
    planned = resource(1)
    judge, _ = verdicts(planned, errors)
    applied = judge.verdict()
    assert not applied.raced
    assert not applied.busy
    assert (planned.result, planned.issues[-1].code) == ("failed", "dataverse-0x80044331")
    assert planned.row_id
    assert planned.children == []


@pytest.mark.parametrize("errors", [*permutations([None, BUSY, RACED])])
def test_what_has_to_wait_says_more_than_a_race(errors: tuple[DataverseError | None, ...]) -> None:
    """A resource that is busy in part waits as a whole, for as long as it is told."""
    planned = resource(1)
    judge, _ = verdicts(planned, errors)
    applied = judge.verdict()
    assert (list(applied.busy), applied.raced, applied.retry_after) == ([1], {}, 7)


def test_a_race_keeps_what_was_made() -> None:
    """A resource that lost a child is planned again; its row and its other children are known to be its own doing."""
    planned = resource(1)
    judge, children = verdicts(planned, (None, RACED, None))
    assert judge.verdict().raced[1].written
    assert {each.id for each in judge.done} == {
        planned.row_id,
        children[0].operations[0].id,
        children[2].operations[0].id,
    }
    assert len(planned.children) == 2


@pytest.mark.parametrize(
    ("error", "raced", "busy"), [(REFUSED, [2], []), (RACED, [1, 2], []), (MISSING, [1, 2], []), (BUSY, [], [1, 2])]
)
def test_what_points_to_a_row_that_is_not_there(error: DataverseError, raced: list[int], busy: list[int]) -> None:
    """It is not sent, nor are its children: it waits with the row, or is planned again, when the row is failed or known."""
    first = resource(1)
    second = resource(2, first.operations[0])
    judge = Judge()
    cut = levels(Plan((), (first, second)), TABLES)
    (row,) = judge.ready(cut[0])
    judge.take(row, error)
    assert [judge.ready(level) for level in cut[1:]] == [[]] * (len(cut) - 1)
    applied = judge.verdict()
    assert (sorted(applied.raced), sorted(applied.busy)) == (raced, busy)
    assert first.result == ("failed" if error is REFUSED else "created")
    assert judge.done == []


@pytest.mark.parametrize("error", [REFUSED, BUSY])
def test_what_needs_a_code_that_is_refused(error: DataverseError) -> None:
    """The reason of the codeable concept is the reason of whatever binds it; what binds another one goes out."""
    bad, good = create("msemr_codeableconcept", "bad"), create("msemr_codeableconcept", "good")
    first, second = resource(1, bad, good), resource(2, good)
    judge = Judge()
    cut = levels(Plan((bad, good), (first, second)), TABLES)
    for piece in judge.ready(cut[0]):
        judge.take(piece, error if piece.operations == (bad,) else None)
    assert [piece.planned for piece in judge.ready(cut[1])] == [second]
    applied = judge.verdict()
    assert (first.result, list(applied.busy)) == (("failed", []) if error is REFUSED else ("created", [1]))
    assert second.result == "created"

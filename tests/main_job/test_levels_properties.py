"""How a plan is cut into calls: everything once, after what it points to, and no call too large or too small."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse import quoting
from relay.dataverse.keys import NAMESPACE
from relay.inbound.levels import (
    LONGEST_MS,
    OPERATION_MS,
    ROW_MS,
    SHORTEST_MS,
    Call,
    Piece,
    calls,
    filled,
    levels,
    pieces,
    size,
)
from relay.inbound.operations import Operation, Plan, Planned
from relay.mapping.model import Draft, Table
from support.world import shipped_maps

TABLES = ("contact", "msemr_encounter", "prefix_patientidentifier")
CONCEPTS = "msemr_codeableconcept"


def table(name: str) -> Table:
    return shipped_maps().tables[name]


def draft() -> Draft:
    entity_map = shipped_maps().for_resource("Patient")
    assert entity_map is not None
    return Draft(entity_map, "p", {}, {}, (), (), ())


def create(name: str, number: str, *binds: str) -> Operation:
    body: dict[str, Any] = {f"Nav{n}@odata.bind": bind for n, bind in enumerate(binds)}
    return Operation("create", table(name), str(uuid5(NAMESPACE, number)), body, "new")


def update(name: str, number: str, *binds: str) -> Operation:
    return Operation("update", table(name), str(uuid5(NAMESPACE, number)), create(name, number, *binds).body, "changed")


def named(operation: Operation) -> str:
    return quoting.bind(operation.table.entity_set, operation.id)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw plans as the planner makes them: a row after those it points to, cycles closed afterwards."""
    concepts = [create(CONCEPTS, f"concept {n}") for n in range(draw(st.integers(0, 3)))]
    known = [*map(named, concepts), "/contacts(00000000-0000-4000-8000-000000000000)"]
    resources = []
    for number in range(draw(st.integers(0, 12))):
        planned = Planned(number, draft(), "created")
        do = draw(st.sampled_from([create, create, update, None]))
        parent = "/contacts(00000000-0000-4000-8000-000000000001)"
        if do is not None:
            planned.operations.append(do(draw(st.sampled_from(TABLES)), f"{number}", *_some(draw, known)))
            parent = named(planned.operations[0])
        for child in range(draw(st.integers(0, 4))):
            do = draw(st.sampled_from([create, create, create, update]))
            planned.operations.append(
                do(draw(st.sampled_from(TABLES)), f"{number} {child}", parent, *_some(draw, known))
            )
            parent = draw(st.sampled_from([parent, named(planned.operations[-1])]))
        if draw(st.booleans()):
            planned.afterwards.append(update("contact", f"{number}", *_some(draw, known)))
        known += [named(each) for each in planned.operations[:1]]
        resources.append(planned)
    return Plan(tuple(concepts), tuple(resources))


def _some(draw: st.DrawFn, known: list[str]) -> list[str]:
    return draw(st.lists(st.sampled_from(known), max_size=2, unique=True))


bulk_tables = st.sets(st.sampled_from([*TABLES, CONCEPTS]))


def operations(cut: Iterable[Piece]) -> list[int]:
    return sorted(id(each) for piece in cut for each in piece.operations)


def planned_operations(plan: Plan) -> list[int]:
    listed = [*plan.concepts, *(each for one in plan.resources for each in (*one.operations, *one.afterwards))]
    return sorted(map(id, listed))


@given(plans(), bulk_tables)
def test_every_operation_once(plan: Plan, bulk: set[str]) -> None:
    """Whatever the plan and the tables, each operation is in one piece of one level, and in one call of it."""
    cut = levels(plan, bulk)
    wanted = planned_operations(plan)
    assert operations(piece for level in cut for piece in level) == wanted
    assert operations(pieces(plan)) == wanted
    assert size(plan) == len(wanted)
    sent = [piece for level in cut for call in calls(level, at_once=4, rows=3) for piece in call.pieces]
    assert operations(sent) == wanted


@given(plans(), bulk_tables)
def test_after_what_it_points_to(plan: Plan, bulk: set[str]) -> None:
    """A row is made in a lower level than whatever points to it, unless one change set holds both, in their order."""
    made: set[str] = set()
    closing = {id(each) for one in plan.resources for each in one.afterwards}
    to_come = {named(each) for each in plan.concepts}
    to_come |= {named(each) for one in plan.resources for each in one.operations if each.kind == "create"}
    for level in levels(plan, bulk):
        assert level, "no empty level"
        for piece in level:
            assert not piece.binds & (to_come - made)
            if any(id(each) in closing for each in piece.operations):
                assert made == to_come, "cycles are closed when every row is there"
        made |= {bind for piece in level for bind in piece.makes}
    assert made == to_come


@given(plans(), bulk_tables)
def test_what_is_whole_stays_whole(plan: Plan, bulk: set[str]) -> None:
    """A resource with an update, or with a row in a table without bulk calls, is one change set; else each row is a piece."""
    found: dict[int, list[Piece]] = {each.number: [] for each in plan.resources}
    for level in levels(plan, bulk):
        for piece in level:
            if piece.planned is not None and not piece.closes:
                found[piece.planned.number].append(piece)
    for planned in plan.resources:
        cut = found[planned.number]
        if all(each.kind == "create" and each.table.name in bulk for each in planned.operations):
            assert [len(piece.operations) for piece in cut] == [1] * len(planned.operations)
            assert all(piece.bulk for piece in cut)
        else:
            assert [piece.operations for piece in cut] == [tuple(planned.operations)]
            assert not any(piece.bulk for piece in cut)


@given(plans(), bulk_tables, st.integers(1, 52), st.integers(1, 20))
def test_calls_are_alike_inside_and_within_limits(plan: Plan, bulk: set[str], at_once: int, rows: int) -> None:
    """A bulk call has rows of one table, at most so many; a batch has change sets that end in time."""
    for level in levels(plan, bulk):
        for call in calls(level, at_once=at_once, rows=rows):
            assert {piece.bulk for piece in call.pieces} == {call.bulk}
            if call.bulk:
                assert len({piece.table for piece in call.pieces}) == 1
                assert len(call.pieces) <= rows
            elif len(call.pieces) > 1:
                assert sum(len(piece.operations) for piece in call.pieces) * OPERATION_MS <= LONGEST_MS


@given(st.integers(1, 3000), st.integers(1, 52), st.integers(1, 1000))
def test_rows_are_spread_evenly(count: int, at_once: int, rows: int) -> None:
    """Rows of one table make no more calls than may run at once, unless the limit asks for more, and none tiny beside others."""
    level = [Piece((create("contact", "x"),), None, bulk=True)] * count
    sizes = [len(call.pieces) for call in calls(level, at_once=at_once, rows=rows)]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) <= max(at_once, -(-count // rows))
    if len(sizes) > -(-count // rows):
        assert min(sizes) * ROW_MS >= SHORTEST_MS / 2


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 25))
def test_runs_are_as_full_as_they_may_be(lengths: list[int], most: int) -> None:
    """Change sets stay in order; a run ends where the next one would not fit, and only a set that is too large exceeds it."""
    one = create("contact", "x")
    sets = [Piece((one,) * length, None) for length in lengths]
    runs = [[len(piece.operations) for piece in run] for run in filled(sets, most)]
    assert [length for run in runs for length in run] == lengths
    assert all(sum(run) <= most or len(run) == 1 for run in runs)
    assert all(sum(run) + following[0] > most for run, following in pairwise(runs))


def test_a_small_level_is_one_call_of_each_kind() -> None:
    """Ten rows and two updates are not worth eight calls."""
    rows = [Piece((create("contact", str(n)),), None, bulk=True) for n in range(10)]
    sets = [Piece((update("contact", str(n)),), None) for n in range(2)]
    assert calls([*rows, *sets], at_once=8, rows=500) == [Call(rows), Call(sets)]

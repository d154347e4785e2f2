"""Carry out a plan: change sets in as few `$batch` calls as the limit allows, each answer judged by its code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from relay.dataverse.batch import MAX_OPERATIONS, Response
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseError
from relay.inbound.operations import Operation, Plan, Planned, change_set
from relay.store.written import RowWritten


@dataclass(frozen=True, slots=True)
class Raced:
    """A resource that lost against another writer, and the answer that said so.

    `written` is whether its row is there and only the update that closes a cycle was lost.
    """

    planned: Planned
    error: DataverseError
    written: bool


@dataclass(slots=True)
class Applied:
    """What became of a plan: `raced` resources are to be located and planned again, `busy` ones later.

    Both are by the number of the entry. `refused` are codeable concepts that could not be made, by key.
    """

    raced: dict[int, Raced] = field(default_factory=dict)
    busy: dict[int, Planned] = field(default_factory=dict)
    retry_after: float | None = None
    refused: dict[str, DataverseError] = field(default_factory=dict)
    written: tuple[RowWritten, ...] = ()
    """Which line wrote which column, of what went through."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """One change set; `planned` is None for a codeable concept that several resources share."""

    operations: Sequence[Operation]
    planned: Planned | None


async def apply(client: DataverseClient, plan: Plan, tag: str) -> Applied:
    """Write the plan; a resource that Dataverse refuses becomes `failed`, whole, and the others go on.

    Raises Transient when Dataverse is away or busy: what was written stays, and writing again changes nothing.
    """
    applied = Applied()
    for units in _batches(_units(plan)):
        answers = await client.batch([change_set(unit.operations, tag) for unit in units])
        for unit, responses in zip(units, answers, strict=True):
            _judge(unit, responses, applied)
    return applied


def _units(plan: Plan) -> Iterable[_Unit]:
    for concept in plan.concepts:
        yield _Unit((concept,), None)
    for planned in plan.resources:
        if planned.operations:
            yield _Unit(planned.operations, planned)
    for planned in plan.resources:
        if planned.afterwards:
            yield _Unit(planned.afterwards, planned)


def _batches(units: Iterable[_Unit]) -> Iterable[list[_Unit]]:
    batch: list[_Unit] = []
    size = 0
    for unit in units:
        if batch and size + len(unit.operations) > MAX_OPERATIONS:
            yield batch
            batch, size = [], 0
        batch.append(unit)
        size += len(unit.operations)
    if batch:
        yield batch


def _judge(unit: _Unit, responses: Sequence[Response], applied: Applied) -> None:
    error = next((response.error for response in responses if response.error is not None), None)
    if error is None:
        return
    planned = unit.planned
    if planned is None:
        if error.kind != "race":  # somebody else made the concept first: it is there
            applied.refused[unit.operations[0].id] = error
        return
    number = planned.number
    if number in applied.raced or number in applied.busy or planned.result == "failed":
        return  # its first change set did not go through, so the one that closes the cycle cannot either
    error = _refused_concept(unit, applied) or error
    if error.kind in ("race", "missing"):
        # `missing`: a row we meant to change or to point to is not there (any more); reading again tells.
        applied.raced[number] = Raced(planned, error, written=unit.operations is planned.afterwards)
    elif error.kind in ("transient", "not-reached"):
        applied.busy[number] = planned
        applied.retry_after = max(applied.retry_after or 0, error.retry_after or 0) or None
    elif unit.operations is planned.afterwards:
        planned.fail_after_write(f"dataverse-{error.code}", str(error), error.column)
    else:
        planned.fail(f"dataverse-{error.code}", str(error), error.column)


def _refused_concept(unit: _Unit, applied: Applied) -> DataverseError | None:
    """Return why a codeable concept that this unit binds could not be made: that is the reason for the unit too."""
    for operation in unit.operations if applied.refused else ():
        for value in operation.body.values():
            for key, error in applied.refused.items():
                if isinstance(value, str) and value.endswith(f"({key})"):
                    return error
    return None

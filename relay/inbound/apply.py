"""Carry out a plan: change sets in as few `$batch` calls as the limit allows, each answer judged by its code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from relay.dataverse.batch import Response
from relay.dataverse.client import DataverseClient
from relay.inbound.operations import Operation, Plan, Planned, change_set

OPERATIONS = 1000  # of one $batch


@dataclass(slots=True)
class Applied:
    """What became of a plan: `raced` resources are to be located and planned again, `busy` ones later."""

    raced: list[Planned] = field(default_factory=list)
    busy: list[Planned] = field(default_factory=list)
    retry_after: float | None = None


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
        if batch and size + len(unit.operations) > OPERATIONS:
            yield batch
            batch, size = [], 0
        batch.append(unit)
        size += len(unit.operations)
    if batch:
        yield batch


def _judge(unit: _Unit, responses: Sequence[Response], applied: Applied) -> None:
    error = next((response.error for response in responses if response.error is not None), None)
    if error is None or unit.planned is None:
        return  # a concept that somebody else created first is there; one that was refused fails those that need it
    planned = unit.planned
    if planned in applied.raced or planned in applied.busy or planned.result == "failed":
        return  # its first change set did not go through, so the one that closes the cycle cannot either
    if error.kind in ("race", "missing"):
        # `missing`: a row we meant to change or to point to is not there (any more); reading again tells.
        applied.raced.append(planned)
    elif error.kind in ("transient", "not-reached"):
        applied.busy.append(planned)
        applied.retry_after = max(applied.retry_after or 0, error.retry_after or 0) or None
    else:
        planned.fail(f"dataverse-{error.code}", str(error), error.column)

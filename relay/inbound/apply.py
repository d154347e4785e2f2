"""Carry out a plan: in as few calls as the limits allow, or in bulk and side by side; each answer judged by its code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from relay.dataverse.client import DataverseClient
from relay.inbound.bulk import BulkWriter, side_by_side
from relay.inbound.judge import Applied, Judge
from relay.inbound.levels import APART_MS, SHORTEST_MS, Call, Piece, calls, filled, levels, pieces, size
from relay.inbound.operations import Operation, Plan, change_set
from relay.settings import Settings


class Applier:
    """Writes plans; a resource that Dataverse refuses becomes `failed`, and the others go on.

    A plan below the setting `bulk_from`, and any plan under `write: fewest-calls`, is one change set per resource,
    whole or not at all, in as few batches as the limit of operations allows; on `auto`, where the resources came apart
    from each other, side by side. A larger one goes out by levels, side by side: creates in bulk, what holds an update or
    a delete as change sets.
    """

    def __init__(self, client: DataverseClient, settings: Settings) -> None:
        self._client = client
        self._bulk_from = settings.bulk_from if settings.write == "auto" else None
        self._rows = settings.bulk_rows

    async def apply(
        self,
        plan: Plan,
        tag: str,
        note: Callable[[Iterable[Operation]], None],
        *,
        again: bool = False,
        apart: bool = False,
    ) -> Applied:
        """Write a plan; `again` says that it holds what lost a race, so each resource goes alone and none in bulk.

        `apart` says that its resources came apart from each other: none has to wait while another is written.
        `note` is told which operations of resources were carried out, also when this raises.
        Raises Transient when Dataverse is away or busy: what was written stays, and writing again changes nothing.
        """
        judge = Judge()
        try:
            large = self._bulk_from is not None and size(plan) >= self._bulk_from
            if large or (apart and self._bulk_from is not None):
                bulk = await self._bulk_tables(plan) if large and not again else frozenset()
                await self._by_levels(plan, tag, judge, bulk, SHORTEST_MS if large else APART_MS)
            else:
                for run in filled(pieces(plan)):
                    await self._batch(run, tag, judge)
        finally:
            note(judge.done)
        return judge.verdict()

    async def _by_levels(self, plan: Plan, tag: str, judge: Judge, bulk: frozenset[str], least: int) -> None:
        writer = BulkWriter(self._client, tag, judge)
        for level in levels(plan, bulk):
            sending = calls(judge.ready(level), at_once=self._client.governor.limit, rows=self._rows, least=least)
            await side_by_side(self._send(call, writer, tag, judge) for call in sending)

    async def _send(self, call: Call, writer: BulkWriter, tag: str, judge: Judge) -> None:
        if call.bulk:
            await writer.create(call.pieces)
        else:
            await self._batch(call.pieces, tag, judge)

    async def _batch(self, run: Iterable[Piece], tag: str, judge: Judge) -> None:
        run = list(run)
        answers = await self._client.batch([change_set(piece.operations, tag) for piece in run])
        for piece, responses in zip(run, answers, strict=True):
            judge.take(piece, next((each.error for each in responses if each.error is not None), None))

    async def _bulk_tables(self, plan: Plan) -> frozenset[str]:
        creates = {each.table.name: None for one in plan.resources for each in one.operations if each.kind == "create"}
        creates |= {each.table.name: None for each in plan.concepts}
        return await self._client.bulk_tables.those_of(creates, partial(self._client.get, metered=False))

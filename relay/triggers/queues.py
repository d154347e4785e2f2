"""The workers of the two queues, and the drains of what they gave up on."""

from __future__ import annotations

import azure.functions as func

from relay.app import fresh_relay

bp = func.Blueprint()

CONNECTION = "AzureWebJobsStorage"


def _text(msg: func.QueueMessage) -> str:
    return msg.get_body().decode("utf-8", "replace")


@bp.function_name("inbound_worker")
@bp.queue_trigger("msg", "inbound", CONNECTION)
async def inbound_worker(msg: func.QueueMessage) -> None:
    """Carry out one stored bundle."""
    await (await fresh_relay()).inbound.work(_text(msg))


@bp.function_name("writeback_worker")
@bp.queue_trigger("msg", "writeback", CONNECTION)
async def writeback_worker(msg: func.QueueMessage) -> None:
    """Look into one identifier event, or make one link that had to wait."""
    await (await fresh_relay()).work_writeback(_text(msg))


@bp.function_name("inbound_poison")
@bp.queue_trigger("msg", "inbound-poison", CONNECTION)
async def inbound_poison(msg: func.QueueMessage) -> None:
    """Turn a bundle that could not be worked on into a dead letter."""
    await (await fresh_relay()).inbound.drain(_text(msg))


@bp.function_name("writeback_poison")
@bp.queue_trigger("msg", "writeback-poison", CONNECTION)
async def writeback_poison(msg: func.QueueMessage) -> None:
    """Turn a write-back that could not be worked on into a dead letter."""
    await (await fresh_relay()).drain_writeback(_text(msg))


@bp.function_name("blob_poison")
@bp.queue_trigger("msg", "webjobs-blobtrigger-poison", CONNECTION)
async def blob_poison(msg: func.QueueMessage) -> None:
    """Turn a dropped file that could not be taken into a dead letter."""
    await (await fresh_relay()).inbound.drain_blob(_text(msg))

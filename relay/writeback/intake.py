"""Take one Dataverse event: check it, keep its ids, answer. Nothing heavy is imported here, a webhook waits for it."""

from __future__ import annotations

from datetime import datetime

from relay.dataverse.events import parse_event
from relay.errors import Refused
from relay.settings import Settings
from relay.store import Store
from relay.writeback.messages import QUEUE, EventMessage, dump


async def take_event(body: bytes, store: Store, settings: Settings, now: datetime) -> str:
    """Put the event on the write-back queue; raises Refused 400 for what is not an event of the configured org."""
    event = parse_event(body)
    ours = settings.dataverse_organization_id.strip("{}").lower()
    if ours and event.organization_id != ours:
        raise Refused("event: OrganizationId is not the configured organisation", code="wrong-organization")
    # The one lookup of an identifier row names its parent; with several, none is taken and the row is read.
    parents = {str(event.attributes[name]) for name in event.tables if name.startswith(event.table.split("_")[0] + "_")}
    parent = parents.pop() if len(parents) == 1 else ""
    message = EventMessage(
        event.table,
        event.id,
        event.message,
        tag=event.tag,
        operation=event.operation_id,
        parent=parent,
        first=now.isoformat(),
    )
    await store.send(QUEUE, dump(message))
    return QUEUE

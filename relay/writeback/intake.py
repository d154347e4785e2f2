"""Take one Dataverse event: check it, keep its ids, answer. Nothing heavy is imported here, a webhook waits for it."""

from __future__ import annotations

import re
from datetime import datetime

from relay.dataverse.events import parse_event
from relay.errors import Refused
from relay.settings import Settings
from relay.store import Store
from relay.store.ledger import PREFIX
from relay.writeback.messages import QUEUE, EventMessage, dump

_MESSAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OUR_TAG = re.compile(PREFIX + r"[0-9A-Za-z-]{1,64}")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def take_event(body: bytes, store: Store, settings: Settings, now: datetime) -> str:
    """Put the event on the write-back queue.

    Raises Refused 400 for what is not an event of the configured org, 413 for more than RELAY_MAX_BODY_BYTES.
    """
    if len(body) > settings.max_body_bytes:
        raise Refused(f"event: more than {settings.max_body_bytes} bytes", code="too-large", status=413)
    event = parse_event(body)
    ours = settings.dataverse_organization_id.strip("{}").lower()
    if ours and event.organization_id != ours:
        raise Refused("event: OrganizationId is not the configured organisation", code="wrong-organization")
    if not _MESSAGE.fullmatch(event.message):
        raise Refused("event: MessageName is not a message's name", code="not-an-event")
    # The one lookup of an identifier row names its parent; with several, none is taken and the row is read.
    prefix = event.table.split("_")[0] + "_"
    named = [event.attributes[name] for name in event.tables if name.startswith(prefix)]
    parents = {each for each in named if isinstance(each, str) and _GUID.fullmatch(each)}
    parent = parents.pop() if len(parents) == 1 else ""
    message = EventMessage(
        event.table,
        event.id,
        event.message,
        # What is no id is somebody's text, of any length, and of no use here.
        tag=event.tag if _OUR_TAG.fullmatch(event.tag) else "",
        operation=event.operation_id,
        parent=parent,
        first=now.isoformat(),
    )
    await store.send(QUEUE, dump(message))
    return QUEUE

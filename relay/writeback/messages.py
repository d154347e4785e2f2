"""The messages of the write-back queue: an event to look into, or a link that is still to be made. Ids, never data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from relay.errors import Refused
from relay.fhir.links import Link

QUEUE = "writeback"


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One identifier event as it was announced; a hint that is checked by reading the row again.

    `parent` is the row an identifier row belongs to, as the event says it. `posted` is whether the resource may never
    have reached the FHIR server.
    """

    table: str
    id: str
    message: str
    tag: str = ""
    operation: str = ""
    parent: str = ""
    posted: bool = False
    attempt: int = 0
    first: str = ""
    kind: Literal["event"] = "event"


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """One link whose FHIR server was away."""

    type: str
    id: str
    table: str
    row_id: str
    system: str
    posted: bool = False
    attempt: int = 0
    first: str = ""
    kind: Literal["link"] = "link"

    @classmethod
    def of(cls, link: Link, first: datetime) -> LinkMessage:
        """Return the message for a link that could not be made now."""
        return cls(link.type, link.id, link.table, link.row_id, link.system, link.posted, 0, first.isoformat())

    def link(self) -> Link:
        """Return the link; what was sent is not kept, so it is read from the server."""
        return Link(self.type, self.id, self.table, self.row_id, self.system, self.posted)


Message = EventMessage | LinkMessage
_KINDS: dict[str, type[EventMessage | LinkMessage]] = {"event": EventMessage, "link": LinkMessage}


def dump(message: Message) -> str:
    """Return the message as queue text."""
    return json.dumps(asdict(message), separators=(",", ":"))


def load(text: str) -> Message:
    """Read queue text; raises Refused for anything that `dump` did not write."""
    try:
        values: dict[str, Any] = json.loads(text)
        return _KINDS[values["kind"]](**values)
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("not a write-back message", code="bad-message") from error


def again(message: Message) -> Message:
    """Return the message for its next try."""
    return replace(message, attempt=message.attempt + 1)

"""Where Event Grid delivers, as the extensions of the Functions host have it: handshakes, then events one by one.

Routes: `/runtime/webhooks/EventGrid?functionName=<function>` for Event Grid triggers, and
`/runtime/webhooks/blobs?functionName=Host.Functions.<function>` for blob triggers with source EventGrid. Both envelopes are
taken: the Event Grid schema (an array) and CloudEvents 1.0 (one, or a batch).
learn.microsoft.com, "Endpoint validation with Event Grid event schema" and "… with CloudEvents schema".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

from devstack.host.answer import Answer
from devstack.host.errors import FunctionFailed, NotServed
from devstack.host.function import Function
from devstack.host.protos import Message
from devstack.host.runtime import Result

EVENTS = "/runtime/webhooks/eventgrid"
BLOBS = "/runtime/webhooks/blobs"

_CREATED = "Microsoft.Storage.BlobCreated"

_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """What deliveries need of the host."""

    functions: list[Function]

    async def run(self, function: Function, data: Message, **options: Any) -> Result:
        """Invoke and carry out the output bindings."""
        ...

    async def announce(self, function: Function, container: str, name: str) -> None:
        """Queue a blob for its function."""
        ...


class Webhooks:
    """Answers deliveries; 202 once every event was handed on, 500 when one failed, so that all of them come again."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @staticmethod
    def serves(path: str) -> bool:
        """Tell whether a path is one of these routes."""
        return path.lower() in (EVENTS, BLOBS)

    async def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Answer one request; 404 names a function that is not there or has another trigger."""
        blobs = path.lower() == BLOBS
        name = query.get("functionName", "").removeprefix("Host.Functions.")
        kind = "blobTrigger" if blobs else "eventGridTrigger"
        functions = [each for each in self._receiver.functions if each.kind == kind and each.name == name]
        functions = [each for each in functions if not blobs or each.announced]
        if not functions:
            return Answer.text(
                HTTPStatus.NOT_FOUND, f"functionName: no {kind} that Event Grid feeds is called {name!r}"
            )
        if method == "OPTIONS":  # the handshake of CloudEvents
            origin = headers.get("webhook-request-origin", "")
            return Answer(HTTPStatus.OK, (("webhook-allowed-origin", origin), ("webhook-allowed-rate", "*")))
        events = _events(body)
        if method != "POST" or events is None:
            return Answer.text(HTTPStatus.BAD_REQUEST, "the body must be an event, or an array of events")
        if headers.get("aeg-event-type") == "SubscriptionValidation":
            return Answer.json(200, {"validationResponse": events[0]["data"]["validationCode"]})
        return await self._deliver(functions[0], events)

    async def _deliver(self, function: Function, events: list[dict[str, Any]]) -> Answer:
        try:
            for event in events:
                if function.announced:
                    await self._announce(function, event)
                else:
                    await self._receiver.run(function, Message(json=json.dumps(event)))
        except NotServed as error:
            return Answer.text(HTTPStatus.NOT_IMPLEMENTED, str(error))
        except FunctionFailed as error:
            _log.error("%s\n%s", error, error.stack_trace)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        return Answer(HTTPStatus.ACCEPTED)

    async def _announce(self, function: Function, event: Mapping[str, Any]) -> None:
        if event.get("eventType", event.get("type")) != _CREATED:
            return
        place, _, name = str(event.get("subject", "")).partition("/blobs/")
        await self._receiver.announce(function, place.rpartition("/containers/")[2], name)


def _events(body: bytes) -> list[dict[str, Any]] | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    events = content if isinstance(content, list) else [content]
    return events if events and all(isinstance(each, dict) for each in events) else None

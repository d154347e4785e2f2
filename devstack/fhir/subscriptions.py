"""R4 rest-hook subscriptions on a whole resource type, delivered as HAPI does.

With a payload a change is `PUT {endpoint}/{Type}/{id}` with the resource; without one an empty POST to the endpoint.
A deletion is sent, as `DELETE {endpoint}/{Type}/{id}`, only where HAPI's extension for that is on the channel.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import httpx

from devstack.fhir.errors import invalid, not_supported
from devstack.fhir.store import Store, Version
from devstack.fhir.text import parse
from devstack.fhir.types import R4_TYPES

SEND_DELETES: Final = "http://hapifhir.io/fhir/StructureDefinition/subscription-send-delete-messages"
_PAYLOADS: Final = ("application/fhir+json", "application/json")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")
_TRIES: Final = 8
_FIRST_DELAY: Final = 0.05  # seconds; it doubles, so the tries take 6 s together
_SERVER_ERROR: Final = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hook:
    """What a Subscription asks for."""

    status: str
    type: str
    endpoint: str
    payload: str | None
    headers: dict[str, str]
    deletes: bool


def read_hook(resource: dict[str, Any]) -> Hook:
    """Read a Subscription; raises FhirError: 501 for what is not supported, 400 for what is wrong."""
    channel = resource.get("channel")
    criteria, status = resource.get("criteria"), resource.get("status")
    if not isinstance(channel, dict) or not isinstance(criteria, str):
        raise invalid("a Subscription wants criteria and a channel")
    if status not in ("requested", "active", "error", "off"):
        raise invalid(f"Subscription.status {status!r} is none of requested, active, error, off")
    if channel.get("type") != "rest-hook":
        raise not_supported(f"Subscription.channel.type {channel.get('type')!r} (valid: rest-hook)")
    if criteria.removesuffix("?") not in R4_TYPES:
        raise not_supported(f"Subscription.criteria {criteria!r} (valid: a resource type, such as Patient?)")
    endpoint, payload, lines = channel.get("endpoint"), channel.get("payload"), channel.get("header", [])
    if not isinstance(endpoint, str) or not re.match(r"https?://[^/]", endpoint):
        raise invalid("Subscription.channel.endpoint is not a URL of http or https")
    if payload is not None and payload not in _PAYLOADS:
        raise not_supported(f"Subscription.channel.payload {payload!r} (valid: {', '.join(_PAYLOADS)}, or none)")
    found = [
        isinstance(line, str) and _HEADER.fullmatch(line) for line in (lines if isinstance(lines, list) else [lines])
    ]
    headers = {match[1]: match[2] for match in found if match}
    if len(headers) != len(found):
        raise invalid("Subscription.channel.header is not a list of different `Name: value`")
    extensions = channel.get("extension", [])
    deletes = isinstance(extensions, list) and {"url": SEND_DELETES, "valueBoolean": True} in extensions
    return Hook(status, criteria.removesuffix("?"), endpoint.rstrip("/"), payload, headers, deletes)


class Subscriptions:
    """Sends changes to the hooks, in order for each Subscription; a hook that fails is tried again, then skipped."""

    def __init__(self, store: Store, transport: httpx.AsyncBaseTransport | None) -> None:
        self._store = store
        self._transport = transport
        self._waiting: dict[str, deque[tuple[Hook, Version]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def committed(self, version: Version) -> None:
        """Take up a change: a Subscription that is `requested` becomes `active`, and hooks get what they asked for."""
        if version.type == "Subscription" and version.body is not None:
            resource = parse(version.body)
            if resource["status"] == "requested" and self._store.current(version.type, version.id) is version:
                self._store.write({**resource, "status": "active"}, version.id, "PUT")
        for subscription in self._store.live("Subscription").values():
            hook = read_hook(parse(subscription.body or b"null"))
            if hook.status == "active" and hook.type == version.type and (version.body is not None or hook.deletes):
                self._send(subscription.id, hook, version)

    async def delivered(self) -> None:
        """Wait until nothing is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Forget what is on its way."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _send(self, id_: str, hook: Hook, version: Version) -> None:
        if id_ in self._waiting:
            self._waiting[id_].append((hook, version))
            return
        queue = self._waiting[id_] = deque([(hook, version)])
        task = asyncio.create_task(self._work(id_, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, id_: str, queue: deque[tuple[Hook, Version]]) -> None:
        async with httpx.AsyncClient(transport=self._transport, trust_env=False) as client:
            while queue:
                await _deliver(client, *queue[0])
                queue.popleft()
        if self._waiting.get(id_) is queue:
            del self._waiting[id_]


async def _deliver(client: httpx.AsyncClient, hook: Hook, version: Version) -> None:
    url, method, headers, body = hook.endpoint, "POST", hook.headers, None
    if hook.payload is not None:
        url = f"{hook.endpoint}/{version.type}/{version.id}"
        method = "DELETE" if version.body is None else "PUT"
        headers = {"Content-Type": hook.payload, **headers} if version.body is not None else headers
        body = version.body
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_FIRST_DELAY * 2 ** (attempt - 1))
        try:
            response = await client.request(method, url, headers=headers, content=body)
        except Exception as error:  # noqa: BLE001 - in process a hook's own exceptions come through
            problem = type(error).__name__
            continue
        if response.is_success:
            return
        problem = str(response.status_code)
        if response.status_code < _SERVER_ERROR and response.status_code not in (408, 425, 429):
            break
    _log.warning("hook %s did not take %s: %s", hook.endpoint, version.type, problem)

"""The endpoint of FHIR Subscriptions: read what was sent, keep the changes it tells of, and answer."""

from __future__ import annotations

from relay.errors import Refused
from relay.inbound.gate import Gate, weight
from relay.inbound.notifications import read_notification
from relay.inbound.outcome import operation_outcome
from relay.inbound.service import PATIENCE, Inbound, Reply
from relay.settings import Settings

SMALL = 256 * 1024  # bytes of a body that is read at once, whatever else is in work


class Hook:
    """Takes notifications; one is accepted only after its changes are kept."""

    def __init__(self, inbound: Inbound, settings: Settings, *, gate: Gate) -> None:
        self._inbound = inbound
        self._settings = settings
        self._gate = gate

    async def take(self, method: str, path: str, body: bytes, content_type: str, content_encoding: str) -> Reply:
        """Answer 202 once the changes are kept, 200 when there is nothing to keep; 503 asks to send it again."""
        size = weight(body, self._settings.max_body_bytes)
        try:
            if size <= SMALL:
                return await self._take(method, path, body, content_type, content_encoding)
            if not await self._gate.enter(size, within=PATIENCE):
                busy = Refused("too much is in work: send it again", code="busy", status=503)
                return Reply(503, operation_outcome(busy, 503), retry_after=30)
            with self._gate.inside(size):
                return await self._take(method, path, body, content_type, content_encoding)
        except Refused as refused:
            return Reply(refused.status, operation_outcome(refused, refused.status))

    async def _take(self, method: str, path: str, body: bytes, content_type: str, content_encoding: str) -> Reply:
        told = read_notification(
            method,
            path,
            body,
            content_type=content_type,
            content_encoding=content_encoding,
            limits=self._settings,
        )
        return await self._inbound.changes(told.changes)

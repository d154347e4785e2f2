"""The endpoint of FHIR Subscriptions: read what was sent, keep the changes it tells of, and answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from relay.errors import Refused, StoreUnavailable
from relay.inbound.catch_up import SKEW, CatchUp
from relay.inbound.gate import Gate, weight
from relay.inbound.heard import MOST, Head, Heard, key_of
from relay.inbound.notifications import Notification, own_id, read_notification
from relay.inbound.outcome import operation_outcome
from relay.inbound.service import PATIENCE, Inbound, Reply, unavailable
from relay.settings import Settings

SMALL = 256 * 1024  # bytes of a body that is read at once, whatever else is in work
BUCKET = 2  # seconds: what is told of without saying what, in such a span, is one search after it
LATE = timedelta(seconds=10)
"""How long an event may come after a later one before it is looked for."""
TAKEN = {"resourceType": "Bundle", "type": "transaction-response"}
"""The answer to a Bundle: HAPI sends it as a transaction, and sends it again for ever unless a Bundle comes back."""

OLDEST = timedelta(days=1)
"""How old an event may be for what was left out after it to be looked for since then."""

_AWAY = 503


class Hook:
    """Takes notifications; one is accepted only after its changes are kept."""

    def __init__(
        self, inbound: Inbound, heard: Heard, settings: Settings, *, gate: Gate, now: Callable[[], datetime]
    ) -> None:
        self._inbound = inbound
        self._heard = heard
        self._settings = settings
        self._gate = gate
        self._now = now

    async def take(self, method: str, path: str, body: bytes, content_type: str, content_encoding: str) -> Reply:
        """Answer 202 once the changes are kept, 200 when there is nothing to keep; 503 asks to send it again."""
        size = weight(body, self._settings.max_body_bytes)
        try:
            if size <= SMALL:
                return await self._take(method, path, body, content_type, content_encoding)
            if not await self._gate.enter(size, within=PATIENCE):
                busy = Refused("too much is in work: send it again", code="busy", status=_AWAY)
                return Reply(_AWAY, operation_outcome(busy, _AWAY), retry_after=30)
            with self._gate.inside(size):
                return await self._take(method, path, body, content_type, content_encoding)
        except Refused as refused:
            return Reply(refused.status, operation_outcome(refused, refused.status))
        except StoreUnavailable:
            return unavailable()

    async def _take(self, method: str, path: str, body: bytes, content_type: str, content_encoding: str) -> Reply:
        told = read_notification(
            method,
            path,
            body,
            content_type=content_type,
            content_encoding=content_encoding,
            limits=self._settings,
        )
        reply = await self._told(told, body)
        return replace(reply, body=TAKEN) if told.bundle and reply.body is None else reply

    async def _told(self, told: Notification, body: bytes) -> Reply:
        if told.subscription:
            return await self._numbered(told, body)
        if told.unsaid:
            return await self._look(CatchUp(key_of("path", *told.types), told.types))
        return await self._inbound.changes(told.changes)

    async def _numbered(self, told: Notification, body: bytes) -> Reply:
        """Take what a topic-based Subscription tells: what it repeats is dropped, and what it left out is looked for."""
        key = key_of("subscription", told.subscription)
        head = await self._heard.head(key)
        if await self._is_repetition(told, key, head, body):
            return Reply(200)
        types = {*told.types, *(each.type for each in told.changes), *(head.types if head else ())}
        reply = await self._inbound.changes(told.changes)
        if told.unsaid and reply.status != _AWAY:
            reply = await self._look(CatchUp(key, tuple(sorted(types))))
        gap = _gap(told, head)
        if gap and head and reply.status != _AWAY:
            since = (head.at - SKEW).isoformat()
            asked = CatchUp(key, tuple(sorted(types)), since, own_id(told.subscription, self._settings.fhir_url), *gap)
            looked = await self._inbound.look(asked, delay=LATE)
            reply = looked if looked.status == _AWAY else reply
        if reply.status != _AWAY:  # what is not kept comes again, and must not be taken for a repetition then
            if (last := _last(told)) is not None:
                await self._heard.put_head(key, last, types, self._known_until(told, last, head))
            for number in told.events[:MOST]:
                await self._heard.note(key, number, body)
        return reply

    def _known_until(self, told: Notification, last: int, head: Head | None) -> datetime:
        """Return from when on what is left out after this notification is to be looked for.

        An event that comes late, of those before or of a backlog, says nothing of what was missed since it happened.
        """
        now = self._now()
        if told.events and head is not None and last <= head.last:
            return head.at
        return min(now, max(told.happened, now - OLDEST)) if told.happened is not None else now

    async def _is_repetition(self, told: Notification, key: str, head: Head | None, body: bytes) -> bool:
        """Tell whether this very notification came before; not of a Subscription that was made anew and has not come so far."""
        if head is None or not 0 < len(told.events) <= MOST or max(told.events) > head.last:
            return False
        for number in told.events:
            if not await self._heard.came(key, number, body):
                return False
        return True

    async def _look(self, wanted: CatchUp) -> Reply:
        """Have the changes of a key looked for, once for all that is told in one span of time."""
        now = self._now().timestamp()
        bucket = int(now // BUCKET)
        if await self._heard.asked(wanted.key, bucket):
            return Reply(202)
        # It begins after the span's end: whatever is told of in the span is there to be found.
        delay = timedelta(seconds=(bucket + 2) * BUCKET - now)
        due = replace(wanted, due=(self._now() + delay).isoformat())
        reply = await self._inbound.look(due, delay=delay)
        if reply.status != _AWAY:
            await self._heard.put_asked(wanted.key, bucket)
        return reply


def _last(told: Notification) -> int | None:
    """Return how many events there were up to this notification."""
    return max(filter(None, (told.total, *told.events)), default=told.total)


def _gap(told: Notification, head: Head | None) -> tuple[int, int] | None:
    """Return the first and last number of events that were told of neither before nor now; some between may be."""
    last = _last(told)
    if head is None or last is None:
        return None
    first, now = head.last + 1, set(told.events)
    while first in now:
        first += 1
    while last in now:
        last -= 1
    return (first, last) if first <= last else None

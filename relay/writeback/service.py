"""The write-back side as a whole: links made inline, events and queued links by the worker, what fails to a person."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from relay.dataverse.lanes import Lanes
from relay.errors import RelayError, Terminal, Transient
from relay.fhir.links import Link, LinkResult
from relay.mapping.model import EntityMap
from relay.settings import Settings
from relay.store import Store
from relay.store.ledger import PREFIX, Ledger
from relay.store.work import Backoff, DeadLetters
from relay.writeback.births import Births
from relay.writeback.events import Born, Changed, EventReader, Found, Ignored
from relay.writeback.messages import QUEUE, EventMessage, LinkMessage, Message, again, dump, load
from relay.writeback.outgoing import Changes
from relay.writeback.writer import Writer

FIRST_LOOK = timedelta(seconds=1)  # an inline write-back takes about a second; later looks are further apart

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of one message: `done`, `ignored`, `waiting`, `retried` or `dead`, with its reason."""

    how: Literal["done", "ignored", "waiting", "retried", "dead"]
    reason: str = ""


class WriteBacks:
    """Carries out links and events; whatever cannot be done now is queued, whatever needs a person is a dead letter."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        reader: EventReader,
        writer: Writer,
        births: Births,
        changes: Changes,
        ledger: Ledger,
        dead_letters: DeadLetters,
        lanes: Lanes,
        now: Callable[[], datetime],
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._reader = reader
        self._writer = writer
        self._births = births
        self._changes = changes
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._lanes = lanes
        self._now = now
        self._backoff = backoff or Backoff.of(settings)

    async def make(self, links: Sequence[Link]) -> list[LinkResult]:
        """Make links now, all together; a queued one has its message before this returns, a failed one its letter.

        Where events alone cause write-backs, these are rows that were there already: no event will come for them, so
        each is put on the queue as if one had.
        """
        if self._settings.writeback == "event":
            for link in links:
                row = EventMessage(link.table, link.row_id, "Create", posted=link.posted, first=self._now().isoformat())
                await self._store.send(QUEUE, dump(row))
            return [LinkResult("queued") for _ in links]
        results = await self._writer.write(links) if links else []
        for link, result in zip(links, results, strict=True):
            if result.state == "queued":
                message = LinkMessage.of(link, self._now())
                await self._store.send(QUEUE, dump(message), delay=self._backoff.delay(0, result.retry_after))
            elif result.state == "failed":
                await self._bury(LinkMessage.of(link, self._now()), result.code)
        return results

    async def nudge(self, table: str, guid: str) -> None:
        """Look at a row as if it had been updated just now: its event was lost, or could not be carried out."""
        event = EventMessage(table, guid, "Update", first=self._now().isoformat())
        await self._store.send(QUEUE, dump(event), delay=self._backoff.delay(0))

    async def handle(self, text: str) -> Handled:
        """Do the work of one queue message. Raises StoreUnavailable only: then the queue keeps the message."""
        message = load(text)
        try:
            if isinstance(message, LinkMessage):
                return await self._link(message)
            return await self._event(message)
        except Transient as error:
            return await self._retry(message, error.code, error.retry_after)
        except Terminal as error:
            await self._bury(message, error.code)
            return Handled("dead", error.code)

    async def _event(self, event: EventMessage) -> Handled:
        if not self._reader.is_ours(event):
            return Handled("ignored", "not-mapped" if event.message == "Create" else "not-create")
        if event.tag.startswith(PREFIX) and event.message == "Create":
            await self._ledger.delivered(event.tag, event.operation or event.id)
        if (
            event.message == "Create"
            and self._settings.writeback == "inline"
            and (known := await self._by_ledger(event)) is not None
        ):
            return known
        async with self._lanes.hold(_subject(event)):
            return await self._seen(event)

    async def _seen(self, event: EventMessage) -> Handled:
        """Do what an event asks for, alone in this process with the row that it is about."""
        found = await self._reader.read(event)
        if isinstance(found, Born):
            found = await self._bear(event, found)
        if isinstance(found, Changed):
            return await self._carry(event, found.map, found.id)
        if isinstance(found, Ignored):
            log.info("identifier event ignored: %s", found.reason)
            return Handled("ignored", found.reason)
        return await self._found(event, found)

    async def _bear(self, event: EventMessage, born: Born) -> Found | Changed | Ignored:
        """See that a row has its resource; what is left to do then is what any linked row gets."""
        sent = await self._births.bear(born.map, born.id)
        if sent.how == "ignored":
            return Ignored(sent.reason)
        if sent.lost:
            # The row has them still, and nothing of the resource says otherwise: but somebody should know.
            await self._bury(event, "cannot-write", f"no place in the new resource for: {', '.join(sent.lost)}")
        found = await self._reader.read(replace(event, message="Create"))
        if isinstance(found, Born):
            raise Transient("the row lost its FHIR id meanwhile; reading it again tells", code="row-changed")
        return found

    async def _found(self, event: EventMessage, found: Found) -> Handled:
        result = await self._write(found, posted=found.link.posted)
        if found.carries is not None and result.state in ("written", "present"):
            return await self._carry(event, found.carries, found.link.row_id)
        return await self._settle(event, result)

    async def _write(self, found: Found, *, posted: bool) -> LinkResult:
        """Make the link of a row that was just read, and note whether it is done if its identifier row is new."""
        (result,) = await self._writer.write([replace(found.link, posted=posted)])
        if found.tag:
            done = result.state in ("written", "present")
            await self._ledger.finish(found.tag, () if done else (found.link.row_id,))
        return result

    async def _carry(self, event: EventMessage, entity_map: EntityMap, guid: str) -> Handled:
        """Bring changed columns to FHIR; columns that both sides changed are shown to a person and left as they are."""
        sent = await self._changes.carry(entity_map, guid)
        if sent.kept:
            await self._bury(event, "conflict", f"changed on both sides: {', '.join(sent.kept)}")
        if sent.how == "ignored":
            return Handled("ignored", sent.reason)
        return Handled("done", "conflict" if sent.kept else sent.how)

    async def _by_ledger(self, event: EventMessage) -> Handled | None:
        """Drop the event once the store shows its write-back as done; wait while the inline one may be under way."""
        guid = event.id if self._reader.is_root(event) else event.parent or None
        state, age = await self._ledger.state(event.tag, guid)
        if state == "done":
            return Handled("ignored", "done")
        if state == "running" and age < self._settings.inline_wait:
            soon = FIRST_LOOK * 2 ** min(event.attempt, 10)
            await self._send(again(event), min(self._settings.inline_wait - age, soon))
            return Handled("waiting", "inline")
        return None

    async def _link(self, message: LinkMessage) -> Handled:
        """Make a link that waited, if its row is still there and what it was: meanwhile users may have dealt with it."""
        row = EventMessage(message.table, message.row_id, "Create", tag=PREFIX)  # one that the relay wrote
        async with self._lanes.hold(_subject(message)):
            found = await self._reader.read(row)
            if not isinstance(found, Found):
                reason = found.reason if isinstance(found, Ignored) else "no-fhir-id"
                log.info("a link that waited is not wanted any more: %s", reason)
                return Handled("ignored", reason)
            return await self._settle(message, await self._write(found, posted=message.posted))

    async def _settle(self, message: Message, result: LinkResult) -> Handled:
        if result.state == "queued":
            return await self._retry(message, result.code, result.retry_after)
        if result.state == "failed":
            await self._bury(message, result.code)
            return Handled("dead", result.code)
        return Handled("done", result.state)

    async def _retry(self, message: Message, code: str, retry_after: float | None) -> Handled:
        started = datetime.fromisoformat(message.first) if message.first else self._now()
        if self._backoff.is_over(started, self._now()):
            await self._bury(message, code)
            return Handled("dead", code)
        await self._send(again(message), self._backoff.delay(message.attempt + 1, retry_after))
        return Handled("retried", code)

    async def _send(self, message: Message, delay: timedelta) -> None:
        await self._store.send(QUEUE, dump(message), delay=delay)

    async def _bury(self, message: Message, code: str, why: str = "") -> None:
        await self._dead_letters.put("writeback", code, dump(message), subject=_subject(message))
        log.warning("a write-back needs a person: %s%s", code, f" ({why})" if why else "")

    async def drain(self, text: str) -> None:
        """Turn a poison message into a dead letter."""
        try:
            message = load(text)
        except RelayError:
            await self._dead_letters.put("writeback", "poison", text, subject=(text,))
            return
        await self._bury(message, "poison")


def _subject(message: Message) -> tuple[str, ...]:
    """Return the row a message is about, so that its link and the events of the row and its children are one letter."""
    return (message.row_id,) if isinstance(message, LinkMessage) else (message.parent or message.id,)

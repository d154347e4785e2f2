"""NDJSON files on their way: taken once, worked on message by message, and told of however they end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from relay.errors import Refused, RelayError, StoreUnavailable, Terminal, Transient
from relay.inbound.entries import Incoming
from relay.inbound.files import FileRun
from relay.inbound.job import PAYLOADS, QUEUE, Job, dump_job
from relay.inbound.outcome import Report
from relay.settings import Settings
from relay.store import Store
from relay.store.work import Backoff
from relay.telemetry import Meter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hands:
    """What files share with bundles: to carry one out, to remember an outcome, to bury a job, to put it off."""

    carry: Callable[[Job, Incoming, Meter], Awaitable[list[Report]]]
    remember: Callable[[Job, Mapping[str, Any]], Awaitable[None]]
    bury: Callable[[Job, bytes, str], Awaitable[None]]
    put_off: Callable[[Job, Transient], Awaitable[bool]]


class FileJobs:
    """The jobs whose payload is a file of lines."""

    def __init__(
        self, settings: Settings, store: Store, hands: Hands, *, now: Callable[[], datetime], backoff: Backoff
    ) -> None:
        self._settings = settings
        self._store = store
        self._hands = hands
        self._now = now
        self._backoff = backoff

    async def is_new(self, job: Job, size: int) -> bool:
        """Tell whether a dropped file is to be kept and queued: one that has begun has its message, one that is too large is refused here."""
        if size > self._settings.max_file_bytes:
            refused = Refused(f"more than {self._settings.max_file_bytes} bytes", code="too-large", status=413)
            await self._finish(job, self._run(job), refused)
            return False
        return not await self._run(job).load()

    async def work(self, job: Job) -> None:
        """Carry out windows of the file; what is left of it is another message's."""
        if await self._store.read_blob(PAYLOADS, job.id, 0, 1) is None:
            return  # carried out already, and its outcome has expired
        run = self._run(job)
        await run.load()
        error: RelayError | None = None
        try:
            if (delay := await run.go()) is not None:
                await self._store.send(QUEUE, dump_job(self._anew(job)), delay=delay)
                return
        except StoreUnavailable:
            raise
        except Refused as refused:
            error = refused
        except Transient as away:
            if await self._hands.put_off(self._anew(job) if run.moved else job, away):
                return
            error = away
        except Terminal as terminal:
            error = terminal
        if error is not None and not isinstance(error, Refused):
            await self._hands.bury(job, b"", error.code)  # the file stays where it was dropped, so it is not copied
        await self._finish(job, run, error)

    async def drain(self, job: Job) -> None:
        """End a file whose message failed at every try: a dead letter, and an outcome that tells how far it came."""
        run = self._run(job)
        await run.load()
        error = Terminal("the file failed at every try", code="poison")
        await self._hands.bury(job, b"", error.code)
        await self._finish(job, run, error)

    async def _finish(self, job: Job, run: FileRun, error: RelayError | None) -> None:
        outcome = await run.outcome(job.tag, error)
        await self._hands.remember(job, outcome)
        log.info("file %s: %s, lines %s", job.id, outcome["status"], outcome["lines"])
        await run.close()
        await self._store.delete_blob(PAYLOADS, job.id)

    def _run(self, job: Job) -> FileRun:
        async def carry(number: int, incoming: Incoming, meter: Meter) -> list[Report]:
            # Each window has a tag of its own: what is open of one must not hide what is open of another.
            return await self._hands.carry(replace(job, id=f"{job.id}-{number}"), incoming, meter)

        return FileRun(
            job.id,
            job.name,
            PAYLOADS,
            settings=self._settings,
            store=self._store,
            carry=carry,
            now=self._now,
            backoff=self._backoff,
        )

    def _anew(self, job: Job) -> Job:
        """Return the message that goes on with a file of which something was done."""
        return replace(job, attempt=0, turned=0, first=self._now().isoformat())

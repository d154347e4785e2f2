"""Jobs that are NDJSON files: each message carries out windows of one, and another message goes on with what is left."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from relay.errors import Refused, RelayError, StoreUnavailable, Terminal, Transient
from relay.inbound.entries import Incoming
from relay.inbound.files import FileRun
from relay.inbound.job import Job
from relay.inbound.jobs import PAYLOADS, Jobs
from relay.inbound.outcome import Report
from relay.settings import Settings
from relay.store import Store
from relay.store.work import Backoff
from relay.telemetry import Meter

Carry = Callable[[Job, Incoming, Meter], Awaitable[list[Report]]]

log = logging.getLogger(__name__)


class FileJobs:
    """Carries files out; the bytes stay where `Jobs` keeps payloads."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        jobs: Jobs,
        carry: Carry,
        *,
        now: Callable[[], datetime],
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._carry = carry
        self._now = now
        self._backoff = backoff

    async def take(self, job: Job, data: bytes) -> None:
        """Keep a file and its message; one that has begun has its message, one that is too large has its outcome."""
        run = self._run(job)
        if len(data) > self._settings.max_file_bytes:
            refused = Refused(f"more than {self._settings.max_file_bytes} bytes", code="too-large", status=413)
            await self._jobs.remember(job, await run.outcome(job.tag, refused))
        elif not await run.load():
            await self._jobs.keep(job, data)
            await self._jobs.send(job)

    async def work(self, job: Job) -> None:
        """Carry out windows of a file; what is left of it is another message's. Raises StoreUnavailable only."""
        if await self._store.read_blob(PAYLOADS, job.id, 0, 1) is None:
            return  # carried out already, and its outcome has expired
        run = self._run(job)
        await run.load()
        error: RelayError | None = None
        try:
            if (delay := await run.go()) is not None:
                await self._jobs.send(self._anew(job), delay=delay)
                return
        except StoreUnavailable:
            raise
        except Refused as refused:
            error = refused
        except Transient as away:
            if await self._jobs.put_off(self._anew(job) if run.moved else job, away):
                return
            error = await self._bury(job, away)
        except Terminal as terminal:
            error = await self._bury(job, terminal)
        await self._finish(job, run, error)

    async def drain(self, job: Job) -> None:
        """Turn a file that failed at every try into a dead letter and an outcome."""
        await (run := self._run(job)).load()
        error = await self._bury(job, Terminal("the file failed at every try", code="poison"))
        await self._finish(job, run, error)

    async def _finish(self, job: Job, run: FileRun, error: RelayError | None) -> None:
        """Remember the outcome, unless another message for the same file has ended it: what that dropped is missing here."""
        if await self._jobs.outcome(job.id) is None:
            outcome = await run.outcome(job.tag, error)
            await self._jobs.remember(job, outcome)
            log.info("file %s: %s, lines %s", job.id, outcome["status"], outcome["lines"])
        await run.close()
        await self._jobs.finish(job)

    def _run(self, job: Job) -> FileRun:
        async def carry(number: int, incoming: Incoming, meter: Meter) -> list[Report]:
            # Each window has a tag of its own: what is open of one must not hide what is open of another.
            return await self._carry(replace(job, id=f"{job.id}-{number}"), incoming, meter)

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

    async def _bury(self, job: Job, error: RelayError) -> RelayError:
        """Name a file whose rest cannot be carried out for a person; it stays where it was dropped, so it is not copied."""
        await self._jobs.bury(job, b"", error.code)
        return error

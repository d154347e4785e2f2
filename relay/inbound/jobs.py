"""What is kept of jobs: payloads, messages, outcomes, and dead letters for what needs a person."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Final

from relay.errors import StoreUnavailable, Transient
from relay.inbound.files import OUTCOMES as DROPPED_OUTCOMES
from relay.inbound.forwarder import FORWARDS
from relay.inbound.job import Job, dump_job
from relay.settings import Settings
from relay.store import Receipt, Store
from relay.store.work import Backoff, DeadLetters

QUEUE: Final = "inbound"
PAYLOADS: Final = "relay-payloads"
OUTCOMES: Final = "relay-outcomes"
LONGEST_MESSAGE: Final = timedelta(days=7)
"""What a queue keeps a message for."""

log = logging.getLogger(__name__)


class Jobs:
    """Jobs in the store: kept before they are answered for, put off, given up, remembered. Raises StoreUnavailable."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        dead_letters: DeadLetters,
        now: Callable[[], datetime],
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._store = store
        self._dead_letters = dead_letters
        self._now = now
        self._backoff = backoff

    async def accept(self, job: Job, body: bytes, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Keep the body and its message, or neither."""
        await self.keep(job, body)
        try:
            return await self.send(job, delay=delay)
        except StoreUnavailable:
            with suppress(StoreUnavailable):  # then `expire` finds it
                await self._store.delete_blob(PAYLOADS, job.id)
            raise

    async def keep(self, job: Job, body: bytes) -> None:
        """Keep the body."""
        await self._store.put_blob(PAYLOADS, job.id, body)

    async def payload(self, job_id: str) -> bytes | None:
        """Return the body of a job; None once it was carried out."""
        return await self._store.get_blob(PAYLOADS, job_id)

    async def send(self, job: Job, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Queue a message for the worker."""
        return await self._store.send(QUEUE, dump_job(job), delay=delay)

    async def put_off(self, job: Job, error: Transient) -> bool:
        """Put a job back on the queue; False when it was tried for long enough."""
        if self.is_over(job):
            return False
        await self.send(replace(job, attempt=job.attempt + 1), delay=self.delay(job, error.retry_after))
        return True

    def is_over(self, job: Job) -> bool:
        """Tell whether a job was tried for long enough."""
        return self._backoff.is_over(datetime.fromisoformat(job.first), self._now())

    def delay(self, job: Job, retry_after: float | None = None) -> timedelta:
        """Return how long its next try has to wait."""
        return self._backoff.delay(job.attempt, retry_after)

    async def finish(self, job: Job) -> None:
        """Delete what is kept of a job that is over, but for its outcome."""
        await self._store.delete_blob(PAYLOADS, job.id)

    async def remember(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Keep an outcome, beside the dropped file too."""
        data = json.dumps(outcome, indent=1).encode()
        if job.name:
            try:
                await self._store.put_blob(DROPPED_OUTCOMES, f"{job.name}.json", data)
            except ValueError:  # the longest of names have no room for four letters more
                log.warning("bundle %s: no outcome can stand beside its file", job.id)
        await self._store.put_blob(OUTCOMES, f"{job.id}.json", data)

    async def outcome(self, job_id: str) -> dict[str, Any] | None:
        """Return the outcome of a job; None while it has none, or once it has expired."""
        data = await self._store.get_blob(OUTCOMES, f"{job_id}.json")
        return json.loads(data) if data is not None else None

    async def bury(self, job: Job, body: bytes, code: str) -> None:
        """Keep a job for a person."""
        letter = {"job": asdict(job), "body": body.decode("utf-8", "backslashreplace")}
        await self._dead_letters.put("inbound", code, letter, subject=(job.id,))
        log.warning("a bundle needs a person: %s", code)

    async def expire(self, before: datetime) -> int:
        """Delete outcomes older than that, and payloads that no message can ask for any more; return their number."""
        unasked = min(before, self._now() - self._settings.retry_for - LONGEST_MESSAGE)
        limits = {OUTCOMES: before, DROPPED_OUTCOMES: before, PAYLOADS: unasked, FORWARDS: unasked}
        gone = 0
        for container, limit in limits.items():
            for blob in await self._store.list_blobs(container):
                if blob.modified < limit:
                    await self._store.delete_blob(container, blob.name)
                    gone += 1
        return gone

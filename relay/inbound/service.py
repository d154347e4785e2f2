"""The inbound side as a whole: take a body, keep it, carry it out now or later, and remember the outcome."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from relay.errors import MapError, Refused, RelayError, StoreUnavailable, Terminal, Transient
from relay.inbound.carry import Carrier, Progress
from relay.inbound.catch_up import CatchUp, Searcher
from relay.inbound.change import Change, dump_changes
from relay.inbound.change_jobs import ChangeJobs
from relay.inbound.file_jobs import FileJobs
from relay.inbound.files import is_lines
from relay.inbound.forwarder import Forwarder
from relay.inbound.gate import Gate, Turn, weight
from relay.inbound.gather import Gatherer
from relay.inbound.intake import Incoming, read_bundle
from relay.inbound.job import CATCH_UP, CHANGES, JOB_ID, Job, load_job, shortened
from relay.inbound.jobs import Jobs
from relay.inbound.limits import check_headers, read_text
from relay.inbound.outcome import Report, http_status, operation_outcome, render_outcome
from relay.inbound.sent import SentBodies
from relay.settings import Settings
from relay.store import Receipt, Store
from relay.store.ledger import Ledger
from relay.store.work import Backoff, DeadLetters
from relay.store.written import WrittenColumns
from relay.telemetry import Meter, metered

PATIENCE = 5.0  # seconds that a caller waits for its turn before it is told 202
_AWAY = 503
TURN_AGAIN = timedelta(seconds=5)  # when a message asks for its turn again

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer: HTTP status, JSON body (None for none), and the id under which the outcome will be found."""

    status: int
    body: Mapping[str, Any] | None = None
    job: str = ""
    retry_after: int | None = None


class Inbound:
    """Takes bodies; accepts one only after it is stored, and then sees it through."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        carrier: Callable[[], Carrier],
        gatherer: Gatherer,
        searcher: Searcher,
        ledger: Ledger,
        written: WrittenColumns,
        dead_letters: DeadLetters,
        now: Callable[[], datetime],
        gate: Gate,
        forwarder: Callable[[], Forwarder],
        new_id: Callable[[], str] = lambda: uuid4().hex,
        backoff: Backoff | None = None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._store = store
        self._carrier = carrier
        self._gatherer = gatherer
        self._forwarder = forwarder
        self._searcher = searcher
        self._ledger = ledger
        self._written = written
        self._dead_letters = dead_letters
        self._now = now
        self._new_id = new_id
        backoff = backoff or Backoff.of(settings)
        self._jobs = Jobs(settings, store, dead_letters=dead_letters, now=now, backoff=backoff)
        self._told = ChangeJobs(settings, gatherer, self._jobs, self._carry_out, dead_letters=dead_letters)
        self._files = FileJobs(settings, store, self._jobs, self._carry_window, now=now, backoff=backoff)

    # --- by HTTP

    async def post(self, body: bytes, content_type: str, content_encoding: str, *, respond_async: bool) -> Reply:
        """Take a bundle and carry it out before answering, unless it is large, the caller will not wait, or a side is away."""
        job = Job(self._new_id(), content_type, content_encoding, first=self._now().isoformat())
        try:
            check_headers(content_type, content_encoding)  # what waits unread is kept with the type alone
            self._check_size(body)
            job = replace(job, size=weight(body, self._settings.max_body_bytes), forward=self._settings.forward)
            if not await self._gate.enter(job.size, within=PATIENCE):
                await self._jobs.accept(shortened(job), body)
                return Reply(202, job=job.id)
            with self._gate.inside(job.size) as turn:
                return await self._take(job, body, turn, respond_async=respond_async)
        except Refused as refused:
            return Reply(refused.status, operation_outcome(refused, refused.status))
        except StoreUnavailable:
            log.error("a bundle could not be stored")  # noqa: TRY400 - the code says it; a trace would say no more
            return unavailable()

    async def _take(self, job: Job, body: bytes, turn: Turn, *, respond_async: bool) -> Reply:
        """Read a body whose turn it is, accept it, and carry it out unless that is for the worker; raises Refused."""
        incoming, sent = self._read(job, body)
        turn.weigh(incoming.size)
        job = replace(shortened(job), size=turn.size)
        if respond_async or len(body) > self._settings.async_over_bytes:
            await self._jobs.accept(job, body)
            return Reply(202, job=job.id)
        # If this process dies, the worker finds this message and does what is left.
        resume = await self._jobs.accept(job, body, delay=self._settings.resume_after)
        return await self._now_or_later(job, body, incoming, sent, resume)

    async def _now_or_later(
        self, job: Job, body: bytes, incoming: Incoming, sent: SentBodies | None, resume: Receipt
    ) -> Reply:
        """Carry out what is accepted; whatever the store does from here on, `resume` sees to the end."""
        meter, progress = Meter(*job.spent), Progress()
        try:
            try:
                outcome = await self._carry(job, incoming, sent, meter, progress)
                await self._jobs.remember(job, outcome)
                await self._forget(job)
            except StoreUnavailable:
                raise
            except Terminal as error:
                outcome = await self._give_up(job.after(meter), body, error, progress)
        except Transient as error:
            log.warning("a bundle is put off: %s", error.code)
            with suppress(StoreUnavailable):
                delay = self._jobs.delay(job, error.retry_after)
                await self._jobs.send(replace(job.after(meter), attempt=1), delay=delay)
                await self._store.cancel(resume)
            return Reply(202, job=job.id)
        with suppress(StoreUnavailable):
            await self._jobs.finish(job)
            await self._store.cancel(resume)
        return Reply(http_status(outcome), outcome, job.id)

    async def status(self, job_id: str) -> Reply:
        """Answer how a job stands: 200 and its outcome, 202 while it runs, 404 when nobody knows it (any more)."""
        if not JOB_ID.fullmatch(job_id):
            return _unknown()
        try:
            if (outcome := await self._jobs.outcome(job_id)) is not None:
                if (
                    "deliveries" in outcome["receipt"]
                ):  # of a file, whose windows have tags of their own, they are not counted
                    outcome["receipt"]["deliveries"] = await self._ledger.deliveries(outcome["tag"])
                return Reply(200, outcome, job_id)
            if await self._jobs.payload(job_id) is not None:
                return Reply(202, job=job_id)
        except StoreUnavailable:
            return unavailable()
        return _unknown()

    # --- by what tells of changes

    async def changes(self, changes: Sequence[Change]) -> Reply:
        """Keep changes, all of them or none, and answer 202 once they are kept; 503 and nothing kept if they cannot be.

        200 when there is nothing to keep: a change of a type without a map is dropped here.
        """
        taken = [each for each in changes if self._gatherer.mapped(each.type)]
        if len(taken) < len(changes):
            log.info("%d changes of types without a map", len(changes) - len(taken))
        if not taken:
            return Reply(200)
        return await self._kept(CHANGES, dump_changes(taken))

    async def keep(self, changes: Sequence[Change]) -> None:
        """Keep changes as `changes` does; raises StoreUnavailable when they cannot be."""
        if (await self.changes(changes)).status == _AWAY:
            raise StoreUnavailable("changes could not be stored")

    async def look(self, wanted: CatchUp, *, delay: timedelta) -> Reply:
        """Have changes looked for that nobody told of; 202 once that is kept, 503 if it cannot be."""
        return await self._kept(CATCH_UP, wanted.dump(), delay=delay)

    async def _kept(self, kind: str, body: bytes, *, delay: timedelta = timedelta(0)) -> Reply:
        job = Job(self._new_id(), first=self._now().isoformat(), size=len(body), kind=kind)
        try:
            await self._jobs.accept(job, body, delay=delay)
        except StoreUnavailable:
            log.error("%s could not be stored", kind)  # noqa: TRY400 - the code says it; a trace would say no more
            return unavailable()
        return Reply(202, job=job.id)

    # --- by blob and queue

    async def drop(self, name: str, data: bytes, *, version: str = "") -> str:
        """Take a file that was dropped into container `bundles`; announced again (the same `version`) it is the same job.

        `version` is the blob's ETag and time: the same bytes dropped anew are carried out anew, as if they were posted anew.
        """
        digest = hashlib.sha256(f"{name}\0{version}\0".encode() + data).hexdigest()[:32]
        size = weight(data, self._settings.max_body_bytes)
        if is_lines(name):  # no more of it than a window is in work at once
            size = min(size, self._settings.file_window_bytes)
        forward = self._settings.forward and not is_lines(name)  # an export comes from a FHIR server
        job = Job(digest, name=name, first=self._now().isoformat(), size=size, forward=forward)
        if await self._jobs.outcome(job.id) is None:
            if is_lines(name):
                await self._files.take(job, data)
            else:
                await self._jobs.keep(job, data)
                await self._jobs.send(job)
        return job.id

    async def work(self, text: str) -> None:
        """Do the work of one queue message. Raises StoreUnavailable only: then the queue keeps the message."""
        job = load_job(text)
        size = (
            job.size or self._settings.work_bytes
        )  # of a message of an earlier version it is not known: it goes alone
        if not await self._gate.enter(size, within=job.patience):
            await self._jobs.send(replace(job, turned=job.turned + 1), delay=TURN_AGAIN)
            return
        with self._gate.inside(size) as turn:
            await self._work(job, turn)

    async def _work(self, job: Job, turn: Turn) -> None:
        if await self._jobs.outcome(job.id) is not None:
            await self._jobs.finish(job)
            return
        if is_lines(job.name):
            await self._files.work(job)
            return
        body = await self._jobs.payload(job.id)
        if body is None:
            return  # carried out already, and its outcome has expired
        meter, progress = Meter(*job.spent), Progress()
        try:
            if job.kind == CATCH_UP:
                await self._search(job, body, meter)
            else:
                outcome = await self._carried(job, body, turn, meter, progress)
                if await self._jobs.outcome(job.id) is None:  # else the request that this resumed has told its caller
                    await self._jobs.remember(job, outcome)
                await self._forget(job)
        except StoreUnavailable:
            raise
        except Refused as refused:
            await self._refuse(job, body, refused)
        except Transient as error:
            job = replace(job.after(meter), size=turn.size)
            if await self._jobs.put_off(job, error):
                return
            await self._give_up(job, body, error, progress)
        except Terminal as error:
            await self._give_up(job.after(meter), body, error, progress)
        await self._jobs.finish(job)

    async def drain(self, text: str) -> None:
        """Turn a poison message of the inbound queue into a dead letter, its payload with it."""
        try:
            job = load_job(text)
        except RelayError:
            await self._dead_letters.put("inbound", "poison", text, subject=(text,))
            return
        if is_lines(job.name) and await self._jobs.outcome(job.id) is None:
            await self._files.drain(job)
            return
        body = await self._jobs.payload(job.id)
        if await self._jobs.outcome(job.id) is None:  # whoever was told 202 asks for it
            error = Terminal("the bundle failed at every try", code="poison")
            await self._give_up(job, body or b"", error, Progress())
        else:
            await self._jobs.bury(job, body or b"", "poison")
        await self._jobs.finish(job)

    async def drain_blob(self, text: str) -> None:
        """Turn a poison message of the blob trigger into a dead letter; the file stays where it was dropped."""
        await self._dead_letters.put("blob", "poison", text, subject=(text,))

    async def expire(self, before: datetime) -> int:
        """Delete outcomes older than that, and payloads that no message can ask for any more; return their number."""
        return await self._jobs.expire(before)

    # --- the parts

    async def _carried(self, job: Job, body: bytes, turn: Turn, meter: Meter, progress: Progress) -> dict[str, Any]:
        if job.kind == CHANGES:
            return await self._told.carry(job, body, turn, meter, progress)
        incoming, sent = self._read(job, body)
        turn.weigh(incoming.size)
        return await self._carry(replace(job, size=turn.size), incoming, sent, meter, progress)

    async def _search(self, job: Job, body: bytes, meter: Meter) -> None:
        """Look for changes and keep those that are found, each page as if it had been told of."""
        wanted = CatchUp.load(body)
        found = 0
        with metered(meter):
            async for changes in self._searcher.find(wanted):
                await self.keep(changes)
                found += len(changes)
        log.info("search %s: %d changes that nobody told of", job.id, found)
        await self._jobs.remember(job, render_outcome(job.id, job.tag, [], meter))

    def _read(self, job: Job, body: bytes) -> tuple[Incoming, SentBodies | None]:
        said = {"content_type": job.content_type, "content_encoding": job.content_encoding, "limits": self._settings}
        incoming = read_bundle(body, **said)  # type: ignore[arg-type]  # the keys are the parameters' names
        trusted = self._settings.trust_sent_bodies and self._settings.writeback == "inline"
        wanted = trusted or job.forward
        return incoming, SentBodies(read_text(body, **said), incoming) if wanted else None  # type: ignore[arg-type]  # as above

    def _check_size(self, body: bytes) -> None:
        if len(body) > self._settings.max_body_bytes:
            raise Refused(f"more than {self._settings.max_body_bytes} bytes", code="too-large", status=413)

    async def _carry_window(self, job: Job, incoming: Incoming, meter: Meter) -> list[Report]:
        return await self._carry_out(job, incoming, None, meter, Progress())

    async def _forget(self, job: Job) -> None:
        """Drop what the FHIR server answered a job whose outcome is kept; of one that was given up it stays until it expires.

        Whoever carries a dead letter out again under its job's id would otherwise put what was forwarded a second time.
        """
        if job.forward:
            with suppress(StoreUnavailable):  # then `expire` finds it
                await self._forwarder().forget(job.id)

    async def _carry(
        self, job: Job, incoming: Incoming, sent: SentBodies | None, meter: Meter, progress: Progress
    ) -> dict[str, Any]:
        reports = await self._carry_out(job, incoming, sent, meter, progress)
        outcome = render_outcome(job.id, job.tag, reports, meter)
        calls = outcome["receipt"]["calls"]
        log.info("bundle %s: %s, %d entries, calls %s", job.id, outcome["status"], len(reports), calls)
        return outcome

    async def _carry_out(
        self, job: Job, incoming: Incoming, sent: SentBodies | None, meter: Meter, progress: Progress
    ) -> list[Report]:
        try:
            carrier = self._carrier()
        except (MapError, StoreUnavailable) as error:  # the maps are wrong or away: once they are right, it goes on
            raise Transient("the maps cannot be used", code="maps") from error
        await self._ledger.begin(job.tag)
        try:
            with metered(meter):
                if job.forward and sent is not None:
                    incoming = await self._forwarder().forward(job.id, incoming, sent)
                    sent = None  # what it holds is not what the server has
                carried = await carrier.carry(incoming, job.tag, sent, progress, apart=job.kind == CHANGES)
        except RelayError:  # what is written stays written, and the next try finds it unchanged
            await self._written.put(job.id, self._now(), progress.written)
            raise
        await self._ledger.finish(job.tag, carried.open)
        await self._written.put(job.id, self._now(), progress.written)
        return carried.reports

    async def _give_up(self, job: Job, body: bytes, error: RelayError, progress: Progress) -> dict[str, Any]:
        """Keep a job that cannot be carried out as a whole (a right is missing, the time is over) for a person.

        Of a request and the worker that resumed it the one that ends later keeps nothing: returns the outcome that stands.
        """
        if (told := await self._jobs.outcome(job.id)) is not None:
            return told
        await self._jobs.bury(job, body, error.code)
        outcome = _refusal(job, error, progress.ended(error))
        await self._jobs.remember(job, outcome)
        return outcome

    async def _refuse(self, job: Job, body: bytes, refused: Refused) -> None:
        """Tell whoever sent a body why nothing of it can be taken; nobody waits for the outcome of what was told of."""
        if job.kind:
            await self._give_up(job, body, refused, Progress())
        else:
            await self._jobs.remember(job, _refusal(job, refused))


def _refusal(job: Job, error: RelayError, reports: Sequence[Report] = ()) -> dict[str, Any]:
    """Return the outcome of a job that could not be carried out as a whole; `reports` are there if a part of it was."""
    outcome = render_outcome(job.id, job.tag, list(reports), Meter(*job.spent))
    issue = {"severity": "error", "code": error.code, "message": str(error), "at": ""}
    status = "failed" if not reports or outcome["status"] == "failed" else "partial"
    return {**outcome, "status": status, "issues": [issue]}


def unavailable() -> Reply:
    """Return what is answered when nothing could be stored."""
    error = StoreUnavailable("the store does not answer: ask again")  # its own text names files of this machine
    return Reply(503, operation_outcome(error, 503), retry_after=30)


def _unknown() -> Reply:
    return Reply(404, operation_outcome(Refused("no such job, or its outcome has expired", code="unknown-job"), 404))

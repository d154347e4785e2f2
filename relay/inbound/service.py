"""The inbound side as a whole: take a body, keep it, carry it out now or later, and remember the outcome."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from relay.errors import MapError, Refused, RelayError, StoreUnavailable, Terminal, Transient
from relay.inbound.carry import Carrier, Progress
from relay.inbound.gate import Gate, Turn, weight
from relay.inbound.intake import Incoming, read_bundle, read_ndjson
from relay.inbound.limits import check_headers, read_text
from relay.inbound.outcome import Report, http_status, operation_outcome, render_outcome
from relay.inbound.sent import SentBodies
from relay.settings import Settings
from relay.store import Receipt, Store
from relay.store.ledger import PREFIX, Ledger
from relay.store.work import Backoff, DeadLetters
from relay.store.written import WrittenColumns
from relay.telemetry import Meter, metered

QUEUE = "inbound"
PAYLOADS = "relay-payloads"
OUTCOMES = "relay-outcomes"
DROPPED_OUTCOMES = "bundles-outcome"
LONGEST_MESSAGE = timedelta(days=7)  # what a queue keeps a message for
PATIENCE = 5.0  # seconds that a caller waits for its turn before it is told 202
WORKERS_PATIENCE = 20.0  # seconds that a message waits for its turn at first, twice as many whenever it comes again
LONGEST_PATIENCE = 120.0  # of the functionTimeout in host.json it leaves the larger part to the work
LONGEST_TYPE = 200  # characters of a content type; no type that is taken has as many
TURN_AGAIN = timedelta(seconds=5)  # when a message asks for its turn again

_JOB_ID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One body on its way: where its payload is (by id), how it was sent, how often it was tried, how many bytes it holds.

    `name` is the dropped file's name in container `bundles`, for the outcome beside it. `turned` counts how often it was
    turned away because others were in work.
    """

    id: str
    content_type: str = ""
    content_encoding: str = ""
    name: str = ""
    attempt: int = 0
    first: str = ""
    spent: tuple[int, int, int] = (0, 0, 0)
    size: int = 0
    turned: int = 0

    @property
    def patience(self) -> float:
        """Seconds to wait for a turn: the longer the oftener it was turned away, so that nobody is for ever."""
        return min(WORKERS_PATIENCE * 2.0 ** min(self.turned, 10), LONGEST_PATIENCE)

    def after(self, meter: Meter) -> Job:
        """Return the job with what its tries have cost so far: calls to Dataverse, to FHIR, milliseconds waited."""
        return replace(self, spent=(meter.dataverse, meter.fhir, meter.waits_ms))

    @property
    def tag(self) -> str:
        """The tag of every write of this job."""
        return PREFIX + self.id


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
        ledger: Ledger,
        written: WrittenColumns,
        dead_letters: DeadLetters,
        now: Callable[[], datetime],
        gate: Gate,
        new_id: Callable[[], str] = lambda: uuid4().hex,
        backoff: Backoff | None = None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._store = store
        self._carrier = carrier
        self._ledger = ledger
        self._written = written
        self._dead_letters = dead_letters
        self._now = now
        self._new_id = new_id
        self._backoff = backoff or Backoff.of(settings)

    # --- by HTTP

    async def post(self, body: bytes, content_type: str, content_encoding: str, *, respond_async: bool) -> Reply:
        """Take a bundle and carry it out before answering, unless it is large, the caller will not wait, or a side is away."""
        job = Job(self._new_id(), content_type, content_encoding, first=self._now().isoformat())
        try:
            check_headers(content_type, content_encoding)  # what waits unread is kept with the type alone
            self._check_size(body)
            job = replace(job, size=weight(body, self._settings.max_body_bytes))
            if not await self._gate.enter(job.size, within=PATIENCE):
                await self._accept(_shortened(job), body)
                return Reply(202, job=job.id)
            with self._gate.inside(job.size) as turn:
                return await self._take(job, body, turn, respond_async=respond_async)
        except Refused as refused:
            return Reply(refused.status, operation_outcome(refused, refused.status))
        except StoreUnavailable:
            log.error("a bundle could not be stored")  # noqa: TRY400 - the code says it; a trace would say no more
            return _unavailable()

    async def _take(self, job: Job, body: bytes, turn: Turn, *, respond_async: bool) -> Reply:
        """Read a body whose turn it is, accept it, and carry it out unless that is for the worker; raises Refused."""
        incoming, sent = self._read(job, body)
        turn.weigh(incoming.size)
        job = replace(_shortened(job), size=turn.size)
        if respond_async or len(body) > self._settings.async_over_bytes:
            await self._accept(job, body)
            return Reply(202, job=job.id)
        # If this process dies, the worker finds this message and does what is left.
        resume = await self._accept(job, body, delay=self._settings.resume_after)
        return await self._now_or_later(job, body, incoming, sent, resume)

    async def _accept(self, job: Job, body: bytes, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Keep the body and its message, or neither; raises StoreUnavailable."""
        await self._keep(job, body)
        try:
            return await self._store.send(QUEUE, _dump(job), delay=delay)
        except StoreUnavailable:
            with suppress(StoreUnavailable):  # then `expire` finds it
                await self._store.delete_blob(PAYLOADS, job.id)
            raise

    async def _now_or_later(
        self, job: Job, body: bytes, incoming: Incoming, sent: SentBodies | None, resume: Receipt
    ) -> Reply:
        """Carry out what is accepted; whatever the store does from here on, `resume` sees to the end."""
        meter, progress = Meter(*job.spent), Progress()
        try:
            try:
                outcome = await self._carry(job, incoming, sent, meter, progress)
                await self._remember(job, outcome)
            except StoreUnavailable:
                raise
            except Terminal as error:
                outcome = await self._give_up(job.after(meter), body, error, progress)
        except Transient as error:
            log.warning("a bundle is put off: %s", error.code)
            with suppress(StoreUnavailable):
                delay = self._backoff.delay(0, error.retry_after)
                await self._store.send(QUEUE, _dump(replace(job.after(meter), attempt=1)), delay=delay)
                await self._store.cancel(resume)
            return Reply(202, job=job.id)
        with suppress(StoreUnavailable):
            await self._store.delete_blob(PAYLOADS, job.id)
            await self._store.cancel(resume)
        return Reply(http_status(outcome), outcome, job.id)

    async def status(self, job_id: str) -> Reply:
        """Answer how a job stands: 200 and its outcome, 202 while it runs, 404 when nobody knows it (any more)."""
        if not _JOB_ID.fullmatch(job_id):
            return _unknown()
        try:
            if (outcome := await self._outcome(job_id)) is not None:
                outcome["receipt"]["deliveries"] = await self._ledger.deliveries(outcome["tag"])
                return Reply(200, outcome, job_id)
            if await self._store.get_blob(PAYLOADS, job_id) is not None:
                return Reply(202, job=job_id)
        except StoreUnavailable:
            return _unavailable()
        return _unknown()

    # --- by blob and queue

    async def drop(self, name: str, data: bytes, *, version: str = "") -> str:
        """Take a file that was dropped into container `bundles`; announced again (the same `version`) it is the same job.

        `version` is the blob's ETag and time: the same bytes dropped anew are carried out anew, as if they were posted anew.
        """
        digest = hashlib.sha256(f"{name}\0{version}\0".encode() + data).hexdigest()[:32]
        size = weight(data, self._settings.max_body_bytes)
        job = Job(digest, name=name, first=self._now().isoformat(), size=size)
        if await self._outcome(job.id) is None:
            await self._keep(job, data)
            await self._store.send(QUEUE, _dump(job))
        return job.id

    async def work(self, text: str) -> None:
        """Do the work of one queue message. Raises StoreUnavailable only: then the queue keeps the message."""
        job = _load(text)
        size = (
            job.size or self._settings.work_bytes
        )  # of a message of an earlier version it is not known: it goes alone
        if not await self._gate.enter(size, within=job.patience):
            await self._store.send(QUEUE, _dump(replace(job, turned=job.turned + 1)), delay=TURN_AGAIN)
            return
        with self._gate.inside(size) as turn:
            await self._work(job, turn)

    async def _work(self, job: Job, turn: Turn) -> None:
        if await self._outcome(job.id) is not None:
            await self._store.delete_blob(PAYLOADS, job.id)
            return
        body = await self._store.get_blob(PAYLOADS, job.id)
        if body is None:
            return  # carried out already, and its outcome has expired
        meter, progress = Meter(*job.spent), Progress()
        try:
            incoming, sent = self._read(job, body)
            turn.weigh(incoming.size)
            job = replace(job, size=turn.size)
            outcome = await self._carry(job, incoming, sent, meter, progress)
            if await self._outcome(job.id) is None:  # else the request that this resumed has told its caller
                await self._remember(job, outcome)
        except StoreUnavailable:
            raise
        except Refused as refused:
            await self._remember(job, _refusal(job, refused))
        except Transient as error:
            job = job.after(meter)
            if not self._backoff.is_over(datetime.fromisoformat(job.first), self._now()):
                delay = self._backoff.delay(job.attempt, error.retry_after)
                await self._store.send(QUEUE, _dump(replace(job, attempt=job.attempt + 1)), delay=delay)
                return
            await self._give_up(job, body, error, progress)
        except Terminal as error:
            await self._give_up(job.after(meter), body, error, progress)
        await self._store.delete_blob(PAYLOADS, job.id)

    async def drain(self, text: str) -> None:
        """Turn a poison message of the inbound queue into a dead letter, its payload with it."""
        try:
            job = _load(text)
        except RelayError:
            await self._dead_letters.put("inbound", "poison", text, subject=(text,))
            return
        body = await self._store.get_blob(PAYLOADS, job.id)
        if await self._outcome(job.id) is None:  # whoever was told 202 asks for it
            error = Terminal("the bundle failed at every try", code="poison")
            await self._give_up(job, body or b"", error, Progress())
        else:
            await self._bury(job, body or b"", "poison")
        await self._store.delete_blob(PAYLOADS, job.id)

    async def drain_blob(self, text: str) -> None:
        """Turn a poison message of the blob trigger into a dead letter; the file stays where it was dropped."""
        await self._dead_letters.put("blob", "poison", text, subject=(text,))

    async def expire(self, before: datetime) -> int:
        """Delete outcomes older than that, and payloads that no message can ask for any more; return their number."""
        unasked = min(before, self._now() - self._settings.retry_for - LONGEST_MESSAGE)
        gone = 0
        for container, limit in ((OUTCOMES, before), (DROPPED_OUTCOMES, before), (PAYLOADS, unasked)):
            for blob in await self._store.list_blobs(container):
                if blob.modified < limit:
                    await self._store.delete_blob(container, blob.name)
                    gone += 1
        return gone

    # --- the parts

    def _read(self, job: Job, body: bytes) -> tuple[Incoming, SentBodies | None]:
        said = {"content_type": job.content_type, "content_encoding": job.content_encoding, "limits": self._settings}
        if job.name.removesuffix(".gz").endswith(".ndjson"):
            return read_ndjson(body, **said), None  # type: ignore[arg-type]  # the keys are the parameters' names
        incoming = read_bundle(body, **said)  # type: ignore[arg-type]  # the keys are the parameters' names
        trusted = self._settings.trust_sent_bodies and self._settings.writeback == "inline"
        return incoming, SentBodies(read_text(body, **said), incoming) if trusted else None  # type: ignore[arg-type]  # as above

    def _check_size(self, body: bytes) -> None:
        if len(body) > self._settings.max_body_bytes:
            raise Refused(f"more than {self._settings.max_body_bytes} bytes", code="too-large", status=413)

    async def _keep(self, job: Job, body: bytes) -> None:
        await self._store.put_blob(PAYLOADS, job.id, body)

    async def _carry(
        self, job: Job, incoming: Incoming, sent: SentBodies | None, meter: Meter, progress: Progress
    ) -> dict[str, Any]:
        try:
            carrier = self._carrier()
        except (MapError, StoreUnavailable) as error:  # the maps are wrong or away: once they are right, it goes on
            raise Transient("the maps cannot be used", code="maps") from error
        await self._ledger.begin(job.tag)
        try:
            with metered(meter):
                carried = await carrier.carry(incoming, job.tag, sent, progress)
        except RelayError:  # what is written stays written, and the next try finds it unchanged
            await self._written.put(job.id, self._now(), progress.written)
            raise
        await self._ledger.finish(job.tag, carried.open)
        await self._written.put(job.id, self._now(), progress.written)
        outcome = render_outcome(job.id, job.tag, carried.reports, meter)
        receipt = outcome["receipt"]
        log.info(
            "bundle %s: %s, %d entries, calls %s", job.id, outcome["status"], len(carried.reports), receipt["calls"]
        )
        return outcome

    async def _remember(self, job: Job, outcome: Mapping[str, Any]) -> None:
        data = json.dumps(outcome, indent=1).encode()
        if job.name:
            try:
                await self._store.put_blob(DROPPED_OUTCOMES, f"{job.name}.json", data)
            except ValueError:  # the longest of names have no room for four letters more
                log.warning("bundle %s: no outcome can stand beside its file", job.id)
        await self._store.put_blob(OUTCOMES, f"{job.id}.json", data)

    async def _outcome(self, job_id: str) -> dict[str, Any] | None:
        data = await self._store.get_blob(OUTCOMES, f"{job_id}.json")
        return json.loads(data) if data is not None else None

    async def _give_up(self, job: Job, body: bytes, error: RelayError, progress: Progress) -> dict[str, Any]:
        """Keep a job that cannot be carried out as a whole (a right is missing, the time is over) for a person.

        Of a request and the worker that resumed it the one that ends later keeps nothing: returns the outcome that stands.
        """
        if (told := await self._outcome(job.id)) is not None:
            return told
        await self._bury(job, body, error.code)
        outcome = _refusal(job, error, progress.ended(error))
        await self._remember(job, outcome)
        return outcome

    async def _bury(self, job: Job, body: bytes, code: str) -> None:
        letter = {"job": asdict(job), "body": body.decode("utf-8", "backslashreplace")}
        await self._dead_letters.put("inbound", code, letter, subject=(job.id,))
        log.warning("a bundle needs a person: %s", code)


def _refusal(job: Job, error: RelayError, reports: Sequence[Report] = ()) -> dict[str, Any]:
    """Return the outcome of a job that could not be carried out as a whole; `reports` are there if a part of it was."""
    outcome = render_outcome(job.id, job.tag, list(reports), Meter(*job.spent))
    issue = {"severity": "error", "code": error.code, "message": str(error), "at": ""}
    status = "failed" if not reports or outcome["status"] == "failed" else "partial"
    return {**outcome, "status": status, "issues": [issue]}


def _shortened(job: Job) -> Job:
    """Return the job with no more of its content type than counts: a header can be longer than a message."""
    return replace(job, content_type=job.content_type.partition(";")[0].strip()[:LONGEST_TYPE])


def _unavailable() -> Reply:
    error = StoreUnavailable("the store does not answer: ask again")  # its own text names files of this machine
    return Reply(503, operation_outcome(error, 503), retry_after=30)


def _unknown() -> Reply:
    return Reply(404, operation_outcome(Refused("no such job, or its outcome has expired", code="unknown-job"), 404))


def _dump(job: Job) -> str:
    return json.dumps(asdict(job), separators=(",", ":"))


def _load(text: str) -> Job:
    try:
        job = Job(**json.loads(text))
        datetime.fromisoformat(job.first)
    except (ValueError, TypeError) as error:
        raise Refused("not an inbound message", code="bad-message") from error
    if not _JOB_ID.fullmatch(job.id):
        raise Refused("not an inbound message", code="bad-message")
    return job

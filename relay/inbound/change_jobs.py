"""Jobs that are lists of changes: those that wait at the same time are carried out as one bundle, and each has its own outcome."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from relay.dataverse.throttle import THROTTLED
from relay.errors import Transient
from relay.inbound.carry import Progress
from relay.inbound.change import Change, dump_changes, load_changes
from relay.inbound.entries import Entry, Incoming
from relay.inbound.gate import Turn
from relay.inbound.gather import Gatherer, left_over
from relay.inbound.job import CHANGES, Job
from relay.inbound.jobs import Jobs
from relay.inbound.outcome import Report, render_outcome
from relay.inbound.sent import SentBodies
from relay.inbound.together import Together
from relay.settings import Settings
from relay.store.work import DeadLetters
from relay.telemetry import Meter, metered

PATIENCE = 20.0  # seconds that a job waits for those before it: then it goes alone

LINGER = 0.2  # seconds at most that a group waits for those of the last one to come back

CarryOut = Callable[[Job, Incoming, SentBodies | None, Meter, Progress], Awaitable[list[Report]]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """One job at work: the changes it holds, its place in the gate, what it has cost, and what is done of it."""

    job: Job
    changes: Sequence[Change]
    turn: Turn
    meter: Meter
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of one job: its entries, the reports of them in their order, and the outcome that is told."""

    entries: Sequence[Entry]
    outcome: dict[str, Any]


class ChangeJobs:
    """Carries changes out. Raises what carrying a job out alone raises: what others hold never fails it."""

    def __init__(
        self, settings: Settings, gatherer: Gatherer, jobs: Jobs, carry_out: CarryOut, *, dead_letters: DeadLetters
    ) -> None:
        self._gatherer = gatherer
        self._jobs = jobs
        self._carry_out = carry_out
        self._dead_letters = dead_letters
        self._together: Together[Told, _Done] = Together(
            self._carry,
            size=lambda told: len(told.changes),
            most=settings.window,
            patience=PATIENCE,
            linger=LINGER,
            everybodys=_is_everybodys,
        )

    async def carry(self, job: Job, body: bytes, turn: Turn, meter: Meter, progress: Progress) -> dict[str, Any]:
        """Carry a job out with those that wait beside it, and return its outcome."""
        done = await self._together.join(Told(job, load_changes(body), turn, meter, progress))
        await self._see_through(job, done)
        receipt = done.outcome["receipt"]
        log.info("changes %s: %s, calls %s", job.id, done.outcome["status"], receipt["calls"])
        return done.outcome

    async def _carry(self, group: Sequence[Told]) -> list[_Done]:
        """Carry the changes of a group out as one bundle; what is told of one resource by several is one entry of it."""
        whole = group[0] if len(group) == 1 else _joint(group)
        try:
            with metered(whole.meter):
                incoming, sent = await self._gatherer.gather(whole.changes)
            for told in group:
                told.turn.weigh(incoming.size // len(group))
            reports = await self._carry_out(whole.job, incoming, sent, whole.meter, whole.progress)
        finally:
            for told in group:
                if told is not whole:
                    told.meter.add(whole.meter)
        found = {entry.key: (entry, report) for entry, report in zip(incoming.entries, reports, strict=True)}
        return [_done(told, whole.job.tag, found, len(group)) for told in group]

    async def _see_through(self, job: Job, done: _Done) -> None:
        """Try changes again whose references may be there later, and bury the failed: nobody waits for this outcome."""
        waiting, failed = left_over(done.entries, done.outcome, job.kind)
        if waiting and self._jobs.is_over(job):
            failed |= waiting
        elif waiting:
            body = dump_changes(list(waiting))
            again = hashlib.sha256(f"{job.id} again".encode()).hexdigest()[:32]  # of a repeated try, the same
            later = replace(job, id=again, attempt=job.attempt + 1, spent=(0, 0, 0), size=len(body))
            await self._jobs.keep(later, body)
            await self._jobs.send(later, delay=self._jobs.delay(job))
        for change, code in failed.items():
            letter = {"job": asdict(job), "body": dump_changes([change]).decode()}
            await self._dead_letters.put("inbound", code, letter, subject=change.key)


def _is_everybodys(error: Exception) -> bool:
    """Tell whether Dataverse has no time for anybody: one by one all would wait as long once more, and for nothing."""
    return isinstance(error, Transient) and error.code == THROTTLED


def _joint(group: Sequence[Told]) -> Told:
    """Return what a group is carried out as; of the same group it is the same job."""
    ids = " ".join(sorted(told.job.id for told in group))
    job = Job(hashlib.sha256(ids.encode()).hexdigest()[:32], kind=CHANGES)
    changes = [change for told in group for change in told.changes]
    return Told(job, changes, group[0].turn, Meter(), Progress())


def _done(told: Told, tag: str, found: Mapping[tuple[str, str] | None, tuple[Entry, Report]], together: int) -> _Done:
    keys = dict.fromkeys(change.key for change in told.changes)
    mine = [found[key] for key in keys if key in found]
    reports = [replace(report, index=number) for number, (_, report) in enumerate(mine)]
    outcome = render_outcome(told.job.id, tag, reports, told.meter)
    if together > 1:
        outcome["receipt"]["together"] = together
    return _Done([entry for entry, _ in mine], outcome)

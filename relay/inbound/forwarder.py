"""A bundle goes to the FHIR server before it goes to Dataverse, once, however often the way there is interrupted.

What was asked is kept before each call and what was answered after it. Where an answer is lost, the next try reads what
is there before it sends anything again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus

from relay.errors import Failed, Transient
from relay.fhir.answers import Read, instant_of
from relay.fhir.client import BUSY, TOO_MUCH, BundleRefused, FhirClient, raise_if_busy
from relay.fhir.forwarding import OK, Answer, Interaction, answer_of, entry_text, refusal_of, same_content, with_id
from relay.inbound.entries import Incoming
from relay.inbound.forward import CHANGED, FORWARDED, LOST, TOO_LARGE, Forwarding, chunks, forwarded, forwarding
from relay.inbound.sent import SentBodies
from relay.settings import Settings
from relay.store import Store

FORWARDS: Final = "relay-forwards"

_CONFLICT: Final = 409
_GONE: Final = 410
_KNOWN: Final = frozenset({OK, _GONE})  # of a resource that is there, or was
_LASTING: Final = frozenset({401, 500})  # of a single entry: the server is there, and takes the others
_TOKEN = re.compile(r"identifier=((?:[^|\\,$&]|\\.)+)\|((?:[^|\\,$&]|\\.)+)")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """When the server was first asked for the entries of a job, and what it answered; the other ones were not asked yet.

    `seed` is what ids were made of: a setting that changes meanwhile makes no others.
    """

    seed: str
    asked: dict[int, str] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)

    def dump(self) -> bytes:
        said = {
            "seed": self.seed,
            "asked": self.asked,
            "answers": {index: asdict(each) for index, each in self.answers.items()},
        }
        return json.dumps(said).encode()

    @classmethod
    def load(cls, data: bytes, seed: str) -> _Progress:
        """Read what was kept; of an earlier version it has no seed, and was made with this one."""
        said = json.loads(data)
        asked = {int(index): at for index, at in said["asked"].items()}
        return cls(
            said.get("seed", seed), asked, {int(index): Answer(**each) for index, each in said["answers"].items()}
        )


class Forwarder:
    """Sends bundles to the FHIR server and returns them as they are there."""

    def __init__(
        self,
        fhir: FhirClient,
        store: Store,
        settings: Settings,
        now: Callable[[], datetime],
        *,
        ours: Callable[[], Collection[str]],
    ) -> None:
        """`ours` returns the systems of the identifiers that the write-back adds."""
        self._ours = ours
        self._fhir = fhir
        self._store = store
        self._settings = settings
        self._now = now

    async def forward(self, job_id: str, incoming: Incoming, sent: SentBodies) -> Incoming:
        """Carry out the bundle's interactions, as far as this job has not yet; returns it with the ids and versions answered.

        Raises Transient when the server is away or busy; what is done by then is kept, and not done again.
        """
        if incoming.type not in FORWARDED:
            return incoming
        seed = f"{self._settings.source_name}/{job_id}"
        kept = await self._store.get_blob(FORWARDS, job_id)
        progress = _Progress.load(kept, seed) if kept is not None else _Progress(seed)
        work = forwarding(incoming, sent, progress.seed, reject=self._settings.validate_bundles == "reject")
        if not work.interactions:
            return forwarded(incoming, work, {})

        async def keep() -> None:
            await self._store.put_blob(FORWARDS, job_id, progress.dump())

        run = _Run(self._fhir, work, progress, keep=keep, now=self._now, ours=self._ours())
        await run.settle_doubts()
        await run.send()
        await run.complete()
        return forwarded(incoming, work, progress.answers)

    async def forget(self, job_id: str) -> None:
        """Drop what is kept of a job that is over."""
        await self._store.delete_blob(FORWARDS, job_id)


class _Run:
    """One try of one job."""

    def __init__(
        self,
        fhir: FhirClient,
        work: Forwarding,
        progress: _Progress,
        *,
        keep: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
        ours: Collection[str],
    ) -> None:
        """`keep` stores the progress as it is then; `ours` are the systems of the identifiers that the write-back adds."""
        self._ours = ours
        self._fhir = fhir
        self._work = work
        self._progress = progress
        self._keep = keep
        self._now = now
        self._busy: Transient | None = None

    async def settle_doubts(self) -> None:
        """Find out what became of the entries whose answer was lost.

        A resource of an id we chose is there, or was, only if we made it; another one was put if it reads as it was sent,
        and deleted if it is gone. In a transaction one that was made tells of all. One that reads otherwise, and was
        written since it was asked for, was done and changed again, or changed and not done: it is not sent again, for
        that could take somebody's change back.
        """
        progress, work = self._progress, self._work
        doubtful = [index for index in sorted(progress.asked.keys() - progress.answers) if index in work.interactions]
        ids = work.ids(progress.answers)
        asked = [each for index in doubtful if (each := await self._addressed(work.ready(index, ids))).id]
        if not asked:
            return
        reads = list(zip(asked, await self._read_all(asked), strict=True))
        made = work.kind == "transaction" and any(each.chosen and read.status in _KNOWN for each, read in reads)
        done = [(each, read) for each, read in reads if self._is_done(each, read, made=made)]
        open_ = [(each, read) for each, read in reads if (each, read) not in done]
        changed = [each.index for each, read in open_ if made or await self._written_since(each, read)]
        if work.kind == "transaction" and len(done) < len(doubtful) and not made:
            done = []  # none of it was done, or all of it and somebody came after: it goes again as a whole, or not at all
            changed = doubtful if changed else []
        for each, read in done:
            progress.answers[each.index] = Answer(OK, each.id, body=read.text)
        progress.answers |= dict.fromkeys(changed, Answer(0, told=CHANGED))
        log.info("of %d forwarded entries %d were found done, %d changed", len(doubtful), len(done), len(changed))

    async def _addressed(self, each: Interaction) -> Interaction:
        """Return a PUT by condition as one of the resource that it means, if a search tells which that is."""
        if not each.condition or not (found := await self._found(each)):
            return each
        return replace(each, id=found, text=with_id(each.text, found))

    def _is_done(self, each: Interaction, read: Read, *, made: bool) -> bool:
        """Tell whether what was asked is done, by what the resource reads like; `made` says that its transaction was."""
        if each.method == "DELETE":
            return read.status == _GONE
        return read.status == OK and (made or each.chosen or same_content(each.text, read.text, ours=self._ours))

    async def _written_since(self, each: Interaction, read: Read) -> bool:
        """Tell whether the resource was written or deleted after it was first asked for; not if the server does not say when.

        One of an id we chose that is gone was made, and deleted since.
        """
        asked = _time(self._progress.asked[each.index])
        if read.status == _GONE:
            return each.chosen or await self._has_versions_since(each, asked)
        updated = _last_updated(read) if read.status == OK else ""
        return bool(updated) and _time(updated) > asked

    async def _has_versions_since(self, each: Interaction, asked: datetime) -> bool:
        """Tell whether a resource that is gone has versions, its deletion among them, from after a time."""
        try:
            history = await self._fhir.listing(f"{each.type}/{each.id}/_history")
        except Failed:  # a server that keeps no history
            return False
        return any(version.updated is not None and version.updated > asked for version in history.listed)

    async def _read_all(self, asked: Sequence[Interaction]) -> list[Read]:
        """Read resources; raises Transient if the server has no time for one of them."""
        reads = await self._fhir.read([(each.type, each.id) for each in asked])
        for read in reads:
            raise_if_busy(read)
        return reads

    async def send(self) -> None:
        """Send what is not answered, call by call."""
        progress, work = self._progress, self._work
        pending = [index for index in sorted(work.interactions) if index not in progress.answers]
        if pending:
            most = await self._fhir.most_entries(len(pending), work.kind)
            calls, too_large = chunks(work, pending, work.ids(progress.answers), most)
            progress.answers |= dict.fromkeys(too_large, Answer(0, told=TOO_LARGE))
            for call in calls:
                await self._call(call)
                if self._busy is not None:  # what comes after may refer to it
                    break
            await self._keep()
        if self._busy is not None:
            raise self._busy

    async def complete(self) -> None:
        """Read what the server found instead of making it, where its answer did not say what that is."""
        progress, work = self._progress, self._work
        for index, answer in progress.answers.items():
            if answer.done and not answer.id and (each := work.interactions.get(index)) and each.method != "DELETE":
                progress.answers[index] = replace(answer, id=await self._found(each))
        found = [
            replace(work.interactions[index], id=answer.id)
            for index, answer in progress.answers.items()
            if answer.status == OK and answer.id and not answer.body and work.interactions[index].if_none_exist
        ]
        for each, read in zip(found, await self._read_all(found), strict=True):
            known = replace(progress.answers[each.index], body=read.text)
            progress.answers[each.index] = known if read.status == OK else Answer(read.status)
        if found:
            await self._keep()

    async def _call(self, call: Sequence[int]) -> None:
        """Send one chunk, and halves of it where the server says that it is too much."""
        progress, work = self._progress, self._work
        ids = work.ids(progress.answers)
        if work.kind == "batch":
            lost = [index for index in call if work.lost(index, ids)]
            progress.answers |= dict.fromkeys(lost, Answer(0, told=LOST))
            call = [index for index in call if index not in lost]
        if not call:
            return
        sent = [work.ready(index, ids) for index in call]
        progress.asked = dict.fromkeys(call, self._now().isoformat()) | progress.asked
        await self._keep()
        try:
            text, spans = await self._fhir.exchange(work.kind, [entry_text(each) for each in sent])
        except BundleRefused as refused:
            await self._refused(call, sent, refused)
            return
        for each, span in zip(sent, spans, strict=True):
            self._take(each, answer_of(text, span, each))

    async def _refused(self, call: Sequence[int], sent: Sequence[Interaction], refused: BundleRefused) -> None:
        if self._work.kind == "batch" and len(call) > 1 and refused.status in TOO_MUCH:
            middle = len(call) // 2
            await self._call(call[:middle])
            await self._call(call[middle:])
            return
        if self._work.kind == "transaction" and refused.status == _CONFLICT and not any(map(_may_conflict, sent)):
            raise Transient("the FHIR server could not do a transaction now", code="fhir-409")  # a deadlock, or a lock
        told = refusal_of(refused.outcome)
        answer = Answer(refused.status, told=told, whole=self._work.kind == "batch" or not told)
        self._progress.answers |= dict.fromkeys(call, answer)

    def _take(self, each: Interaction, answer: Answer) -> None:
        """Take an answer, unless it says that the entry's time has not come: then what is done of the others is kept first."""
        busy = answer.status in BUSY - _LASTING or (answer.status == _CONFLICT and not _may_conflict(each))
        if busy:
            self._busy = Transient(f"the FHIR server answered {answer.status}", code=f"fhir-{answer.status}")
        else:
            self._progress.answers[each.index] = answer

    async def _found(self, each: Interaction) -> str:
        """Return the id of the resource that a condition means, empty where that is not to be had by a search for it."""
        match = _TOKEN.fullmatch(unquote_plus(each.if_none_exist or each.condition))
        if match is None:
            return ""
        system, value = (re.sub(r"\\(.)", r"\1", part) for part in match.groups())
        try:
            found = await self._fhir.search(each.type, [(system, value)])
        except Failed:  # a server that does not search, or not by this
            return ""
        return "" if found.several or not found.hits else found.hits[0].id


def _last_updated(read: Read) -> str:
    meta = json.loads(read.text).get("meta")
    return instant_of(meta.get("lastUpdated")) if isinstance(meta, dict) else ""


def _time(instant: str) -> datetime:
    return datetime.fromisoformat(instant)


def _may_conflict(each: Interaction) -> bool:
    """Tell whether 409 is an answer to what was asked, and not to when."""
    return each.guarded or each.method == "DELETE"

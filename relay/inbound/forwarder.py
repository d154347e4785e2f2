"""A bundle goes to the FHIR server before it goes to Dataverse, once, however often the way there is interrupted.

What was asked is kept before each call and what was answered after it. Where an answer is lost, the next try reads what
is there before it sends anything again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final
from urllib.parse import unquote_plus

from relay.errors import Transient
from relay.fhir.answers import version_of
from relay.fhir.client import BUSY, TOO_MUCH, BundleRefused, FhirClient
from relay.fhir.forwarding import OK, Answer, Interaction, answer_of, entry_text, refusal_of, same_content
from relay.inbound.entries import Incoming
from relay.inbound.forward import FORWARDED, LOST, TOO_LARGE, Forwarding, chunks, forwarded, forwarding
from relay.inbound.sent import SentBodies
from relay.store import Store

FORWARDS: Final = "relay-forwards"

_CONFLICT: Final = 409
_LASTING: Final = frozenset({401, 500})  # of a single entry: the server is there, and takes the others
_TOKEN = re.compile(r"identifier=((?:[^|\\,$&]|\\.)+)\|((?:[^|\\,$&]|\\.)+)")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What was asked of the server for a job and what it answered, by entry; the other ones were not asked yet."""

    asked: set[int] = field(default_factory=set)
    answers: dict[int, Answer] = field(default_factory=dict)

    def dump(self) -> bytes:
        said = {"asked": sorted(self.asked), "answers": {index: asdict(each) for index, each in self.answers.items()}}
        return json.dumps(said).encode()

    @classmethod
    def load(cls, data: bytes) -> _Progress:
        said = json.loads(data)
        return cls(set(said["asked"]), {int(index): Answer(**each) for index, each in said["answers"].items()})


class Forwarder:
    """Sends bundles to the FHIR server and returns them as they are there."""

    def __init__(self, fhir: FhirClient, store: Store, source_name: str) -> None:
        self._fhir = fhir
        self._store = store
        self._source_name = source_name

    async def forward(self, job_id: str, incoming: Incoming, sent: SentBodies) -> Incoming:
        """Carry out the bundle's interactions, as far as this job has not yet; returns it with the ids and versions answered.

        Raises Transient when the server is away or busy; what is done by then is kept, and not done again.
        """
        if incoming.type not in FORWARDED:
            return incoming
        work = forwarding(incoming, sent, f"{self._source_name}/{job_id}")
        if not work.interactions:
            return forwarded(incoming, work, {})
        kept = await self._store.get_blob(FORWARDS, job_id)
        progress = _Progress.load(kept) if kept is not None else _Progress()
        run = _Run(self._fhir, self._store, job_id, work, progress)
        await run.settle_doubts()
        await run.send()
        await run.complete()
        return forwarded(incoming, work, progress.answers)

    async def forget(self, job_id: str) -> None:
        """Drop what is kept of a job that is over."""
        await self._store.delete_blob(FORWARDS, job_id)


class _Run:
    """One try of one job."""

    def __init__(self, fhir: FhirClient, store: Store, job_id: str, work: Forwarding, progress: _Progress) -> None:
        self._fhir = fhir
        self._store = store
        self._job_id = job_id
        self._work = work
        self._progress = progress
        self._busy: Transient | None = None

    async def settle_doubts(self) -> None:
        """Find out what became of the entries whose answer was lost.

        A resource of an id we chose is there only if we made it; another one was put if it reads as it was sent. In a
        transaction one that was made tells of all.
        """
        progress, work = self._progress, self._work
        doubtful = [index for index in sorted(progress.asked - progress.answers.keys()) if index in work.interactions]
        ids = work.ids(progress.answers)
        asked = [each for index in doubtful if (each := work.ready(index, ids)).id and each.method == "PUT"]
        if not asked:
            return
        reads = await self._fhir.read([(each.type, each.id) for each in asked])
        for read in reads:
            if read.status in BUSY:
                raise Transient(
                    f"the FHIR server answered {read.status} to a read",
                    code=f"fhir-{read.status}",
                    retry_after=read.retry_after,
                )
        there = [(each, read) for each, read in zip(asked, reads, strict=True) if read.status == OK]
        made = work.kind == "transaction" and any(each.chosen for each, _ in there)
        same = [(each, read) for each, read in there if made or each.chosen or same_content(each.text, read.text)]
        if work.kind == "transaction" and not made and len(same) < len(doubtful):
            return  # none of it was done, or all of it and somebody came after: as a whole it goes again
        for each, read in same:
            meta = json.loads(read.text).get("meta") or {}
            progress.answers[each.index] = Answer(
                OK, each.id, version_of(read.etag), str(meta.get("lastUpdated") or "")
            )
        log.info("%d of %d forwarded entries were found done", len(same), len(doubtful))

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
            index
            for index, answer in progress.answers.items()
            if answer.status == OK and answer.id and not answer.body and work.interactions[index].method == "POST"
        ]
        reads = await self._fhir.read([(work.interactions[each].type, progress.answers[each].id) for each in found])
        for index, read in zip(found, reads, strict=True):
            if read.status in BUSY:
                raise Transient("the FHIR server is busy", code=f"fhir-{read.status}", retry_after=read.retry_after)
            known = replace(progress.answers[index], body=read.text)
            progress.answers[index] = known if read.status == OK else Answer(read.status)
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
        progress.asked |= set(call)
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
        found = await self._fhir.search(each.type, [(system, value)])
        return "" if found.several or not found.hits else found.hits[0].id

    async def _keep(self) -> None:
        await self._store.put_blob(FORWARDS, self._job_id, self._progress.dump())


def _may_conflict(each: Interaction) -> bool:
    """Tell whether 409 is an answer to what was asked, and not to when."""
    return each.guarded or each.method == "DELETE"

"""One bundle from entries to outcome: translate, locate, plan, apply until nobody raced us, then write back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import PurePath
from typing import TypeVar

from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseRefusal
from relay.dataverse.lanes import Lanes
from relay.errors import RelayError, Transient
from relay.fhir.links import Link, LinkResult, WriteBack
from relay.inbound.ahead import look_ahead
from relay.inbound.apply import Applier
from relay.inbound.drafting import Drafter
from relay.inbound.endings import Endings, ReadMany
from relay.inbound.entries import Entry, Incoming
from relay.inbound.judge import Applied, Raced
from relay.inbound.linked import Linked
from relay.inbound.locate import Locator, chunked
from relay.inbound.located import Agreements, Located
from relay.inbound.names import UNKNOWN, NamesRead
from relay.inbound.operations import Child, Operation, Planned
from relay.inbound.outcome import Report
from relay.inbound.plan import PlanOptions, plan, rows_meant
from relay.inbound.sent import SentBodies
from relay.inbound.windows import Ties, windows
from relay.mapping.load import MapSet
from relay.mapping.model import Draft
from relay.mapping.rename import tables_of
from relay.settings import Settings
from relay.store.agreed import Agreed
from relay.store.side_by_side import side_by_side
from relay.store.tombstones import Tombstones
from relay.store.written import RowWritten

ROUNDS = 5
Rename = Callable[[Iterable[str]], Awaitable[MapSet]]
"""Asks the org for the navigation names of tables, once each, and returns the maps as they are then."""

Nudge = Callable[[str, str], Awaitable[None]]
"""Asks, for (table, GUID), that what users changed goes to FHIR."""

STALE = "0x80060882"  # ConcurrencyVersionMismatch: somebody saved the row between our read and our write

_NAME_ISSUES = frozenset(f"dataverse-{code}" for code in UNKNOWN)
_PRESENT = LinkResult("present")
_COMING = LinkResult("queued")  # the row's own event brings it

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a bundle; `open` are GUIDs of rows whose write-back is not done."""

    reports: list[Report]
    open: tuple[str, ...]


@dataclass(slots=True)
class Progress:
    """What is done of a bundle, window after window: it stays done, whatever ends the next one.

    `reports` are those of all entries by number; `done` and `left` are the numbers of those that were carried out and
    are still to be. `written` is which line wrote which column, `made` are the GUIDs of the rows that were created.
    """

    reports: dict[int, Report] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    open: list[str] = field(default_factory=list)
    written: list[RowWritten] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def note(self, operations: Iterable[Operation]) -> None:
        """Take up operations that were carried out."""
        operations = list(operations)
        self.written += _written(operations)
        self.made.update(each.id for each in operations if each.kind == "create")

    def ended(self, error: RelayError) -> list[Report]:
        """Return what became of each entry where an error ended the bundle after some of it was done; nothing where before."""
        if not self.done and not any(report.row_id for report in self.reports.values()):
            return []
        for number in self.left:
            self.reports[number].fail(error)
        return list(self.reports.values())


class Carrier:
    """Carries bundles out; what is written twice is the same both times, so any step may be the last."""

    def __init__(
        self,
        settings: Settings,
        maps: MapSet,
        dataverse: DataverseClient,
        write_back: WriteBack,
        agreed: Agreed,
        *,
        read: ReadMany,
        tombstones: Tombstones,
        now: Callable[[], datetime],
        lanes: Lanes,
        nudge: Nudge,
        rename: Rename,
        ordered_versions: Callable[[], Awaitable[bool]],
        maybe_on_server: bool = False,
    ) -> None:
        """`nudge` asks for a row's changes to go to FHIR once more; `maybe_on_server` says that no entry need be on the FHIR server, whatever its method is.

        `ordered_versions` tells whether versions are integers that grow; asked only for resources that name one.
        """
        self._read = read
        self._endings = partial(Endings, read, tombstones, now)
        self._ordered_versions = ordered_versions
        self._lanes = lanes
        self._nudge = nudge
        self._rename = rename
        self._maybe_on_server = maybe_on_server
        self._settings = settings
        self._maps = maps
        self._dataverse = dataverse
        self._applier = Applier(dataverse, settings)
        self._write_back = write_back
        self._agreed = agreed
        self._options = PlanOptions(
            source_name=settings.source_name,
            row_gone=settings.row_gone,
            identifier_rows=settings.writeback == "inline" and settings.identifier_rows == "relay",
        )

    async def carry(
        self,
        incoming: Incoming,
        tag: str,
        sent: SentBodies | None = None,
        progress: Progress | None = None,
        *,
        apart: bool = False,
    ) -> Carried:
        """Carry out every entry that can be and say what became of each; `progress` is filled on the way.

        `apart` says that the entries came apart from each other, so that none has to wait while another is written.
        Raises Transient when a side is away or busy; what is done by then stays done.
        """
        progress = progress or Progress()
        try:
            return await self._carry(incoming, tag, sent, progress, apart=apart)
        except NamesRead:  # a second time is left to the queue
            return await self._carry(incoming, tag, sent, progress, apart=apart)

    async def _carry(
        self, incoming: Incoming, tag: str, sent: SentBodies | None, progress: Progress, *, apart: bool
    ) -> Carried:
        # A bundle that is carried out beside this one may change the maps.
        locator = Locator(self._dataverse, self._maps, self._settings.source_name)
        reports, drafts = Drafter(self._settings, self._maps).draft(incoming)
        for number in progress.done:  # before the names were read
            reports[number] = progress.reports[number]
            drafts.pop(number, None)  # the maps may have come anew as a whole
        progress.reports, progress.left = reports, set(drafts)
        # What was deleted comes last: until then the others may still refer to it, or no longer do.
        ended = [number for number, draft in drafts.items() if draft.end == "deleted"]
        living = {number: draft for number, draft in drafts.items() if draft.end != "deleted"}
        known = await self._look_ahead(living, locator)
        parts = windows(living, self._settings.window, self._settings.source_name, known)
        for window in [*parts, *chunked(ended, self._settings.window)]:
            part = {number: drafts.pop(number) for number in window}
            async with self._lanes.hold((draft.map.resource, draft.id) for draft in part.values()):
                done = await self._write(part, reports, tag, locator, progress, apart=apart)
            progress.open += await self._link([incoming.entries[number] for number in window], part, reports, sent)
            if done.busy:  # what comes after it may refer to it
                raise Transient("Dataverse is busy", code="dataverse-busy", retry_after=done.retry_after)
            progress.done.update(window)
            progress.left.difference_update(window)
        told = [reports[entry.index] for entry in incoming.entries]
        return Carried(told, tuple(progress.open))

    async def _write(
        self,
        drafts: Mapping[int, Draft],
        reports: Mapping[int, Report],
        tag: str,
        locator: Locator,
        progress: Progress,
        *,
        apart: bool,
    ) -> Applied:
        """Locate, plan and apply, again for those that lost a race, until none does; the locator has the drafts' maps."""
        maps = locator.maps
        pending = dict(drafts)
        options = self._options
        if any(draft.columns.get(draft.map.version) for draft in drafts.values()):
            options = replace(options, ordered_versions=await self._ordered_versions())
        endings, linked = self._endings(), Linked(self._read)
        done = Applied()
        written: dict[int, tuple[str, list[Child]]] = {}
        chosen: dict[tuple[str, str], None] = {}
        for turn in range(ROUNDS):
            if not pending:
                break
            located = await self._named(pending, locator.locate(list(pending.values()), chosen), maps)
            located.agreed = await self._agreements(pending.values(), located)
            await endings.see(pending.values(), located, ordered=options.ordered_versions, again=turn > 0)
            await linked.tie(pending, located, maps, locator.read)
            planned = plan(pending, located, maps, options)
            await endings.bury(planned.resources)
            applied = await self._applier.apply(planned, tag, progress.note, again=turn > 0, apart=apart)
            # A busy one may have no row yet that a resource could be told of; what it has is found at the next try.
            unwritten = applied.raced.keys() | applied.busy.keys()
            done.raced = applied.raced
            there = [each.planned for each in applied.raced.values() if each.written]
            written |= {planned.number: (planned.row_id, list(planned.children)) for planned in there}
            done.busy |= applied.busy
            done.retry_after = max(done.retry_after or 0, applied.retry_after or 0) or None
            through = [each for each in planned.resources if each.number not in unwritten]
            if any(issue.code in _NAME_ISSUES for each in through for issue in each.issues):
                await self._ask_names(pending, maps)
            for each in through:
                reports[each.number].take(each)
            await self._agree(through)
            await endings.settle(through)
            pending = {number: pending[number] for number in sorted(applied.raced)}
            # A key we chose for a child was taken: next time look at who has it.
            lost = (each.planned for each in applied.raced.values())
            creates = (each for planned in lost for each in planned.operations if each.kind == "create")
            chosen |= {(each.table.name, each.id): None for each in creates}
        for number in pending:
            self._lost(done.raced[number], reports[number], done)
        await endings.settle(done.raced[number].planned for number in pending if number not in done.busy)
        for number, (row_id, children) in written.items():
            report = reports[number]
            if not report.row_id:  # refused in the end, but its row is there
                report.row_id, report.children = row_id, children
        for number in drafts:
            reports[number].made_before(progress.made)
        return done

    async def _look_ahead(self, drafts: Mapping[int, Draft], locator: Locator) -> Ties | None:
        """Find out what has to stay together of a bundle that does not fit a window."""
        if len(drafts) <= self._settings.window:
            return None
        return await self._named(drafts, look_ahead(drafts, locator.read), locator.maps)

    async def _named(self, drafts: Mapping[int, Draft], reading: Awaitable[T], maps: MapSet) -> T:
        """Await a reading; where the org does not know a name in it, ask for the names. Raises NamesRead if they are others."""
        try:
            return await reading
        except DataverseRefusal as error:
            if error.code in UNKNOWN:
                await self._ask_names(drafts, maps)
            raise

    async def _ask_names(self, pending: Mapping[int, Draft], maps: MapSet) -> None:
        """See whether the org has other names than these maps assume; raises NamesRead if it has."""
        tables = tables_of({draft.map.resource: draft.map for draft in pending.values()}.values())
        self._maps = await self._rename(tables)
        if self._maps is not maps:
            raise NamesRead("the maps have other names now", code="maps")

    async def _agreements(self, drafts: Iterable[Draft], located: Located) -> Agreements | None:
        """Read what was agreed on for the rows whose map tracks columns; None, and no call, when no map does."""
        tracking = [draft for draft in drafts if draft.map.outward.tracked]
        if not tracking:
            return None
        rows = rows_meant(tracking, located, self._options)
        marks = await side_by_side(self._agreed.get(table, guid) for table, guid in rows)
        return Agreements(self._agreed.mark, dict(zip(rows, marks, strict=True)))

    async def _agree(self, planned: Sequence[Planned]) -> None:
        """Note what both sides hold now. A resource that failed agrees on nothing: what is known of it stays known."""
        agree = [each for each in planned if each.marks and each.result != "failed"]
        await side_by_side(self._agreed.put(each.draft.map.table.name, each.row_id, each.marks) for each in agree)
        gone = [each for each in planned if each.result == "updated" and _deletes_row(each)]
        await side_by_side(self._agreed.forget(each.draft.map.table.name, each.row_id) for each in gone)
        for each in planned:
            # FHIR should have had it by now: the event may be lost, or was given up.
            if any(issue.code == "kept-dataverse" for issue in each.issues):
                await self._nudge(each.draft.map.table.name, each.row_id)

    @staticmethod
    def _lost(raced: Raced, report: Report, done: Applied) -> None:
        """Deal with a resource that lost every round: saved by users each time, it waits; otherwise it is refused."""
        planned, error = raced.planned, raced.error
        if error.code == STALE:
            log.warning("a resource kept changing under the relay")
            done.busy[planned.number] = planned
        else:
            planned.fail(f"dataverse-{error.code}", str(error), error.column)
            report.take(planned)

    async def _link(
        self,
        entries: Sequence[Entry],
        drafts: Mapping[int, Draft],
        reports: Mapping[int, Report],
        sent: SentBodies | None,
    ) -> list[str]:
        """Write the GUIDs of known rows back; returns the GUIDs whose write-back is still to come."""
        by_event = self._settings.writeback == "event"
        links: dict[int, Link] = {}
        for entry in entries:
            report, draft = reports[entry.index], drafts[entry.index]
            if not report.row_id or report.result == "skipped" or draft.end:
                continue
            identifier = draft.map.identifier
            if identifier is None or not identifier.writeback:
                continue
            if report.row_id in draft.claims:
                report.writeback = _PRESENT
                continue
            if by_event and report.result == "created":
                report.writeback = _COMING
                continue
            text, etag = sent.of(entry) if sent is not None else ("", "")
            posted = self._maybe_on_server or entry.method != "PUT"
            links[entry.index] = Link(
                draft.map.resource, draft.id, draft.map.table.name, report.row_id, identifier.system, posted, text, etag
            )
        results = await self._write_back(list(links.values()))
        still_open: list[str] = []
        for (number, link), result in zip(links.items(), results, strict=True):
            reports[number].writeback = result
            if result.state not in ("written", "present"):
                still_open.append(link.row_id)
        # Should the setting change to inline, the events of these rows are not to be taken for done.
        return [reports[number].row_id for number in drafts if reports[number].row_id] if by_event else still_open


def _deletes_row(planned: Planned) -> bool:
    return any(each.kind == "delete" and each.id == planned.row_id for each in planned.operations)


def _written(operations: Iterable[Operation]) -> list[RowWritten]:
    """Return which line wrote which column of which row."""
    found = []
    for operation in operations:
        lines = {
            name: (PurePath(source.file).name, source.line, source.path)
            for name, source in operation.sources.items()
            if operation.writes(name)
        }
        if lines:
            found.append(RowWritten(operation.table.name, operation.id, lines))
    return found

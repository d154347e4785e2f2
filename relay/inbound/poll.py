"""Asking the FHIR server for what changed: the last resort, where nothing tells of changes.

The history of the whole server since the watermark, or, where there is none, a search of each mapped type by
`_lastUpdated`, which does not see deletions. The watermark is a time of the server's own, and moves only once every
page up to it is kept. Each time it is asked from some minutes before it, since a version can become visible later than
its time says; what was taken already is known by resource and version.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.errors import Failed, Transient
from relay.fhir.client import FhirClient
from relay.fhir.history import Listed, Listing
from relay.fhir.pages import first_of_history, first_page
from relay.inbound.change import Change
from relay.inbound.service import Inbound
from relay.settings import Settings
from relay.store import Store
from relay.telemetry import Pseudonyms

SOURCE: Final = "poll"
CONTAINER: Final = "relay-poll"
PAGE: Final = 100
RUN: Final = timedelta(seconds=60)
"""How long one call goes on; what is left of the pages is the next one's."""

MOST_SEEN: Final = 20_000
"""Resources that are known as taken; of more than these some are taken again, which changes nothing."""

_LACKING: Final = frozenset(f"fhir-{status}" for status in (400, 403, 404, 405, 422, 501))
_EXPIRED: Final = frozenset(f"fhir-{status}" for status in (400, 404, 410))

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watermark:
    """How far the server was read: everything up to `since`, and of the pass under way all but the `pages` that are left.

    `begun` is when this pass began, by our clock, `latest` is the newest time of it, `seen` has by resource (a keyed hash) the newest time that was taken, and the versions that were taken last.
    """

    since: str
    begun: str = ""
    latest: str = ""
    pages: list[str] = field(default_factory=list)
    searched: bool = False
    seen: dict[str, list[str]] = field(default_factory=dict)


class Poller:
    """Reads changes and hands them on; what is noted is behind what is kept, never ahead of it."""

    def __init__(
        self,
        fhir: FhirClient,
        inbound: Inbound,
        store: Store,
        settings: Settings,
        *,
        types: Callable[[], Iterable[str]],
        pseudonyms: Pseudonyms,
        now: Callable[[], datetime],
    ) -> None:
        """`types` are the resource types that have a map."""
        self._fhir = fhir
        self._inbound = inbound
        self._store = store
        self._overlap = settings.poll_overlap
        self._types = types
        self._pseudonyms = pseudonyms
        self._now = now
        self._listed: set[str] = set()
        self._name = f"{pseudonyms('poll', settings.source_name, settings.fhir_url)}.json"

    async def poll(self) -> int:
        """Take what changed since the last time and return how many changes were kept; the first time only begins.

        Raises Transient when a side or the store is away, Failed when the server refuses: nothing is lost, the next
        call begins where this one ended.
        """
        mark = await self._load()
        if mark is None:
            await self._save(Watermark(_text(self._now())))
            log.info("polling begins: changes are taken from now on")
            return 0
        until = self._now() + RUN
        self._listed.clear()
        taken = 0
        may_begin_anew = bool(mark.pages)  # a link of a page that was just read is no old one
        if not mark.pages:
            mark.begun, mark.pages = _text(self._now()), self._first_pages(mark)
        first = not mark.latest
        while mark.pages:
            page = await self._page(mark, may_begin_anew=may_begin_anew)
            may_begin_anew = False
            if page is None:
                continue
            if page.next == mark.pages[0]:
                raise Transient("the FHIR server's next page is the page itself", code="bad-answer")
            if first and page.at is not None and not mark.searched:  # what comes after that is the next pass's
                mark.latest = max(mark.latest, _text(page.at))
            first = False
            taken += await self._take(page, mark)
            mark.pages[:1] = [page.next] if page.next else []
            if mark.pages:
                await self._save(mark)
                if self._now() >= until:
                    return taken
        self._advance(mark)
        await self._save(mark)
        return taken

    async def _page(self, mark: Watermark, *, may_begin_anew: bool) -> Listing | None:
        """Read the first of the pages that are left; None when there are other ones to be read instead."""
        address = mark.pages[0]
        try:
            return await self._fhir.listing(address)
        except Failed as refused:
            if may_begin_anew and refused.code in _EXPIRED:  # a link to a page lives for minutes on some servers
                log.info("a next page is gone: the pass begins anew")
            elif not mark.searched and refused.code in _LACKING and address in self._first_pages(mark):
                log.warning("the FHIR server has no history of the whole server (%s): it is searched", refused.code)
                mark.searched = True
            else:
                raise
        mark.pages = self._first_pages(mark)
        return None

    def _first_pages(self, mark: Watermark) -> list[str]:
        since = datetime.fromisoformat(mark.since) - self._overlap
        if not mark.searched:
            return [first_of_history(since, PAGE)]
        return [first_page(kind, since, PAGE) for kind in sorted(self._types())]

    async def _take(self, page: Listing, mark: Watermark) -> int:
        if page.unread:
            log.warning("%d entries of a page name no resource", page.unread)
        fresh: dict[tuple[str, str], Change] = {}
        for each in page.listed:
            change = self._news(each, mark)
            if change is not None:
                fresh[change.key] = change
        await self._inbound.keep(list(fresh.values()))
        return len(fresh)

    def _news(self, each: Listed, mark: Watermark) -> Change | None:
        """Note a version as taken and return its change; None when it was taken before, or a newer one was.

        Where nobody can say which of two versions is the newer one (HAPI gives no time for a deletion), the change is one
        of which nothing is told: the resource as it is now.
        """
        word = self._pseudonyms(each.type, each.id)
        self._listed.add(word)
        time = _text(each.updated) if each.updated is not None else ""
        mark.latest = max(mark.latest, time)
        known, *versions = mark.seen.get(word, [""])
        if each.version in versions and (each.version or time == known):
            return None
        if time and time < known:
            return None
        change = _change(each)
        if not versions or (known and time > known):
            mark.seen[word] = [time, each.version]
            return change
        mark.seen[word] = [max(time, known), *versions, each.version]
        return change.bare

    def _advance(self, mark: Watermark) -> None:
        """Move the watermark to the newest time that was read, but never beyond the begin of the pass.

        A time in the future would hide what comes before it, and one of a late page what was changed after the first ones
        were read: one pass may take several runs.
        """
        mark.since = max(mark.since, min(mark.latest or mark.since, mark.begun or mark.since))
        mark.latest = ""
        oldest = _text(datetime.fromisoformat(mark.since) - self._overlap)
        # What has no time is known for as long as it is listed.
        kept = {word: seen[0] for word, seen in mark.seen.items() if seen[0] >= oldest or word in self._listed}
        recent = sorted((time, word) for word, time in kept.items())
        mark.seen = {word: mark.seen[word] for _, word in recent[-MOST_SEEN:]}

    async def _load(self) -> Watermark | None:
        kept = await self._store.get_blob(CONTAINER, self._name)
        return None if kept is None else Watermark(**json.loads(kept))

    async def _save(self, mark: Watermark) -> None:
        data = json.dumps(asdict(mark), separators=(",", ":")).encode()
        await self._store.put_blob(CONTAINER, self._name, data)


def _text(when: datetime) -> str:
    """Write a time so that texts compare as times do."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def _change(each: Listed) -> Change:
    return Change(SOURCE, each.type, each.id, each.version or None, "delete" if each.deleted else "update", None)

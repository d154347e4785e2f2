"""Looking for changes that nobody told of: what was changed since the last time, or the events that a gap left out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from relay.errors import Failed, Refused
from relay.fhir.client import FhirClient
from relay.inbound.change import Change
from relay.inbound.heard import MOST, Heard, key_of
from relay.inbound.notifications import SOURCE, read_notification
from relay.mapping.load import MapSet
from relay.settings import Settings

OVERLAP = timedelta(minutes=1)
"""A write that began earlier may be seen later: so much is searched again."""
SKEW = timedelta(minutes=5)
"""How far apart the two clocks may be, where only ours is known."""
LOOK_BACK = timedelta(hours=1)
"""How far back the first search of all goes."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What to look for: changes of `types` (none: of every type with a map) since `since` (none: since the last time).

    `key` is whose watermarks these are; where there is none yet the search goes back from when it was `due`. For a gap `first` and `last` are the numbers of the events that did not come, and
    `subscription` the id to ask for them.
    """

    key: str
    types: tuple[str, ...] = ()
    since: str = ""
    subscription: str = ""
    first: int = 0
    last: int = 0
    due: str = ""

    def dump(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> CatchUp:
        """Read what `dump` wrote; raises Refused `bad-message`."""
        try:
            said = json.loads(data)
            return cls(**{**said, "types": tuple(said["types"])})
        except (ValueError, TypeError, KeyError) as error:
            raise Refused("not a search for changes", code="bad-message") from error


class Searcher:
    """Finds changes at the FHIR server."""

    def __init__(
        self,
        fhir: Callable[[], FhirClient],
        maps: Callable[[], MapSet],
        heard: Heard,
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._fhir = fhir
        self._maps = maps
        self._heard = heard
        self._settings = settings
        self._now = now

    async def find(self, wanted: CatchUp) -> AsyncIterator[list[Change]]:
        """Yield changes, a page at a time; the watermark is set behind the last of them, once all were taken.

        Raises Transient while the server is away or busy, Failed in the end when it refused the search of a type.
        """
        if wanted.last:
            since = datetime.fromisoformat(wanted.since)
            if not await self._heard.missing(wanted.key, wanted.first, wanted.last, since):
                return
            if (told := await self._events(wanted)) is not None:
                yield told
                return
        maps = self._maps()
        refused: Failed | None = None
        for kind in wanted.types or sorted(each.resource for each in maps):
            if maps.for_resource(kind) is None:
                continue
            try:
                async for changes in self._changed(wanted, kind):
                    yield changes
            except Failed as error:  # the other types are there to be searched all the same
                refused = refused or error
        if refused is not None:
            raise refused

    async def _changed(self, wanted: CatchUp, kind: str) -> AsyncIterator[list[Change]]:
        """Yield the changes of one type; each has a watermark of its own, for one may be searched long after another."""
        watermark = key_of(wanted.key, kind)
        upto = None if wanted.since else await self._heard.searched(watermark)
        if wanted.since:
            since = datetime.fromisoformat(wanted.since)
        else:
            due = datetime.fromisoformat(wanted.due) if wanted.due else self._now()
            since = upto - OVERLAP if upto else due - LOOK_BACK
        newest, begun = upto, self._now()
        async for page in self._fhir().updated(kind, since):
            yield [
                Change(SOURCE, kind, each.id, each.version or None, "unknown", each.text.encode() or None)
                for each in page.found
            ]
            newest = max(filter(None, (newest, page.newest)), default=None)
        if not wanted.since and newest is not None:
            # A time in the future would hide what comes before it, and one of a late page what the first ones lack.
            await self._heard.put_searched(watermark, min(newest, begun))

    async def _events(self, wanted: CatchUp) -> list[Change] | None:
        """Ask the Subscription for the events; None when they are too many, or it does not tell all of them: a search must."""
        if not wanted.subscription or wanted.last - wanted.first >= MOST:
            return None
        try:
            answer = await self._fhir().events(wanted.subscription, wanted.first, wanted.last)
            if answer is None:
                return None
            told = read_notification("POST", "", answer, content_type="", content_encoding="", limits=self._settings)
        except (Refused, Failed):
            return None
        missing = range(wanted.first, wanted.last + 1)  # one may come without a resource that can be told apart
        whole = set(missing) <= set(told.events) and len(told.changes) >= len(told.events)
        return list(told.changes) if whole else None

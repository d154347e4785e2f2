"""Work that is tried again: growing delays, an end to them, and the dead letters of what did not get done."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from relay.settings import Settings
from relay.store import Store
from relay.telemetry import Pseudonyms

DEAD_LETTERS = "deadletters"
DEAD_BODIES = "relay-dead"

LONGEST_WAIT = timedelta(days=1)
_NAMED = 60.0  # seconds to which the wait grows at least where the other side names a shorter one


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubling from `first` to `longest`, with jitter, until `until` is over."""

    first: timedelta
    longest: timedelta
    until: timedelta
    draw: Callable[[], float] = random.random

    @classmethod
    def of(cls, settings: Settings) -> Backoff:
        """Return the back-off that the settings describe."""
        return cls(settings.retry_first, settings.retry_longest, settings.retry_for)

    def delay(self, attempt: int, retry_after: float | None = None) -> timedelta:
        """Return the wait after try number `attempt` (0 is the first); at least what the other side asked for.

        Who says how long to wait is asked again then, or after a minute: the wait grows no longer than that.
        A wait beyond `until` would be no try at all, and a queue takes no longer one than a week: it is cut to a day
        or to `until`.
        """
        longest = self.longest.total_seconds() if retry_after is None else max(_NAMED, retry_after)
        grown = min(self.first.total_seconds() * 2.0 ** min(attempt, 30), self.longest.total_seconds(), longest)
        jittered = grown * (0.75 + 0.5 * self.draw())
        most = min(max(self.until, self.longest), LONGEST_WAIT)
        return min(timedelta(seconds=max(jittered, retry_after or 0)), most)

    def is_over(self, started: datetime, now: datetime) -> bool:
        """Tell whether work that began then is not to be tried again."""
        return now - started >= self.until


class DeadLetters:
    """What needs a person: a reason in a table (ids as keyed hashes), the message itself in a blob for replay."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms, now: Callable[[], datetime]) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._now = now

    async def put(self, kind: str, code: str, message: Mapping[str, Any] | str, *, subject: tuple[str, ...]) -> None:
        """Keep one message that is given up; `subject` are the ids it is about, stored as one keyed hash.

        The same message given up for the same reason is one dead letter, however often it comes.
        """
        body = message if isinstance(message, str) else json.dumps(message, sort_keys=True)
        word = self._pseudonyms(kind, *subject) if subject else uuid4().hex[:16]
        name = f"{kind}-{word}-{code}"
        await self._store.put_blob(DEAD_BODIES, f"{name}.json", body.encode())
        row = {"code": code, "subject": word, "at": self._now().isoformat(), "body": f"{name}.json"}
        await self._store.put_row(DEAD_LETTERS, kind, name, row)

    async def list(self) -> list[dict[str, Any]]:
        """List the dead letters: kind, code, subject (a keyed hash), at, body (blob name)."""
        return [{"kind": kind, **values} for kind, _, values in await self._store.list_rows(DEAD_LETTERS)]

    async def expire(self, before: datetime) -> int:
        """Delete the dead letters older than that and return their number."""
        gone = 0
        for kind, name, values in await self._store.list_rows(DEAD_LETTERS):
            if datetime.fromisoformat(str(values["at"])) < before:
                await self._store.delete_blob(DEAD_BODIES, str(values["body"]))
                await self._store.delete_row(DEAD_LETTERS, kind, name)
                gone += 1
        return gone

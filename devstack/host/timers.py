"""Runs a timer function when it is due, one run at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from devstack.host.errors import StartError
from devstack.host.function import Function
from devstack.host.ncrontab import Schedule
from devstack.host.protos import Message as Proto
from devstack.host.storage import HostStore
from relay.errors import StoreUnavailable

STATUS = "timerstatus"

_PAUSE = 1.0  # seconds; also the longest that a change of the machine's clock goes unnoticed

_log = logging.getLogger(__name__)


class Timer:
    """Knows when its function is due; a run that was missed while the host was down is made up for, once.

    A failed run is logged and not repeated before its next time, as in Azure.
    """

    def __init__(
        self, function: Function, schedule: str, store: HostStore, work: Callable[[Proto], Awaitable[None]]
    ) -> None:
        try:
            self._schedule = Schedule.parse(schedule)
            self._schedule.after(store.now())
        except ValueError as error:
            raise StartError(f"{function.name}: {error}") from None
        self._function = function
        self._store = store
        self._work = work
        self._on_startup = bool(function.trigger.get("runOnStartup"))
        self._monitor = function.trigger.get("useMonitor") is not False
        self._last: datetime | None = None
        self._next: datetime | None = None
        self._running = False

    @property
    def busy(self) -> bool:
        """Whether it runs, is due, or does not know yet when it is due."""
        return self._running or self._next is None or self._next <= self._store.now()

    async def next_due(self) -> datetime:
        """Tell when it runs next; now or earlier means it is due."""
        if self._next is None:
            self._next = await self._first()
        return self._next

    async def step(self) -> int:
        """Run when due; return 1 when it ran."""
        due = await self.next_due()
        now = self._store.now()
        if due > now:
            return 0
        self._running = True
        try:
            upcoming = self._schedule.after(now)
            await self._run(now, upcoming, past_due=(now - due).total_seconds() > 1)
            self._last, self._next = now, max(upcoming, self._schedule.after(self._store.now()))
            await self._note(since=now)
        finally:
            self._running = False
        return 1

    async def run(self, stop: asyncio.Event) -> None:
        """Run at each due time until told to stop."""
        while not stop.is_set():
            seconds = _PAUSE
            try:
                await self.step()
                seconds = (await self.next_due() - self._store.now()).total_seconds()
            except StoreUnavailable as error:
                _log.warning("timer %s: %s", self._function.name, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(seconds, 0.0), _PAUSE)):
                    await stop.wait()

    async def invoke(self) -> None:
        """Run now, by name; raises what the function raises."""
        await self._work(_trigger_data(self._last, self._schedule.after(self._store.now()), past_due=False))

    async def _first(self) -> datetime:
        now = self._store.now()
        row = await self._store.get_row(STATUS, self._function.name, "status") if self._monitor else None
        if row is None:
            await self._note(since=now)
        else:
            self._last = datetime.fromisoformat(str(row["last"])) if row["last"] else None
            # Counted again from then on, since the schedule may have changed meanwhile.
            missed = self._schedule.after(datetime.fromisoformat(str(row["since"])))
            if missed <= now:
                return missed
        return now if self._on_startup else self._schedule.after(now)

    async def _note(self, *, since: datetime) -> None:
        """Keep until when nothing was missed, for a host that starts later."""
        if self._monitor:
            row = {"since": since.isoformat(), "last": self._last.isoformat() if self._last else ""}
            await self._store.put_row(STATUS, self._function.name, "status", row)

    async def _run(self, now: datetime, upcoming: datetime, *, past_due: bool) -> None:
        try:
            await self._work(_trigger_data(self._last or now, upcoming, past_due=past_due))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the function raises ends this run only
            _log.error("timer %s: %s", self._function.name, error)


def _trigger_data(last: datetime | None, upcoming: datetime, *, past_due: bool) -> Proto:
    status = {"Last": last.isoformat() if last else None, "Next": upcoming.isoformat()}
    content = {"IsPastDue": past_due, "ScheduleStatus": status, "Schedule": {"AdjustForDST": True}}
    return Proto(json=json.dumps(content))

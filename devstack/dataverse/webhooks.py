"""Webhooks: committed events go, in the background, to the endpoints whose steps want them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from devstack.control import Effect
from devstack.dataverse import system
from devstack.dataverse.context import NOBODY, body
from devstack.dataverse.jobs import Jobs, new_id
from devstack.dataverse.records import Event
from devstack.dataverse.registrations import PORT_RULE, odd_port
from devstack.dataverse.rows import Row, Store

TIMEOUT_SECONDS: Final = 60.0
AT_ONCE: Final = 16
_AGAIN: Final = frozenset({502, 503, 504})
_TABLES: Final = frozenset({"serviceendpoint", "sdkmessageprocessingstep", "sdkmessageprocessingstepimage"})
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One enabled step with the URL that it posts to, its message, table (None: every table) and images."""

    step: Row
    url: httpx.URL
    message: str
    table: str | None
    images: tuple[Row, ...]

    def wants(self, event: Event) -> bool:
        """Say whether the step is about this event; filtering columns count for Update only."""
        if event.message != self.message or self.table not in (None, event.table.name):
            return False
        if not {self.step["mode"], self.step["sdkmessageprocessingstepid"]}.isdisjoint(event.origin.skipped):
            return False
        columns = {part.strip() for part in (self.step["filteringattributes"] or "").split(",") if part.strip()}
        return event.message != "Update" or not columns or bool(columns & event.changed.keys())


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one endpoint, and the system job that it is; a synchronous one has none."""

    subscription: Subscription
    event: Event
    content: bytes
    stripped: bool
    job: str


@dataclass(frozen=True, slots=True)
class Mishap:
    """What befalls an event: an effect of a Fault, and whether it is the last event that this fault strikes."""

    effect: Effect
    last: bool


class Webhooks:
    """Delivers events after commit; counts `delivered`, `failed`, `queued` and `inflight`.

    `befall` is asked of each asynchronous event, as `<table>/<message>`, what goes wrong with it. `timeout` ends what
    takes too long, as `asyncio.timeout` does; `iso_dates` writes dates in ISO 8601.
    """

    def __init__(
        self,
        store: Store,
        transport: httpx.AsyncBaseTransport | None,
        *,
        befall: Callable[[str], Mishap | None],
        timeout: Callable[[float], AbstractAsyncContextManager[Any]],
        iso_dates: bool,
    ) -> None:
        self._store = store
        self._transport = transport
        self._befall, self._timeout, self._iso_dates = befall, timeout, iso_dates
        self._jobs = Jobs(store)
        self._client: httpx.AsyncClient | None = None
        self._tasks: dict[asyncio.Task[Any], list[Delivery]] = {}
        self._calls: set[asyncio.Task[str | None]] = set()
        self._kept_back: list[Delivery] = []
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._subscriptions: list[Subscription] | None = None
        self.delivered = self.failed = self.inflight = 0

    @property
    def deliveries(self) -> int:
        """Messages whose delivery is over, well or badly."""
        return self.delivered + self.failed

    @property
    def queued(self) -> int:
        """Messages that wait for their turn."""
        return sum(map(len, self._tasks.values())) + len(self._kept_back)

    # asynchronous steps

    def publish(self, events: list[Event]) -> None:
        """Queue the messages that committed events cause; needs a running loop only when there are any."""
        if not (wanted := list(self._wanted(events, system.ASYNCHRONOUS))):
            return
        befallen = [(each, self._befall(each.event.name)) for each in wanted]
        self._jobs.queue(
            (each.job, each.event, each.subscription.step)
            for each, mishap in befallen
            if mishap is None or mishap.effect != "drop"
        )
        for delivery, mishap in befallen:
            if mishap is None:
                self._start(delivery)
            elif mishap.effect == "repeat":
                self._start(delivery, delivery)
            elif mishap.effect == "reverse":
                self._kept_back.append(delivery)
                if mishap.last:
                    self._start_kept_back()

    def _start_kept_back(self) -> None:
        kept_back, self._kept_back = self._kept_back, []
        if kept_back:
            self._start(*reversed(kept_back))

    def _start(self, *deliveries: Delivery) -> None:
        """Deliver in the background, several one after the other."""
        waiting = list(deliveries)

        async def deliver() -> None:
            while waiting:
                async with self._slots:
                    await self._deliver(waiting.pop(0))

        self._keep(deliver(), waiting)

    def _keep(self, work: Coroutine[Any, Any, T], waiting: list[Delivery]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = waiting
        task.add_done_callback(self._tasks.pop)
        return task

    async def _deliver(self, delivery: Delivery) -> None:
        self._jobs.start(delivery.job)
        problem, tries = await self._send(delivery)
        self._jobs.end(delivery.job, problem, tries, keep=not delivery.subscription.step["asyncautodelete"])

    # synchronous steps

    def synchronous(self, events: Iterable[Event]) -> list[Delivery]:
        """Return the messages that events cause while their transaction is open: event by event, by stage and rank."""
        return list(self._wanted(events, system.SYNCHRONOUS))

    async def call(self, deliveries: Sequence[Delivery]) -> str | None:
        """Post the messages of synchronous steps one after the other; returns what went wrong with the first bad one."""

        async def post() -> str | None:
            for each in deliveries:
                problem, _ = await self._send(each)
                if problem is not None:
                    return problem
            return None

        task = self._keep(post(), [])
        self._calls.add(task)
        try:
            await asyncio.wait((task,))
        finally:
            self._calls.discard(task)
            task.cancel()
        return "The webhook call was given up." if task.cancelled() else task.result()

    def give_up(self) -> None:
        """Let nobody wait for synchronous steps any more."""
        for task in self._calls:
            task.cancel()

    # both

    def _wanted(self, events: Iterable[Event], mode: int) -> Iterator[Delivery]:
        subscriptions = [each for each in self._current() if each.step["mode"] == mode]
        if not subscriptions:
            return
        for event in events:
            for subscription in subscriptions:
                if subscription.wants(event):
                    job = new_id() if mode == system.ASYNCHRONOUS else NOBODY
                    message = body(event, subscription.step, subscription.images, job, iso=self._iso_dates)
                    yield Delivery(subscription, event, *message, job)

    async def idle(self) -> None:
        """Return once nothing is queued or in flight, also what deliveries themselves cause."""
        while True:
            self._start_kept_back()
            if not self._tasks:
                return
            await asyncio.wait(list(self._tasks))

    def reset(self) -> None:
        """Drop what is queued or in flight and count from zero."""
        self._kept_back.clear()
        for task, waiting in self._tasks.items():
            waiting.clear()
            task.cancel()
        self.delivered = self.failed = 0

    async def aclose(self) -> None:
        """Drop what is queued or in flight, say so in the system jobs, and close the connections."""
        self.reset()
        await self.idle()
        if not self._store.closed:
            self._jobs.cancel()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _current(self) -> list[Subscription]:
        if self._subscriptions is None or not _TABLES.isdisjoint(self._store.changed):
            self._subscriptions = _subscriptions(self._store)
            self._store.changed.clear()
        return self._subscriptions

    async def _send(self, delivery: Delivery) -> tuple[str | None, int]:
        """Post a message, counting it; returns what went wrong and the number of tries."""
        self.inflight += 1
        try:
            problem, tries = await self._post(delivery)
        finally:
            self.inflight -= 1
        if problem is None:
            self.delivered += 1
        else:
            self.failed += 1
        return problem, tries

    async def _post(self, delivery: Delivery) -> tuple[str | None, int]:
        """Post a message, once more after 502, 503 and 504."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False
            )
        event, url = delivery.event, delivery.subscription.url
        headers = {
            "Content-Type": "application/json",
            "x-ms-dynamics-organization": system.ORGANIZATION_NAME,
            "x-ms-dynamics-entity-name": event.table.name,
            "x-ms-dynamics-request-name": event.message,
            "x-ms-correlation-request-id": event.origin.correlation,
            "x-request-id": event.origin.correlation,
        }
        if delivery.stripped:
            headers["x-ms-dynamics-msg-size-exceeded"] = "true"
        problem = ""
        for tries in (1, 2):
            try:
                async with self._timeout(TIMEOUT_SECONDS):
                    answered = await self._client.post(url, content=delivery.content, headers=headers)
            except Exception as error:  # noqa: BLE001 - whatever the receiver or its transport does is a failed delivery
                return f"The webhook call failed: {type(error).__name__}.", tries
            if answered.is_success:
                return None, tries
            problem = f"The webhook call failed because the http request failed with status {answered.status_code}."
            if answered.status_code not in _AGAIN:
                return problem, tries
        return problem, 2


def _subscriptions(store: Store) -> list[Subscription]:
    """Read the enabled steps with what they refer to."""
    tables = store.metadata.tables
    found = []
    sql = 'SELECT * FROM "sdkmessageprocessingstep" WHERE "statecode" = 0 ORDER BY "stage", "rank"'
    for step in store.query(sql, []):
        endpoint = store.get(tables["serviceendpoint"], step["eventhandler"])
        message = store.get(tables["sdkmessage"], step["sdkmessageid"])
        chosen = step["sdkmessagefilterid"]
        narrowed = store.get(tables["sdkmessagefilter"], chosen) if chosen else None
        if endpoint is None or message is None:
            continue
        if odd_port(endpoint["url"]):
            _log.warning("%s: the endpoint %s has another", PORT_RULE, endpoint["name"])
        sql = 'SELECT * FROM "sdkmessageprocessingstepimage" WHERE "sdkmessageprocessingstepid" = ?'
        images = store.query(sql, [step["sdkmessageprocessingstepid"]])
        table = narrowed["primaryobjecttypecode"] if narrowed else None
        url = httpx.URL(endpoint["url"]).copy_merge_params({"code": endpoint["authvalue"]})
        found.append(Subscription(step, url, message["name"], table, tuple(images)))
    return found

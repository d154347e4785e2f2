"""Webhooks: committed events go, in the background, to the endpoints whose steps want them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import httpx

from devstack.dataverse import system
from devstack.dataverse.columns import now
from devstack.dataverse.context import body
from devstack.dataverse.payload import Changes
from devstack.dataverse.records import Event, Origin, Records
from devstack.dataverse.rows import Row, Store

TIMEOUT_SECONDS: Final = 60.0
AT_ONCE: Final = 16
_AGAIN: Final = frozenset({502, 503, 504})
_PORTS: Final = (None, 80, 443)
_TABLES: Final = frozenset({"serviceendpoint", "sdkmessageprocessingstep", "sdkmessageprocessingstepimage"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One enabled step with its endpoint, message, table (None: every table) and images."""

    step: Row
    endpoint: Row
    message: str
    table: str | None
    images: tuple[Row, ...]

    def wants(self, event: Event) -> bool:
        """Say whether the step is about this event; filtering columns count for Update only."""
        if event.message != self.message or self.table not in (None, event.table.name):
            return False
        if self.step["mode"] in event.origin.skipped:
            return False
        columns = {part.strip() for part in (self.step["filteringattributes"] or "").split(",") if part.strip()}
        return event.message != "Update" or not columns or bool(columns & event.changed.keys())


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one endpoint."""

    subscription: Subscription
    event: Event
    content: bytes
    stripped: bool


@dataclass(slots=True)
class Mishaps:
    """What befalls the next deliveries: how many come twice, get lost, or wait to go out in reverse order."""

    duplicate: int = 0
    lose: int = 0
    reverse: int = 0
    _waiting: list[Delivery] = field(default_factory=list)

    @classmethod
    def parse(cls, document: object) -> Mishaps:
        """Read from JSON; raises ValueError naming the field and the valid ones."""
        names = ("duplicate", "lose", "reverse")
        if not isinstance(document, dict) or (unknown := sorted(document.keys() - set(names))):
            wrong = unknown[0] if isinstance(document, dict) else "the body"
            raise ValueError(f"{wrong}: not an object of {', '.join(names)}")
        for name, value in document.items():
            if type(value) is not int or value < 0:
                raise ValueError(f"{name}: {value!r} is not a whole number from 0")
        return cls(**document)

    def befall(self, delivery: Delivery) -> list[Delivery]:
        """Return the deliveries to start in place of this one."""
        if self.lose:
            self.lose -= 1
            return []
        if self.duplicate:
            self.duplicate -= 1
            return [delivery, delivery]
        if self.reverse:
            self.reverse -= 1
            self._waiting.append(delivery)
            return []
        return [delivery]

    def take(self) -> list[Delivery]:
        """Return those that wait, last first, once."""
        waiting, self._waiting = self._waiting, []
        return waiting[::-1]


class Webhooks:
    """Delivers events after commit; counts `delivered`, `failed`, `queued` and `inflight`."""

    def __init__(self, store: Store, transport: httpx.AsyncBaseTransport | None) -> None:
        self._store = store
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._subscriptions: list[Subscription] | None = None
        self.delivered = self.failed = self.queued = self.inflight = 0
        self.mishaps = Mishaps()

    @property
    def deliveries(self) -> int:
        """Messages whose delivery is over, well or badly."""
        return self.delivered + self.failed

    def publish(self, events: list[Event]) -> None:
        """Queue the messages that committed events cause; needs a running loop only when there are any."""
        for event in events:
            for delivery in self._wanted(event, system.ASYNCHRONOUS):
                for each in self.mishaps.befall(delivery):
                    self._start(each)

    def _start(self, *deliveries: Delivery) -> None:
        """Deliver in the background, several one after the other."""

        async def deliver() -> None:
            for each in deliveries:
                await self._deliver(each)

        self.queued += len(deliveries)
        task = asyncio.get_running_loop().create_task(deliver())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def synchronous(self, event: Event) -> list[Delivery]:
        """Return the messages that an event causes while its transaction is open, by stage and rank."""
        return sorted(self._wanted(event, system.SYNCHRONOUS), key=lambda each: each.subscription.step["stage"])

    async def call(self, deliveries: Iterable[Delivery]) -> str | None:
        """Post the messages of synchronous steps one after the other; returns what went wrong with the first bad one."""
        for delivery in deliveries:
            problem, _ = await self._send(delivery)
            if problem is not None:
                self.failed += 1
                return problem
            self.delivered += 1
        return None

    def _wanted(self, event: Event, mode: int) -> list[Delivery]:
        found = []
        for subscription in self._current():
            if subscription.step["mode"] == mode and subscription.wants(event):
                content, stripped = body(event, subscription.step, subscription.images)
                found.append(Delivery(subscription, event, content, stripped))
        return found

    async def idle(self) -> None:
        """Return once nothing is queued or in flight, also what deliveries themselves cause."""
        while True:
            if backwards := self.mishaps.take():
                self._start(*backwards)
            if not self._tasks:
                return
            await asyncio.wait(self._tasks)

    def reset(self) -> None:
        """Drop what is queued or in flight and count from zero."""
        for task in self._tasks:
            task.cancel()
        self.delivered = self.failed = 0
        self.mishaps = Mishaps()

    async def aclose(self) -> None:
        """Drop what is queued or in flight and close the connections."""
        self.reset()
        await self.idle()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _current(self) -> list[Subscription]:
        if self._subscriptions is None or not _TABLES.isdisjoint(self._store.changed):
            self._subscriptions = _subscriptions(self._store)
            self._store.changed.clear()
        return self._subscriptions

    async def _deliver(self, delivery: Delivery) -> None:
        waiting = True
        try:
            async with self._slots:
                self.queued -= 1
                self.inflight += 1
                waiting = False
                problem, tries = await self._send(delivery)
        finally:
            if waiting:
                self.queued -= 1
            else:
                self.inflight -= 1
        if problem is None:
            self.delivered += 1
        else:
            self.failed += 1
        if problem is not None or not delivery.subscription.step["asyncautodelete"]:
            self._note(delivery, problem, tries)

    async def _send(self, delivery: Delivery) -> tuple[str | None, int]:
        """Post a message, once more after 502, 503 and 504; returns what went wrong and the number of tries."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False
            )
        event, endpoint = delivery.event, delivery.subscription.endpoint
        url = httpx.URL(endpoint["url"]).copy_merge_params({"code": endpoint["authvalue"]})
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
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    answered = await self._client.post(url, content=delivery.content, headers=headers)
            except Exception as error:  # noqa: BLE001 - whatever the receiver or its transport does is a failed delivery
                return f"The webhook call failed: {type(error).__name__}.", tries
            if answered.is_success:
                return None, tries
            problem = f"The webhook call failed because the http request failed with status {answered.status_code}."
            if answered.status_code not in _AGAIN:
                return problem, tries
        return problem, 2

    def _note(self, delivery: Delivery, problem: str | None, tries: int) -> None:
        """Keep a system job: failed ones always, others where the step keeps them."""
        event, step = delivery.event, delivery.subscription.step
        values: Row = {
            "name": step["name"],
            "operationtype": 1,
            "messagename": event.message,
            "primaryentitytype": event.table.name,
            "correlationid": event.origin.correlation,
            "depth": 1,
            "retrycount": tries - 1,
            "message": problem,
            "friendlymessage": problem,
            "startedon": now(),
            "completedon": now(),
            "owningextensionid": step["sdkmessageprocessingstepid"],
            "statecode": 3,
            "statuscode": 30 if problem is None else 31,
        }
        jobs = self._store.metadata.tables["asyncoperation"]
        if event.message != "Delete" and event.table.name in jobs.columns["regardingobjectid"].targets:
            values |= {"regardingobjectid": event.id, "regardingobjectid@table": event.table.name}
        with self._store.transaction():
            Records(self._store).create(jobs, Changes(values), Origin())


def _subscriptions(store: Store) -> list[Subscription]:
    """Read the enabled steps with what they refer to."""
    tables = store.metadata.tables
    found = []
    for step in store.query('SELECT * FROM "sdkmessageprocessingstep" WHERE "statecode" = 0 ORDER BY "rank"', []):
        endpoint = store.get(tables["serviceendpoint"], step["eventhandler"])
        message = store.get(tables["sdkmessage"], step["sdkmessageid"])
        chosen = step["sdkmessagefilterid"]
        narrowed = store.get(tables["sdkmessagefilter"], chosen) if chosen else None
        if endpoint is None or message is None:
            continue
        if httpx.URL(endpoint["url"]).port not in _PORTS:
            _log.warning(
                "Dataverse posts to ports 80 and 443 only, not to the port of the endpoint %s", endpoint["name"]
            )
        sql = 'SELECT * FROM "sdkmessageprocessingstepimage" WHERE "sdkmessageprocessingstepid" = ?'
        images = store.query(sql, [step["sdkmessageprocessingstepid"]])
        table = narrowed["primaryobjecttypecode"] if narrowed else None
        found.append(Subscription(step, endpoint, message["name"], table, tuple(images)))
    return found

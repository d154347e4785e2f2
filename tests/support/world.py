"""Two servers, a store and a relay in one process, on a clock that only tests move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from relay.app import Relay
from relay.inbound.service import Reply
from relay.mapping.load import MapSet, load_maps
from relay.settings import Settings
from relay.sides import Seams
from relay.store.local import LocalStore
from support.registered import register

ROOT = Path(__file__).resolve().parents[2]
ORG = "http://dataverse"
FHIR = "http://fhir"
API = "/api/data/v9.2"
URN = "urn:oid:org.d365.mc4h.{}.id"

Before = Callable[[httpx.Request], Awaitable[None]]


class Clock:
    """The time, standing still unless it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, span: timedelta) -> None:
        self.time += span

    def seconds(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Between(httpx.AsyncBaseTransport):
    """A transport on which a test may do something just before a request goes out, or cut it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.before: list[Before] = []
        self.after: list[Before] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for each in list(self.before):
            await each(request)
        response = await self.inner.handle_async_request(request)
        for each in list(self.after):
            await each(request)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass
class World:
    """What a test holds: both servers, the relay between them, and hands to move everything."""

    relay: Relay
    store: LocalStore
    clock: Clock
    dataverse: Any
    fhir: Any
    to_dataverse: Between
    to_fhir: Between
    http: httpx.AsyncClient
    fhir_http: httpx.AsyncClient
    events: list[bytes] = field(default_factory=list)
    hold_events: bool = False

    async def post(self, bundle: Mapping[str, Any] | bytes | str, **options: Any) -> Reply:
        """POST a bundle to the relay."""
        body = (
            bundle
            if isinstance(bundle, bytes)
            else (bundle if isinstance(bundle, str) else json.dumps(bundle)).encode()
        )
        kind = options.pop("content_type", "application/fhir+json")
        encoding = options.pop("content_encoding", "")
        return await self.relay.inbound.post(body, kind, encoding, respond_async=options.pop("respond_async", False))

    async def put(self, *resources: Mapping[str, Any]) -> None:
        """Put resources on the FHIR server, as their owner."""
        for each in resources:
            answer = await self.fhir_http.put(f"/{each['resourceType']}/{each['id']}", json=each)
            assert answer.is_success, answer.text

    async def read(self, kind: str, fhir_id: str) -> dict[str, Any]:
        """Read a resource from the FHIR server, as its owner."""
        answer = await self.fhir_http.get(f"/{kind}/{fhir_id}")
        return answer.json() if answer.is_success else {"status": answer.status_code}

    async def rows(self, entity_set: str, condition: str = "") -> list[dict[str, Any]]:
        """Read rows from Dataverse, as a user."""
        url = f"{API}/{entity_set}" + (f"?$filter={condition}" if condition else "")
        answer = await self.http.get(url)
        assert answer.is_success, answer.text
        rows: list[dict[str, Any]] = answer.json()["value"]
        return rows

    async def settle(self, *, within: timedelta = timedelta(hours=1)) -> None:
        """Deliver events and do queued work, moving the clock to what is due, until nothing is left."""
        end = self.clock() + within
        while True:
            await self.dataverse.webhooks.idle()
            if await self.work():
                continue
            due = [at for queue in ("inbound", "writeback") if (at := await self.store.next_visible(queue))]
            if not due or min(due) > end:
                return
            self.clock.time = max(self.clock.time, min(due))

    async def work(self) -> int:
        """Do the queue messages that are visible now, each as the host would; returns how many there were."""
        count = 0
        handlers = {"inbound": self.relay.inbound.work, "writeback": self.relay.writebacks.handle}
        for queue, handle in handlers.items():
            for message in await self.store.receive(queue, most=32, visibility=timedelta(seconds=30)):
                await handle(message.text)
                await self.store.delete(message)
                count += 1
        return count

    async def work_at_once(self) -> None:
        """Do the messages of the inbound queue that are visible now side by side, as a host with many hands would."""
        messages = await self.store.receive("inbound", most=32, visibility=timedelta(seconds=30))
        await asyncio.gather(*(self.relay.inbound.work(message.text) for message in messages))
        for message in messages:
            await self.store.delete(message)

    def beside(self) -> Relay:
        """Return the relay in another process: it has the same store, and nothing of this one's memory."""
        relay = Relay(self.relay.settings, store=self.store, seams=self.relay.seams)
        relay.__dict__["maps"] = self.relay.maps
        return relay

    async def restart(self) -> None:
        """Start the relay anew on what it kept, as after a crash: nothing of the old one's memory is left."""
        old = self.relay
        self.relay = self.beside()
        for client in ("dataverse", "fhir"):
            if client in old.__dict__:
                await old.__dict__[client].aclose()

    def calls(self) -> dict[str, int]:
        """Count the requests that each server has had."""
        return {"dataverse": len(self.dataverse.calls), "fhir": len(self.fhir.calls)}

    def forget_calls(self) -> None:
        """Begin to count anew."""
        self.dataverse.calls.clear()
        self.fhir.calls.clear()

    def versions(self, address: str) -> int:
        """Count the versions that the FHIR server has of `Type/id`, deletions too."""
        return len(self.fhir.store.versions(*address.split("/")))

    def newest(self) -> dict[str, dict[str, Any]]:
        """Return the newest version of each resource that is not deleted, by `Type/id`, without calling the server."""
        latest = {f"{version.type}/{version.id}": version for version in self.fhir.store.log}
        return {address: json.loads(version.body) for address, version in latest.items() if version.body is not None}

    async def dead(self) -> list[str]:
        """Return the codes of the dead letters."""
        return [each["code"] for each in await self.relay.dead_letters.list()]


@asynccontextmanager
async def rival(it: World, folder: Path, **settings: Any) -> AsyncIterator[World]:
    """Hold the same two servers by another relay, in a process of its own: it has a store and lanes of its own."""
    store = LocalStore(folder / "rival", now=it.clock)
    relay = Relay(it.relay.settings.model_copy(update=settings), store=store, seams=it.relay.seams)
    relay.__dict__["maps"] = it.relay.maps
    try:
        yield replace(it, relay=relay, store=store)
    finally:
        await relay.aclose()


@cache
def shipped_maps() -> MapSet:
    """Read the shipped maps once: they are the same for every world, and reading takes longer than most tests."""
    return load_maps(ROOT / "maps")


@asynccontextmanager
async def world(
    folder: Path,
    *,
    conflict_status: int = 412,
    events: bool = True,
    clock: Clock | None = None,
    org: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """Build a world; `settings` are the relay's, `org` the emulator's, `events` is whether Dataverse knows the webhook."""
    clock = clock or Clock()
    store = LocalStore(folder / "store", now=clock)
    given: dict[str, Any] = {
        "dataverse_url": ORG,
        "fhir_url": FHIR,
        "dataverse_auth": "none",
        "fhir_auth": "none",
        "fhir_versions": "opaque",
        "fhir_batch_entries": 500,
        "maps": ROOT / "maps",
        "log_key": "test",
        **settings,
    }
    made: list[World] = []

    async def receive(request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        made[0].events.append(body)
        if not made[0].hold_events:
            await made[0].relay.take_event(body)
        return httpx.Response(202)

    emulator = dataverse_emulator.create_app(
        metadata=ROOT / "maps" / "metadata.json",
        base_url=ORG,
        webhook_transport=httpx.MockTransport(receive),
        clock=clock.seconds,
        sleep=clock.sleep,
        **(org or {}),
    )
    server = fhir_server.create_app(base_url=FHIR, conflict_status=conflict_status)
    to_dataverse = Between(httpx.ASGITransport(app=emulator))
    to_fhir = Between(httpx.ASGITransport(app=server))
    seams = Seams(
        dataverse=to_dataverse, fhir=to_fhir, now=clock, sleep=clock.sleep, clock=clock.seconds, draw=lambda: 0.5
    )
    small = {"window": given.pop("window")} if "window" in given else {}  # smaller than a deployment may choose
    relay = Relay(Settings(**given).model_copy(update=small), store=store, seams=seams)
    if "maps" not in settings:
        relay.__dict__["maps"] = shipped_maps()
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=emulator), base_url=ORG)
    fhir_http = httpx.AsyncClient(transport=httpx.ASGITransport(app=server), base_url=FHIR)
    it = World(relay, store, clock, emulator, server, to_dataverse, to_fhir, http, fhir_http)
    made.append(it)
    try:
        if events:
            await register(emulator, ORG, relay.maps)
        it.forget_calls()
        yield it
    finally:
        await emulator.webhooks.idle()
        await it.relay.aclose()
        await http.aclose()
        await fhir_http.aclose()
        await emulator.aclose()

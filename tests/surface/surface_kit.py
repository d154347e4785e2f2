"""The whole relay behind its HTTP surface, in one process: the real host, both emulators, a clock that tests move."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from devstack.host import Host
from relay.errors import StoreUnavailable
from relay.inbound.jobs import OUTCOMES, PAYLOADS
from relay.store.local import LocalStore
from support.registered import register
from support.state import SETS
from support.world import API, FHIR, ORG, ROOT, Clock, shipped_maps

BUNDLES = ROOT / "tests" / "bundles"
FHIR_JSON = {"Content-Type": "application/fhir+json"}
OURS = "urn:oid:org.d365.mc4h."
_MARKS = {"createdon", "modifiedon", "versionnumber"}

Wrap = Callable[[LocalStore], Any]


@dataclass
class Surface:
    """What a test holds: a client of the host's HTTP side, both servers, the store and the clock."""

    http: httpx.AsyncClient
    host: Host
    store: LocalStore
    clock: Clock
    dataverse: Any
    fhir: Any
    org: httpx.AsyncClient
    server: httpx.AsyncClient
    events: list[bytes] = field(default_factory=list)

    @property
    def relay(self) -> Any:
        """The Relay that the app made for itself."""
        return sys.modules["relay.app"].get_relay()

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        """POST a bundle (bytes as they are, anything else as JSON); a header's underscores are hyphens."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = FHIR_JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/api/bundle", content=content, headers=given)

    async def put(self, *resources: Mapping[str, Any]) -> None:
        """Put resources on the FHIR server, as their owner, unnoticed by its call log."""
        for each in resources:
            answer = await self.server.put(f"/{each['resourceType']}/{each['id']}", json=each)
            assert answer.is_success, answer.text
        self.fhir.calls.clear()

    async def read(self, kind: str, fhir_id: str) -> dict[str, Any]:
        """Read a resource from the FHIR server, as its owner, unnoticed by its call log."""
        answer = await self.server.get(f"/{kind}/{fhir_id}")
        self.fhir.calls.pop()
        assert answer.is_success, answer.text
        resource: dict[str, Any] = answer.json()
        return resource

    def rows(self, *tables: str) -> list[dict[str, Any]]:
        """Return every row of these tables, read past the Web API; all tables with maps if none is named."""
        names = tables or tuple(
            each.name for each in self.dataverse.metadata.tables.values() if each.entity_set in SETS
        )
        return [row for name in names for row in self.dataverse.store.query(f'select * from "{name}"', [])]  # noqa: S608 - names of the test

    def snapshot(self) -> dict[str, Any]:
        """Return what both databases hold, without the marks of when it came, to compare with others."""
        rows = [
            {key: value for key, value in row.items() if value is not None and key not in _MARKS} for row in self.rows()
        ]
        live = {name: each for name in ("Patient", "Organization") for name, each in self.fhir.store.live(name).items()}
        resources = {name: _content(json.loads(each.body)) for name, each in live.items()}
        return {"rows": sorted(rows, key=str), "fhir": resources}

    def forget_calls(self) -> None:
        """Begin to count requests anew."""
        self.dataverse.calls.clear()
        self.fhir.calls.clear()

    def calls(self) -> list[str]:
        """Return the requests that both servers had, oldest first per server."""
        return [f"{each['method']} {each['path']}" for each in (*self.dataverse.calls, *self.fhir.calls)]

    async def due(self) -> int:
        """Do what is due now, without moving the clock; returns how often a function ran."""
        await self.dataverse.webhooks.idle()
        await self.fhir.subscriptions.delivered()
        return await self.host.run_due()

    async def settle(self, *, within: timedelta = timedelta(hours=1)) -> None:
        """Deliver events and do queued work, moving the clock to what is due, until nothing is left."""
        end = self.clock() + within
        while True:
            if await self.due():
                continue
            await self.dataverse.webhooks.idle()
            await self.fhir.subscriptions.delivered()
            due = [at for queue in ("inbound", "writeback") if (at := await self.store.next_visible(queue))]
            if not due or min(due) > end:
                return
            self.clock.time = max(self.clock.time, min(due))

    async def kept(self) -> list[str]:
        """Name what the relay keeps of bundles: payload and outcome blobs, and waiting messages."""
        blobs = [f"{name}/{each.name}" for name in (PAYLOADS, OUTCOMES) for each in await self.store.list_blobs(name)]
        return blobs + [each.text for each in await self.store.peek("inbound", hidden=True)]

    async def outcome(self, answer: httpx.Response) -> dict[str, Any]:
        """Return the outcome that an accepted bundle's Content-Location answers now."""
        found = await self.http.get(answer.headers["Content-Location"])
        assert found.status_code == 200, (found.status_code, found.text)
        outcome: dict[str, Any] = found.json()
        return outcome


class Flaky:
    """A store of which one call in a row fails: the one numbered `at` (None: none, -1: every one).

    With `late` the call is carried out and only its answer lost. `names` are the calls so far.
    """

    def __init__(self, inner: LocalStore, *, at: int | None = None, late: bool = False) -> None:
        self.at, self.late = at, late
        self.names: list[str] = []
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)

        async def flaky(*arguments: Any, **options: Any) -> Any:
            struck = self.at in (-1, len(self.names))
            self.names.append(name)
            if struck and not self.late:
                raise StoreUnavailable("the disk is away")
            result = await call(*arguments, **options)
            if struck:
                raise StoreUnavailable("the disk went away")
            return result

        return call if name == "close" else flaky


@asynccontextmanager
async def surface(
    folder: Path,
    *,
    webhook: bool = True,
    keys: Mapping[str, list[str]] | None = None,
    wrap: Wrap | None = None,
    settings: Mapping[str, str] | None = None,
    google: httpx.AsyncBaseTransport | None = None,
    below: str = "",
    **more: str,
) -> AsyncIterator[Surface]:
    """Serve function_app.py over ASGI; `settings` (and `more`) are RELAY_* by their lower-case names, `wrap` is put round the app's store.

    `google` carries what the app asks Google, `below` is a path under which the app sees the FHIR server.
    """
    clock = Clock()
    store = LocalStore(folder / "store", now=clock)
    made: list[Surface] = []

    async def deliver(request: httpx.Request) -> httpx.Response:
        made[0].events.append(await request.aread())
        return await httpx.ASGITransport(made[0].host.asgi).handle_async_request(request)

    org = dataverse_emulator.create_app(base_url=ORG, webhook_transport=_Handed(deliver))

    async def notify(request: httpx.Request) -> httpx.Response:
        return await httpx.ASGITransport(made[0].host.asgi).handle_async_request(request)

    server = fhir_server.create_app(base_url=FHIR, transport=_Handed(notify))
    given = {
        "AzureWebJobsStorage": f"file:{store.folder}",
        "RELAY_STORE": f"file:{store.folder}",
        "RELAY_DATAVERSE_URL": ORG,
        "RELAY_FHIR_URL": FHIR + below,
        "RELAY_DATAVERSE_AUTH": "none",
        "RELAY_FHIR_AUTH": "none",
        "RELAY_LOG_KEY": "test",
    }
    given |= {f"RELAY_{name.upper()}": value for name, value in {**(settings or {}), **more}.items()}
    host = Host(ROOT, store=store, keys=keys, settings=given, polling=False)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(org.aclose)
        await host.start()
        stack.push_async_callback(host.stop)
        app: Any = sys.modules["relay.app"]
        seams = sys.modules["relay.sides"].Seams(
            dataverse=httpx.ASGITransport(org),
            fhir=_Below(below, httpx.ASGITransport(server)) if below else httpx.ASGITransport(server),
            google=google,
            now=clock,
            sleep=clock.sleep,
            draw=lambda: 0.5,
        )
        make = functools.partial(app.Relay, store=wrap(store) if wrap else store, seams=seams)

        def with_maps(settings: Any) -> Any:
            relay = make(settings)
            if settings.maps == ROOT / "maps" and not settings.maps_container:
                relay.__dict__["maps"] = shipped_maps()  # reading them takes longer than most tests
            return relay

        app.Relay = with_maps  # what get_relay calls

        async def close_relay() -> None:
            if app.get_relay.cache_info().currsize:
                await app.get_relay().aclose()

        stack.push_async_callback(close_relay)
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(each), base_url=url))
            for each, url in ((host.asgi, "http://relay"), (org, ORG + API), (server, FHIR))
        ]
        it = Surface(clients[0], host, store, clock, org, server, clients[1], clients[2])
        made.append(it)
        if webhook:
            key = (keys or {}).get("dataverse_event", ["local"])[0]
            await register(org, ORG, shipped_maps(), key=key)
        it.forget_calls()
        yield it
        await org.webhooks.idle()


class _Below(httpx.AsyncBaseTransport):
    """A transport that takes a path off each request."""

    def __init__(self, path: str, inner: httpx.AsyncBaseTransport) -> None:
        self._path, self._inner = path, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raw = request.url.raw_path.decode().removeprefix(self._path) or "/"
        request.url = request.url.copy_with(raw_path=raw.encode())
        return await self._inner.handle_async_request(request)


def _content(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "meta"}


class _Handed(httpx.AsyncBaseTransport):
    """A transport that hands each request to a function."""

    def __init__(self, handle: Callable[[httpx.Request], Any]) -> None:
        self._handle = handle

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self._handle(request)
        return response

"""The emulator as an ASGI app: the Web API, the control side, the webhooks."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from devstack.control import PREFIX, Control
from devstack.dataverse import system
from devstack.dataverse.batch import Batches
from devstack.dataverse.columns import guid
from devstack.dataverse.errors import DataverseError, MethodNotAllowed, NotSupported, UnknownSegment, UrlTooLong
from devstack.dataverse.metadata import Key, Metadata, load
from devstack.dataverse.rows import Store
from devstack.dataverse.service import Service
from devstack.dataverse.webhooks import Webhooks
from devstack.dataverse.wire import ROOT, Answer, Call, refusal

FACTS: Final = Path(__file__).parents[2] / "maps" / "metadata.json"
IN_MEMORY: Final = ":memory:"
MAX_URL: Final = 32768
REGISTRATIONS = (
    "serviceendpoint",
    "sdkmessage",
    "sdkmessagefilter",
    "sdkmessageprocessingstep",
    "sdkmessageprocessingstepimage",
)

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Emulator(Control):
    """One organization; an ASGI app, to be closed by `aclose`, by `async with`, or by the server's shutdown.

    `webhooks` tells and awaits deliveries; `call_ms` and `operation_ms` are the time each call takes and, on top, each
    operation in it.
    """

    def __init__(
        self,
        *,
        database: str,
        metadata: Path,
        base_url: str,
        webhook_transport: httpx.AsyncBaseTransport | None,
        call_ms: float,
        operation_ms: float,
    ) -> None:
        empty = _empty(metadata, metadata.stat().st_mtime_ns)
        self.metadata = empty.metadata.copy()
        like = empty if database == IN_MEMORY else None
        self.store = Store(database, self.metadata, seed=lambda: system.rows(self.metadata), like=like)
        self.webhooks = Webhooks(self.store, webhook_transport)
        self.store.committed = self.webhooks.publish
        self._kept: dict[str, Any] | None = None
        self.call_ms, self.operation_ms = call_ms, operation_ms
        self._base_url = base_url.rstrip("/")
        self._service = Service(self.metadata, self.store)
        self._batches = Batches(self.store, self._service.carry_out)
        routes = [Route("/{path:path}", self._answer, methods=_METHODS)]
        super().__init__(
            Starlette(routes=routes, lifespan=self._lifespan),
            reset=self._start_again,
            snapshot=self.store.snapshot,
            restore=self._restore,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's own signature
        if scope["type"] == "http" and scope["path"] == f"{PREFIX}webhooks":
            await self._tell_webhooks(scope["method"])(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop what is being delivered and close the database; closing twice is fine."""
        await self.webhooks.aclose()
        self.store.close()

    def declare_key(self, table: str, *columns: str, name: str = "") -> None:
        """Give a table an alternate key; raises ValueError for unknown columns, KeyError for an unknown table."""
        facts = self.metadata.tables[table]
        name = name or "_".join((*columns, "key"))
        key = Key(name, columns, name)
        facts.check_key(key)
        self.store.create_key(facts, key)
        facts.keys.append(key)

    def keep(self) -> None:
        """Make what is there now what `reset` goes back to: a stack's own webhook is part of it, not of a test's rows."""
        self._kept = self.store.snapshot()

    def _start_again(self) -> None:
        self.webhooks.reset()
        self.store.reset()
        if self._kept is not None:
            self.store.restore(self._kept)

    def _restore(self, document: Any) -> None:
        """Take a snapshot back; registrations that were kept stay, those of another stack name ports of long ago."""
        if self._kept is not None and isinstance(document, dict) and isinstance(document.get("tables"), dict):
            own = {name: rows for name, rows in self._kept["tables"].items() if name in REGISTRATIONS}
            document = {**document, "tables": {**document["tables"], **own}}
        self.store.restore(document)

    def _tell_webhooks(self, method: str) -> Response:
        if method != "GET":
            return JSONResponse({"error": "webhooks: valid: GET"}, 405, {"Allow": "GET"})
        numbers = ("queued", "inflight", "delivered", "failed")
        return JSONResponse({name: getattr(self.webhooks, name) for name in numbers})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self.aclose()

    async def _answer(self, request: Request) -> Response:
        call = Call(
            request.method,
            "",
            {name.lower(): value for name, value in request.headers.items()},
            await request.body(),
            self._root(request),
        )
        call.correlation = guid(call.headers.get("x-ms-correlation-id")) or call.correlation
        answered, operations = self._route(call, _as_sent(request.scope))
        if pause := self.call_ms + operations * self.operation_ms:
            await asyncio.sleep(pause / 1000)
        answered.headers.setdefault("x-ms-service-request-id", call.correlation)
        response = Response(answered.body, answered.status)
        response.raw_headers = [
            *((name.lower(), value) for name, value in response.raw_headers if name != b"content-type"),
            *((name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answered.headers.items()),
        ]
        return response

    def _root(self, request: Request) -> str:
        host = request.headers.get("host")
        return (f"{request.url.scheme}://{host}" if host else self._base_url) + ROOT

    def _route(self, call: Call, target: str) -> tuple[Answer, int]:
        try:
            path = target.partition("?")[0]
            if path.startswith("/api/data/v") and not f"{path}/".startswith(ROOT):
                raise NotSupported("any Web API version but v9.2")
            if not f"{path}/".startswith(ROOT):
                raise UnknownSegment(path.strip("/").partition("/")[0])
            if call.method not in ("GET", "POST", "PATCH", "PUT", "DELETE"):
                raise MethodNotAllowed(call.method)
            if len(target) > MAX_URL:
                raise UrlTooLong(MAX_URL)
            call.target = target[len(ROOT) :]
            if call.path != "$batch":
                return self._service.answer(call), 1
            if call.method != "POST":
                raise MethodNotAllowed(call.method)
            if call.options:
                raise NotSupported(f"the query option {next(iter(call.options))} on $batch")
            return self._batches.answer(call)
        except DataverseError as error:
            return refusal(error), 0


@cache
def _empty(metadata: Path, _modified: int) -> Store:
    """Make the empty organization of a facts file once: each one in memory begins as its copy."""
    mapped = load(metadata)
    tables = Metadata([*mapped, *system.tables([table.name for table in mapped])])
    store = Store(IN_MEMORY, tables, seed=lambda: system.rows(tables))
    atexit.register(store.close)
    return store


def _as_sent(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


def create_app(
    *,
    database: str = IN_MEMORY,
    metadata: Path | None = None,
    base_url: str = "http://dataverse",
    webhook_transport: httpx.AsyncBaseTransport | None = None,
    call_ms: float = 0,
    operation_ms: float = 0,
) -> Emulator:
    """Build the emulator of one organization.

    `database` is a SQLite file or `:memory:`; `metadata` a facts file (default: the shipped one); `base_url` stands in
    where a request has no Host; `webhook_transport` carries deliveries instead of the network. Raises ValueError
    naming the file and table for facts that are wrong.
    """
    return Emulator(
        database=database,
        metadata=metadata or FACTS,
        base_url=base_url,
        webhook_transport=webhook_transport,
        call_ms=call_ms,
        operation_ms=operation_ms,
    )

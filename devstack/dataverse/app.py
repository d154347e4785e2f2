"""The emulator as an ASGI app: the Web API, the control side, the webhooks."""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from devstack.control import OF_EVENTS, Control, Dial
from devstack.dataverse import system
from devstack.dataverse.batch import Batches
from devstack.dataverse.columns import guid
from devstack.dataverse.customizing import Customizing, Lock
from devstack.dataverse.errors import DataverseError, MethodNotAllowed, NotSupported, UnknownSegment, UrlTooLong
from devstack.dataverse.facts import load
from devstack.dataverse.metadata import Key, Metadata
from devstack.dataverse.pipeline import SQL_TIMEOUT, OpenRow, Pipeline, Timeout
from devstack.dataverse.protection import Guard, Latency, Protection
from devstack.dataverse.rows import Store
from devstack.dataverse.service import Service
from devstack.dataverse.tracking import DAYS
from devstack.dataverse.troubles import TROUBLES, Struck
from devstack.dataverse.webhooks import Mishap, Webhooks
from devstack.dataverse.wire import NO_WORK, ROOT, Answer, Call, condition, refusal

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

    `webhooks` tells and awaits deliveries, `guard` holds the limits and the time that calls take.
    """

    def __init__(
        self,
        *,
        database: str,
        metadata: Path,
        base_url: str,
        webhook_transport: httpx.AsyncBaseTransport | None,
        protection: Protection,
        latency: Latency,
        no_bulk: Collection[str],
        extra: Sequence[Path],
        key_ms: float,
        customization_ms: float,
        open_row: OpenRow,
        sql_timeout: float,
        bypass_steps: bool,
        strict_ports: bool,
        iso_dates: bool,
        delta_days: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        timeout: Timeout,
    ) -> None:
        facts = tuple((path, path.stat().st_mtime_ns) for path in (metadata, *extra))
        empty = _empty(facts, frozenset(no_bulk))
        self.metadata = empty.metadata.copy()
        like = empty if database == IN_MEMORY else None
        self.store = Store(database, self.metadata, seed=lambda: system.rows(self.metadata, no_bulk), like=like)
        self.webhooks = Webhooks(
            self.store, webhook_transport, befall=self._befall, timeout=timeout, iso_dates=iso_dates
        )
        self.store.committed, self.store.dropped = self.webhooks.publish, self.webhooks.give_up
        self._kept: dict[str, Any] | None = None
        self.guard = Guard(protection, latency, clock=clock, sleep=sleep)
        self._base_url = base_url.rstrip("/")
        self._lock = Lock(clock, customization_ms, lambda: self.store.held)
        self._sleep = sleep
        self._customizing = Customizing(self.store, wall_clock, key_ms)
        self._service = Service(
            self.metadata,
            self.store,
            self._customizing,
            self._lock,
            wall_clock=wall_clock,
            delta_days=delta_days,
            bypass_steps=bypass_steps,
            strict_ports=strict_ports,
        )
        self._service.bulk.without |= set(no_bulk)
        self.pipeline = Pipeline(
            self.store,
            self._carry_out,
            self.webhooks,
            overtaken=self._overtaken,
            save=self._service.save,
            open_row=open_row,
            patience=sql_timeout,
            timeout=timeout,
        )
        self._batches = Batches(self.pipeline, self._struck)
        routes = [Route("/{path:path}", self._answer, methods=_METHODS)]
        super().__init__(
            Starlette(routes=routes, lifespan=self._lifespan),
            reset=self._start_again,
            snapshot=self.store.snapshot,
            restore=self._restore,
            named=TROUBLES,
            operations=True,
            dials={
                "webhooks": Dial(self._told_webhooks),
                "limits": Dial(self.guard.told, self.guard.take),
            },
        )

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

    def _struck(self, call: Call) -> DataverseError | None:
        """Return the fault that strikes one operation of a batch."""
        fault = self.strike(call.method, ROOT + call.target, inside=True)
        return Struck(fault) if fault is not None else None

    def _overtaken(self, call: Call) -> bool:
        """Tell whether a fault lets somebody else save the row first; only a write that names a version can be."""
        version = condition(call, "if-match") if "if-match" in call.headers else None
        return isinstance(version, int) and self.strike(call.method, ROOT + call.target, effect="overtake") is not None

    def _befall(self, event: str) -> Mishap | None:
        """Return what a fault does to an event on its way to an asynchronous step."""
        for effect in OF_EVENTS:
            if (fault := self.strike("POST", event, effect=effect)) is not None:
                return Mishap(effect, last=all(each is not fault for each in self.faults))
        return None

    def _carry_out(self, call: Call) -> Answer:
        answered = self._service.carry_out(call)
        if (fault := self.strike(call.method, ROOT + call.target, effect="undo")) is not None:
            raise Struck(fault)
        return answered

    def _start_again(self) -> None:
        self.guard.reset()
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

    def _told_webhooks(self) -> dict[str, int]:
        return {name: getattr(self.webhooks, name) for name in ("queued", "inflight", "delivered", "failed")}

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
        self._lock.request()
        async with self.guard.serving(call.headers) as visit:
            if visit.refused:
                answered = refusal(visit.refused, NO_WORK)
            else:
                answered = visit.done(await self._route(call, _as_sent(request.scope)))
            if pause := self._lock.pause:
                await self._sleep(pause / 1000)
        answered.headers.update(self.guard.headers(visit))
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

    async def _route(self, call: Call, target: str) -> Answer:
        self._customizing.settle()
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
                return await self.pipeline.alone(call)
            if call.method != "POST":
                raise MethodNotAllowed(call.method)
            if call.options:
                raise NotSupported(f"the query option {next(iter(call.options))} on $batch")
            return await self._batches.answer(call)
        except DataverseError as error:
            return refusal(error, NO_WORK)


@cache
def _empty(facts: tuple[tuple[Path, int], ...], no_bulk: frozenset[str]) -> Store:
    """Make the empty organization of facts files (with their times) once: each one in memory begins as its copy."""
    tables = Metadata(load(*(path for path, _ in facts)), system.tables)
    store = Store(IN_MEMORY, tables, seed=lambda: system.rows(tables, no_bulk))
    atexit.register(store.close)
    return store


def _as_sent(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


SWITCHES: Final[Mapping[str, str]] = {
    "database": "the SQLite file, or `:memory:`",
    "metadata": "the facts file; none is the shipped one",
    "extra": "further facts files",
    "base_url": "what URLs begin with where a request has no Host",
    "webhook_transport": "what carries deliveries instead of the network",
    "call_ms": "what each call takes",
    "operation_ms": "what each operation in a call takes on top",
    "bulk_row_ms": "what each row of a bulk action takes on top; none is as an operation",
    "protection": "the limits of service protection; none protects nothing",
    "no_bulk": "tables without bulk actions",
    "open_row": "what a read meets that finds a row of an open transaction (inferred): `not-found` or `time-out`",
    "sql_timeout": "seconds that an operation waits for open transactions",
    "bypass_steps": "whether MSCRM.BypassBusinessLogicExecutionStepIds reaches steps of webhooks (not settled)",
    "strict_ports": "whether webhooks at other ports than 80 and 443 are refused, as Dataverse does",
    "iso_dates": "whether messages to webhooks have dates in ISO 8601 in place of `/Date(ms)/`; both are met",
    "delta_days": "days that a delta token lives",
    "key_ms": "what the index of a new alternate key takes",
    "customization_ms": "what a customization takes, while others are refused",
    "clock": "seconds for these times",
    "wall_clock": "seconds since the epoch, for delta tokens and keys",
    "sleep": "what waits",
    "timeout": "what ends a wait that takes too long",
}
"""What each argument of `create_app` is."""


def create_app(
    *,
    database: str = IN_MEMORY,
    metadata: Path | None = None,
    base_url: str = "http://dataverse",
    webhook_transport: httpx.AsyncBaseTransport | None = None,
    call_ms: float = 0,
    operation_ms: float = 0,
    bulk_row_ms: float | None = None,
    protection: Protection | None = None,
    no_bulk: Collection[str] = (),
    extra: Sequence[Path] = (),
    key_ms: float = 100,
    customization_ms: float = 0,
    open_row: OpenRow = "not-found",
    sql_timeout: float = SQL_TIMEOUT,
    bypass_steps: bool = False,
    strict_ports: bool = False,
    iso_dates: bool = False,
    delta_days: float = DAYS,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    timeout: Timeout = asyncio.timeout,
) -> Emulator:
    """Build the emulator of one organization.

    `database` is a SQLite file or `:memory:`; `metadata` a facts file (default: the shipped one) and `extra` others
    whose tables are added; `base_url` stands in where a request has no Host; `webhook_transport` carries deliveries
    instead of the network. An alternate key asked for over the API is usable `key_ms` later, by `wall_clock` (seconds
    since the epoch); a customization takes `customization_ms`, while others are refused with 429. `call_ms` and
    `operation_ms` are the time each call takes and, on top, each operation in it, `bulk_row_ms` (default: the same)
    each row of a bulk action; `no_bulk` are the tables that have no bulk actions. `open_row` is what a read of a row meets
    that a synchronous step's transaction wrote (not settled by any page), `sql_timeout` the seconds that others wait for it.
    Webhooks at ports that Dataverse does not post to are refused with `strict_ports`, else warned of; `iso_dates` writes
    their dates in ISO 8601; `bypass_steps` lets requests pass over them by id. `timeout` makes the context that ends waits.
    Delta tokens expire after `delta_days` by `wall_clock`. `clock` (seconds) and `sleep` serve `protection` and the times
    of calls. Raises ValueError naming the file, the table and the key for facts that are wrong.
    """
    return Emulator(
        database=database,
        metadata=metadata or FACTS,
        base_url=base_url,
        webhook_transport=webhook_transport,
        protection=protection or Protection(),
        latency=Latency(call_ms, operation_ms, bulk_row_ms),
        no_bulk=no_bulk,
        extra=extra,
        key_ms=key_ms,
        customization_ms=customization_ms,
        open_row=open_row,
        sql_timeout=sql_timeout,
        bypass_steps=bypass_steps,
        strict_ports=strict_ports,
        iso_dates=iso_dates,
        delta_days=delta_days,
        clock=clock,
        wall_clock=wall_clock,
        sleep=sleep,
        timeout=timeout,
    )

"""Service protection: how much one user may ask of one web server, and the 429 that says it was too much.

Numbers, codes and texts are those of Microsoft's page api-limits. Every limit is off unless it is given.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from http.cookies import CookieError, SimpleCookie
from math import ceil
from typing import Any, Final

from devstack.dataverse.errors import DataverseError
from devstack.dataverse.wire import NO_WORK, Answer, Work

COOKIE: Final = "ARRAffinity"
GRACE: Final = 1.0
"""Seconds after a refusal within which requests that were on their way already are refused and no more: each one that
comes later, although it was told to wait, lengthens the wait by a second."""

CONCURRENCY_PAUSE: Final = 1
"""Seconds that a request over the concurrency limit is told to wait; no page gives the real one."""


@dataclass(frozen=True, slots=True)
class Protection:
    """The limits of one user on each web server, None for none; raises ValueError naming the field.

    `requests` and `execution_ms` count in a sliding window of `window_seconds`, `concurrency` is the number at once.
    `servers` is how many web servers there are; `dop_hint` is what `x-ms-dop-hint` recommends.
    """

    requests: int | None = None
    window_seconds: float = 300
    execution_ms: float | None = None
    concurrency: int | None = None
    servers: int = 1
    dop_hint: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_number(each.name, getattr(self, each.name), none="None" in str(each.type))


@dataclass(frozen=True, slots=True)
class Latency:
    """The milliseconds that each call takes and, on top, each operation in it, or each row of a bulk action."""

    call_ms: float = 0
    operation_ms: float = 0
    bulk_row_ms: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_number(each.name, getattr(self, each.name), none="None" in str(each.type), zero=True)

    def of(self, work: Work) -> float:
        """Return the milliseconds that a call with this work takes."""
        row = self.operation_ms if self.bulk_row_ms is None else self.bulk_row_ms
        return self.call_ms + work.operations * self.operation_ms + work.rows * row


def _check_number(name: str, value: object, *, none: bool, zero: bool = False) -> None:
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or (value == 0 and not zero):
        least = "0" if zero else "above 0"
        raise ValueError(f"{name}: {value!r} is not a number (valid: {least}{', null' if none else ''})")


class Throttled(DataverseError):
    """One facet is used up; `retry_after` is whole seconds to wait."""

    status = 429

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.code = code
        self.headers = {"Retry-After": str(retry_after)}


def too_many_requests(limit: int, window: float, retry_after: int) -> Throttled:
    """Return the refusal of the requests facet."""
    message = f"Number of requests exceeded the limit of {limit} over time window of {window:g} seconds."
    return Throttled("0x80072322", message, retry_after)


def too_much_time(limit: float, window: float, retry_after: int) -> Throttled:
    """Return the refusal of the execution time facet."""
    message = (
        f"Combined execution time of incoming requests exceeded limit of {limit:,.0f}  milliseconds over time window of "
        f"{window:g} seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later."
    )
    return Throttled("0x80072321", message, retry_after)


def too_many_at_once(limit: int, retry_after: int = CONCURRENCY_PAUSE) -> Throttled:
    """Return the refusal of the concurrency facet."""
    return Throttled("0x80072326", f"Number of concurrent requests exceeded the limit of {limit}.", retry_after)


@dataclass(slots=True)
class _Server:
    """What one user asked of one web server: the times of requests, (time, milliseconds) of work, what runs now."""

    requests: deque[float] = field(default_factory=deque)
    work: deque[tuple[float, float]] = field(default_factory=deque)
    running: int = 0
    closed: _Closed | None = None


@dataclass(slots=True)
class _Closed:
    """A facet that was used up: since when, until when, and how that is told."""

    since: float
    until: float
    facet: Callable[[int], Throttled]


class Guard:
    """Counts requests per web server and refuses what is too much; `clock` is seconds, `sleep` waits them."""

    def __init__(
        self,
        protection: Protection,
        latency: Latency,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.protection, self.latency = protection, latency
        self._given = protection, latency
        self._clock, self._sleep = clock, sleep
        self._books: dict[tuple[str, int], _Server] = {}
        self._next = 0

    def reset(self) -> None:
        """Go back to the limits and times that were given at first, and forget what was asked."""
        self.protection, self.latency = self._given
        self._forget()

    def _forget(self) -> None:
        self._books = {}
        self._next = 0

    def told(self) -> dict[str, Any]:
        """Return limits and times as JSON."""
        return asdict(self.protection) | asdict(self.latency)

    def take(self, document: object) -> None:
        """Set limits and times from JSON, those left out to their defaults; raises ValueError naming the field."""
        if not isinstance(document, dict):
            raise ValueError("limits are an object")  # noqa: TRY004 - one error type for bad input
        limits, times = ({each.name for each in fields(kind)} for kind in (Protection, Latency))
        if unknown := sorted(document.keys() - limits - times):
            raise ValueError(f"{unknown[0]}: unknown limit (valid: {', '.join(sorted(limits | times))})")
        protection = Protection(**{name: value for name, value in document.items() if name in limits})
        latency = Latency(**{name: value for name, value in document.items() if name in times})
        self.protection, self.latency = protection, latency
        self._forget()

    @asynccontextmanager
    async def serving(self, headers: Mapping[str, str]) -> AsyncIterator[Visit]:
        """Let one request in for as long as the block lasts; the visit says whether it was refused.

        A request with an affinity cookie goes to its server, any other to the next one. Header names are lower case.
        """
        servers = self.protection.servers
        number = _affinity(headers.get("cookie", ""), servers)
        fresh = number is None
        if number is None:
            number = self._next
            self._next = (self._next + 1) % servers
        server = self._books.setdefault((_user(headers), number), _Server())
        began = self._clock()
        visit = Visit(server, number if fresh and servers > 1 else None, self._refusal(server, began))
        if visit.refused is not None:
            yield visit
            return
        server.requests.append(began)
        server.running += 1
        try:
            try:
                yield visit
            finally:
                spent = (self._clock() - began) * 1000
            if pause := self.latency.of(visit.work):
                spent += pause
                await self._sleep(pause / 1000)
        finally:
            server.running -= 1
            server.work.append((self._clock(), spent))

    def headers(self, visit: Visit) -> Mapping[str, str]:
        """Return the headers that tell a client how it stands."""
        found: dict[str, str] = {}
        limits = self.protection
        if limits.dop_hint is not None:
            found["x-ms-dop-hint"] = str(limits.dop_hint)
        if visit.assigned is not None:
            found["Set-Cookie"] = f"{COOKIE}=server{visit.assigned}; Path=/; HttpOnly"
        server = visit.server
        if limits.requests is not None:
            left = max(0, limits.requests - len(server.requests))
            found["x-ms-ratelimit-burst-remaining-xrm-requests"] = str(left)
        if limits.execution_ms is not None:
            spent = sum(each for _, each in server.work)
            found["x-ms-ratelimit-time-remaining-xrm-requests"] = f"{max(0, limits.execution_ms - spent) / 1000:.2f}"
        return found

    def _refusal(self, server: _Server, now: float) -> Throttled | None:
        limits, window = self.protection, self.protection.window_seconds
        while server.requests and server.requests[0] <= now - window:
            server.requests.popleft()
        while server.work and server.work[0][0] <= now - window:
            server.work.popleft()
        if limits.concurrency is not None and server.running >= limits.concurrency:
            return too_many_at_once(limits.concurrency)
        if server.closed is not None and now < server.closed.until:
            if now >= server.closed.since + GRACE:
                server.closed.until += 1
        elif limits.requests is not None and len(server.requests) >= limits.requests:
            until = server.requests[-limits.requests] + window
            server.closed = _Closed(now, until, partial(too_many_requests, limits.requests, window))
        elif limits.execution_ms is not None and (over := _over(server, limits.execution_ms)) is not None:
            server.closed = _Closed(now, over + window, partial(too_much_time, limits.execution_ms, window))
        else:
            server.closed = None
            return None
        return server.closed.facet(max(1, ceil(server.closed.until - now)))


@dataclass(slots=True)
class Visit:
    """One request at a web server: what its user asked of it, its number where the client is to be told, the refusal."""

    server: _Server
    assigned: int | None
    refused: Throttled | None
    work: Work = NO_WORK

    def done(self, answered: Answer) -> Answer:
        """Note what the request took and hand its answer on."""
        self.work = answered.work
        return answered


def _over(server: _Server, limit: float) -> float | None:
    """Return when the work was done whose end in the window makes room again; None while there is room."""
    room = limit
    for when, spent in reversed(server.work):
        room -= spent
        if room <= 0:
            return when
    return None


def _user(headers: Mapping[str, str]) -> str:
    """Return whose budget a request uses: the principal of its bearer token, or the credential as it is.

    A call made for somebody else is charged to the caller; no page says whose it is.
    """
    credential = headers.get("authorization", "")
    payload = credential.partition(".")[2].partition(".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return credential
    named = [claims.get(name) for name in ("oid", "appid")] if isinstance(claims, dict) else []
    return next((each for each in named if isinstance(each, str) and each), credential)


def _affinity(cookie: str, servers: int) -> int | None:
    """Return the server that an affinity cookie names; None for no cookie and one of a server that is not there."""
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return None
    number = (morsel.value if morsel else "").removeprefix("server")
    return int(number) if number.isdecimal() and len(number) < 6 and int(number) < servers else None  # noqa: PLR2004 - no huge numbers

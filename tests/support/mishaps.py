"""What goes wrong between the relay and the two servers: it dies, somebody else writes first, answers are overheard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx

from support.world import Between, World

Moment = Literal["before", "after"]


class Kill(BaseException):
    """The process ended here: no `except Exception` sees it."""


@dataclass
class Wire:
    """Every request that the relay makes, to both servers, in order; kills the relay at one of them when told to."""

    at: int = -1
    moment: Moment = "before"
    seen: list[str] = field(default_factory=list)

    def watch(self, world: World) -> Wire:
        """Listen on both sides of a world."""
        for side in (world.to_dataverse, world.to_fhir):
            side.before.append(self._before)
            side.after.append(self._after)
        return self

    async def _before(self, request: httpx.Request) -> None:
        self.seen.append(f"{request.method} {request.url.host} {request.url.path}")
        self._strike("before")

    async def _after(self, _: httpx.Request) -> None:
        self._strike("after")

    def _strike(self, moment: Moment) -> None:
        if (len(self.seen) - 1, moment) == (self.at, self.moment):
            raise Kill


def once(side: Between, wanted: Callable[[httpx.Request], bool], do: Callable[[], Awaitable[object]]) -> None:
    """Do something just before the first such request goes out, and never again."""

    async def hook(request: httpx.Request) -> None:
        if wanted(request):
            side.before.remove(hook)
            await do()

    side.before.append(hook)


def each_time(side: Between, wanted: Callable[[httpx.Request], bool], do: Callable[[], Awaitable[object]]) -> None:
    """Do something just before every such request goes out; `side.before.clear()` ends it."""

    async def hook(request: httpx.Request) -> None:
        if wanted(request):
            await do()

    side.before.append(hook)


def kill() -> Callable[[], Awaitable[object]]:
    """Return what kills the relay."""

    async def die() -> None:
        raise Kill

    return die


def writes_rows(request: httpx.Request) -> bool:
    """Tell whether a request to Dataverse writes: alone, or inside a batch."""
    return request.method in ("PATCH", "DELETE") or (
        request.method == "POST" and (not request.url.path.endswith("$batch") or b"changeset_" in request.content)
    )


def puts_resources(request: httpx.Request) -> bool:
    """Tell whether a request to the FHIR server writes: alone, or inside a batch."""
    return request.method == "PUT" or (request.method == "POST" and b'"PUT"' in request.content)


class Ear(httpx.AsyncBaseTransport):
    """A transport that keeps the text of every answer."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.heard: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        self.heard.append((await response.aread()).decode())
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


def overhear(side: Between) -> list[str]:
    """Return a list that will hold the text of every answer on this side."""
    ear = Ear(side.inner)
    side.inner = ear
    return ear.heard


@contextmanager
def answering(side: Between, status: int) -> Iterator[None]:
    """Have a side answer every request with this status."""
    inner = side.inner
    side.inner = httpx.MockTransport(lambda _: httpx.Response(status))
    try:
        yield
    finally:
        side.inner = inner

"""What goes wrong between the relay and the two servers: it dies, somebody else writes first, answers are overheard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from relay.app import Relay
from relay.errors import StoreUnavailable
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


Failure = Literal["unreached", "lost", "killed"]
"""How a call fails: it does not arrive, or it is done and nobody comes to know, or the relay dies instead of making it."""


@dataclass
class Trial:
    """Every call of the relay, to its store and to both servers, in order; one fails: number `at`, or the first named `first`."""

    at: int = -1
    first: str = ""
    how: Failure = "killed"
    seen: list[str] = field(default_factory=list)

    def watch(self, world: World) -> Trial:
        """Stand between a world's relay and everything that it calls."""
        maps = world.relay.maps
        store: Any = _Watched(world.store, self)
        world.relay = Relay(world.relay.settings, store=store, seams=world.relay.seams)
        world.relay.__dict__["maps"] = maps
        for side in (world.to_dataverse, world.to_fhir):
            side.before.append(self._before)
            side.after.append(self._after)
        return self

    @property
    def struck(self) -> bool:
        """Whether the call that was to fail was made."""
        return 0 <= self.at < len(self.seen)

    def asked(self, what: str, cut: Exception) -> None:
        """Note a call that is about to be made, and let it fail if it is not to arrive."""
        if what == self.first and self.at < 0:
            self.at = len(self.seen)
        self.seen.append(what)
        if len(self.seen) - 1 == self.at and self.how != "lost":
            raise Kill if self.how == "killed" else cut

    def answered(self, cut: Exception) -> None:
        """Let the call that was made last fail if its answer is to be lost."""
        if len(self.seen) - 1 == self.at and self.how == "lost":
            raise cut

    async def _before(self, request: httpx.Request) -> None:
        what = f"{request.method} {request.url.host} {request.url.path}"
        self.asked(what, httpx.ConnectError("unreached", request=request))

    async def _after(self, request: httpx.Request) -> None:
        self.answered(httpx.ReadError("lost", request=request))


class _Watched:
    """A store whose calls a trial sees."""

    def __init__(self, inner: Any, trial: Trial) -> None:
        self._inner = inner
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        async def call(*given: Any, **named: Any) -> Any:
            self._trial.asked(f"store.{name} {given[0] if given else ''}", StoreUnavailable("unreached"))
            answer = await found(*given, **named)
            self._trial.answered(StoreUnavailable("lost"))
            return answer

        return call

"""HAPI's own Subscriptions with the relay's endpoint, and a door in front of it which counts what HAPI sends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
from real_kit import Real

from devstack.control import Control
from devstack.host.serve import serving
from support.reverse_proxy import reverse_proxy
from support.world import ROOT


@dataclass
class Subscribed:
    """What HAPI sends, and how much of it came."""

    real: Real
    door: Control

    @property
    def sent(self) -> list[str]:
        """The notifications that came to the endpoint so far."""
        return [f"{each['method']} {each['path']}" for each in self.door.calls]

    async def still(self, *, least: int = 1, within: float = 60) -> None:
        """Wait until at least so many notifications came, nothing is under way, and for a second nothing more comes."""
        end = time.monotonic() + within
        while True:
            before = len(self.sent), len(self.real.door.calls)
            assert await self.real.stack.settle(within=within)
            await asyncio.sleep(1)  # HAPI sends within half a second of a change
            if (len(self.sent), len(self.real.door.calls)) == before and before[0] >= least:
                return
            assert time.monotonic() < end, self.sent


def documented(kind: str, number: int = 0) -> dict[str, Any]:
    """Return a resource of this type that docs/ways-in.md shows: the first one, which is for HAPI, unless a number is given."""
    page = (ROOT / "docs" / "ways-in.md").read_text(encoding="utf-8")
    shown = [json.loads(each.partition("```")[0]) for each in page.split("```json\n")[1:]]
    found: dict[str, Any] = [each for each in shown if each.get("resourceType") == kind][number]
    return found


@asynccontextmanager
async def subscribed(
    it: Real, criteria: str = "", *, shown: int = 0, path: str = "", extension: Sequence[Any] = (), **channel: Any
) -> AsyncIterator[Subscribed]:
    """Have HAPI tell the relay of what fits the criteria until the block ends: the Subscription that the page shows there, but for what is given.

    A member of the channel that is None is left out.
    """
    resource = documented("Subscription", shown)
    async with reverse_proxy(it.stack.functions_url) as door, serving(door) as root:
        endpoint = root + httpx.URL(resource["channel"]["endpoint"]).path + path
        given = {**resource["channel"], "endpoint": endpoint, **channel}
        resource |= {"id": f"s{uuid4().hex[:8]}", "criteria": criteria or resource["criteria"]}
        resource |= {"extension": [*extension]} if extension else {}
        resource["channel"] = {name: value for name, value in given.items() if value is not None}
        answer = await it.put(resource)
        assert answer.is_success, answer.text
        address = f"Subscription/{resource['id']}"

        async def active() -> bool:
            return bool((await it.read(address))["status"] == "active")

        try:
            await until(active)
            yield Subscribed(it, door)
        finally:
            await it.fhir.delete(address)


async def until(condition: Callable[[], Awaitable[bool]], *, within: float = 30) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(within):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)

"""HAPI's own Subscriptions with the relay's endpoint, and a door in front of it which counts what HAPI sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from real_kit import Real

from devstack.control import Control
from devstack.host.serve import serving
from support.reverse_proxy import reverse_proxy


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


@asynccontextmanager
async def subscribed(it: Real, *criteria: str, path: str = "", **channel: Any) -> AsyncIterator[Subscribed]:
    """Have HAPI tell the relay of what fits these criteria until the block ends; a member of the channel that is None is left out."""
    async with reverse_proxy(it.stack.functions_url) as door, serving(door) as root:
        made = [await _subscribe(it, each, f"{root}/api/fhir-hook{path}", channel) for each in criteria]
        try:
            await until(lambda: _all_active(it, made))
            yield Subscribed(it, door)
        finally:
            for each in made:
                await it.fhir.delete(each)


async def _subscribe(it: Real, criteria: str, endpoint: str, channel: dict[str, Any]) -> str:
    payload = {"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json", **channel}
    address = f"Subscription/s{uuid4().hex[:8]}"
    resource = {
        "resourceType": "Subscription",
        "id": address.partition("/")[2],
        "status": "requested",
        "reason": "rows in Dynamics 365",
        "criteria": criteria,
        "channel": {name: value for name, value in payload.items() if value is not None},
    }
    answer = await it.put(resource)
    assert answer.is_success, answer.text
    return address


async def _all_active(it: Real, addresses: Sequence[str]) -> bool:
    return all([(await it.read(each))["status"] == "active" for each in addresses])


async def until(condition: Callable[[], Awaitable[bool]], *, within: float = 30) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(within):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)

"""Changes that are told of one by one, under the model of latency: joined by those that wait beside them, and each alone."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from figures import HANDED_OVER, Figure
from material import patients
from servers import Servers, servers
from throughput import Model

from relay.inbound.change import Change

COUNT = 100


def run() -> Iterator[Figure]:
    """Tell of 100 new patients in as many messages."""
    told = {name: asyncio.run(_tell(patience)) for name, patience in (("together", 60.0), ("alone", 0.0))}
    for name, each in told.items():
        more = {**each, "count": COUNT, "side_by_side": HANDED_OVER}
        yield Figure(f"told_{name}", each["dataverse"], "calls to Dataverse", more)


async def _tell(patience: float) -> dict[str, Any]:
    model = Model()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        async with servers(Path(folder), org=model.org, server=model.server) as world:
            made = patients(COUNT)
            await world.put(*made)
            inbound = world.relay.inbound
            inbound._told._together._patience = patience  # noqa: SLF001 - who has none goes alone
            for each in made:
                await inbound.changes([Change("bench", "Patient", each["id"], None, "create", None)])
            began = time.perf_counter()
            await asyncio.gather(*(_listener(world) for _ in range(HANDED_OVER)))
            seconds = time.perf_counter() - began
            calls = {"dataverse": len(world.dataverse.calls), "fhir": len(world.fhir.calls)}
            for each in await world.read(*made):
                if each["meta"]["versionId"] != "2":
                    raise RuntimeError("a benchmark's patient did not get its identifier")
            return {**calls, "seconds": round(seconds, 1)}


async def _listener(world: Servers) -> None:
    """Work on one message after the other until there is none."""
    while messages := await world.relay.store.receive("inbound", most=1, visibility=timedelta(minutes=5)):
        await world.relay.inbound.work(messages[0].text)
        await world.relay.store.delete(messages[0])

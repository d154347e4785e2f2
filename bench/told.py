"""Changes that are told of one by one, under the model of latency: joined by those that wait beside them, and each alone."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from figures import ROOT, Figure
from material import patients
from servers import Servers, servers
from throughput import AT_ONCE, Model

from devstack.dataverse.protection import Protection
from relay.inbound.change import Change

COUNT = 100
_HOST = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
SIDE_BY_SIDE: int = _HOST["batchSize"] + _HOST["newBatchThreshold"]
"""Messages that a host hands over at once."""


def run() -> Iterator[Figure]:
    """Tell of 100 new patients in as many messages."""
    told = {name: asyncio.run(_tell(patience)) for name, patience in (("together", 60.0), ("alone", 0.0))}
    for name, each in told.items():
        more = {**each, "count": COUNT, "side_by_side": SIDE_BY_SIDE}
        yield Figure(f"told_{name}", each["dataverse"], "calls to Dataverse", more)


async def _tell(patience: float) -> dict[str, Any]:
    model = Model()
    org = {
        "call_ms": model.call,
        "operation_ms": model.operation,
        "bulk_row_ms": model.bulk_row,
        "protection": Protection(dop_hint=AT_ONCE),
    }
    server = {"call_ms": model.fhir_call, "entry_ms": model.entry}
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        async with servers(Path(folder), org=org, server=server) as world:
            made = patients(COUNT)
            await world.put(*made)
            inbound = world.relay.inbound
            inbound._told._together._patience = patience  # noqa: SLF001 - who has none goes alone
            for each in made:
                await inbound.changes([Change("bench", "Patient", each["id"], None, "create", None)])
            began = time.perf_counter()
            await asyncio.gather(*(_listener(world) for _ in range(SIDE_BY_SIDE)))
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

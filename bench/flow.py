"""Resources per second through the whole flow in one process: both servers, the store on disk, no sockets."""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, skipped
from material import bundle_of, patients
from servers import servers

COUNT = 100
ROUNDS = 8


def run() -> Iterator[Figure]:
    """Carry bundles of 100 new patients, validation off and warn."""
    for mode in ("off", "warn"):
        name = f"resources_per_second_validate_{mode}"
        if mode != "off" and importlib.util.find_spec("fhir") is None:
            yield skipped(name, "resources/s", "fhir.resources is not installed")
            continue
        yield asyncio.run(_carry(name, mode))


async def _carry(name: str, mode: str) -> Figure:
    """Return the best bundle of so many: seconds, and the CPU of relay and servers, each per resource."""
    rounds: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        async with servers(Path(folder), validate_bundles=mode) as world:
            for number in range(ROUNDS + 1):
                made = patients(COUNT, f"{mode}{number}")
                await world.put(*made)
                body = bundle_of(*made)
                began, cpu = time.perf_counter(), time.process_time()
                await world.post(body)
                wall, both = time.perf_counter() - began, time.process_time() - cpu
                theirs = world.to_dataverse.seconds + world.to_fhir.seconds
                rounds.append((wall / COUNT, (both - theirs) / COUNT, theirs / COUNT))
    wall, relay, theirs = (min(column) for column in zip(*rounds[1:], strict=True))  # the first one pays for imports
    more = {
        "relay_cpu_ms_per_resource": round(relay * 1000, 3),
        "servers_cpu_ms_per_resource": round(theirs * 1000, 3),
        "relay_alone_per_second": round(1 / relay),
        "bundle": COUNT,
        "identifiers": 4,
    }
    return Figure(name, round(1 / wall), "resources/s", more)

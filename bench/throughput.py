"""Many new patients under a model of the servers' latency: the relay beside other ways to write the same rows.

The model: Dataverse takes 50 ms a call, on top 40 ms an operation (which run one after the other) or 10 ms a row of a bulk
action; the FHIR server 50 ms a call and 5 ms an entry. The org's hint allows 8 requests at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from contender import KEYS
from figures import ROOT, Figure

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from devstack.dataverse.protection import Protection
from devstack.host.serve import serving

COUNT = 100
ROWS = 5  # identifier rows of a patient, that of the GUID included
AT_ONCE = 8
SIZES = (1, 2, 5, 10, 15, 20, 35, 50)
SDK = ("sdk_each", "sdk_at_once", "sdk_bulk", "sdk_bulk_at_once")


@dataclass(frozen=True)
class Model:
    """What the servers take, in milliseconds."""

    call: float = 50
    operation: float = 40
    bulk_row: float = 10
    fhir_call: float = 50
    entry: float = 5

    @property
    def org(self) -> dict[str, Any]:
        """Return how the Dataverse emulator is started."""
        return {
            "call_ms": self.call,
            "operation_ms": self.operation,
            "bulk_row_ms": self.bulk_row,
            "protection": Protection(dop_hint=AT_ONCE),
        }

    @property
    def server(self) -> dict[str, Any]:
        """Return how the FHIR server is started."""
        return {"call_ms": self.fhir_call, "entry_ms": self.entry}

    def least(self, count: int) -> float:
        """Return the seconds below which the whole job for so many patients cannot be done.

        A read of Dataverse; the parents, then the children, in bulk, as many calls at once as the hint allows; a batch
        of reads and one of PUTs on the FHIR server, which names no parallelism, so one at a time.
        """
        parents = self.call + self.bulk_row * ceil(count / AT_ONCE)
        children = self.call + self.bulk_row * ceil(count * ROWS / AT_ONCE)
        return (self.least_read + parents + children + 2 * (self.fhir_call + self.entry * count)) / 1000

    @property
    def least_read(self) -> float:
        """Return the milliseconds of one call that reads, all its queries side by side."""
        return self.call + self.operation


NOTHING = Model(0, 0, 0, 0, 0)


def run() -> Iterator[Figure]:
    """Write 100 new patients in every form, the relay's both modes at every size, and all of it without latency."""
    yield from asyncio.run(_compare(Model(), "throughput"))
    yield from asyncio.run(_threshold(Model()))
    yield from asyncio.run(_compare(NOTHING, "unslowed"))


async def _compare(model: Model, name: str) -> list[Figure]:
    told = {form: await _child(form, COUNT, model) for form in ("relay_auto", "relay_fewest_calls", "sequence", *SDK)}
    ours = told["relay_auto"]
    found = []
    for form, each in told.items():
        more: dict[str, Any] = {**each, "count": COUNT}
        rows_alone = form in SDK
        theirs = each["dataverse_seconds"] if rows_alone else each["seconds"]
        mine = ours["dataverse_seconds"] if rows_alone else ours["seconds"]
        more["times_relay"] = round(theirs / mine, 1)
        if form == "relay_auto" and model != NOTHING:
            least = model.least(COUNT)
            more |= {"least": round(least, 2), "of_least": round(ours["seconds"] / least, 2)}
            more["target"] = round(1.5 * least, 2)
        found.append(Figure(f"{name}_{form}", theirs, "s", more))
    return found


async def _threshold(model: Model) -> list[Figure]:
    """Return for bundles of growing size what one batch of change sets and what bulk calls take."""
    both: dict[str, list[str]] = {"fewest-calls": [], "bulk": []}
    for size in SIZES:
        batch = await _child("relay_fewest_calls", size, model)
        bulk = await _child("relay_auto", size, model, RELAY_BULK_FROM="1")
        both["fewest-calls"].append(f"{batch['dataverse_seconds']:.2f}")
        both["bulk"].append(f"{bulk['dataverse_seconds']:.2f}")
    sizes = ", ".join(f"{size * (ROWS + 1)}" for size in SIZES)
    return [
        Figure(f"threshold_{name.replace('-', '_')}", ", ".join(seconds), "s", {"sizes": sizes})
        for name, seconds in both.items()
    ]


@asynccontextmanager
async def _servers(model: Model) -> AsyncIterator[tuple[str, str]]:
    """Run both servers under the model, with the alternate keys that the SDK needs; gives their roots."""
    org = dataverse_emulator.create_app(metadata=ROOT / "maps" / "metadata.json", **model.org)
    for table, column in KEYS.items():
        org.declare_key(table, column)
    server = fhir_server.create_app(**model.server)
    try:
        async with serving(org) as org_url, serving(server) as fhir_url:
            yield org_url, fhir_url
    finally:
        await org.aclose()


async def _child(form: str, count: int, model: Model, **environment: str) -> dict[str, Any]:
    async with _servers(model) as urls:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
            script = str(Path(__file__).with_name("contender.py"))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, script, form, str(count), str(AT_ONCE), *urls, folder),
                cwd=ROOT,
                stdout=subprocess.PIPE,
                env={**os.environ, **environment},
            )
            out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{form}: {count} patients were not written")
    told: dict[str, Any] = json.loads(out)
    return told

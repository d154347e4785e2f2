"""HTTP calls per bundle: counted by the servers, the inbound request included."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from material import bundle_of, patients
from servers import servers

COUNT = 100


def run() -> Iterator[Figure]:
    """Count for 100 new patients of 4 identifiers, with sent bodies not trusted and trusted."""
    for trusted in (False, True):
        calls = asyncio.run(_count(trusted=trusted))
        name = "calls_per_bundle_trusted" if trusted else "calls_per_bundle"
        more = {
            **calls,
            "inbound": 1,
            "new_resources": COUNT,
            "identifiers_each": 4,
            "reference_least": 2 * COUNT + 2,
            "reference_most": 4 * COUNT + 2,
            "target": 4 if trusted else 5,
        }
        yield Figure(name, 1 + calls["dataverse"] + calls["fhir"], "calls", more)


async def _count(*, trusted: bool) -> dict[str, int]:
    settings = {"trust_sent_bodies": trusted, "write": "fewest-calls"}
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        async with servers(Path(folder), **settings) as world:
            made = patients(COUNT)
            await world.put(*made)
            # A sender that forwards the server's own bodies sends them with their versions.
            body = bundle_of(*(await world.read(*made)))
            await world.relay.fhir.profile()  # once a process: what kind of server it is
            world.forget()
            await world.post(body)
            return {"dataverse": len(world.dataverse.calls), "fhir": len(world.fhir.calls)}

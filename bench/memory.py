"""Peak memory of a process that carries the largest published bundle; the servers run in another process."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from figures import ROOT, Figure, skipped
from material import BEFORE, LARGEST, bundle_of, published

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from devstack.host.serve import serving
from relay.mapping.load import load_maps
from relay.settings import Settings

NAME = "peak_memory_largest_bundle"
PATIENTS = 700
ROOM = 2 * 1024 * 1024
"""What may be in work at once where it is shown that the rest waits: two of these bundles."""
FULL = 24
"""So many of them are more than goes in at once by default."""


def run() -> Iterator[Figure]:
    """Carry bundles in processes of their own and report the highest marks of their memory."""
    yield from asyncio.run(_in_flight())
    paths = [published(name) for name in (*BEFORE, LARGEST)]
    if any(path is None for path in paths):
        yield skipped(NAME, "MB", "the published Synthea bundles are not here: set RELAY_TEST_DATA to their folder")
        return
    yield asyncio.run(_measure([path for path in paths if path is not None]))


async def _in_flight() -> list[Figure]:
    """Return the peak with one bundle, with ten that come at once, and with so many that the gate is full by default."""
    found: list[Figure] = []
    default = int(Settings.model_fields["work_bytes"].default)
    for bundles, room in ((1, ROOM), (10, ROOM), (FULL, default)):
        org, server = dataverse_emulator.create_app(metadata=ROOT / "maps" / "metadata.json"), fhir_server.create_app()
        async with org, serving(org) as org_url, serving(server) as fhir_url:
            told = await _run("in_flight.py", str(bundles), str(PATIENTS), str(room), org_url, fhir_url)
        peak = told.pop("peak_mb")
        more = {**told, "bundles": bundles, "patients": PATIENTS, "room_mib": room // 2**20}
        if found:
            more |= {"times_one": round(peak / float(found[0].value or 1), 2), "target": 400}
        found.append(Figure(f"peak_memory_of_{bundles}_at_once", peak, "MB", more))
    return found


async def _measure(paths: list[Path]) -> Figure:
    org = dataverse_emulator.create_app(metadata=ROOT / "maps" / "metadata.json")
    server = fhir_server.create_app()
    try:
        async with serving(org) as org_url, serving(server) as fhir_url:
            async with httpx.AsyncClient(timeout=120) as http:
                for path in paths:
                    (await http.post(fhir_url, content=_puts(path), headers=_FHIR)).raise_for_status()
            for path in paths[:-1]:
                await _child(path, org_url, fhir_url)
            told = await _child(paths[-1], org_url, fhir_url)
    finally:
        await org.aclose()
    peak = told.pop("peak_mb")
    return Figure(NAME, peak, "MB", {**told, "target": 400})


_FHIR = {"Content-Type": "application/fhir+json"}


def _puts(path: Path) -> bytes:
    """Return the resources of mapped types as PUTs, so that the server has them under the ids they are sent with."""
    entries = json.loads(gzip.decompress(path.read_bytes()))["entry"]
    mapped = {entity.resource for entity in load_maps(ROOT / "maps")}
    chosen = [each["resource"] for each in entries if each["resource"]["resourceType"] in mapped]
    # References between the entries are of no interest here and would have to be rewritten.
    kept = ("resourceType", "id", "identifier", "name", "status", "intent")
    return bundle_of(*({name: each[name] for name in kept if name in each} for each in chosen))


async def _child(path: Path, org_url: str, fhir_url: str) -> dict[str, Any]:
    return await _run("largest.py", str(path), org_url, fhir_url)


async def _run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        process = await asyncio.create_subprocess_exec(*command, folder, cwd=ROOT, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{script} {arguments[0]} did not end well")
    told: dict[str, Any] = json.loads(out)
    return told

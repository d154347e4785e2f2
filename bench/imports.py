"""Cold start: what a fresh interpreter needs to import the whole app, and to take one event."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from figures import ROOT, Figure, skipped

from devstack import azurite
from relay.errors import Terminal

RUNS = 9

_CLOCK = "import sys, time, json; began = time.perf_counter(); spent = time.process_time()\n"
_TELL = (
    "\nms, cpu_ms = (time.perf_counter() - began) * 1000, (time.process_time() - spent) * 1000"
    "\nheavy = [n for n in ('httpx', 'requests', 'msal', 'azure.identity', 'fhir.resources', 'pydantic', 'yaml') if n in sys.modules]"
    "\nprint(json.dumps({'ms': ms, 'cpu_ms': cpu_ms, 'modules': len(sys.modules), 'heavy': heavy}))"
)
_EVENT = """
import asyncio
import relay.triggers.dataverse_event
from relay.app import get_relay
event = {"PrimaryEntityName": "contact", "PrimaryEntityId": "00000000-0000-4000-8000-000000000001",
         "MessageName": "Create", "OrganizationId": "00000000-0000-4000-8000-000000000002"}
async def take():
    await get_relay().take_event(json.dumps(event).encode())
    await get_relay().aclose()
asyncio.run(take())
"""
PROGRAMS = {
    "cold_import_function_app": "import function_app",
    "cold_first_event": _EVENT,
    "cold_import_azure_functions": "import azure.functions",
}


def run() -> Iterator[Figure]:
    """Time each in fresh processes, byte code compiled: the whole app, one event to the end, and the floor of both."""
    for name, program in PROGRAMS.items():
        yield _figure(name, program, {})
    name = "cold_first_event_azure"
    try:
        with azurite.running() as connection:
            yield _figure(name, _EVENT, {"AzureWebJobsStorage": connection, "RELAY_STORE": ""})
    except Terminal as error:
        yield skipped(name, "ms", str(error))


def _figure(name: str, program: str, settings: Mapping[str, str]) -> Figure:
    told = [_once(program, settings) for _ in range(RUNS + 1)][1:]  # the first one compiles
    times = [each["ms"] for each in told]
    more = {
        "median": round(statistics.median(times), 1),
        "cpu": round(min(each["cpu_ms"] for each in told), 1),
        "modules": told[0]["modules"],
        "heavy": told[0]["heavy"],
    }
    if name == "cold_first_event":
        more["target"] = 300
    return Figure(name, round(min(times), 1), "ms", more)


def _once(program: str, settings: Mapping[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        done = subprocess.run(  # noqa: S603 - this interpreter, and a program written above
            [sys.executable, "-c", _CLOCK + program + _TELL],
            cwd=ROOT,
            env={"PATH": "", "RELAY_STORE": f"file:{folder}", "PYTHONPATH": str(ROOT), **settings},
            capture_output=True,
            text=True,
            check=True,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told

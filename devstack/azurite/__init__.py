"""Azurite, Microsoft's storage emulator: installed by npm once, then run from the cache on free ports."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack.cache import installed_by_npm
from devstack.child import child
from relay.store.azure.account import EMULATOR

_HERE = Path(__file__).resolve().parent
_SOURCES = tuple(_HERE / name for name in ("package.json", "package-lock.json", "tell.cjs"))
_PROGRAM = Path("node_modules") / "azurite" / "dist" / "src" / "azurite.js"
_SERVICES = ("blob", "queue", "table")


def version() -> str:
    """Return the version that package.json pins."""
    pinned: str = json.loads(_SOURCES[0].read_text(encoding="utf-8"))["dependencies"]["azurite"]
    return pinned


def install() -> Path:
    """Install into the cache, once; returns the folder. Raises Terminal: `missing-program`, `install`."""
    return installed_by_npm("azurite", "Azurite", _SOURCES)


@contextmanager
def running(*, port: int = 0) -> Iterator[str]:
    """Run it until the block ends, installed first if need be, keeping nothing; gives its connection string.

    Blobs are at the port, queues and tables at the two after it; 0: at free ones.

    Raises Terminal: `missing-program`, `install`, `start`.
    """
    folder = install()
    command = ["node", "--require", str(folder / "tell.cjs"), str(folder / _PROGRAM)]
    # The SDKs speak newer versions of the protocol than Azurite knows of.
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    for number, each in enumerate(_SERVICES):
        command += [f"--{each}Host", "127.0.0.1", f"--{each}Port", str(port and port + number)]
    with tempfile.TemporaryDirectory(prefix="relay-azurite-") as scratch, child(command, cwd=Path(scratch)) as ready:
        yield _connection_string(ready)


def _connection_string(listening: Mapping[str, str]) -> str:
    parts = {"DefaultEndpointsProtocol": "http", **EMULATOR} | {
        f"{each.capitalize()}Endpoint": f"{listening[each]}/{EMULATOR['AccountName']}" for each in _SERVICES
    }
    return "".join(f"{name}={value};" for name, value in parts.items())

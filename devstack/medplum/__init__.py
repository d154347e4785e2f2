"""Medplum's FHIR router on its repository in memory: installed by npm once, then run from the cache.

Nobody here wrote it. Not the judge of validation: it checks no profile, knows no /metadata, and sends no notification.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.cache import installed_by_npm
from devstack.child import child

_HERE = Path(__file__).resolve().parent
_SOURCES = tuple(_HERE / name for name in ("package.json", "package-lock.json", "server.js"))


def version() -> str:
    """Return the version that package.json pins."""
    pinned: str = json.loads(_SOURCES[0].read_text(encoding="utf-8"))["dependencies"]["@medplum/fhir-router"]
    return pinned


def install() -> Path:
    """Install into the cache, once; returns the folder. Raises Terminal: `missing-program`, `install`."""
    return installed_by_npm("medplum", "Medplum's router", _SOURCES)


@contextmanager
def running(*, port: int = 0) -> Iterator[str]:
    """Run the server until the block ends, installed first if need be; gives its FHIR base.

    About 4 seconds and 155 MB of memory. Raises Terminal: `missing-program`, `install`, `start`.
    """
    folder = install()
    with child(["node", str(folder / "server.js"), str(port)]) as ready:
        yield str(ready["fhir"])

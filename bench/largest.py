"""Carries one bundle file in this process and prints what that took; started by `memory.py`.

Usage: largest.py FILE DATAVERSE_URL FHIR_URL STORE_FOLDER
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from relay.app import Relay
from relay.settings import Settings
from relay.store.local import LocalStore


def peak_mb() -> float:
    """Return the highest resident memory of this program so far.

    Linux counts that of the parent, before this program was started, into `ru_maxrss`; `VmHWM` is this program's own.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


async def main(body: bytes, org_url: str, fhir_url: str, folder: Path) -> dict[str, float | int]:
    """Carry the body and return peak and start of memory, entries by result, calls and seconds."""
    settings = Settings(
        dataverse_url=org_url,
        fhir_url=fhir_url,
        dataverse_auth="none",
        fhir_auth="none",
        log_key="bench",
        async_over_bytes=2**30,
    )
    relay = Relay(settings, store=LocalStore(folder))
    _ = (relay.maps, relay.inbound)
    before = peak_mb()
    began = time.perf_counter()
    reply = await relay.inbound.post(body, "application/fhir+json", "gzip", respond_async=False)
    seconds = time.perf_counter() - began
    peak = peak_mb()
    await relay.aclose()
    outcome = dict(reply.body or {})
    results = [each["result"] for each in outcome["entries"]]
    return {
        "peak_mb": round(peak),
        "before_mb": round(before),
        "entries": len(results),
        **{result: results.count(result) for result in sorted(set(results))},
        "rows": outcome["receipt"]["rows"]["created"],
        "calls": 1 + sum(outcome["receipt"]["calls"].values()),
        "seconds": round(seconds, 2),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]).read_bytes(), sys.argv[2], sys.argv[3], Path(sys.argv[4])))))

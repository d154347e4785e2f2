"""Carries so many bundles that come at once in this process and prints what that took; started by `memory.py`.

Usage: in_flight.py BUNDLES PATIENTS WORK_BYTES DATAVERSE_URL FHIR_URL STORE_FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from largest import peak_mb
from material import patients

from relay.app import Relay
from relay.inbound import service
from relay.settings import Settings
from relay.store.local import LocalStore


def _body(count: int, prefix: str) -> bytes:
    """Return a bundle of so many new patients who are on no FHIR server."""
    entries = [{"resource": each, "request": {"method": "POST", "url": "Patient"}} for each in patients(count, prefix)]
    return json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries}).encode()


async def main(bundles: int, count: int, room: int, urls: tuple[str, str], folder: Path) -> dict[str, float | int]:
    """Send all bundles at once, each from its file, and return the peak of memory, the size of one, and seconds."""
    settings = Settings(
        dataverse_url=urls[0],
        fhir_url=urls[1],
        dataverse_auth="none",
        fhir_auth="none",
        log_key="bench",
        async_over_bytes=2**30,
        work_bytes=room,
    )
    service.PATIENCE = 600.0  # all of them are waited for, to the end
    relay = Relay(settings, store=LocalStore(folder))
    await _carry(relay, _body(1, "warm"))
    for number in range(bundles):
        (folder / f"{number}.json").write_bytes(_body(count, f"b{number}"))
    before, began = peak_mb(), time.perf_counter()
    await asyncio.gather(*(_carry(relay, (folder / f"{number}.json").read_bytes()) for number in range(bundles)))
    told: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 2), "before_mb": round(before)}
    await relay.aclose()
    return {**told, "peak_mb": round(peak_mb()), "body_mb": round((folder / "0.json").stat().st_size / 2**20, 1)}


async def _carry(relay: Relay, body: bytes) -> None:
    reply = await relay.inbound.post(body, "application/fhir+json", "", respond_async=False)
    if reply.status != 200:  # noqa: PLR2004 - OK
        raise RuntimeError(f"a bundle was not carried out: {reply.status}")


if __name__ == "__main__":
    bundles, count, room = (int(each) for each in sys.argv[1:4])
    print(json.dumps(asyncio.run(main(bundles, count, room, (sys.argv[4], sys.argv[5]), Path(sys.argv[6])))))

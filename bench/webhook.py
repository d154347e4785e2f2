"""Webhook intake, warm: the dataverse_event function in the Functions runtime, in process and over loopback HTTP."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from figures import ROOT, Figure, percentile
from material import patients

from devstack import dataverse as dataverse_emulator
from devstack.host.app import Host
from devstack.host.serve import serving
from devstack.register import register_webhook
from relay.store.local import LocalStore

WARM = 50
COUNT = 1000
ORG = "http://dataverse"
PATH = "/api/dataverse/event"
JSON = {"Content-Type": "application/json"}


def run() -> Iterator[Figure]:
    """Post an event of the emulator's own making, again and again, and report p50 and p99."""
    yield from asyncio.run(_measure())


async def _measure() -> list[Figure]:
    event = await _event()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        store = LocalStore(Path(folder))
        settings = {"AzureWebJobsStorage": f"file:{folder}", "RELAY_STORE": f"file:{folder}", "RELAY_LOG_KEY": "bench"}
        host = Host(ROOT, store=store, settings=settings, polling=False)
        await host.start()
        try:
            inside = httpx.AsyncClient(transport=httpx.ASGITransport(app=host.asgi), base_url="http://host")
            async with inside as http:
                figures += _figures("webhook_intake_in_process", await _times(http, event), len(event))
            async with serving(host.asgi) as url, httpx.AsyncClient(base_url=url) as http:
                figures += _figures("webhook_intake_loopback", await _times(http, event), len(event))
            await _close_relay()
        finally:
            await host.stop()
            await store.close()
    return figures


async def _close_relay() -> None:
    """Close the Relay that the function app made for itself."""
    import relay.app

    await relay.app.get_relay().aclose()


async def _times(http: httpx.AsyncClient, event: bytes) -> list[float]:
    times: list[float] = []
    for number in range(WARM + COUNT):
        began = time.perf_counter()
        answer = await http.post(PATH, content=event, headers=JSON)
        if answer.status_code != 202:  # noqa: PLR2004 - accepted
            raise RuntimeError(f"the event was answered {answer.status_code}: {answer.text}")
        if number >= WARM:
            times.append((time.perf_counter() - began) * 1000)
    return times


def _figures(name: str, times: list[float], size: int) -> list[Figure]:
    more = {"p50": round(percentile(times, 0.5), 2), "events": len(times), "event_bytes": size, "target": 50}
    return [Figure(f"{name}_p99", round(percentile(times, 0.99), 2), "ms", more)]


async def _event() -> bytes:
    """Return the body that the Dataverse emulator posts when a contact is created."""
    bodies: list[bytes] = []

    async def receive(request: httpx.Request) -> httpx.Response:
        bodies.append(await request.aread())
        return httpx.Response(202)

    app = dataverse_emulator.create_app(
        metadata=ROOT / "maps" / "metadata.json", base_url=ORG, webhook_transport=httpx.MockTransport(receive)
    )
    transport = httpx.ASGITransport(app=app)
    try:
        await register_webhook(ORG, f"http://relay{PATH}", {"contact": ["Create"]}, transport=transport)
        async with httpx.AsyncClient(transport=transport, base_url=ORG) as http:
            name = patients(1)[0]["name"][0]
            row = {"firstname": name["given"][0], "lastname": name["family"], "msemr_azurefhirid": "bench-0"}
            (await http.post("/api/data/v9.2/contacts", json=row)).raise_for_status()
        await app.webhooks.idle()
    finally:
        await app.aclose()
    return bodies[0]

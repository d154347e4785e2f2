"""Both servers and a relay in one process, without sockets, with a watch on what the servers themselves cost."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from figures import ROOT
from material import bundle_of

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from relay.app import Relay
from relay.settings import Settings
from relay.sides import Seams
from relay.store.local import LocalStore

ORG = "http://dataverse"
FHIR = "http://fhir"
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass
class Watched(httpx.AsyncBaseTransport):
    """A transport that adds up the CPU seconds its server takes."""

    inner: httpx.AsyncBaseTransport
    seconds: float = field(default=0.0, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request on."""
        began = time.process_time()
        response = await self.inner.handle_async_request(request)
        self.seconds += time.process_time() - began
        return response


@dataclass
class Servers:
    """What a bench holds."""

    relay: Relay
    dataverse: Any
    fhir: Any
    to_dataverse: Watched
    to_fhir: Watched

    async def put(self, *resources: dict[str, Any]) -> None:
        """Put resources on the FHIR server as their owner, and forget the calls."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.fhir), base_url=FHIR) as http:
            headers = {"Content-Type": "application/fhir+json"}
            (await http.post("/", content=bundle_of(*resources), headers=headers)).raise_for_status()
        self.forget()

    async def read(self, *resources: dict[str, Any]) -> list[dict[str, Any]]:
        """Read resources from the FHIR server as their owner, and forget the calls."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.fhir), base_url=FHIR) as http:
            found = [(await http.get(f"/{each['resourceType']}/{each['id']}")).json() for each in resources]
        self.forget()
        return found

    def forget(self) -> None:
        """Begin to count calls and server time anew."""
        self.dataverse.calls.clear()
        self.fhir.calls.clear()
        self.to_dataverse.seconds = self.to_fhir.seconds = 0.0

    async def post(self, body: bytes) -> dict[str, Any]:
        """Post a bundle to the relay and return the outcome; RuntimeError unless every entry was carried out."""
        reply = await self.relay.inbound.post(body, "application/fhir+json", "", respond_async=False)
        outcome = dict(reply.body or {})
        if reply.status != 200 or any(each["writeback"] != "written" for each in outcome["entries"]):  # noqa: PLR2004 - OK
            raise RuntimeError(f"a benchmark's bundle was not carried out: {reply.status}")
        return outcome


@asynccontextmanager
async def servers(
    folder: Path, *, org: Mapping[str, Any] = NOTHING, server: Mapping[str, Any] = NOTHING, **settings: Any
) -> AsyncIterator[Servers]:
    """Run both servers and a relay between them; `org` and `server` are how the servers behave, `settings` are the relay's."""
    dataverse = dataverse_emulator.create_app(metadata=ROOT / "maps" / "metadata.json", base_url=ORG, **org)
    fhir = fhir_server.create_app(base_url=FHIR, **server)
    to_dataverse = Watched(httpx.ASGITransport(app=dataverse))
    to_fhir = Watched(httpx.ASGITransport(app=fhir))
    given: dict[str, Any] = {
        "dataverse_url": ORG,
        "fhir_url": FHIR,
        "dataverse_auth": "none",
        "fhir_auth": "none",
        "maps": ROOT / "maps",
        "log_key": "bench",
        **settings,
    }
    relay = Relay(Settings(**given), store=LocalStore(folder), seams=Seams(dataverse=to_dataverse, fhir=to_fhir))
    try:
        yield Servers(relay, dataverse, fhir, to_dataverse, to_fhir)
    finally:
        await relay.aclose()
        await dataverse.aclose()

"""The whole stack with a FHIR server that nobody here wrote, by HTTP on ports of this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from devstack.control import Control
from devstack.host.serve import serving
from devstack.stack import Stack, running
from relay.fhir.identifiers import dynamics_ids
from support.reverse_proxy import reverse_proxy
from support.world import API, ROOT, URN

FHIR_JSON = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json", "Cache-Control": "no-cache"}


@dataclass
class Real:
    """What a test holds: the stack, the FHIR server's owner, and the door in front of it, which counts the relay's calls."""

    stack: Stack
    fhir: httpx.AsyncClient
    relay: httpx.AsyncClient
    door: Control

    async def send(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        """POST a bundle to the relay, wait until all is still, and give the outcome."""
        answer = await self.relay.post("/api/bundle", json=bundle, headers=FHIR_JSON)
        assert answer.status_code == 200, answer.text
        assert await self.stack.settle()
        outcome: dict[str, Any] = answer.json()
        return outcome

    async def read(self, address: str) -> dict[str, Any]:
        """Read a resource as its owner."""
        answer = await self.fhir.get(address)
        assert answer.status_code == 200, answer.text
        read: dict[str, Any] = answer.json()
        return read

    async def held(self, addresses: Sequence[str]) -> list[dict[str, Any]]:
        """Read many resources as the server has them."""
        entries = [{"request": {"method": "GET", "url": each}} for each in addresses]
        answer = await self.fhir.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
        return [each["resource"] for each in answer.json()["entry"]]

    async def put(self, resource: Mapping[str, Any], *, if_match: str = "") -> httpx.Response:
        """Put a resource as its owner."""
        headers = {"If-Match": if_match} if if_match else {}
        return await self.fhir.put(
            f"{resource['resourceType']}/{resource['id']}", content=json.dumps(resource), headers=headers
        )

    async def row(self, entity_set: str, fhir_id: str) -> dict[str, Any]:
        """Read the one row that stands for a resource."""
        query = {"$filter": f"msemr_azurefhirid eq '{fhir_id}'"}
        answer = await self.relay.get(f"{self.stack.dataverse_url}{API}/{entity_set}", params=query)
        (row,) = answer.json()["value"]
        assert isinstance(row, dict)
        return row

    def calls(self) -> list[str]:
        """Return the relay's calls to the FHIR server, and begin anew."""
        made = [f"{each['method']} {each['path']}" for each in self.door.calls]
        self.door.calls.clear()
        return made


@asynccontextmanager
async def real(folder: Path, url: str, **settings: str) -> AsyncIterator[Real]:
    """Run the stack with the FHIR server at `url`."""
    given = {f"RELAY_{name.upper()}": value for name, value in settings.items()}
    async with reverse_proxy(url) as door, serving(door) as root:
        front = root + httpx.URL(url).path
        async with (
            running(folder=folder, fhir=front, settings={"RELAY_FHIR_AUTH": "none", **given}) as stack,
            httpx.AsyncClient(base_url=f"{url}/", headers=FHIR_JSON, timeout=100) as fhir,
            httpx.AsyncClient(base_url=stack.functions_url, timeout=100) as relay,
        ):
            door.calls.clear()
            yield Real(stack, fhir, relay, door)


def sample(prefix: str) -> dict[str, Any]:
    """Return the sample bundle with ids of its own, so that tests on one server are strangers to each other."""
    text = (ROOT / "samples" / "bundle.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.replace("demo-", f"{prefix}-").replace("7d1f7bf4", prefix[:8]))
    return found


def guids(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the GUIDs that a resource carries under its type's URN."""
    current, old = dynamics_ids(resource, URN.format(resource["resourceType"].lower()))
    return (*current, *old)

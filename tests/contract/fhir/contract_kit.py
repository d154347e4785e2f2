"""A FHIR server as the contract holds it, whoever wrote it: the relay's client, its owner's hands, and faults in front."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from devstack.control import Control
from relay.fhir.client import FhirClient
from relay.fhir.profiles import ServerProfile
from support.reverse_proxy import reverse_proxy

SYSTEM = "https://harbour.example/mrn"


@dataclass(frozen=True)
class Address:
    """Where a server is and what is known of its kind; `told` is what the relay can tell by asking it."""

    url: str
    profile: ServerProfile
    told: ServerProfile
    auth: httpx.Auth | None = None


@dataclass
class Met:
    """One server in one test: everything goes through `control`, which can make calls go wrong and counts them."""

    url: str
    profile: ServerProfile
    told: ServerProfile
    control: Control
    owner: httpx.AsyncClient
    made: list[str] = field(default_factory=list)

    def id(self) -> str:
        """Return an id that nobody has."""
        return f"contract-{uuid4().hex[:20]}"

    def identifier(self) -> tuple[str, str]:
        """Return an identifier that nobody has."""
        return SYSTEM, f"MRN-{uuid4().hex[:12]}"

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[FhirClient]:
        """Talk to it as the relay does."""
        made = FhirClient(self.url, transport=httpx.ASGITransport(self.control), **options)
        try:
            yield made
        finally:
            await made.aclose()

    async def put(self, resource: dict[str, Any] | str, *, if_match: str = "") -> httpx.Response:
        """Put a resource as its owner; one that is made goes when the test ends."""
        text = resource if isinstance(resource, str) else json.dumps(resource)
        named = json.loads(text)
        address = f"{named['resourceType']}/{named['id']}"
        headers = {"If-Match": if_match} if if_match else {}
        answer = await self.owner.put(address, content=text.encode(), headers=headers)
        if answer.is_success:
            self.made.append(address)
        return answer

    async def patient(self, *identifiers: tuple[str, str], **more: Any) -> str:
        """Make a Patient as its owner; gives the id."""
        fhir_id = self.id()
        listed = [{"system": system, "value": value} for system, value in identifiers]
        answer = await self.put(patient(fhir_id, **({"identifier": listed} if listed else {}), **more))
        assert answer.is_success, answer.text
        return fhir_id

    async def read(self, fhir_id: str) -> dict[str, Any]:
        """Read a Patient as its owner; numbers come as their text."""
        answer = await self.owner.get(f"Patient/{fhir_id}")
        assert answer.status_code == 200, answer.text
        read: dict[str, Any] = json.loads(answer.text, parse_float=str, parse_int=str)
        return read

    async def delete(self, fhir_id: str) -> None:
        """Delete a Patient as its owner."""
        answer = await self.owner.delete(f"Patient/{fhir_id}")
        assert answer.is_success, answer.text


def patient(fhir_id: str, **more: Any) -> dict[str, Any]:
    """Write a Patient."""
    return {"resourceType": "Patient", "id": fhir_id, "active": True, **more}


@asynccontextmanager
async def met(address: Address, control: Control | None = None) -> AsyncIterator[Met]:
    """Meet a server: in process when it is a `control` itself, else through a reverse proxy that is one."""
    async with reverse_proxy(address.url, auth=address.auth) as proxy:
        control = control or proxy
        transport = httpx.ASGITransport(control)
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
        async with httpx.AsyncClient(transport=transport, base_url=f"{address.url}/", headers=headers) as owner:
            it = Met(address.url, address.profile, address.told, control, owner)
            yield it
            control.faults.clear()
            for each in dict.fromkeys(it.made):
                await owner.delete(each)

"""The servers that the contract is tried on: the embedded one always, the others with `-m real`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from contract_kit import Address, Met, met

from devstack.fhir import create_app
from relay.auth import HeaderAuth
from relay.fhir.client import FhirClient
from relay.fhir.profiles import EMBEDDED, GENERIC, HAPI, MEDPLUM, ServerProfile

OWN = os.environ.get("FHIR_URL", "").rstrip("/")
REAL = [pytest.param(name, marks=pytest.mark.real) for name in ("hapi", "medplum", *(["FHIR_URL"] if OWN else []))]


@pytest.fixture(scope="session", params=["embedded", *REAL])
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Run a server, one for the whole session, or name the one that FHIR_URL names (FHIR_HEADER: `Name: value`)."""
    if request.param == "embedded":
        yield Address("http://fhir.test", EMBEDDED, EMBEDDED)
    elif request.param == "hapi":
        yield Address(request.getfixturevalue("hapi_url"), HAPI, HAPI)
    elif request.param == "medplum":
        yield Address(request.getfixturevalue("medplum_url"), MEDPLUM, GENERIC)  # the router has no /metadata
    else:
        name, _, value = os.environ.get("FHIR_HEADER", "").partition(":")
        auth = HeaderAuth(name.strip(), value.strip()) if name else None
        told = asyncio.run(_told(OWN, auth))
        yield Address(OWN, told, told, auth)


@pytest.fixture
async def server(address: Address) -> AsyncIterator[Met]:
    """Meet the server; the embedded one is a new one for each test."""
    control = create_app(base_url=address.url) if address.profile is EMBEDDED else None
    async with met(address, control) as it:
        yield it


async def _told(url: str, auth: HeaderAuth | None) -> ServerProfile:
    client = FhirClient(url, auth=auth)
    try:
        return await client.profile()
    finally:
        await client.aclose()

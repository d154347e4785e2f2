from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from devstack.fhir import FhirServer, create_app

BASE = "http://fhir.test"

Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture
def server() -> FhirServer:
    """Return an empty server with its defaults."""
    return create_app()


@pytest.fixture
async def client(server: FhirServer) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of that server."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url=BASE) as each:
        yield each


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a function that makes a server with other switches and a client of it."""
    clients: list[httpx.AsyncClient] = []

    def make(**switches: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(create_app(**switches))
        clients.append(httpx.AsyncClient(transport=transport, base_url=BASE))
        return clients[-1]

    yield make
    for each in clients:
        await each.aclose()

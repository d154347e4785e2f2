"""An emulator with a key on the FHIR id, a client for it, and a receiver of webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from devstack.dataverse import Emulator, create_app


class Receiver:
    """Stands for the function app: keeps what is posted to it and answers `statuses` in turn, then 202."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.statuses: list[int] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Take one post."""
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if self.statuses else 202)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def app(receiver: Receiver) -> AsyncIterator[Emulator]:
    async with create_app(webhook_transport=httpx.MockTransport(receiver)) as app:
        app.declare_key("contact", "msemr_azurefhirid", name="fhirid")
        yield app


@pytest.fixture
async def api(app: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://org/api/data/v9.2/") as client:
        yield client

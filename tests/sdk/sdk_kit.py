"""An emulator on a port of this machine, once per file, and Microsoft's own client for it.

The asynchronous client is the one that takes `http://` addresses; the other insists on https.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import pytest
import pytest_asyncio
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient

from devstack.dataverse import Emulator, create_app
from devstack.host.serve import serving


class Credential:
    """Hands out a token that the emulator does not look at."""

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Give a token that never ends."""
        return AccessToken("anything", 2**40)

    async def close(self) -> None:
        """Close nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[tuple[Emulator, str]]:
    async with create_app(key_ms=0) as app, serving(app) as url:
        yield app, url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(emulator: tuple[Emulator, str]) -> AsyncIterator[AsyncDataverseClient]:
    async with AsyncDataverseClient(emulator[1], Credential()) as client:
        yield client


@pytest.fixture
def calls(emulator: tuple[Emulator, str]) -> list[dict[str, Any]]:
    """Return the list of what the client asks for from now on, as it grows."""
    emulator[0].calls.clear()
    return emulator[0].calls

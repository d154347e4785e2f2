from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.host import Host
from devstack.host.storage import HostStore
from relay.store.local import LocalStore

APPS = Path(__file__).parent / "apps"


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.time = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.time

    def advance(self, **span: float) -> None:
        """Move on."""
        self.time += timedelta(**span)


class Hosted:
    """A started host, its store, its app's module and a client for its HTTP side."""

    def __init__(self, host: Host, store: Any, client: httpx.AsyncClient) -> None:
        self.host = host
        self.store = store
        self.client = client

    @property
    def app(self) -> Any:
        """The app's module, to look into what it noted."""
        return sys.modules["function_app"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosted(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[Hosted]]:
    """Start one of the apps, stepped by hand and on the fake clock unless told otherwise."""
    monkeypatch.delenv("AzureWebJobsStorage", raising=False)

    @contextlib.asynccontextmanager
    async def start(
        app: str,
        *,
        host_json: str = "{}",
        local_settings: str = "{}",
        real_clock: bool = False,
        account: HostStore | None = None,
        **options: Any,
    ) -> AsyncIterator[Hosted]:
        root = tmp_path / app
        root.mkdir(exist_ok=True)
        (root / "function_app.py").write_text((APPS / app / "function_app.py").read_text())
        (root / "host.json").write_text(host_json)
        (root / "local.settings.json").write_text(local_settings)
        folder = tmp_path / "store"
        local = LocalStore(folder) if real_clock else LocalStore(folder, now=clock)
        store: Any = account or local
        host = Host(root, store=store, **({"polling": real_clock} | options))
        try:
            await host.start()
            transport = httpx.ASGITransport(host.asgi)
            async with httpx.AsyncClient(transport=transport, base_url="http://relay.test") as client:
                yield Hosted(host, store, client)
        finally:
            await host.stop()
            await local.close()

    return start

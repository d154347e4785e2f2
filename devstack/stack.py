"""Starts and stops the whole stack in one process: Dataverse, FHIR server and the host of function_app.py."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack import dataverse as dataverse_emulator
from devstack import fhir as fhir_server
from devstack import hapi
from devstack.control import Control
from devstack.host.app import Host
from devstack.host.errors import StartError
from devstack.host.serve import serving
from devstack.host.storage import HostStore, open_storage
from devstack.register import register_webhook
from relay.errors import Terminal
from relay.mapping.load import MapSet
from relay.store.local import LocalStore
from relay.writeback.events import asked_for

ROOT = Path(__file__).resolve().parent.parent

# Made for this machine alone, so that a laptop and a test see the same hashes from run to run.
LOCAL_LOG_KEY = "local-development"


@dataclass(frozen=True, slots=True)
class Stack:
    """What is running; `dataverse` and `fhir` are None when they are somebody else's servers."""

    functions_url: str
    dataverse_url: str
    fhir_url: str
    host: Host
    store: HostStore
    dataverse: Any
    fhir: Control | None

    @property
    def urls(self) -> dict[str, str]:
        """The three addresses, as `relay up` prints them."""
        return {"functions": self.functions_url, "dataverse": self.dataverse_url, "fhir": self.fhir_url}

    def calls(self) -> dict[str, int]:
        """Return how many requests each side has had so far."""
        return {
            name: len(side.calls) if side is not None else 0
            for name, side in (("dataverse", self.dataverse), ("fhir", self.fhir))
        }

    async def settle(self, *, within: float = 60) -> bool:
        """Wait until no event, message or call follows any more; False when that takes longer than `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while True:
                    before = self.calls()
                    if self.dataverse is not None:
                        await self.dataverse.webhooks.idle()
                    await self.host.idle(delayed=True)
                    if self.calls() == before:
                        return True
        except TimeoutError:
            return False


@asynccontextmanager
async def running(
    *,
    folder: Path | None = None,
    storage: Mapping[str, str] | None = None,
    port: int = 0,
    dataverse: str = "emulator",
    fhir: str = "embedded",
    settings: Mapping[str, str] | None = None,
    keys: Mapping[str, list[str]] | None = None,
) -> AsyncIterator[Stack]:
    """Run the stack until the block ends; `settings` win over the process's own RELAY_* variables.

    Its store is `folder`, or without one the account that the settings `storage` (AzureWebJobsStorage…) name.

    `dataverse` is `emulator` or an org's URL, `fhir` is `embedded`, `hapi` or a server's URL. Raises OSError when the
    port is taken, SettingsError, MapError or Terminal when the app cannot start, or HAPI cannot be installed.
    """
    # Dataverse itself posts to ports 80 and 443 only; here it has to be any free one.
    logging.getLogger("devstack.dataverse.webhooks").setLevel(logging.ERROR)
    async with AsyncExitStack() as stack:
        store = open_storage(folder, storage or {}, root=ROOT)
        stack.push_async_callback(store.close)
        await store.check()
        if isinstance(store, LocalStore):
            (store.folder / "bundles").mkdir(mode=0o700, exist_ok=True)  # where people drop files
            named = {"AzureWebJobsStorage": f"file:{store.folder}", "RELAY_STORE": f"file:{store.folder}"}
        else:
            named = {**(storage or {}), "RELAY_STORE": ""}
        org, org_url = await _dataverse(stack, dataverse)
        server, fhir_url = await _fhir(stack, fhir)
        here = {
            **named,
            "RELAY_DATAVERSE_URL": org_url,
            "RELAY_FHIR_URL": fhir_url,
        }
        if org is not None:
            here["RELAY_DATAVERSE_AUTH"] = "none"
        if fhir in ("embedded", "hapi"):
            here["RELAY_FHIR_AUTH"] = "none"
        if server is not None:  # what is known of it need not be asked
            here |= {"RELAY_FHIR_VERSIONS": "ordered", "RELAY_FHIR_BATCH_ENTRIES": "500"}
        if "RELAY_LOG_KEY" not in os.environ:
            here["RELAY_LOG_KEY"] = LOCAL_LOG_KEY
        if keys is not None and not {"dataverse_event", "host"} & keys.keys():
            keys = {**keys, "dataverse_event": [secrets.token_hex(16)]}  # Dataverse needs one of its own
        host = Host(ROOT, store=store, keys=keys, settings=here | dict(settings or {}))
        try:
            await host.start()
        except StartError as error:
            raise Terminal(str(error), code="start") from error
        stack.push_async_callback(host.stop)
        stack.push_async_callback(_close_relay)
        # Made now, so that a wrong setting or map is told at once and not by each request.
        maps: MapSet = (await sys.modules["relay.app"].fresh_relay()).maps
        functions_url = await stack.enter_async_context(serving(host.asgi, port=port))
        if org is not None:
            names = dict.fromkeys(each.table.name for each in maps.maps)
            names |= dict.fromkeys(each.identifier.table.name for each in maps.maps if each.identifier)
            tables = {name: asked_for(maps, name) for name in names}
            key = next(iter((keys or {}).get("dataverse_event", (keys or {}).get("host", ["local"]))))
            await register_webhook(org_url, f"{functions_url}/api/dataverse/event", tables, key=key)
            org.keep()
            org.calls.clear()
        yield Stack(functions_url, org_url, fhir_url, host, store, org, server)


async def _dataverse(stack: AsyncExitStack, choice: str) -> tuple[Any, str]:
    if choice != "emulator":
        return None, choice
    app = dataverse_emulator.create_app(metadata=ROOT / "maps" / "metadata.json")
    stack.push_async_callback(app.aclose)
    return app, await stack.enter_async_context(serving(app))


async def _fhir(stack: AsyncExitStack, choice: str) -> tuple[Control | None, str]:
    if choice == "hapi":
        server = hapi.running()
        url = await asyncio.to_thread(server.__enter__)
        stack.push(server.__exit__)
        return None, url
    if choice != "embedded":
        return None, choice
    app = fhir_server.create_app()
    return app, await stack.enter_async_context(serving(app))


async def _close_relay() -> None:
    """Close the clients of the Relay that the function app made for itself."""
    module = sys.modules.get("relay.app")
    if module is not None and module.get_relay.cache_info().currsize:
        await module.get_relay().aclose()

"""Azurite for the tests that are marked `real`: one for a whole run, emptied after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from devstack.host.azure import AzureStorage
from relay.store.azure.account import read_account


@asynccontextmanager
async def emptied(connection: str) -> AsyncIterator[AzureStorage]:
    """Give the store of this connection, and delete what is in it afterwards."""
    store = AzureStorage(read_account({"AzureWebJobsStorage": connection}))
    try:
        yield store
    finally:
        await _empty(store)
        await store.close()


async def _empty(store: AzureStorage) -> None:
    for container in [each async for each in store.blobs._service.list_containers()]:
        await store.blobs._service.delete_container(container.name)
    for queue in [each async for each in store.queues._service.list_queues()]:
        await store.queues._service.delete_queue(queue.name)
    for table in [each async for each in store.tables._service.list_tables()]:
        await store.tables._service.delete_table(table.name)

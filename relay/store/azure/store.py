"""The store on Azure Storage, Azurite included. Importing this module imports nothing of the SDK: each service does, when it is first used."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from relay.errors import StoreUnavailable
from relay.store import BlobInfo, Receipt, Row
from relay.store.azure.account import Account

if TYPE_CHECKING:  # an event needs queues only, and a cold start is felt there first
    from relay.store.azure.blobs import Blobs
    from relay.store.azure.queues import Queues
    from relay.store.azure.tables import Tables

PROBE = "relay-check"


class AzureStore:
    """Fills `relay.store.Store` on the three services of one account; times are the account's own.

    A call is tried three times within a minute, then it is StoreUnavailable; the SDK's own error is not passed on,
    since it can hold the name of a blob. Names and limits are Azure's (ValueError, TypeError).
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self._closed = False

    @cached_property
    def blobs(self) -> Blobs:
        """The blob service."""
        from relay.store.azure.blobs import Blobs

        self._check_open()
        return Blobs(self.account)

    @cached_property
    def queues(self) -> Queues:
        """The queue service."""
        from relay.store.azure.queues import Queues

        self._check_open()
        return Queues(self.account)

    @cached_property
    def tables(self) -> Tables:
        """The table service."""
        from relay.store.azure.tables import Tables

        self._check_open()
        return Tables(self.account)

    # blobs

    async def put_blob(self, container: str, name: str, data: bytes) -> None:
        """Write a blob whole; one that is there is replaced."""
        await self.blobs.put(container, name, data)

    async def get_blob(self, container: str, name: str) -> bytes | None:
        """Read a blob; None when it is not there."""
        return await self.blobs.get(container, name)

    async def read_blob(self, container: str, name: str, start: int, length: int) -> bytes | None:
        """Read at most `length` bytes of a blob from `start` on, none behind its end; None when it is not there."""
        return await self.blobs.read(container, name, start, length)

    async def delete_blob(self, container: str, name: str) -> None:
        """Delete a blob; one that is not there is fine."""
        await self.blobs.delete(container, name)

    async def list_blobs(self, container: str) -> list[BlobInfo]:
        """List a container by name; an unknown container is empty."""
        return await self.blobs.list(container)

    # queues

    async def send(self, queue: str, text: str, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Put a message (at most 48 KiB of text) that becomes visible after `delay` (at most 7 days, to the second)."""
        return await self.queues.send(queue, text, delay=delay)

    async def cancel(self, receipt: Receipt) -> bool:
        """Take a message back; False when somebody received it meanwhile or it is gone."""
        return await self.queues.cancel(receipt)

    # tables

    async def get_row(self, table: str, partition: str, row: str) -> Row | None:
        """Read a table row; None when it is not there."""
        return await self.tables.get(table, partition, row)

    async def put_row(self, table: str, partition: str, row: str, values: Row) -> None:
        """Write a table row whole; one that is there is replaced."""
        await self.tables.put(table, partition, row, values)

    async def add_row(self, table: str, partition: str, row: str, values: Row) -> bool:
        """Create a table row; False, and nothing written, when it is there already."""
        return await self.tables.add(table, partition, row, values)

    async def delete_row(self, table: str, partition: str, row: str) -> None:
        """Delete a table row; one that is not there is fine."""
        await self.tables.delete(table, partition, row)

    async def list_rows(
        self, table: str, partition: str | None = None, *, most: int | None = None
    ) -> list[tuple[str, str, Row]]:
        """List (partition, row, values) of a table or of one partition, in key order; with `most` the first so many."""
        return await self.tables.list(table, partition, most)

    # the store itself

    async def check(self) -> None:
        """Raise StoreUnavailable unless a blob, a message and a row can be written now."""

        async def message() -> None:
            await self.cancel(await self.queues.send(PROBE, "check", delay=timedelta(0), life=timedelta(minutes=1)))

        await asyncio.gather(
            self.put_blob(PROBE, "check", b"check"),
            message(),
            self.put_row("relaycheck", "check", "check", {}),
        )

    async def close(self) -> None:
        """Give back the connections; every later call raises StoreUnavailable."""
        self._closed = True
        for service in ("blobs", "queues", "tables"):
            if (made := self.__dict__.pop(service, None)) is not None:
                await made.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

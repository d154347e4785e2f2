"""What the relay keeps between calls: blobs (payloads), queues (work), tables (outcomes, ledger, dead letters).

One small interface; `relay.store.local` fills it on one machine, Azure Storage in Azure. Every method raises
StoreUnavailable when the store does not answer, and nothing else for a healthy store unless said so below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

Row = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Names one sent message so that its sender can take it back."""

    queue: str
    id: str
    pop_receipt: str


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One blob in a listing: `size` in bytes, `modified` in UTC."""

    name: str
    size: int
    etag: str
    modified: datetime


class Store(Protocol):
    """The store as the relay sees it; the Functions host does the receiving."""

    async def put_blob(self, container: str, name: str, data: bytes) -> None:
        """Write a blob whole; one that is there is replaced."""
        ...

    async def get_blob(self, container: str, name: str) -> bytes | None:
        """Read a blob; None when it is not there."""
        ...

    async def read_blob(self, container: str, name: str, start: int, length: int) -> bytes | None:
        """Read at most `length` bytes of a blob from `start` on, none behind its end; None when it is not there."""
        ...

    async def delete_blob(self, container: str, name: str) -> None:
        """Delete a blob; one that is not there is fine."""
        ...

    async def list_blobs(self, container: str) -> list[BlobInfo]:
        """List a container by name; an unknown container is empty."""
        ...

    async def send(self, queue: str, text: str, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Put a message (at most 48 KiB of text) that becomes visible after `delay`."""
        ...

    async def cancel(self, receipt: Receipt) -> bool:
        """Take a message back; False when somebody received it meanwhile or it is gone."""
        ...

    async def get_row(self, table: str, partition: str, row: str) -> Row | None:
        """Read a table row; None when it is not there."""
        ...

    async def put_row(self, table: str, partition: str, row: str, values: Row) -> None:
        """Write a table row whole; one that is there is replaced."""
        ...

    async def add_row(self, table: str, partition: str, row: str, values: Row) -> bool:
        """Create a table row; False, and nothing written, when it is there already."""
        ...

    async def delete_row(self, table: str, partition: str, row: str) -> None:
        """Delete a table row; one that is not there is fine."""
        ...

    async def list_rows(
        self, table: str, partition: str | None = None, *, most: int | None = None
    ) -> list[tuple[str, str, Row]]:
        """List (partition, row, values) of a table or of one partition, in key order; with `most` the first so many."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable unless the store can be written to now."""
        ...

    async def close(self) -> None:
        """Give back connections and files."""
        ...

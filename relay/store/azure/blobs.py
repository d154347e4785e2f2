"""Blobs in Azure Storage: block blobs, written and read whole."""

from __future__ import annotations

from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobServiceClient

from relay.store import BlobInfo
from relay.store.azure.account import Account
from relay.store.azure.wire import client_options, code_of, collect, created, credential_of, none_if, storage_errors
from relay.store.names import check_blob, check_container

_NO_CONTAINER, _NO_BLOB = "ContainerNotFound", "BlobNotFound"
_BEHIND_THE_END = "InvalidRange"


class Blobs:
    """The blob side of the store; a container is made when something is first written to it."""

    def __init__(self, account: Account) -> None:
        self._service = BlobServiceClient(
            account.addresses["blob"],
            credential=credential_of(account),
            **client_options(),
        )

    async def put(self, container: str, name: str, data: bytes) -> None:
        """Write a blob whole; readers see the old one or the new one."""
        blob = self._blob(container, name)
        with storage_errors(f"container {container}"):
            await created(
                lambda: blob.upload_blob(data, overwrite=True),
                lambda: self._service.create_container(container),
                _NO_CONTAINER,
            )

    async def get(self, container: str, name: str) -> bytes | None:
        """Read a blob; None when it is not there."""
        blob = self._blob(container, name)
        with storage_errors(f"container {container}"):
            content = await none_if(blob.download_blob(), _NO_CONTAINER, _NO_BLOB)
            return None if content is None else bytes(await content.readall())

    async def read(self, container: str, name: str, start: int, length: int) -> bytes | None:
        """Read at most `length` bytes from `start` on, none behind the end; None when the blob is not there."""
        blob = self._blob(container, name)
        with storage_errors(f"container {container}"):
            try:
                content = await none_if(blob.download_blob(start, length), _NO_CONTAINER, _NO_BLOB)
                return None if content is None else bytes(await content.readall())
            except HttpResponseError as error:
                if code_of(error) != _BEHIND_THE_END:
                    raise
                return b""

    async def delete(self, container: str, name: str) -> None:
        """Delete a blob, its snapshots too; one that is not there is fine."""
        blob = self._blob(container, name)
        with storage_errors(f"container {container}"):
            await none_if(blob.delete_blob(delete_snapshots="include"), _NO_CONTAINER, _NO_BLOB)

    async def list(self, container: str) -> list[BlobInfo]:
        """List a container by name; an unknown container is empty."""
        client = self._service.get_container_client(check_container(container))
        with storage_errors(f"container {container}"):
            found = await none_if(collect(client.list_blobs()), _NO_CONTAINER) or []
        return sorted(map(_info, found), key=lambda blob: blob.name)

    async def find(self, container: str, name: str) -> BlobInfo | None:
        """Tell size, etag and time of one blob; None when it is not there."""
        blob = self._blob(container, name)
        with storage_errors(f"container {container}"):
            found = await none_if(blob.get_blob_properties(), _NO_CONTAINER, _NO_BLOB)
        return None if found is None else _info(found)

    def address(self, container: str, name: str) -> str:
        """Return a blob's URL, without anything that signs."""
        url: str = self._blob(container, name).url
        return url.partition("?")[0]

    async def close(self) -> None:
        """Give back the connections."""
        await self._service.close()

    def _blob(self, container: str, name: str) -> Any:
        return self._service.get_blob_client(check_container(container), check_blob(name))


def _info(properties: Any) -> BlobInfo:
    # A listing has the etag bare, a header in quotes.
    return BlobInfo(properties.name, properties.size, properties.etag.strip('"'), properties.last_modified)

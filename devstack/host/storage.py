"""What the host needs of a store beyond the relay's part: to receive, to look at blobs, to know that it is the app's own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from devstack.host.azure import AzureStorage
from devstack.host.errors import StartError
from devstack.host.settings import STORAGE, connection_settings
from relay.errors import SettingsError
from relay.store import BlobInfo, Store
from relay.store.azure.account import read_account
from relay.store.local import LocalStore, Message

_FILE = "file:"


class HostStore(Store, Protocol):
    """A store whose queues can be received from: LocalStore, or AzureStorage."""

    @property
    def hears(self) -> bool:
        """Whether `wait` wakes for what this process sends; else queues have to be polled."""
        ...

    @property
    def sends(self) -> int:
        """How often this process sent; give it to `wait`."""
        ...

    def now(self) -> datetime:
        """Tell the time by which messages become visible."""
        ...

    def blob_url(self, container: str, name: str) -> str:
        """Return a blob's address."""
        ...

    async def find_blob(self, container: str, name: str) -> BlobInfo | None:
        """Describe one blob; None when it is not there."""
        ...

    async def receive(self, queue: str, *, most: int, visibility: timedelta) -> list[Message]:
        """Take up to `most` visible messages; each is invisible to others for `visibility`."""
        ...

    async def delete(self, message: Message) -> None:
        """Delete a received message; PopReceiptMismatch when it is no longer ours."""
        ...

    async def update(self, message: Message, visibility: timedelta) -> Message:
        """Make a received message visible after `visibility`; PopReceiptMismatch when it is no longer ours."""
        ...

    async def next_visible(self, queue: str) -> datetime | None:
        """Tell when the first message is or may become visible; None when the queue is empty."""
        ...

    async def wait(self, seen: int | None = None) -> int:
        """Return once this process sent something; forever where that is not heard."""
        ...


def open_storage(folder: Path | None, environ: Mapping[str, str], *, root: Path) -> HostStore:
    """Open a folder, or what AzureWebJobsStorage names: `file:<folder>` below `root`, or a storage account.

    SettingsError names what is wrong with the connection.
    """
    named = environ.get(STORAGE, "").strip()
    if folder is None and named.startswith(_FILE):
        folder = root / Path(named.removeprefix(_FILE)).expanduser()
    return AzureStorage(read_account(environ, STORAGE)) if folder is None else LocalStore(folder)


def check_connection(name: str, environ: Mapping[str, str], store: HostStore, where: str) -> None:
    """Refuse a storage connection that is not this host's store: StartError, which repeats no value that may be a secret.

    Unset and empty are the host's store.
    """
    for prefix in dict.fromkeys((name or STORAGE, f"AzureWebJobs{name or STORAGE}")):
        settings = connection_settings(prefix, environ)
        if settings:
            why = (
                _other_account(prefix, settings, store)
                if isinstance(store, AzureStorage)
                else _other_folder(settings, store)
            )
            if why:
                raise StartError(f"{where}: {why}")


def _other_folder(settings: Mapping[str, str], store: HostStore) -> str:
    assert isinstance(store, LocalStore)
    for setting, value in settings.items():
        if not value.startswith(_FILE):
            return f"{setting} is a storage connection, but this host runs on the folder {store.folder}"
        named = Path(value.removeprefix(_FILE)).expanduser().absolute()
        if named != store.folder:
            return f"{setting} names the store {named}, but this host runs on {store.folder}"
    return ""


def _other_account(prefix: str, settings: Mapping[str, str], store: AzureStorage) -> str:
    try:
        account = read_account(settings, prefix)
    except SettingsError as error:
        return str(error)
    if account.addresses != store.account.addresses:
        return f"{prefix} names another storage account than the one that this host runs on"
    return ""

"""Turns the setting `store` into a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from relay.errors import SettingsError
from relay.store import Store
from relay.store.azure.account import CONNECTION, read_account

_FILE = "file:"


def open_store(text: str, environ: Mapping[str, str] = os.environ) -> Store:
    """Open `file:<folder>`, or for an empty text the Function App's own storage, as AzureWebJobsStorage names it.

    Nothing is asked of either yet. SettingsError says what is wrong and never repeats a value that may hold a key.
    """
    text, connection = text.strip(), environ.get(CONNECTION, "").strip()
    named = connection or any(name.startswith(f"{CONNECTION}__") and value for name, value in environ.items())
    if text and named and not connection.startswith(_FILE):
        # What the relay queued in a folder the host would never see.
        raise SettingsError(
            f"RELAY_STORE and {CONNECTION} name two stores: leave RELAY_STORE empty to use Azure Storage"
        )
    text = text or (connection if connection.startswith(_FILE) else "")
    if text:
        from relay.store.local import LocalStore

        return LocalStore(local_folder(text))
    from relay.store.azure.store import AzureStore

    return AzureStore(read_account(environ))


def local_folder(text: str) -> Path:
    """Return the folder that `file:<folder>` names; SettingsError for anything else."""
    folder = text.strip().removeprefix(_FILE)
    if not text.strip().startswith(_FILE):
        # The text itself may be a connection string with a key: it is never repeated.
        raise SettingsError(f"RELAY_STORE is not file:<folder>: Azure Storage is named by {CONNECTION} alone")
    if not folder or folder.startswith("//"):
        raise SettingsError(f"RELAY_STORE: {text.strip()!r} names no folder; use file:<folder>, such as file:.relay")
    return Path(folder).expanduser()

"""Turns the setting `store` into a store."""

from __future__ import annotations

from pathlib import Path

from relay.errors import SettingsError
from relay.store import Store
from relay.store.local import LocalStore

_FILE = "file:"


def open_store(text: str) -> Store:
    """Open `file:<folder>`; anything else, Azure Storage included, is a SettingsError that says what to use."""
    folder = text.strip().removeprefix(_FILE)
    if not text.strip().startswith(_FILE):
        # The text itself may be a connection string with a key: it is never repeated.
        what = "is empty, which means Azure Storage" if not text.strip() else "is not a local store"
        raise SettingsError(f"RELAY_STORE {what}: Azure Storage is not supported yet; use file:<folder>")
    if not folder or folder.startswith("//"):
        raise SettingsError(f"RELAY_STORE: {text.strip()!r} names no folder; use file:<folder>, such as file:.relay")
    return LocalStore(Path(folder).expanduser())

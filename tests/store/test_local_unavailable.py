"""A store that cannot take anything says so, and works again when its cause is gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from relay.errors import StoreUnavailable
from relay.store.local import LocalStore

Call = Callable[[LocalStore], Awaitable[object]]

CALLS: dict[str, Call] = {
    "put_blob": lambda s: s.put_blob("bundles", "a", b"x"),
    "send": lambda s: s.send("inbound", "x"),
    "receive": lambda s: s.receive("inbound", most=1, visibility=timedelta(seconds=30)),
    "put_row": lambda s: s.put_row("Outcomes", "p", "r", {}),
    "get_row": lambda s: s.get_row("Outcomes", "p", "r"),
    "list_rows": lambda s: s.list_rows("Outcomes"),
    "check": lambda s: s.check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path, call: Call) -> None:
    """Where the folder cannot be, every call raises StoreUnavailable, and none once it can."""
    (tmp_path / "file").write_text("in the way")
    store = LocalStore(tmp_path / "file" / "store")
    with pytest.raises(StoreUnavailable):
        await call(store)
    (tmp_path / "file").unlink()
    await call(store)
    await store.close()


async def test_a_locked_store_is_unavailable(tmp_path: Path) -> None:
    """A lock of another process that lasts longer than `busy` is StoreUnavailable; afterwards all is well."""
    store = LocalStore(tmp_path / "store", busy=timedelta(milliseconds=20))
    await store.check()
    rival = sqlite3.connect(tmp_path / "store" / "relay.sqlite", isolation_level=None)
    rival.execute("begin immediate")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.send("inbound", "x")
    rival.rollback()
    rival.close()
    await store.send("inbound", "x")
    assert await store.length("inbound") == 1
    await store.close()


async def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    """A message that did not fit was not taken: nothing half-written is left, and what was there is."""
    store = LocalStore(tmp_path / "store")
    await store.send("inbound", "first")
    await store._run(lambda db: db.execute("select 1").fetchall())
    connection = store._database._connection
    assert connection is not None
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        await store.send("inbound", "x" * 40_000)
    assert [message.text for message in await store.peek("inbound")] == ["first"]
    await store.close()


async def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    """A file that is no database is reported, not replaced."""
    (tmp_path / "relay.sqlite").write_bytes(b"not a database" * 100)
    store = LocalStore(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"relay\.sqlite: file is not a database"):
        await store.check()
    assert (tmp_path / "relay.sqlite").read_bytes() == b"not a database" * 100
    await store.close()


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    """After close every call of queues and tables is refused."""
    store = LocalStore(tmp_path)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.send("inbound", "x")


async def test_what_was_taken_survives_a_new_start(tmp_path: Path) -> None:
    """Queues, tables and blobs are there for the next process."""
    store = LocalStore(tmp_path)
    await store.send("inbound", "x")
    await store.put_row("Outcomes", "p", "r", {"a": 1})
    await store.close()
    again = LocalStore(tmp_path)
    assert await again.length("inbound") == 1
    assert await again.get_row("Outcomes", "p", "r") == {"a": 1}
    await again.close()

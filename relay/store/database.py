"""One SQLite file for queues and tables: opened late, opened again after an error, its errors named."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from relay.errors import StoreUnavailable

_T = TypeVar("_T")

_PAUSE = 0.005  # seconds

_SCHEMA = """
create table if not exists messages (
    seq integer primary key autoincrement,
    queue text not null,
    id text not null unique,
    text text not null,
    inserted integer not null,
    expires integer not null,
    visible integer not null,
    dequeue_count integer not null default 0,
    pop_receipt text not null
);
create index if not exists messages_visible on messages (queue, visible, seq);
create table if not exists rows (
    name text not null,
    partition text not null,
    row text not null,
    "values" text not null,
    primary key (name, partition, row)
) without rowid;
create table if not exists probe (id integer primary key, at integer not null);
"""


class Database:
    """A connection that any thread may use, one transaction at a time.

    It opens at its first use and closes after an error, so that a disk that was full, locked or read-only for a
    while is not held against it for ever. Every failure of the file is StoreUnavailable.
    """

    def __init__(self, file: Path, *, busy: timedelta) -> None:
        self._file = file
        self._busy = busy
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` in one write transaction: all of it is on the disk when this returns, or none of it."""
        with self._lock, storage_errors(self._file):
            if self._closed:
                raise StoreUnavailable(f"{self._file}: the store is closed")
            try:
                connection = self._connection = self._connection or self._open()
                connection.execute("begin immediate")
                try:
                    result = work(connection)
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
            except (sqlite3.Error, OSError):
                self._drop()
                raise
            return result

    def close(self) -> None:
        """Close the file for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _open(self) -> sqlite3.Connection:
        make_folder(self._file.parent)
        # SQLite gives -wal and -shm the mode of the main file, so that one has to be private from its first byte.
        os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
        self._file.chmod(0o600)
        connection = sqlite3.connect(
            self._file, timeout=self._busy.total_seconds(), check_same_thread=False, isolation_level=None
        )
        try:
            self._write_ahead(connection)
            # Accepted means stored: a commit that a power cut takes back would be a lost message.
            connection.execute("pragma synchronous=full")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Turn the write-ahead log on; where others turn it on at the same moment, SQLite says busy without waiting."""
        end = time.monotonic() + self._busy.total_seconds()
        while True:
            try:
                connection.execute("pragma journal_mode=wal")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE)
            else:
                return


def make_folder(folder: Path) -> None:
    """Create a folder, and those above it that are missing, so that only their owner can enter."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)  # `parents=True` would leave them open to everyone
        folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def storage_errors(what: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into StoreUnavailable, naming the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreUnavailable(f"{what}: {reason}") from error

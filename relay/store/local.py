"""The store of one machine: queues and tables in one SQLite file, blobs as files beside it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from relay.errors import RelayError
from relay.store import BlobInfo, Receipt, Row
from relay.store.bell import bell_of
from relay.store.database import Database
from relay.store.files import Files
from relay.store.names import LONGEST_LIFE, check_delay, check_queue, check_row, check_table, check_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_T = TypeVar("_T")


class PopReceiptMismatch(RelayError):
    """Somebody else received the message meanwhile, or it is gone; Azure answers 400 or 404."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="pop-receipt-mismatch")


@dataclass(frozen=True, slots=True)
class Message:
    """One received message; times are UTC, `dequeue_count` counts this time too."""

    queue: str
    id: str
    text: str
    dequeue_count: int
    pop_receipt: str
    inserted: datetime
    expires: datetime
    next_visible: datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LocalStore:
    """Fills `relay.store.Store` on one folder, and gives a host the receiving side of its queues.

    Visibility and expiry are judged by `now()`. Every call works in a thread of the loop's pool: a commit waits for
    the disk, which takes milliseconds on a good day, and a lock of another process is waited for as long as `busy`.
    Several stores, threads and processes may share a folder. Names follow Azure's rules (ValueError).
    """

    hears = True
    """Whether `wait` wakes for what this process sends."""

    def __init__(
        self, folder: Path, *, now: Callable[[], datetime] = _utc_now, busy: timedelta = timedelta(seconds=5)
    ) -> None:
        self.folder = folder.absolute()
        self.now = now
        self._files = Files(self.folder)
        self._database = Database(self.folder / "relay.sqlite", busy=busy)
        self._bell = bell_of(self.folder)

    # blobs

    async def put_blob(self, container: str, name: str, data: bytes) -> None:
        """Write a blob whole; one that is there is replaced."""
        await asyncio.to_thread(self._files.put, container, name, data, self.now())

    async def get_blob(self, container: str, name: str) -> bytes | None:
        """Read a blob; None when it is not there."""
        return await asyncio.to_thread(self._files.get, container, name)

    async def read_blob(self, container: str, name: str, start: int, length: int) -> bytes | None:
        """Read at most `length` bytes of a blob from `start` on, none behind its end; None when it is not there."""
        return await asyncio.to_thread(self._files.read, container, name, start, length)

    async def delete_blob(self, container: str, name: str) -> None:
        """Delete a blob; one that is not there is fine."""
        await asyncio.to_thread(self._files.delete, container, name)

    async def list_blobs(self, container: str) -> list[BlobInfo]:
        """List a container by name; an unknown container is empty."""
        return await asyncio.to_thread(self._files.list, container)

    async def find_blob(self, container: str, name: str) -> BlobInfo | None:
        """Tell size, etag and time of one blob; None when it is not there."""
        return await asyncio.to_thread(self._files.find, container, name)

    def blob_url(self, container: str, name: str) -> str:
        """Return a blob's address: that of its file."""
        return (self.folder / container / name).as_uri()

    # queues, the relay's side

    async def send(self, queue: str, text: str, *, delay: timedelta = timedelta(0)) -> Receipt:
        """Put a message (at most 48 KiB of text) that becomes visible after `delay` (at most 7 days)."""
        check_queue(queue)
        check_text(queue, text)
        now = self.now()
        visible = now + check_delay(delay)
        receipt = Receipt(queue, str(uuid.uuid4()), uuid.uuid4().hex)
        sql = "insert into messages (queue, id, text, inserted, expires, visible, pop_receipt) values (?, ?, ?, ?, ?, ?, ?)"
        values = (queue, receipt.id, text, _us(now), _us(now + LONGEST_LIFE), _us(visible), receipt.pop_receipt)
        await self._run(lambda db: db.execute(sql, values).rowcount)
        self._bell.ring()
        return receipt

    async def cancel(self, receipt: Receipt) -> bool:
        """Take a message back; False when somebody received it meanwhile or it is gone."""
        return await self._delete(receipt.queue, receipt.id, receipt.pop_receipt)

    # queues, the host's side

    async def receive(self, queue: str, *, most: int, visibility: timedelta) -> list[Message]:
        """Take up to `most` visible messages, oldest first; each is invisible to others for `visibility`."""
        check_queue(queue)
        now, until = self.now(), self.now() + check_delay(visibility)

        def work(db: sqlite3.Connection) -> list[Message]:
            db.execute("delete from messages where expires <= ?", (_us(now),))
            found = db.execute(
                "select id, text, dequeue_count + 1, inserted, expires from messages"
                " where queue = ? and visible <= ? order by visible, seq limit ?",
                (queue, _us(now), most),
            ).fetchall()
            messages = []
            for key, text, count, inserted, expires in found:
                pop_receipt = uuid.uuid4().hex
                db.execute(
                    "update messages set dequeue_count = ?, visible = ?, pop_receipt = ? where id = ?",
                    (count, _us(until), pop_receipt, key),
                )
                messages.append(Message(queue, key, text, count, pop_receipt, _at(inserted), _at(expires), until))
            return messages

        return await self._run(work)

    async def delete(self, message: Message) -> None:
        """Delete a received message; PopReceiptMismatch when it is no longer ours."""
        if not await self._delete(message.queue, message.id, message.pop_receipt):
            raise PopReceiptMismatch(f"queue {message.queue}: message {message.id} was received again or is gone")

    async def update(self, message: Message, visibility: timedelta) -> Message:
        """Make a received message visible after `visibility` from now; PopReceiptMismatch when it is no longer ours."""
        until = self.now() + check_delay(visibility)
        pop_receipt = uuid.uuid4().hex
        changed = await self._run(
            lambda db: (
                db.execute(
                    "update messages set visible = ?, pop_receipt = ? where queue = ? and id = ? and pop_receipt = ?",
                    (_us(until), pop_receipt, message.queue, message.id, message.pop_receipt),
                ).rowcount
            )
        )
        if not changed:
            raise PopReceiptMismatch(f"queue {message.queue}: message {message.id} was received again or is gone")
        self._bell.ring()
        return Message(
            message.queue,
            message.id,
            message.text,
            message.dequeue_count,
            pop_receipt,
            message.inserted,
            message.expires,
            until,
        )

    async def peek(self, queue: str, *, most: int = 32, hidden: bool = False) -> list[Message]:
        """Show messages without taking them: the visible ones, or with `hidden` the invisible ones too."""
        check_queue(queue)
        now = _us(self.now())
        latest = _us(self.now() + 2 * LONGEST_LIFE) if hidden else now
        found = await self._run(
            lambda db: db.execute(
                "select id, text, dequeue_count, inserted, expires, visible from messages"
                " where queue = ? and expires > ? and visible <= ? order by visible, seq limit ?",
                (queue, now, latest, most),
            ).fetchall()
        )
        return [
            Message(queue, i, text, count, "", _at(ins), _at(exp), _at(vis)) for i, text, count, ins, exp, vis in found
        ]

    async def length(self, queue: str) -> int:
        """Count a queue's messages, the invisible ones too."""
        check_queue(queue)
        now = _us(self.now())
        sql = "select count(*) from messages where queue = ? and expires > ?"
        return int(await self._run(lambda db: db.execute(sql, (queue, now)).fetchone()[0]))

    async def next_visible(self, queue: str) -> datetime | None:
        """Tell when the first message of a queue is or becomes visible; None when the queue is empty."""
        check_queue(queue)
        now = _us(self.now())
        sql = "select min(visible) from messages where queue = ? and expires > ?"
        first = await self._run(lambda db: db.execute(sql, (queue, now)).fetchone()[0])
        return None if first is None else _at(first)

    @property
    def sends(self) -> int:
        """How often this process put or released a message on this folder; give it to `wait`."""
        return self._bell.rings

    async def wait(self, seen: int | None = None) -> int:
        """Return once this process put or released a message since `sends` was `seen` (None: since now)."""
        return await self._bell.wait(seen)

    # tables

    async def get_row(self, table: str, partition: str, row: str) -> Row | None:
        """Read a table row; None when it is not there."""
        check_table(table)
        sql = 'select "values" from rows where name = ? and partition = ? and row = ?'
        found = await self._run(lambda db: db.execute(sql, (table, partition, row)).fetchone())
        return None if found is None else json.loads(found[0])

    async def put_row(self, table: str, partition: str, row: str, values: Row) -> None:
        """Write a table row whole; one that is there is replaced."""
        await self._write_row("insert or replace", table, partition, row, values)

    async def add_row(self, table: str, partition: str, row: str, values: Row) -> bool:
        """Create a table row; False, and nothing written, when it is there already."""
        return await self._write_row("insert or ignore", table, partition, row, values)

    async def delete_row(self, table: str, partition: str, row: str) -> None:
        """Delete a table row; one that is not there is fine."""
        check_table(table)
        sql = "delete from rows where name = ? and partition = ? and row = ?"
        await self._run(lambda db: db.execute(sql, (table, partition, row)).rowcount)

    async def list_rows(
        self, table: str, partition: str | None = None, *, most: int | None = None
    ) -> list[tuple[str, str, Row]]:
        """List (partition, row, values) of a table or of one partition, in key order; with `most` the first so many."""
        check_table(table)
        sql = (
            'select partition, row, "values" from rows where name = ?1 and (?2 is null or partition = ?2) '
            "order by 1, 2 limit ?3"
        )
        found = await self._run(lambda db: db.execute(sql, (table, partition, -1 if most is None else most)).fetchall())
        return [(part, row, json.loads(values)) for part, row, values in found]

    # the store itself

    async def check(self) -> None:
        """Raise StoreUnavailable unless a row and a file can be written now."""
        now = self.now()
        await self._run(lambda db: db.execute("insert or replace into probe values (1, ?)", (_us(now),)).rowcount)
        await asyncio.to_thread(self._files.check, now)

    async def close(self) -> None:
        """Give back the file; every later call raises StoreUnavailable."""
        await asyncio.to_thread(self._database.close)

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await asyncio.to_thread(self._database.run, work)

    async def _delete(self, queue: str, key: str, pop_receipt: str) -> bool:
        check_queue(queue)
        sql = "delete from messages where queue = ? and id = ? and pop_receipt = ?"
        return bool(await self._run(lambda db: db.execute(sql, (queue, key, pop_receipt)).rowcount))

    async def _write_row(self, verb: str, table: str, partition: str, row: str, values: Row) -> bool:
        check_row(table, partition, row, values)
        sql = f'{verb} into rows (name, partition, row, "values") values (?, ?, ?, ?)'
        bound = (table, partition, row, json.dumps(dict(values)))
        return bool(await self._run(lambda db: db.execute(sql, bound).rowcount))


def _us(moment: datetime) -> int:
    """Give microseconds since 1970; a moment without a zone is refused by the subtraction."""
    return (moment - _EPOCH) // _TICK


def _at(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _TICK

"""The rows: one SQLite table per Dataverse table, row versions, transactions with savepoints, unique keys.

Texts compare as SQL Server's default does: case and trailing blanks do not count. Everything here is synchronous and
belongs to one thread, so requests never see each other's half-done work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from devstack.dataverse.columns import fits
from devstack.dataverse.errors import DuplicateRecord, DuplicateRecordEntityKey, NotSupported
from devstack.dataverse.held import Claims, Place, Transaction, Write
from devstack.dataverse.metadata import Column, Metadata, Table
from devstack.dataverse.schema import DELETED, Schema, duplicate, sql_columns
from devstack.dataverse.texts import fold

Row = dict[str, Any]
_FAILED: Final = "UNIQUE constraint failed: "
_BEGINNING: Final = ""
"""The name under which it keeps where the history of deletions begins."""


class Store(Schema):
    """All rows of one organization.

    `committed` gets the events of each transaction that took effect, `dropped` is told when suspended ones never will.

    A store that is made `like` another of the same tables begins with what that one holds, whatever was in `database`.
    """

    def __init__(
        self,
        database: str,
        metadata: Metadata,
        *,
        seed: Callable[[], Sequence[tuple[str, Row]]],
        like: Store | None = None,
    ) -> None:
        super().__init__(database, metadata)
        self.committed: Callable[[list[Any]], None] = lambda _: None
        self.dropped: Callable[[], None] = lambda: None
        self.changed: set[str] = set()
        self._seed = seed
        self._depth = 0
        self._events: list[Any] = []
        self._writes: list[Write] = []
        self._running: Transaction | None = None
        self._suspended: list[Transaction] = []
        self._away = 0
        self._closing = self.closed = False
        self._version = self._began = 0
        try:
            if like is None:
                self._found()
            else:
                self.become(like)
        except BaseException:
            self._connection.close()
            raise

    def _found(self) -> None:
        """Make what the database lacks, which may be everything."""
        self._make_tables()
        self._version = max(
            self._one(f'SELECT MAX(version) FROM "{DELETED}"') or 0,
            *(self._one(f'SELECT MAX(versionnumber) FROM "{name}"') or 0 for name in self.metadata.tables),
        )
        self._began = self._version
        if not self._one("SELECT COUNT(*) FROM organization"):
            self.reset()

    def become(self, other: Store) -> None:
        """Hold what a store of the same tables and keys holds, and nothing else."""
        other._connection.backup(self._connection)
        self._version, self._began = other._version, other._began
        self._indexed = set(other._indexed)
        self.changed.update(self.metadata.tables)

    def close(self) -> None:
        """Close the database: at once, or when the last suspended transaction, which has no effect any more, is over."""
        self._closing = True
        self._drop_suspended()
        self._close_when_quiet()

    def _close_when_quiet(self) -> None:
        if self._closing and not self._away and not self._depth:
            self.closed = True
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or nothing; blocks inside blocks are savepoints. Events go out with the outermost."""
        depth, events, writes = self._depth, len(self._events), len(self._writes)
        if depth == 0:
            self._began = self._version
        self._connection.execute("BEGIN" if depth == 0 else f"SAVEPOINT s{depth}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK" if depth == 0 else f"ROLLBACK TO s{depth}")
            if depth:
                self._connection.execute(f"RELEASE s{depth}")
            self._undone(self._writes[writes:])
            del self._events[events:], self._writes[writes:]
            if self._redefined:
                self._load_definitions()
            raise
        else:
            self._connection.execute("COMMIT" if depth == 0 else f"RELEASE s{depth}")
        finally:
            self._depth = depth
            self._redefined = self._redefined and depth > 0
            if depth == 0:
                self._end()
        if depth == 0 and self._events:
            made, self._events = self._events, []
            self.committed(made)

    def _end(self) -> None:
        self._writes = []
        if self._running is not None:
            self._running.over.set()
            self._running = None
        self._close_when_quiet()

    def _undone(self, writes: Sequence[Write]) -> None:
        """Forget what was read or made on the strength of writes that are taken back."""
        self._indexed.clear()
        self.changed.update(each.table for each in writes)

    # transactions that wait

    def mark(self) -> tuple[int, int]:
        """Return a point inside the open transaction, for `events` and `blockers`."""
        return len(self._events), len(self._writes)

    def events(self, since: tuple[int, int]) -> list[Any]:
        """Return what was recorded after a point."""
        return self._events[since[0] :]

    @property
    def held(self) -> bool:
        """Tell whether a transaction is suspended."""
        return bool(self._suspended)

    @property
    def running(self) -> Transaction | None:
        """The open transaction, if it was suspended before: others may be waiting for it."""
        return self._running

    def blockers(self, since: tuple[int, int]) -> list[Transaction]:
        """Return the suspended transactions that what was written after a point has to wait for."""
        wanted = self._claims(self._writes[since[1] :])
        return [each for each in self._suspended if wanted.clash(each.claims)]

    def holders(self, table: str, row: str) -> list[Transaction]:
        """Return the suspended transactions that wrote a row; any row of the table where the id is not known ("")."""
        return [each for each in self._suspended if each.holds(table, row)]

    def _claims(self, writes: Sequence[Write]) -> Claims:
        rows = {(each.table, each.row) for each in writes}
        gone: set[Place] = set()
        keys: set[tuple[object, ...]] = set()
        for place in rows:
            table = self.metadata.tables[place[0]]
            row = self.get(table, place[1])
            if row is None:
                gone.add(place)
                continue
            for key in table.keys:
                values = [row[column] for column in key.columns]
                if None not in values:
                    taken = (fold(value) if isinstance(value, str) else value for value in values)
                    keys.add((table.name, key.name, *taken))
        needs = {place for each in writes for place in self._looked_up(each)}
        return Claims(frozenset(rows), frozenset(gone), frozenset(keys), frozenset(needs))

    def _looked_up(self, write: Write) -> Iterator[Place]:
        columns = self.metadata.tables[write.table].columns
        for name, value in write.columns.items():
            column = columns.get(name)
            if column is not None and column.targets and value is not None:
                target = write.columns.get(f"{name}@table") if len(column.targets) > 1 else column.targets[0]
                yield str(target), str(value)

    def suspend(self, waits_for: Sequence[Transaction] = ()) -> Transaction:
        """Take back what the open transaction wrote, and keep it; it is held until `resume` or `abandon`.

        Raises NotSupported when it changed definitions, which cannot be kept so.
        """
        if self._redefined:
            raise NotSupported("a synchronous step in a transaction that changes definitions")
        kept = self._running or Transaction(self._began)
        kept.writes, kept.events, kept.claims = self._writes, self._events, self._claims(self._writes)
        kept.waits_for = waits_for
        self._connection.execute("ROLLBACK")
        self._undone(kept.writes)
        self._suspended.append(kept)
        self._away += 1
        self._depth, self._writes, self._events, self._running = 0, [], [], None
        return kept

    def resume(self, kept: Transaction) -> bool:
        """Write again what a suspended transaction wrote; False, and an empty transaction, when it is not alive any more.

        Raises DuplicateRecord when somebody took a value that is unique meanwhile.
        """
        self._open(kept)
        if not kept.alive:
            return False
        self._events = kept.events
        for each in kept.writes:
            self._carry_out(each)
        self._writes = kept.writes
        return True

    def abandon(self, kept: Transaction) -> None:
        """Open an empty transaction in place of a suspended one."""
        self._open(kept)

    def _open(self, kept: Transaction) -> None:
        if kept.alive:
            self._suspended.remove(kept)
        kept.waits_for = ()
        self._away -= 1
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth, self._writes, self._events = 1, [], []
        self._running, self._began = kept, kept.since

    def _drop_suspended(self) -> None:
        """Make suspended transactions ones that never take effect."""
        for each in self._suspended:
            each.alive = False
            each.over.set()
        self._suspended.clear()
        self.dropped()

    def record(self, event: Any) -> None:
        """Keep an event until the transaction is committed."""
        self._events.append(event)

    def next_version(self) -> int:
        """Return the next row version."""
        self._version += 1
        return self._version

    @property
    def version(self) -> int:
        """The row version up to which nothing can appear any more: a suspended transaction may still bring later ones."""
        return min((each.since for each in self._suspended), default=self._version)

    @property
    def beginning(self) -> int:
        """The row version before which the history of changes is not known: the last reset or restore."""
        found = self.query(f'SELECT version FROM "{DELETED}" WHERE name = ?', [_BEGINNING])
        return int(found[0]["version"]) if found else 0

    def deleted(self, table: Table, since: int) -> list[str]:
        """Return the rows that were deleted after a row version and have not come back, in that order."""
        sql = (
            f'SELECT id FROM "{DELETED}" WHERE name = ? AND version > ? '
            f'AND id NOT IN (SELECT "{table.primary_id}" FROM "{table.name}") ORDER BY version'
        )
        return [row["id"] for row in self.query(sql, [table.name, since])]

    def get(self, table: Table, row: str, *columns: str) -> Row | None:
        """Return a row by primary key, or the named columns of it."""
        return self._first(table, {table.primary_id: row}, columns)

    def find(self, table: Table, values: Mapping[str, object], *columns: str) -> Row | None:
        """Return the row with these column values, or the named columns of it."""
        return self._first(table, values, columns)

    def _first(self, table: Table, values: Mapping[str, object], columns: Sequence[str]) -> Row | None:
        what = ", ".join(f'"{column}"' for column in columns) or "*"
        where = " AND ".join(f'"{column}" = ?' for column in values)
        found = self.query(f'SELECT {what} FROM "{table.name}" WHERE {where} LIMIT 1', list(values.values()))
        return found[0] if found else None

    def query(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        """Run a SELECT of our own making; values are bound."""
        cursor = self._connection.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def insert(self, table: Table, values: Row) -> None:
        """Add a row; raises DuplicateRecord or DuplicateRecordEntityKey."""
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        sql = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'
        self._write(Write(sql, list(values.values()), table.name, values[table.primary_id], values))

    def update(self, table: Table, row: str, values: Row) -> None:
        """Change columns of a row; raises DuplicateRecordEntityKey."""
        assignments = ", ".join(f'"{name}" = ?' for name in values)
        sql = f'UPDATE "{table.name}" SET {assignments} WHERE "{table.primary_id}" = ?'
        self._write(Write(sql, [*values.values(), row], table.name, row, values))

    def delete(self, table: Table, row: str) -> None:
        """Remove a row; where changes are tracked the deletion is kept."""
        sql = f'DELETE FROM "{table.name}" WHERE "{table.primary_id}" = ?'
        self._write(Write(sql, [row], table.name, row, {}))
        if not table.change_tracking:
            return
        sql = f'INSERT OR REPLACE INTO "{DELETED}" VALUES (?, ?, ?)'
        self._write(Write(sql, [table.name, row, self.next_version()], table.name, row, {}))

    def referring(self, table: Table, row: str) -> Iterator[tuple[Table, Column, str]]:
        """Find the rows whose lookups lead to a row, as (table, column, id)."""
        for child, column in self.metadata.references:
            if table.name not in column.targets:
                continue
            self.index(child, column.name)
            sql = f'SELECT "{child.primary_id}" AS id FROM "{child.name}" WHERE "{column.name}" = ?'
            for found in self.query(sql, [row]):
                yield child, column, found["id"]

    def _write(self, write: Write) -> None:
        self._carry_out(write)
        self._writes.append(write)

    def _carry_out(self, write: Write) -> None:
        self.changed.add(write.table)
        try:
            self._connection.execute(write.sql, write.parameters)
        except sqlite3.IntegrityError as error:
            names = [part.rpartition(".")[::2] for part in str(error).removeprefix(_FAILED).split(", ")]
            table = self.metadata.tables[names[0][0]]
            columns = [column for _, column in names]
            key = next((each for each in table.keys if list(each.columns) == columns), None)
            if key is None:
                raise DuplicateRecord from None
            raise duplicate(table, key) from None

    def reset(self) -> None:
        """Empty the organization but for what every organization holds."""
        with self.transaction():
            self._restore_definitions({})
            self.restore({"tables": _grouped(self._seed(), self.next_version)})

    def snapshot(self) -> dict[str, Any]:
        """Return all rows as they are kept, and the tables that were made or changed."""
        definitions = self.definitions()
        tables = {
            name: [
                {column: value for column, value in row.items() if value is not None}
                for row in self.query(f'SELECT * FROM "{name}"', [])
            ]
            for name in self.metadata.tables
        }
        return {"tables": tables} | ({"definitions": definitions} if definitions else {})

    def restore(self, document: Any) -> None:
        """Replace all rows by those of a snapshot; raises ValueError for anything else."""
        if not isinstance(document, dict) or not isinstance(document.get("tables"), dict):
            raise ValueError('a snapshot is {"tables": {name: [row, …]}}')  # noqa: TRY004 - one error for bad input
        self._drop_suspended()
        with self.transaction():
            self._connection.execute(f'DELETE FROM "{DELETED}"')  # what is replaced as a whole has no history
            self._restore_definitions(document.get("definitions", {}))
            if unknown := sorted(document["tables"].keys() - self.metadata.tables.keys()):
                raise ValueError(f"tables.{unknown[0]}: unknown table (valid: {', '.join(self.metadata.tables)})")
            for table in self.metadata.tables.values():
                self._connection.execute(f'DELETE FROM "{table.name}"')
                self.changed.add(table.name)
                rows = document["tables"].get(table.name, [])
                if not isinstance(rows, list):
                    raise ValueError(f"tables.{table.name}: not a list of rows")  # noqa: TRY004 - as above
                known = (
                    {name: column for column in table.columns.values() for name, _ in sql_columns(table, column)}
                    if rows
                    else {}
                )
                for row in rows:
                    self._restore_row(table, known, row)
            beginning = [_BEGINNING, "", self.next_version()]
            self._connection.execute(f'INSERT INTO "{DELETED}" VALUES (?, ?, ?)', beginning)

    def _restore_row(self, table: Table, known: Mapping[str, Column], row: Any) -> None:
        if not isinstance(row, dict) or not row.get(table.primary_id):
            raise ValueError(f"tables.{table.name}: a row is an object with {table.primary_id}")
        for name, value in row.items():
            if name not in known:
                raise ValueError(f"tables.{table.name}: unknown column {name}")
            right = isinstance(value, str) if name.endswith("@table") else fits(known[name], value)
            if value is not None and not right:
                raise ValueError(f"tables.{table.name}.{name}: {value!r} is not a value of type {known[name].type}")
        version = row.get("versionnumber") or self.next_version()
        self._version = max(self._version, version)
        try:
            self.insert(table, row | {"versionnumber": version})
        except (DuplicateRecord, DuplicateRecordEntityKey) as error:
            raise ValueError(f"tables.{table.name}: {error}") from None


def _grouped(rows: Sequence[tuple[str, Row]], version: Callable[[], int]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for name, row in rows:
        grouped.setdefault(name, []).append(row | {"versionnumber": version()})
    return grouped

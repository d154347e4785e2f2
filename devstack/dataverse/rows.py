"""The rows: one SQLite table per Dataverse table, row versions, transactions with savepoints, unique keys.

Texts compare as SQL Server's default does: case and trailing blanks do not count. Everything here is synchronous and
belongs to one thread, so requests never see each other's half-done work.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from devstack.dataverse.columns import EXACT, fits
from devstack.dataverse.errors import DuplicateRecord, DuplicateRecordEntityKey
from devstack.dataverse.metadata import TEXTS, Column, Key, Metadata, Table

Row = dict[str, Any]
_FAILED: Final = "UNIQUE constraint failed: "


@lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """Reduce a text to what comparisons see of it."""
    return text.casefold().rstrip(" ")


def _compare_text(left: str, right: str) -> int:
    left, right = fold(left), fold(right)
    return (left > right) - (left < right)


def _compare_numbers(left: str, right: str) -> int:
    one, other = Decimal(left), Decimal(right)
    return (one > other) - (one < other)


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    """Compile a LIKE pattern: `%` any text, `_` any character, `[a-c]` one of, `[^a]` none of."""
    parts, position = [], 0
    text = like.casefold()
    while position < len(text):
        character = text[position]
        position += 1
        end = text.find("]", position + 1) if character == "[" else -1
        if character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif end > 0:
            inside = text[position:end]
            negated = "^" if inside.startswith("^") and len(inside) > 1 else ""
            escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", inside[len(negated) :])
            try:
                parts.append(re.compile(f"[{negated}{escaped}]").pattern)
            except re.error:
                parts.append("(?!)")
            position = end + 1
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _like(value: str | None, like: str) -> int | None:
    return None if value is None else int(_pattern(like).fullmatch(value.casefold()) is not None)


class Store:
    """All rows of one organization; `committed` gets the events of each transaction that took effect.

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
        self.metadata = metadata
        self.committed: Callable[[list[Any]], None] = lambda _: None
        self.changed: set[str] = set()
        self._seed = seed
        self._depth = 0
        self._events: list[Any] = []
        self._indexed: set[tuple[str, str]] = set()
        self._connection = sqlite3.connect(
            database, isolation_level=None, cached_statements=1024, check_same_thread=False
        )
        self._connection.create_collation("DATAVERSE", _compare_text)
        self._connection.create_collation("NUMBER", _compare_numbers)
        self._connection.create_function("dvlike", 2, _like, deterministic=True)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._references = [
            (table, column) for table in metadata.tables.values() for column in table.columns.values() if column.targets
        ]
        self._version = 0
        if like is None:
            self._open()
        else:
            self.become(like)

    def _open(self) -> None:
        """Make what the database lacks, which may be everything."""
        for table in self.metadata.tables.values():
            self._create(table)
            for key in table.keys:
                self.create_key(table, key)
        self._version = max(self._one(f'SELECT MAX(versionnumber) FROM "{name}"') or 0 for name in self.metadata.tables)
        if not self._one("SELECT COUNT(*) FROM organization"):
            self.reset()

    def become(self, other: Store) -> None:
        """Hold what a store of the same tables and keys holds, and nothing else."""
        other._connection.backup(self._connection)
        self._version = other._version
        self._indexed = set(other._indexed)
        self.changed.update(self.metadata.tables)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _one(self, sql: str) -> Any:
        return self._connection.execute(sql).fetchone()[0]

    def _create(self, table: Table) -> None:
        columns = {
            name: definition for column in table.columns.values() for name, definition in _definitions(table, column)
        }
        body = ", ".join(f'"{name}" {definition}' for name, definition in columns.items())
        self._connection.execute(f'CREATE TABLE IF NOT EXISTS "{table.name}" ({body}) WITHOUT ROWID')
        present = {row[1] for row in self._connection.execute(f'PRAGMA table_info("{table.name}")')}
        for name in columns.keys() - present:
            self._connection.execute(f'ALTER TABLE "{table.name}" ADD COLUMN "{name}" {columns[name]}')

    def create_key(self, table: Table, key: Key) -> None:
        """Make an alternate key unique from now on; raises DuplicateRecordEntityKey when rows already break it."""
        columns = ", ".join(f'"{column}"' for column in key.columns)
        try:
            self._connection.execute(
                f'CREATE UNIQUE INDEX IF NOT EXISTS "key {table.name} {key.name}" ON "{table.name}" ({columns})'
            )
        except sqlite3.IntegrityError:
            raise _duplicate(table, key) from None

    def index(self, table: Table, column: str) -> None:
        """Make equality on a column quick; made when a query first needs it."""
        if (table.name, column) not in self._indexed and column != table.primary_id:
            self._indexed.add((table.name, column))
            self._connection.execute(
                f'CREATE INDEX IF NOT EXISTS "index {table.name} {column}" ON "{table.name}" ("{column}")'
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or nothing; blocks inside blocks are savepoints. Events go out with the outermost."""
        depth, before = self._depth, len(self._events)
        self._connection.execute("BEGIN" if depth == 0 else f"SAVEPOINT s{depth}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK" if depth == 0 else f"ROLLBACK TO s{depth}")
            if depth:
                self._connection.execute(f"RELEASE s{depth}")
            self._indexed.clear()
            del self._events[before:]
            raise
        else:
            self._connection.execute("COMMIT" if depth == 0 else f"RELEASE s{depth}")
        finally:
            self._depth = depth
        if depth == 0 and self._events:
            events, self._events = self._events, []
            self.committed(events)

    def record(self, event: Any) -> None:
        """Keep an event until the transaction is committed."""
        self._events.append(event)

    def next_version(self) -> int:
        """Return the next row version."""
        self._version += 1
        return self._version

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
        self._write(table, f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', list(values.values()))

    def update(self, table: Table, row: str, values: Row) -> None:
        """Change columns of a row; raises DuplicateRecordEntityKey."""
        assignments = ", ".join(f'"{name}" = ?' for name in values)
        sql = f'UPDATE "{table.name}" SET {assignments} WHERE "{table.primary_id}" = ?'
        self._write(table, sql, [*values.values(), row])

    def delete(self, table: Table, row: str) -> None:
        """Remove a row."""
        self._write(table, f'DELETE FROM "{table.name}" WHERE "{table.primary_id}" = ?', [row])

    def referring(self, table: Table, row: str) -> Iterator[tuple[Table, Column, str]]:
        """Find the rows whose lookups lead to a row, as (table, column, id)."""
        for child, column in self._references:
            if table.name not in column.targets:
                continue
            self.index(child, column.name)
            sql = f'SELECT "{child.primary_id}" AS id FROM "{child.name}" WHERE "{column.name}" = ?'
            for found in self.query(sql, [row]):
                yield child, column, found["id"]

    def _write(self, table: Table, sql: str, parameters: Sequence[object]) -> None:
        try:
            self._connection.execute(sql, parameters)
        except sqlite3.IntegrityError as error:
            columns = [part.rpartition(".")[2] for part in str(error).removeprefix(_FAILED).split(", ")]
            key = next((each for each in table.keys if list(each.columns) == columns), None)
            if key is None:
                raise DuplicateRecord from None
            raise _duplicate(table, key) from None
        self.changed.add(table.name)

    def reset(self) -> None:
        """Empty the organization but for what every organization holds."""
        self.restore(
            {"tables": {name: [] for name in self.metadata.tables} | _grouped(self._seed(), self.next_version)}
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all rows as they are kept."""
        return {
            "tables": {
                name: [
                    {column: value for column, value in row.items() if value is not None}
                    for row in self.query(f'SELECT * FROM "{name}"', [])
                ]
                for name in self.metadata.tables
            }
        }

    def restore(self, document: Any) -> None:
        """Replace all rows by those of a snapshot; raises ValueError for anything else."""
        if not isinstance(document, dict) or not isinstance(document.get("tables"), dict):
            raise ValueError('a snapshot is {"tables": {name: [row, …]}}')  # noqa: TRY004 - one error for bad input
        if unknown := sorted(document["tables"].keys() - self.metadata.tables.keys()):
            raise ValueError(f"tables.{unknown[0]}: unknown table (valid: {', '.join(self.metadata.tables)})")
        with self.transaction():
            for table in self.metadata.tables.values():
                self._connection.execute(f'DELETE FROM "{table.name}"')
                self.changed.add(table.name)
                rows = document["tables"].get(table.name, [])
                if not isinstance(rows, list):
                    raise ValueError(f"tables.{table.name}: not a list of rows")  # noqa: TRY004 - as above
                for row in rows:
                    self._restore_row(table, row)

    def _restore_row(self, table: Table, row: Any) -> None:
        known = {name: column for column in table.columns.values() for name, _ in _definitions(table, column)}
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


def _duplicate(table: Table, key: Key) -> DuplicateRecordEntityKey:
    return DuplicateRecordEntityKey(key.label, ", ".join(table.columns[column].label for column in key.columns))


def _grouped(rows: Sequence[tuple[str, Row]], version: Callable[[], int]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for name, row in rows:
        grouped.setdefault(name, []).append(row | {"versionnumber": version()})
    return grouped


def _definitions(table: Table, column: Column) -> Iterator[tuple[str, str]]:
    if not column.stored:
        return
    if column.name == table.primary_id:
        yield column.name, "TEXT PRIMARY KEY NOT NULL"
    elif column.type in TEXTS:
        yield column.name, "TEXT COLLATE DATAVERSE"
    elif column.type in EXACT:
        yield column.name, "TEXT COLLATE NUMBER"
    elif column.type in {"DateTime", "Uniqueidentifier"} or column.targets:
        yield column.name, "TEXT"
    else:
        yield column.name, "INTEGER"
    if len(column.targets) > 1:
        yield f"{column.name}@table", "TEXT"

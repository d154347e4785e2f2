"""The rows: one SQLite table per Dataverse table, row versions, transactions with savepoints, unique keys.

Texts compare as SQL Server's default does: case and trailing blanks do not count. Everything here is synchronous and
belongs to one thread, so requests never see each other's half-done work.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from devstack.dataverse.columns import EXACT, fits
from devstack.dataverse.errors import DuplicateRecord, DuplicateRecordEntityKey, NotSupported
from devstack.dataverse.held import Claims, Place, Transaction, Write
from devstack.dataverse.metadata import LOGICAL_NAME, TEXTS, Column, Key, Metadata, Table, facts
from devstack.dataverse.metadata import table as build

Row = dict[str, Any]
_FAILED: Final = "UNIQUE constraint failed: "
_DEFINITIONS: Final = '"$definitions"'
_DELETED: Final = "deleted rows"
"""The table of deletions, for change tracking; no Dataverse table has a blank in its name."""
_BEGINNING: Final = ""
"""The name under which it keeps where the history of deletions begins."""


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
        self.metadata = metadata
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
        self._indexed: set[tuple[str, str]] = set()
        self._redefined = False
        self._connection = sqlite3.connect(
            database, isolation_level=None, cached_statements=1024, check_same_thread=False
        )
        self._connection.create_collation("DATAVERSE", _compare_text)
        self._connection.create_collation("NUMBER", _compare_numbers)
        self._connection.create_function("dvlike", 2, _like, deterministic=True)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._version = self._began = 0
        if like is None:
            self._found()
        else:
            self.become(like)

    def _found(self) -> None:
        """Make what the database lacks, which may be everything."""
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_DEFINITIONS} (name TEXT PRIMARY KEY, facts TEXT NOT NULL)"
        )
        if self._one(f"SELECT COUNT(*) FROM {_DEFINITIONS}"):
            self._load_definitions()
        for table in self.metadata.tables.values():
            self._create(table)
        self._connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{_DELETED}" (name TEXT, id TEXT, version INTEGER, PRIMARY KEY (name, id))'
        )
        self._version = max(
            self._one(f'SELECT MAX(version) FROM "{_DELETED}"') or 0,
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
        for key in table.keys:
            if key.active:
                self.create_key(table, key)

    # definitions: of the tables that differ from what they were made as

    def _load_definitions(self) -> None:
        found = self._connection.execute(f"SELECT name, facts FROM {_DEFINITIONS}").fetchall()
        self.metadata.redefine({name: build(name, json.loads(text)) for name, text in found})

    def definitions(self) -> dict[str, Any]:
        """Return the facts of the tables that were made or changed since the organization began."""
        found = self._connection.execute(f"SELECT name, facts FROM {_DEFINITIONS} ORDER BY name").fetchall()
        return {name: json.loads(text) for name, text in found}

    def define(self, table: Table) -> None:
        """Add a table, or put it in the place of the one of its name: columns and keys that are new are made."""
        self._redefined = True
        self._connection.execute(f"REPLACE INTO {_DEFINITIONS} VALUES (?, ?)", (table.name, json.dumps(facts(table))))
        self._create(table)
        self._load_definitions()

    def undefine(self, name: str) -> None:
        """Remove a table that was added, with its rows."""
        self._redefined = True
        self._connection.execute(f"DELETE FROM {_DEFINITIONS} WHERE name = ?", (name,))
        self._connection.execute(f'DELETE FROM "{_DELETED}" WHERE name = ?', (name,))
        self._connection.execute(f'DROP TABLE "{name}"')
        self._indexed.clear()
        self._load_definitions()

    def drop_column(self, table: Table, column: Column) -> None:
        """Remove a column's values; its definition is another matter."""
        self._connection.execute(f'DROP INDEX IF EXISTS "index {table.name} {column.name}"')
        self._indexed.clear()
        for name, _ in _definitions(table, column):
            self._connection.execute(f'ALTER TABLE "{table.name}" DROP COLUMN "{name}"')

    def drop_key(self, table: Table, key: Key) -> None:
        """Let rows be alike in the columns of a key from now on."""
        self._connection.execute(f'DROP INDEX IF EXISTS "key {table.name} {key.name}"')

    def _restore_definitions(self, document: Any) -> None:
        """Make these the definitions that differ from the beginning; raises ValueError for anything else."""
        current = self.definitions()
        if document == current:
            return
        if not isinstance(document, dict):
            raise ValueError("definitions: not an object of tables")  # noqa: TRY004 - one error for bad input
        tables = {name: _restored_table(name, each) for name, each in document.items()}
        self._redefined = True
        self._indexed.clear()
        self._connection.execute(f"DELETE FROM {_DEFINITIONS}")
        for name in current.keys() | tables.keys():
            self._connection.execute(f'DROP TABLE IF EXISTS "{name}"')
        for name, table in tables.items():
            self._connection.execute(f"INSERT INTO {_DEFINITIONS} VALUES (?, ?)", (name, json.dumps(facts(table))))
        self._load_definitions()
        for name in current.keys() | tables.keys():
            if name in self.metadata.tables:
                self._create(self.metadata.tables[name])

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
        found = self.query(f'SELECT version FROM "{_DELETED}" WHERE name = ?', [_BEGINNING])
        return int(found[0]["version"]) if found else 0

    def deleted(self, table: Table, since: int) -> list[str]:
        """Return the rows that were deleted after a row version and have not come back, in that order."""
        sql = (
            f'SELECT id FROM "{_DELETED}" WHERE name = ? AND version > ? '
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
        sql = f'INSERT OR REPLACE INTO "{_DELETED}" VALUES (?, ?, ?)'
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
            raise _duplicate(table, key) from None

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
            self._connection.execute(f'DELETE FROM "{_DELETED}"')  # what is replaced as a whole has no history
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
                    {name: column for column in table.columns.values() for name, _ in _definitions(table, column)}
                    if rows
                    else {}
                )
                for row in rows:
                    self._restore_row(table, known, row)
            beginning = [_BEGINNING, "", self.next_version()]
            self._connection.execute(f'INSERT INTO "{_DELETED}" VALUES (?, ?, ?)', beginning)

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


def _restored_table(name: str, document: Any) -> Table:
    try:
        table = build(name, document)
        names = [name, *table.columns, *(key.name for key in table.keys)]
        if not {table.primary_id, table.primary_name} <= table.columns.keys():
            raise ValueError("primaryId or primaryName is no column")  # noqa: TRY301 - told with the table's name
        if odd := [each for each in names if not LOGICAL_NAME.fullmatch(each)]:
            raise ValueError(f"{odd[0]!r} is no logical name")  # noqa: TRY301 - told with the table's name
        json.dumps(facts(table))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"definitions.{name}: {type(error).__name__}: {error}") from error
    return table


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
        yield column.name, f"TEXT COLLATE DATAVERSE{' UNIQUE' if column.unique else ''}"
    elif column.type in EXACT:
        yield column.name, "TEXT COLLATE NUMBER"
    elif column.type in {"DateTime", "Uniqueidentifier"} or column.targets:
        yield column.name, "TEXT"
    else:
        yield column.name, "INTEGER"
    if len(column.targets) > 1:
        yield f"{column.name}@table", "TEXT"

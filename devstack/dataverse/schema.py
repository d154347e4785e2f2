"""The tables of a database: made from their facts, changed while it runs, with the keys and indexes of their rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from devstack.dataverse.columns import EXACT
from devstack.dataverse.errors import DuplicateRecordEntityKey
from devstack.dataverse.facts import facts
from devstack.dataverse.facts import table as build
from devstack.dataverse.metadata import LOGICAL_NAME, TEXTS, Column, Key, Metadata, Table
from devstack.dataverse.texts import connect

DELETED: Final = "deleted rows"
"""The table of deletions, for change tracking; no Dataverse table has a blank in its name."""
_DEFINITIONS: Final = '"$definitions"'


class Schema:
    """One SQLite table per Dataverse table, and what was made or changed of them since the organization began."""

    def __init__(self, database: str, metadata: Metadata) -> None:
        self.metadata = metadata
        self._indexed: set[tuple[str, str]] = set()
        self._redefined = False
        self._connection = connect(database)

    def _make_tables(self) -> None:
        """Make the tables that the database lacks, which may be all, by the definitions that it holds."""
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_DEFINITIONS} (name TEXT PRIMARY KEY, facts TEXT NOT NULL)"
        )
        if self._one(f"SELECT COUNT(*) FROM {_DEFINITIONS}"):
            self._load_definitions()
        for table in self.metadata.tables.values():
            self._create(table)
        self._connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{DELETED}" (name TEXT, id TEXT, version INTEGER, PRIMARY KEY (name, id))'
        )

    def _one(self, sql: str) -> Any:
        return self._connection.execute(sql).fetchone()[0]

    def _create(self, table: Table) -> None:
        columns = {
            name: definition for column in table.columns.values() for name, definition in sql_columns(table, column)
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
        self._connection.execute(f'DELETE FROM "{DELETED}" WHERE name = ?', (name,))
        self._connection.execute(f'DROP TABLE "{name}"')
        self._indexed.clear()
        self._load_definitions()

    def drop_column(self, table: Table, column: Column) -> None:
        """Remove a column's values; its definition is another matter."""
        self._connection.execute(f'DROP INDEX IF EXISTS "index {table.name} {column.name}"')
        self._indexed.clear()
        for name, _ in sql_columns(table, column):
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
            raise duplicate(table, key) from None

    def index(self, table: Table, column: str) -> None:
        """Make equality on a column quick; made when a query first needs it."""
        if (table.name, column) not in self._indexed and column != table.primary_id:
            self._indexed.add((table.name, column))
            self._connection.execute(
                f'CREATE INDEX IF NOT EXISTS "index {table.name} {column}" ON "{table.name}" ("{column}")'
            )


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


def duplicate(table: Table, key: Key) -> DuplicateRecordEntityKey:
    """Return the error of a row that breaks a key."""
    return DuplicateRecordEntityKey(key.label, ", ".join(table.columns[column].label for column in key.columns))


def sql_columns(table: Table, column: Column) -> Iterator[tuple[str, str]]:
    """Yield name and type of what a column is kept in, nothing for one that is not kept."""
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

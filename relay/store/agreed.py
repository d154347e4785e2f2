"""What both sides last agreed on: per row and column with two writers, a keyed hash of the value. Never the value itself.

A column with two writers is written by FHIR and by Dataverse's users. Which of them changed it since is told by the mark:
the side whose value still has it did not. Marks are state, not history: they stay until the row is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Protocol

from relay.store import Store
from relay.telemetry import Pseudonyms

TABLE = "agreed"

Value = str | int | float | Decimal | bool | None
"""A column's value, as a draft has it or as a GET returned it; of a lookup the GUID it points to."""


class Facts(Protocol):
    """What must be known of a column to tell two spellings of one value apart from two values."""

    @property
    def name(self) -> str:
        """Its logical name."""
        ...

    @property
    def type(self) -> str:
        """Its AttributeTypeName without `Type`."""
        ...

    @property
    def format(self) -> str:
        """`DateOnly` or not, for a DateTime."""
        ...

    @property
    def precision(self) -> int | None:
        """Digits after the point that it keeps, if it is known."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The tables a lookup points to; empty for another column."""
        ...


class Agreed:
    """The table of marks: a partition for each row of Dataverse (hashed), a row for each of its columns.

    Marks made with another key are not found, as if nothing had been agreed on: RELAY_LOG_KEY has to stay the same.
    """

    def __init__(self, store: Store, pseudonyms: Pseudonyms) -> None:
        self._store = store
        self._pseudonyms = pseudonyms

    def mark(self, table: str, guid: str, column: Facts, value: Value) -> str:
        """Return the mark of a value: the same for a draft's and the wire's spelling, another in any other row. Pure."""
        return self._pseudonyms(table, guid.lower(), column.name, canonical(column, value))

    async def get(self, table: str, guid: str) -> Mapping[str, str]:
        """Return the marks of one row by column; a column never agreed on is not in it."""
        rows = await self._store.list_rows(TABLE, self._partition(table, guid))
        return {column: str(values["mark"]) for _, column, values in rows}

    async def put(self, table: str, guid: str, marks: Mapping[str, str]) -> None:
        """Note marks of one row, once both sides hold these values; the marks of its other columns stay."""
        for column, mark in marks.items():
            await self._store.put_row(TABLE, self._partition(table, guid), column, {"mark": mark})

    async def forget(self, table: str, guid: str) -> None:
        """Forget the marks of a row that is gone."""
        partition = self._partition(table, guid)
        for _, column, _ in await self._store.list_rows(TABLE, partition):
            await self._store.delete_row(TABLE, partition, column)

    def _partition(self, table: str, guid: str) -> str:
        return self._pseudonyms(table, guid.lower())


def sent_name(column: str) -> str:
    """Return the name, beside a column's mark, of the note of what went to FHIR last and over which version.

    The note reads `mark version time`; the mark is empty once both sides are known to agree on it.
    """
    return f"{column}.sent"


def sent_of(marks: Mapping[str, str], column: str) -> tuple[str, str, str]:
    """Return the mark, version and time of a column's note; all empty when there is none."""
    mark, _, over = marks.get(sent_name(column), "").partition(" ")
    version, _, updated = over.partition(" ")
    return mark, version, updated


def canonical(column: Facts, value: Value) -> str:
    """Spell a value as one text, whichever side it comes from; an empty text is null, as in Dataverse.

    Numbers at the column's precision, GUIDs in lower case, times in UTC to the second, dates of DateOnly columns alone.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(column, value)
    number = Decimal(str(value))
    if column.precision is not None:
        number = number.quantize(Decimal(1).scaleb(-column.precision), rounding=ROUND_HALF_UP)
    return format(number.normalize() + 0, "f")  # a zero has no sign


def _text(column: Facts, value: str) -> str:
    if column.targets:
        return value.lower()
    if column.type != "DateTime":
        return value
    if column.format == "DateOnly":
        return value[: len("2020-01-31")]
    moment = datetime.fromisoformat(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")

"""Values of columns: what a client may write, how SQLite keeps it, how it is read back.

Kept as: texts and GUIDs TEXT, dates TEXT (`2020-01-31`, `2020-01-31T09:30:00Z`), whole numbers and options INTEGER,
yes/no 0 or 1, Decimal, Money and Double the digits as TEXT.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from devstack.dataverse.errors import (
    BadSyntax,
    DateOutOfRange,
    InvalidCharacter,
    InvalidPayload,
    OptionOutOfRange,
    OutOfRange,
    StringTooLong,
)
from devstack.dataverse.lexer import Word
from devstack.dataverse.metadata import CHOICES, LOOKUPS, TEXTS, Column, Table

EXACT: Final = frozenset({"Decimal", "Double", "Money"})
GUIDS: Final = LOOKUPS | {"Uniqueidentifier"}
WHOLE: Final = frozenset({"Integer", "BigInt"}) | CHOICES
_INT32: Final = range(-(2**31), 2**31)
_INT64: Final = range(-(2**63), 2**63)
_EDM: Final = {
    "String": "Edm.String",
    "Memo": "Edm.String",
    "Integer": "Edm.Int32",
    "BigInt": "Edm.Int64",
    "Picklist": "Edm.Int32",
    "State": "Edm.Int32",
    "Status": "Edm.Int32",
    "Decimal": "Edm.Decimal",
    "Money": "Edm.Decimal",
    "Double": "Edm.Double",
    "Boolean": "Edm.Boolean",
    "Uniqueidentifier": "Edm.Guid",
    "Lookup": "Edm.Guid",
    "Customer": "Edm.Guid",
    "Owner": "Edm.Guid",
}
_STEP: Final = {"Decimal": Decimal("1e-10"), "Double": Decimal("1e-10"), "Money": Decimal("1e-4")}
_WIDEST: Final = {"Decimal": 1e11, "Double": 1e11, "Money": 922337203685477}
_GUID: Final = re.compile(r"\{?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?", re.IGNORECASE)
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(?::(\d\d)(?:\.\d{1,12})?)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIRST_YEAR: Final = 1753


def edm(column: Column) -> str:
    """Name the OData type of a column."""
    if column.type == "DateTime":
        return "Edm.Date" if column.format == "DateOnly" else "Edm.DateTimeOffset"
    return _EDM[column.type]


def guid(text: object) -> str | None:
    """Normalize a GUID to lower case without braces; None for anything else."""
    match = _GUID.fullmatch(text) if isinstance(text, str) else None
    return match[1].lower() if match else None


def instant(text: str) -> str | None:
    """Normalize a date and time with a zone to UTC, cut to whole seconds; None for anything else."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    zone = "+00:00" if match[3] in "Zz" else match[3]
    try:
        moment = datetime.fromisoformat(f"{match[1]}:{match[2] or '00'}{zone}".upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")


def day(text: str) -> str | None:
    """Check a date; None for anything else."""
    try:
        return date.fromisoformat(text).isoformat() if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def check(table: Table, column: Column, value: Any) -> object:
    """Turn a JSON value into what is kept; raises the error Dataverse gives for a wrong one."""
    if value is None:
        return None
    kept = _CHECKS[column.type](column, value)
    if kept is None:
        shown = value if isinstance(value, str) else type(value).__name__ if isinstance(value, list | dict) else value
        raise InvalidPayload(
            table.entity_set, f"Cannot convert the literal '{shown}' to the expected type '{edm(column)}'."
        )
    check_limits(table, column, kept)
    if column.type in EXACT:
        number = Decimal(str(kept))
        number = number.quantize(_STEP[column.type], ROUND_HALF_EVEN)
        return format(number.normalize() + 0, "f")
    return kept if kept != "" else None


def _text(_: Column, value: Any) -> object:
    return value if isinstance(value, str) else None


def _whole(column: Column, value: Any) -> object:
    fits = type(value) is int and value in (_INT64 if column.type == "BigInt" else _INT32)
    return value if fits else None


def _exact(_: Column, value: Any) -> object:
    return Decimal(value) if type(value) in (int, Decimal) else None


def _yes_no(_: Column, value: Any) -> object:
    return int(value) if isinstance(value, bool) else None


def _moment(column: Column, value: Any) -> object:
    if not isinstance(value, str):
        return None
    return day(value) if column.format == "DateOnly" else instant(value)


def _guid(_: Column, value: Any) -> object:
    return guid(value)


_CHECKS: Final[dict[str, Callable[[Column, Any], object]]] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(WHOLE, _whole),
    **dict.fromkeys(EXACT, _exact),
    **dict.fromkeys(GUIDS, _guid),
    "Boolean": _yes_no,
    "DateTime": _moment,
}


def check_limits(table: Table, column: Column, kept: Any) -> None:
    """Check a kept value's length, option or range; raises the error Dataverse gives."""
    if isinstance(kept, str) and column.type in TEXTS:
        if bad := _NOT_XML.search(kept):
            raise InvalidCharacter(column.name, ord(bad[0]))
        if column.max_length is not None and len(kept.encode("utf-16-le")) // 2 > column.max_length:
            raise StringTooLong(table.name, column.name, column.max_length)
    elif column.type in CHOICES:
        if kept not in column.options:
            raise OptionOutOfRange(table.name, column.name, kept, column.options)
    elif column.type == "DateTime":
        if int(kept[:4]) < _FIRST_YEAR:
            raise DateOutOfRange(kept)
    elif column.type in EXACT or isinstance(kept, int):
        widest = _WIDEST.get(column.type)
        low = column.minimum if column.minimum is not None or widest is None else -widest
        high = column.maximum if column.maximum is not None else widest
        number = Decimal(str(kept))
        if (low is not None and number < Decimal(str(low))) or (high is not None and number > Decimal(str(high))):
            limits = f"{'' if low is None else low:}-{'' if high is None else high:}"
            raise OutOfRange(table.name, column.name, kept, limits, whole=isinstance(kept, int))


def check_literal(table: Table, column: Column, word: Word) -> object:
    """Turn a word of a URL into what is kept; raises BadSyntax when its type is not the column's."""
    kept: object = None
    if column.type in TEXTS and word.kind == "string":
        return word.text
    if word.kind == "number" and column.type in WHOLE | EXACT:
        number = word.number
        if column.type in EXACT:
            return format(number.normalize() + 0, "f")
        if number == number.to_integral_value() and int(number) in _INT64:
            return int(number)
    elif column.type == "Boolean" and word.kind == "name" and word.text in ("true", "false"):
        return int(word.text == "true")
    elif column.type in GUIDS and word.kind == "guid":
        return word.text
    elif column.type == "DateTime" and word.kind == "date":
        kept = day(word.text)
        if kept and column.format != "DateOnly":
            kept = f"{kept}T00:00:00Z"
    elif column.type == "DateTime" and word.kind == "datetime" and column.format != "DateOnly":
        kept = instant(word.text)
    if kept is None:
        raise BadSyntax(
            "A binary operator with incompatible types was detected. Found operand types "
            f"'{edm(column)}' and '{_LITERALS.get(word.kind, word.kind)}' for '{column.wire_name}' of '{table.entity_set}'."
        )
    return kept


_LITERALS: Final = {
    "string": "Edm.String",
    "number": "Edm.Decimal",
    "guid": "Edm.Guid",
    "date": "Edm.Date",
    "datetime": "Edm.DateTimeOffset",
}


def render(column: Column, kept: Any) -> Any:
    """Turn what is kept into its JSON value."""
    if kept is None:
        return None
    if column.type == "Boolean":
        return bool(kept)
    return Decimal(kept) if column.type in EXACT else kept


def formatted(column: Column, kept: Any) -> str | None:
    """Write a value as people see it; None where Dataverse shows nothing but the value. Lookups are not known here."""
    if column.type in CHOICES:
        return column.options.get(kept, str(kept))
    if column.type == "Boolean":
        return column.options.get(kept) or ("Yes" if kept else "No")
    if column.type == "DateTime":
        moment = datetime.fromisoformat(kept)
        shown = f"{moment.month}/{moment.day}/{moment.year}"
        clock = f" {moment.hour % 12 or 12}:{moment:%M %p}"
        return shown if column.format == "DateOnly" else shown + clock
    if column.type == "Integer":
        return f"{kept:,}"
    if column.type == "Money":
        return f"${Decimal(kept):,.2f}"
    return f"{Decimal(kept):,.2f}" if column.type in EXACT else None


def fits(column: Column, kept: object) -> bool:
    """Say whether a value is one that is kept for a column of this type; lengths and ranges do not count."""
    if column.type in WHOLE or column.type == "Boolean":
        return type(kept) is int and kept in _INT64
    if not isinstance(kept, str):
        return False
    if column.type in EXACT:
        return re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", kept, re.ASCII) is not None
    if column.type in GUIDS:
        return guid(kept) == kept
    if column.type == "DateTime":
        return (day(kept) if column.format == "DateOnly" else instant(kept)) == kept
    return _NOT_XML.search(kept) is None


def now() -> str:
    """Return the time as kept: UTC, whole seconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

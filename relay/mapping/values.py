"""Values: FHIR primitives ⇄ Dataverse column values, by the type of the column.

Rules for dates. A DateOnly column takes the calendar date as written, whatever the offset. A DateAndTime column takes
UTC to the second (fractions are dropped); a date without a time is midnight UTC. A partial date (`1980`, `1980-05`)
writes nothing unless the line says `partial: first-day`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Literal

from relay.mapping.model import Column, Scalar

TEXT_TYPES = frozenset({"String", "Memo"})
OPTION_TYPES = frozenset({"Picklist", "State", "Status"})
LOOKUP_TYPES = frozenset({"Lookup", "Customer"})
_WHOLE = {"Integer": (-(2**31), 2**31 - 1), "BigInt": (-(2**63), 2**63 - 1)}
_PLACES = {"Decimal": 10, "Money": 4, "Double": None}
_LIMITS = {"Decimal": 10**11, "Double": 10**11, "Money": 922_337_203_685_477}
"""What Dataverse lets a column declare; a column may hold less."""
SCALAR_TYPES = TEXT_TYPES | OPTION_TYPES | _WHOLE.keys() | _PLACES.keys() | {"Boolean", "DateTime"}
"""Column types that can hold a plain value here; lookups hold rows, the others (Image, Owner, …) are not written."""

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:(Z)|([+-])([0-9]{2}):([0-9]{2})))?)?)?"
)
_FIRST_DAY = date(1753, 1, 1)  # what SQL Server's datetime can hold, and so Dataverse
_LAST_DAY = date(9999, 12, 30)  # DateTimeAttributeMetadata.MaxSupportedValue
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LEAP_SECOND = 60
_FARTHEST_OFFSET = timedelta(hours=14)

LengthPolicy = Literal["error", "truncate"]
PartialPolicy = Literal["skip", "first-day"]


class Unfit(ValueError):  # names the value's fault, as Failed and Refused do
    """A value does not fit its column; `code` and `severity` become an issue. The message never holds the value."""

    def __init__(self, code: str, message: str, severity: Literal["error", "warning", "information"] = "error") -> None:
        super().__init__(message)
        self.code = code
        self.severity: Literal["error", "warning", "information"] = severity


def to_column(column: Column, value: Any, *, length: LengthPolicy = "error", partial: PartialPolicy = "skip") -> Scalar:
    """Convert one value as `converter` does; for values that are converted once."""
    return converter(column, length=length, partial=partial)(value)


def converter(
    column: Column, *, length: LengthPolicy = "error", partial: PartialPolicy = "skip"
) -> Callable[[Any], Scalar]:
    """Choose the conversion from a JSON value to `column` once.

    What it returns raises Unfit: `invalid-element` (wrong JSON type or not a date), `too-long`, `out-of-range`,
    `partial-date` (information), `unknown-option`. Raises ValueError for a column type that holds no plain value.
    """
    if column.type in TEXT_TYPES:
        return _text(column, length)
    if column.type in _WHOLE:
        return _whole(column)
    if column.type in _PLACES:
        return _decimal(column)
    if column.type == "Boolean":
        return _boolean
    if column.type == "DateTime":
        return _date_only(column, partial) if column.format == "DateOnly" else _date_and_time(column, partial)
    if column.type in OPTION_TYPES:
        return _option(column)
    raise ValueError(f"{column.name} is of type {column.type}, which holds no plain value")


def text_length(value: str) -> int:
    """Length as Dataverse counts it: UTF-16 code units."""
    return len(value) if value.isascii() else len(value) + sum(character > "\uffff" for character in value)


def truncated(value: str, limit: int) -> str:
    """Cut to the longest beginning of `value` that fits `limit`; no character is cut in half."""
    cut = value[:limit]
    while text_length(cut) > limit:
        cut = cut[:-1]
    return cut


def _text(column: Column, policy: LengthPolicy) -> Callable[[Any], Scalar]:
    limit = column.max_length

    def convert(value: Any) -> Scalar:
        if not isinstance(value, str):
            raise Unfit("invalid-element", f"{column.name} takes text, not {_kind(value)}")
        if _UNSTORABLE.search(value):
            raise Unfit("invalid-element", f"{column.name} takes no NUL and no half of a character")
        if limit is not None and len(value) * 2 > limit and text_length(value) > limit:
            if policy == "truncate":
                return truncated(value, limit)
            raise Unfit("too-long", f"{column.name} holds {limit} characters, the value has {text_length(value)}")
        return value

    return convert


def _number(column: Column, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise Unfit("invalid-element", f"{column.name} takes a number, not {_kind(value)}")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise Unfit("invalid-element", f"{column.name} takes a finite number")
    low, high = _bounds(column)
    if not low <= number <= high:
        raise Unfit("out-of-range", f"{column.name} takes {low:f} to {high:f}")
    return number


def _bounds(column: Column) -> tuple[Decimal, Decimal]:
    limit = _LIMITS.get(column.type, 0)
    low, high = _WHOLE.get(column.type, (-limit, limit))
    return (
        Decimal(low) if column.minimum is None else max(Decimal(low), Decimal(str(column.minimum))),
        Decimal(high) if column.maximum is None else min(Decimal(high), Decimal(str(column.maximum))),
    )


def _whole(column: Column) -> Callable[[Any], Scalar]:
    def convert(value: Any) -> Scalar:
        number = _number(column, value)
        if number != number.to_integral_value():
            raise Unfit("invalid-element", f"{column.name} takes a whole number")
        return int(number)

    return convert


def _decimal(column: Column) -> Callable[[Any], Scalar]:
    places = column.precision if column.precision is not None else _PLACES[column.type]

    def convert(value: Any) -> Scalar:
        return _rounded(_number(column, value), places)

    return convert


def _rounded(number: Decimal, places: int | None) -> Decimal:
    """Round half up to `places`, as Dataverse would, so that what is read back equals what was sent."""
    exponent = number.as_tuple().exponent
    if places is None or (isinstance(exponent, int) and -exponent <= places):
        return number
    return number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def _boolean(value: Any) -> Scalar:
    if not isinstance(value, bool):
        raise Unfit("invalid-element", f"a yes/no column takes true or false, not {_kind(value)}")
    return value


def _option(column: Column) -> Callable[[Any], Scalar]:
    def convert(value: Any) -> Scalar:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit("invalid-element", f"{column.name} takes the number of an option, not {_kind(value)}")
        if value not in column.options:
            raise Unfit("unknown-option", f"{column.name} has no such option")
        return value

    return convert


def _date_only(column: Column, policy: PartialPolicy) -> Callable[[Any], Scalar]:
    def convert(value: Any) -> Scalar:
        return _in_range(column, _parse(column, value, policy)[0]).isoformat()

    return convert


def _date_and_time(column: Column, policy: PartialPolicy) -> Callable[[Any], Scalar]:
    def convert(value: Any) -> Scalar:
        day, moment = _parse(column, value, policy)
        if moment is None:
            return f"{_in_range(column, day).isoformat()}T00:00:00Z"
        try:
            utc = moment.astimezone(UTC)
        except OverflowError:
            raise Unfit("out-of-range", f"{column.name} takes {_FIRST_DAY} to {_LAST_DAY}") from None
        _in_range(column, utc.date())
        return utc.strftime("%Y-%m-%dT%H:%M:%SZ")

    return convert


def _in_range(column: Column, day: date) -> date:
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise Unfit("out-of-range", f"{column.name} takes {_FIRST_DAY} to {_LAST_DAY}")
    return day


def _parse(column: Column, value: Any, policy: PartialPolicy) -> tuple[date, datetime | None]:
    """Read a FHIR date, dateTime or instant: the date as written, and the moment if there is a time."""
    if not isinstance(value, str):
        raise Unfit("invalid-element", f"{column.name} takes a date, not {_kind(value)}")
    found = _DATE.fullmatch(value)
    if found is None:
        raise Unfit("invalid-element", f"{column.name} takes YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with Z or an offset")
    year, month, day, hour, minute, second, zulu, sign, ahead, past = found.groups()
    if day is None and policy == "skip":
        raise Unfit("partial-date", f"{column.name} takes whole dates; this one has no day", "information")
    try:
        written = date(int(year), int(month or 1), int(day or 1))
        if hour is None:
            return written, None
        offset = timedelta() if zulu else timedelta(hours=int(ahead), minutes=int(past)) * (-1 if sign == "-" else 1)
        if abs(offset) > _FARTHEST_OFFSET:
            raise ValueError  # noqa: TRY301  # joins datetime's own refusals below
        leap = int(second) == _LEAP_SECOND
        moment = datetime(
            *written.timetuple()[:3],
            int(hour),
            int(minute),
            59 if leap else int(second),
            tzinfo=timezone(offset),
        )
        return written, moment + timedelta(seconds=1) if leap else moment
    except (ValueError, OverflowError):
        raise Unfit("invalid-element", f"{column.name} takes dates and times that exist") from None


def same(column: Column, wire: Any, value: Scalar) -> bool:
    """Whether what a GET returned for `column` equals a draft's value, at the column's precision.

    Text is compared exactly, although Dataverse's database ignores case and trailing blanks. An empty text is null.
    """
    if wire is None or value is None:
        return wire is value or "" in (wire, value)
    if column.type in TEXT_TYPES:
        return isinstance(wire, str) and wire == value
    if column.type == "Boolean":
        return wire is value
    if column.type == "DateTime":
        return wire == value or (isinstance(wire, str) and _same_time(column, wire, str(value)))
    if column.type in _PLACES or column.type in _WHOLE or column.type in OPTION_TYPES:
        return _same_number(column, wire, value)
    return bool(wire == value)


def _same_time(column: Column, wire: str, value: str) -> bool:
    if column.format == "DateOnly":
        return wire[:10] == value[:10]
    convert = _date_and_time(column, "first-day")
    try:
        return convert(wire) == convert(value)
    except Unfit:
        return False


def _same_number(column: Column, wire: Any, value: Scalar) -> bool:
    if isinstance(wire, bool) or isinstance(value, bool):
        return False
    places = column.precision if column.precision is not None else _PLACES.get(column.type)
    try:
        return _rounded(Decimal(str(wire)), places) == _rounded(Decimal(str(value)), places)
    except InvalidOperation:
        return False


def _kind(value: Any) -> str:
    """Name the JSON type of a value, never the value."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float, Decimal)):
        return "a number"
    return {str: "text", list: "an array", type(None): "null"}.get(type(value), "an object")

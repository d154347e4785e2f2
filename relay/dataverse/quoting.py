"""The one place that turns values into OData text: records, filters, queries and binds.

Filters are plain OData text until `query` percent-encodes them once. Every error is a ValueError that does not
repeat the value, since values are patient data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final
from urllib.parse import quote
from uuid import UUID

Value = str | int | Decimal | UUID | date | None
"""What a filter compares a property with; bool is an int here as everywhere."""

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOGICAL: Final = re.compile(r"[a-z0-9_]+")
_SET: Final = re.compile(r"[A-Za-z0-9_]+")
_ORDER: Final = re.compile(r"[a-z0-9_]+(?: (?:asc|desc))?(?:,[a-z0-9_]+(?: (?:asc|desc))?)*")

# `In` takes a JSON array, in which a doubled quote ends the text and a backslash escapes, unlike in an OData literal
# (Microsoft's page on filtering says so for quotes), and texts of at most 850 characters. What reads the same in both
# may stand in it.
_SAME_IN_JSON: Final = re.compile(r"[^'\"\\\[\](){},\x00-\x1f\x7f]{0,850}")

_RAW: Final = "'(),"
"""What stays as it is in a query option's value: structure of OData, but never of a URL."""


def guid(value: UUID | str) -> str:
    """Return a GUID in lower case; raises ValueError for anything but the 8-4-4-4-12 form."""
    text = str(value)
    if not _GUID.fullmatch(text):
        raise ValueError("a record id must be a GUID such as 00000000-0000-0000-0000-000000000000")
    return text.lower()


def logical_name(name: str) -> str:
    """Return a column's or property's name; raises ValueError unless it is made of a-z, 0-9 and _."""
    if not _LOGICAL.fullmatch(name):
        raise ValueError(f"{name!a} is not a logical name (valid: a-z, 0-9, _)")
    return name


def set_name(name: str) -> str:
    """Return an entity set's or navigation property's name; raises ValueError unless it is letters, digits, _."""
    if not _SET.fullmatch(name):
        raise ValueError(f"{name!a} is not an entity set or navigation name (valid: A-Z, a-z, 0-9, _)")
    return name


def record(entity_set: str, row_id: UUID | str) -> str:
    """Name a row by its primary key: `contacts(00000000-…)`."""
    return f"{set_name(entity_set)}({guid(row_id)})"


def bind(entity_set: str, row_id: UUID | str) -> str:
    """Name a row for `<navigation>@odata.bind`: `/contacts(00000000-…)`."""
    return f"/{record(entity_set, row_id)}"


def string_literal(text: str) -> str:
    """Quote text for use inside a filter, not yet percent-encoded; raises ValueError for lone surrogates."""
    return "'" + _encodable(text).replace("'", "''") + "'"


def literal(value: Value) -> str:
    """Write any value for use inside a filter."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return string_literal(value)
        case int() | UUID():
            return str(value)
        case date():
            return _moment(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
    raise ValueError(
        f"a {type(value).__name__} cannot be compared with (valid: text, numbers, true, false, GUID, null)"
    )


def _moment(value: date) -> str:
    """Write a date as it is and a date with a time in UTC; neither is quoted in a filter."""
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.tzinfo is None:
        raise ValueError("a time of day means nothing without its zone")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def equals(property_name: str, value: Value) -> str:
    """Say that a property has a value; SQL ignores case and trailing blanks, so compare again."""
    return f"{logical_name(property_name)} eq {literal(value)}"


def in_filter(property_name: str, values: Iterable[str]) -> str:
    """Say that a property has one of the values, as `In` and, for values that `In` would misread, as `eq`.

    The `In` and each `eq` count as one of the 500 conditions that Dataverse allows in a query.
    """
    name = logical_name(property_name)
    plain: list[str] = []
    others: list[str] = []
    for value in dict.fromkeys(values):
        (plain if _SAME_IN_JSON.fullmatch(value) else others).append(string_literal(value))
    if not plain and not others:
        raise ValueError(f"{name}: a filter over no values would mean nothing")
    filters = [f"{name} eq {each}" for each in others]
    if plain:
        filters.insert(0, f"Microsoft.Dynamics.CRM.In(PropertyName='{name}',PropertyValues=[{','.join(plain)}])")
    return any_of(*filters)


def both(*filters: str) -> str:
    """Say that all filters hold; empty ones hold always."""
    return _join(" and ", [each for each in filters if each])


def any_of(*filters: str) -> str:
    """Say that one of the filters holds; raises ValueError for none or an empty one, which would hold always."""
    if not filters or not all(filters):
        raise ValueError("any_of needs filters, none of them empty")
    return _join(" or ", list(filters))


def _join(word: str, filters: list[str]) -> str:
    return filters[0] if len(filters) == 1 else word.join(f"({each})" for each in filters)


def query(
    entity_set: str,
    *,
    select: Iterable[str] = (),
    filter: str = "",  # noqa: A002 - the name of the query option
    top: int | None = None,
    orderby: str = "",
    expand: str = "",
) -> str:
    """Return a URL relative to the API root, percent-encoded once; `filter` comes from this module's functions."""
    options: list[str] = []
    if columns := [logical_name(each) for each in select]:
        options.append(f"$select={','.join(columns)}")
    if filter:
        options.append(f"$filter={_encode(filter)}")
    if top is not None:
        if top < 1:
            raise ValueError(f"top is {top} (valid: 1 or more)")
        options.append(f"$top={top}")
    if orderby:
        if not _ORDER.fullmatch(orderby):
            raise ValueError(f"orderby is {orderby!a} (valid: column, column asc, column desc, with commas between)")
        options.append(f"$orderby={_encode(orderby)}")
    if expand:
        options.append(f"$expand={_encode(expand)}")
    name = set_name(entity_set)
    return f"{name}?{'&'.join(options)}" if options else name


def tagged(url: str, tag: str) -> str:
    """Add the `tag` query option, which comes back in the shared variables of the events of this write."""
    return f"{url}{'&' if '?' in url else '?'}tag={_encode(tag)}"


def _encode(text: str) -> str:
    return quote(_encodable(text), safe=_RAW)


def _encodable(text: str) -> str:
    """Return the text; raises ValueError for lone surrogates, without the text that Python's own error carries."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text with a lone surrogate cannot be sent") from None
    return text

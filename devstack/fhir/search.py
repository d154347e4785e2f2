"""Search by `_id`, `identifier` and `_lastUpdated`, with `_count`; everything else is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode

from devstack.fhir.errors import invalid, not_supported
from devstack.fhir.store import Store, Token, Version

PARAMETERS: Final = ("_id", "identifier", "_lastUpdated")
_PAGE: Final = ("_count", "_offset")
_SPLIT: Final = {mark: re.compile(rf"(?<!\\)((?:\\\\)*){re.escape(mark)}") for mark in ",|"}
_DATE: Final = re.compile(
    r"(?P<prefix>eq|gt|ge|lt|le)?"
    r"(?P<date>\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)?)?)"
)


@dataclass(slots=True)
class Query:
    """A parsed search: each list is a set of choices (or), the lists of one name are all to be met (and)."""

    ids: list[list[str]] = field(default_factory=list)
    identifiers: list[list[Token]] = field(default_factory=list)
    updated: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    count: int | None = None
    offset: int = 0

    @property
    def has_criteria(self) -> bool:
        """Whether anything narrows the search; a conditional interaction needs that."""
        return bool(self.ids or self.identifiers or self.updated)


def parse_query(text: str) -> Query:
    """Read a query string; raises FhirError: 501 naming a parameter that is not supported, 400 for a wrong value."""
    query = Query()
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name == "_id":
            query.ids.append([_unescape(each) for each in _split(value, ",")])
        elif name == "identifier":
            query.identifiers.append([_token(each) for each in _split(value, ",")])
        elif name == "_lastUpdated":
            query.updated.append(_period(value))
        elif name in _PAGE:
            if not value.isascii() or not value.isdigit():
                raise invalid(f"{name}={value} is not a whole number")
            number = int(value[:9])
            query.count, query.offset = (number, query.offset) if name == "_count" else (query.count, number)
        elif name == "_format":
            check_format(value)
        else:
            raise not_supported(f"search parameter {name} (valid: {', '.join((*PARAMETERS, *_PAGE))})")
    return query


def check_format(value: str) -> None:
    """Refuse a `_format` that does not mean JSON: 501."""
    if value not in ("json", "application/json", "application/fhir+json", "application/fhir json"):
        raise not_supported(f"_format={value}")


def find(store: Store, type_: str, query: Query) -> list[Version]:
    """Return the resources of a type that the query means, in the order of their creation; paging is the caller's."""
    live = store.live(type_)
    chosen: Iterable[Version] = live.values()
    if query.ids:
        wanted = [dict.fromkeys(choices) for choices in query.ids]
        chosen = [live[id_] for id_ in wanted[0] if id_ in live and all(id_ in other for other in wanted)]
    elif query.identifiers:
        ids = dict.fromkeys(id_ for token in query.identifiers[0] for id_ in store.with_token(type_, token))
        chosen = [live[id_] for id_ in ids]
    return [
        version
        for version in chosen
        if all(any(token in version.tokens for token in choices) for choices in query.identifiers)
        and all(_within(version.updated, *period) for period in query.updated)
    ]


def page_link(text: str, offset: int) -> str:
    """Return the query string of the page that starts at `offset`."""
    pairs = [(name, value) for name, value in parse_qsl(text, keep_blank_values=True) if name != "_offset"]
    return urlencode([*pairs, ("_offset", str(offset))])


def _split(value: str, mark: str, most: int = 0) -> list[str]:
    """Split at a mark that no backslash escapes."""
    pieces = _SPLIT[mark].split(value, most)
    parts = [pieces[0]]
    for slashes, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        parts[-1] += slashes
        parts.append(piece)
    return parts


def _unescape(value: str) -> str:
    return re.sub(r"\\([\\,$|])", r"\1", value)


def _token(value: str) -> Token:
    parts = [_unescape(each) for each in _split(value, "|", 1)]
    if parts == [""]:
        raise invalid("identifier has an empty choice")
    if len(parts) == 1:
        return (None, parts[0])
    system, code = parts
    if not system and not code:
        raise invalid("identifier=| names neither a system nor a value")
    return (system, code or None)


def parse_instant(text: str) -> tuple[datetime, datetime]:
    """Return the start of a date or time and the start of the next one at its precision; raises FhirError (400)."""
    try:
        if len(text) in (4, 7):
            year, month = int(text[:4]), int(text[5:] or 1)
            after = (year + 1, 1) if len(text) == 4 or month == 12 else (year, month + 1)  # noqa: PLR2004 - YYYY, December
            return datetime(year, month, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC)
        start = datetime.fromisoformat(text)
        if start.tzinfo is None:
            start = start.replace(tzinfo=UTC)
        start = start.astimezone(UTC)
        return start, start + _precision(text)
    except (ValueError, OverflowError) as error:
        raise invalid(f"{text} is not a date or a time") from error


def _precision(text: str) -> timedelta:
    if "T" not in text:
        return timedelta(days=1)
    clock = re.split(r"Z|[+-]", text.split("T", 1)[1])[0]
    if "." in clock:
        return timedelta(milliseconds=1)
    return timedelta(seconds=1) if clock.count(":") > 1 else timedelta(minutes=1)


def _period(value: str) -> tuple[str, datetime, datetime]:
    match = _DATE.fullmatch(value.replace(" ", "+"))  # a plus sign that nobody escaped
    if match is None:
        raise invalid(f"_lastUpdated={value} is not a date or time with a prefix of eq, gt, ge, lt, le, or none")
    return (match["prefix"] or "eq", *parse_instant(match["date"]))


def _within(when: datetime, prefix: str, start: datetime, after: datetime) -> bool:
    return {
        "eq": start <= when < after,
        "gt": when >= after,
        "ge": when >= start,
        "lt": when < start,
        "le": when < after,
    }[prefix]

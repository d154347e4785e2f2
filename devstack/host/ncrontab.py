"""NCRONTAB: six fields, second first; every field has to fit, days of the month and of the week both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_LONGEST_SEARCH = timedelta(days=366 * 8)  # 29 February on a given day aside, every schedule comes round in that time


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a timer is due; ValueError from `parse` names the field."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read `{second} {minute} {hour} {day} {month} {day of week}`, such as `0 */5 * * * *`."""
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise ValueError(f"schedule {text!r}: six fields, second first, such as '0 */5 * * * *'")
        return cls(*(_field(text, part, field) for part, field in zip(parts, _FIELDS, strict=True)))

    def after(self, moment: datetime) -> datetime:
        """Give the first time that is later than `moment`; ValueError when there is none."""
        at = moment.replace(microsecond=0) + timedelta(seconds=1)
        end = moment + _LONGEST_SEARCH
        while at < end:
            if at.month not in self.months or at.day not in self.days or at.isoweekday() % 7 not in self.weekdays:
                at = at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0, second=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at = at.replace(second=0) + timedelta(minutes=1)
            elif at.second not in self.seconds:
                at += timedelta(seconds=1)
            else:
                return at
        raise ValueError("the schedule never comes round")


def _field(text: str, part: str, field: tuple[str, int, int, tuple[str, ...]]) -> frozenset[int]:
    name, low, high, words = field
    values: set[int] = set()
    for item in part.split(","):
        span, _, step = item.partition("/")
        try:
            first, last = _span(span, low, high, words)
            every = int(step) if "/" in item else 1
            if "/" in item and span.isdigit():
                last = high  # `5/10` is from 5 on
        except ValueError:
            first, last, every = 0, -1, 1
        if not low <= first <= last <= high or every < 1:
            raise ValueError(f"schedule {text!r}: {name} {item!r} (valid: {low} to {high}, *, lists, ranges, steps)")
        values.update(range(first, last + 1, every))
    return frozenset(values)


def _span(span: str, low: int, high: int, words: tuple[str, ...]) -> tuple[int, int]:
    if span == "*":
        return low, high
    first, dash, last = span.partition("-")
    start = _number(first, low, words)
    return start, _number(last, low, words) if dash else start


def _number(text: str, low: int, words: tuple[str, ...]) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + low
    if not text.isdigit():
        raise ValueError(text)
    return int(text)

"""Values: FHIR primitives become column values by the column's type, and compare with what Dataverse returns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mapping.model import Column
from relay.mapping.values import Unfit, converter, same, text_length, to_column, truncated

TEXT = Column("name", "String", max_length=5)
WHOLE = Column("rank", "Integer", minimum=-10, maximum=10)
BIG = Column("big", "BigInt")
DECIMAL = Column("length", "Decimal", minimum=-1000.5, maximum=1e11, precision=2)
MONEY = Column("income", "Money", minimum=0)
DOUBLE = Column("latitude", "Double")
FLAG = Column("flag", "Boolean")
OPTION = Column("gender", "Picklist", options={1: "Male", 2: "Female"})
DAY = Column("birthdate", "DateTime", format="DateOnly")
MOMENT = Column("start", "DateTime", format="DateAndTime")
COLUMNS = (TEXT, WHOLE, BIG, DECIMAL, MONEY, DOUBLE, FLAG, OPTION, DAY, MOMENT)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (TEXT, "Ærøgç", "Ærøgç"),
        (Column("text", "Memo"), "x" * 9999, "x" * 9999),
        (WHOLE, 3, 3),
        (WHOLE, Decimal("3.0"), 3),
        (BIG, 2**62, 2**62),
        (DECIMAL, Decimal("1.005"), Decimal("1.01")),
        (DECIMAL, Decimal("0.10"), Decimal("0.10")),
        (DECIMAL, 0.1, Decimal("0.1")),
        (DECIMAL, 7, Decimal(7)),
        (MONEY, Decimal("1.00005"), Decimal("1.0001")),
        (DOUBLE, Decimal("41.88888888888888"), Decimal("41.88888888888888")),
        (FLAG, True, True),
        (OPTION, 2, 2),
        (DAY, "1980-02-29", "1980-02-29"),
        (DAY, "2014-03-02T23:30:00-11:00", "2014-03-02"),
        (MOMENT, "2014-03-02", "2014-03-02T00:00:00Z"),
        (MOMENT, "2014-03-02T23:30:00-11:00", "2014-03-03T10:30:00Z"),
        (MOMENT, "2014-03-02T23:30:00.999+00:00", "2014-03-02T23:30:00Z"),
        (MOMENT, "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        (MOMENT, "2014-03-02T00:00:00Z", "2014-03-02T00:00:00Z"),
    ],
)
def test_a_value_becomes_what_its_column_holds(column: Column, value: Any, expected: Any) -> None:
    """DateOnly keeps the date as written; DateAndTime is UTC to the second; decimals do not drift."""
    converted = to_column(column, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        (TEXT, "sixsix", "too-long"),
        (TEXT, "😀😀😀", "too-long"),
        (TEXT, 5, "invalid-element"),
        (TEXT, {"a": 1}, "invalid-element"),
        (TEXT, "\ud800", "invalid-element"),
        (TEXT, "a\x00", "invalid-element"),
        (WHOLE, 11, "out-of-range"),
        (WHOLE, Decimal("1.5"), "invalid-element"),
        (WHOLE, True, "invalid-element"),
        (WHOLE, "3", "invalid-element"),
        (WHOLE, Decimal("1e999999"), "out-of-range"),
        (BIG, 2**63, "out-of-range"),
        (DECIMAL, Decimal("-1000.51"), "out-of-range"),
        (DECIMAL, Decimal("NaN"), "invalid-element"),
        (DECIMAL, float("inf"), "invalid-element"),
        (MONEY, Decimal(-1), "out-of-range"),
        (DOUBLE, Decimal("1e12"), "out-of-range"),
        (FLAG, "yes", "invalid-element"),
        (FLAG, 1, "invalid-element"),
        (OPTION, 3, "unknown-option"),
        (OPTION, True, "invalid-element"),
        (OPTION, "1", "invalid-element"),
        (DAY, "1980", "partial-date"),
        (DAY, "1980-05", "partial-date"),
        (MOMENT, "1980-05", "partial-date"),
        (DAY, "1980-02-30", "invalid-element"),
        (DAY, "1980-2-3", "invalid-element"),
        (DAY, "٠١٢٣-01-01", "invalid-element"),
        (DAY, "1700-01-01", "out-of-range"),
        (DAY, 1980, "invalid-element"),
        (MOMENT, "9999-12-31", "out-of-range"),
        (MOMENT, "9999-12-31T23:59:59-05:00", "out-of-range"),
        (MOMENT, "0001-01-01T00:00:00+14:00", "out-of-range"),
        (MOMENT, "2014-03-02T23:30", "invalid-element"),
        (MOMENT, "2014-03-02T23:30:00", "invalid-element"),
        (MOMENT, "2014-03-02T25:30:00Z", "invalid-element"),
        (MOMENT, "2014-03-02T23:30:00+23:00", "invalid-element"),
        (MOMENT, "9999-12-31T23:59:60Z", "invalid-element"),
    ],
)
def test_a_value_that_does_not_fit_says_why_without_itself(column: Column, value: Any, code: str) -> None:
    """The code is stable, and the message never holds the value."""
    with pytest.raises(Unfit) as unfit:
        to_column(column, value)
    assert unfit.value.code == code
    assert unfit.value.severity == ("information" if code == "partial-date" else "error")
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(unfit.value)


@pytest.mark.parametrize(("text", "day"), [("1980", "1980-01-01"), ("1980-05", "1980-05-01")])
def test_a_partial_date_may_be_its_first_day(text: str, day: str) -> None:
    """Only a line that asks for it takes the first day."""
    assert to_column(DAY, text, partial="first-day") == day
    assert to_column(MOMENT, text, partial="first-day") == f"{day}T00:00:00Z"


def test_truncation_cuts_between_characters() -> None:
    """Dataverse counts UTF-16 units; half a character is never sent."""
    assert to_column(TEXT, "abcdefg", length="truncate") == "abcde"
    assert to_column(TEXT, "😀😀😀", length="truncate") == "😀😀"


@given(st.text(max_size=12), st.integers(0, 12))
def test_truncated_text_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    """It fits, it is a beginning, and one character more would not fit."""
    cut = truncated(text, limit)
    assert text.startswith(cut)
    assert text_length(cut) <= limit
    assert cut == text or text_length(text[: len(cut) + 1]) > limit


def test_column_types_without_plain_values_are_refused() -> None:
    """Lookups and images hold no plain value."""
    with pytest.raises(ValueError, match="holds no plain value"):
        converter(Column("image", "Image"))


@pytest.mark.parametrize(
    ("column", "wire", "value", "equal"),
    [
        (TEXT, "a", "a", True),
        (TEXT, "A", "a", False),
        (TEXT, "a ", "a", False),
        (TEXT, None, "", True),
        (TEXT, "", None, True),
        (TEXT, None, None, True),
        (TEXT, "a", None, False),
        (TEXT, 5, "5", False),
        (WHOLE, 3, 3, True),
        (WHOLE, None, 0, False),
        (WHOLE, True, 1, False),
        (OPTION, 1, 1, True),
        (OPTION, 1, 2, False),
        (DECIMAL, 1.1, Decimal("1.10"), True),
        (DECIMAL, Decimal("1.10"), Decimal("1.101"), True),
        (DECIMAL, 1.1, Decimal("1.2"), False),
        (DECIMAL, "x", Decimal(1), False),
        (MONEY, 1.00004, Decimal("1.00004"), True),
        (DOUBLE, 41.5, Decimal("41.5"), True),
        (FLAG, True, True, True),
        (FLAG, False, True, False),
        (FLAG, None, False, False),
        (DAY, "1980-01-02", "1980-01-02", True),
        (DAY, "1980-01-02T00:00:00Z", "1980-01-02", True),
        (DAY, "1980-01-03", "1980-01-02", False),
        (MOMENT, "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z", True),
        (MOMENT, "2020-01-01T01:00:00.000+01:00", "2020-01-01T00:00:00Z", True),
        (MOMENT, "2020-01-01T00:00:01Z", "2020-01-01T00:00:00Z", False),
        (MOMENT, "soon", "2020-01-01T00:00:00Z", False),
        (MOMENT, 5, "2020-01-01T00:00:00Z", False),
        (Column("id", "Uniqueidentifier"), "x", "x", True),
    ],
)
def test_what_dataverse_returns_is_compared_at_the_columns_precision(
    column: Column, wire: Any, value: Any, equal: bool
) -> None:
    """Text exactly, numbers by value, moments as moments; an empty text is null."""
    assert same(column, wire, value) is equal


@given(
    st.sampled_from(COLUMNS),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.decimals(),
        st.text(),
        st.datetimes().map(lambda when: when.isoformat() + "Z"),
        st.dates().map(str),
    ),
)
def test_any_value_converts_or_is_unfit(column: Column, value: Any) -> None:
    """Nothing but Unfit is ever raised, and what was converted equals itself and converts to itself."""
    try:
        converted = to_column(column, value)
    except Unfit:
        return
    assert same(column, converted, converted)
    assert to_column(column, converted) == converted

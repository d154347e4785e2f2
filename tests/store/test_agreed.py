"""What both sides last agreed on: marks tell values apart and hold none of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from relay.mapping.model import Column
from relay.store.agreed import TABLE, Agreed, canonical
from relay.telemetry import Pseudonyms

ROW = "6f9619ff-8b86-4d11-b42d-00c04fc964ff"
OTHER = "7f9619ff-8b86-4d11-b42d-00c04fc964ff"
NAME = Column("lastname", "String")


@pytest.fixture
def agreed(store: Any) -> Agreed:
    return Agreed(store, Pseudonyms("key"))


ALIKE: list[tuple[Column, Any, Any]] = [
    (NAME, "Größe", "Größe"),
    (NAME, "", None),
    (Column("x", "Memo"), "a\nb", "a\nb"),
    (Column("x", "Boolean"), True, True),
    (Column("x", "Integer"), 5, Decimal(5)),
    (Column("x", "Picklist"), 935000000, 935000000),
    (Column("x", "Decimal", precision=2), Decimal("1.10"), Decimal("1.1")),
    (Column("x", "Decimal", precision=2), Decimal("1.105"), 1.11),
    (Column("x", "Decimal"), Decimal("1E+2"), 100),
    (Column("x", "Double", precision=1), Decimal("-0.0"), 0),
    (Column("x", "Money", precision=4), Decimal("12.5000"), 12.5),
    (Column("x", "DateTime", format="DateOnly"), "2020-01-31", "2020-01-31T00:00:00Z"),
    (Column("x", "DateTime", format="DateAndTime"), "2020-01-31T09:30:00Z", "2020-01-31T10:30:00.5+01:00"),
    (Column("x", "Lookup", targets=("contact",)), ROW, ROW.upper()),
    (Column("x", "Lookup", targets=("contact",)), None, None),
]


@pytest.mark.parametrize(
    ("column", "draft", "wire"), ALIKE, ids=[f"{number}-{c.type}" for number, (c, *_) in enumerate(ALIKE)]
)
def test_a_value_has_one_mark_on_both_sides(column: Column, draft: Any, wire: Any, agreed: Agreed) -> None:
    """However a draft and the wire spell a value, its mark is the same at the column's precision."""
    assert canonical(column, draft) == canonical(column, wire)
    assert agreed.mark("contact", ROW, column, draft) == agreed.mark("contact", ROW, column, wire)


UNLIKE: list[tuple[Column, Any, Any]] = [
    (NAME, "a", "A"),
    (NAME, "a", "a "),
    (NAME, "a", None),
    (Column("x", "Boolean"), False, None),
    (Column("x", "Boolean"), True, False),
    (Column("x", "Integer"), 0, None),
    (Column("x", "Decimal", precision=2), Decimal("1.10"), Decimal("1.11")),
    (Column("x", "DateTime", format="DateAndTime"), "2020-01-31T09:30:00Z", "2020-01-31T09:30:01Z"),
    (Column("x", "Lookup", targets=("contact",)), ROW, OTHER),
]


@pytest.mark.parametrize(
    ("column", "one", "other"), UNLIKE, ids=[f"{number}-{c.type}" for number, (c, *_) in enumerate(UNLIKE)]
)
def test_two_values_have_two_marks(column: Column, one: Any, other: Any, agreed: Agreed) -> None:
    """Values that differ in the column differ in their marks; nothing is a value of its own."""
    assert agreed.mark("contact", ROW, column, one) != agreed.mark("contact", ROW, column, other)


def test_a_mark_says_nothing_about_another_row(agreed: Agreed, store: Any) -> None:
    """The same value has other marks in another row, column or table, and under another key; a GUID's case is nothing."""
    marks = {
        agreed.mark("contact", ROW, NAME, "v"),
        agreed.mark("contact", OTHER, NAME, "v"),
        agreed.mark("account", ROW, NAME, "v"),
        agreed.mark("contact", ROW, Column("firstname", "String"), "v"),
        Agreed(store, Pseudonyms("another")).mark("contact", ROW, NAME, "v"),
    }
    assert len(marks) == 5
    assert agreed.mark("contact", ROW.upper(), NAME, "v") in marks


async def test_marks_are_kept_by_row_and_column(agreed: Agreed) -> None:
    """What is put is got, column by column; other rows are not touched, and what was never agreed on is not there."""
    assert await agreed.get("contact", ROW) == {}
    await agreed.put("contact", ROW, {"lastname": "1", "firstname": "2"})
    await agreed.put("contact", OTHER, {"lastname": "3"})
    await agreed.put("contact", ROW, {"lastname": "4"})
    await agreed.put("contact", ROW, {})
    assert await agreed.get("contact", ROW.upper()) == {"lastname": "4", "firstname": "2"}
    assert await agreed.get("account", ROW) == {}
    await agreed.forget("contact", ROW)
    assert await agreed.get("contact", ROW) == {}
    assert await agreed.get("contact", OTHER) == {"lastname": "3"}


async def test_the_store_holds_hashes_only(agreed: Agreed, store: Any) -> None:
    """Neither the value nor the row's GUID stands in the table, and another key finds nothing."""
    await agreed.put("contact", ROW, {"lastname": agreed.mark("contact", ROW, NAME, "Canary")})
    rows = await store.list_rows(TABLE)
    assert len(rows) == 1
    assert "Canary" not in str(rows)
    assert ROW not in str(rows)
    assert await Agreed(store, Pseudonyms("another")).get("contact", ROW) == {}

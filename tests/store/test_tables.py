"""Tables of either store."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.names import LONGEST_TABLE_TEXT, fit_key, read_key


async def test_a_row_comes_back_with_its_types(store: Any) -> None:
    """Text, whole numbers, fractions and booleans keep their type."""
    values = {"text": "Größe\n\0", "whole": 2**62, "part": 1.0, "yes": True}
    await store.put_row("Outcomes", "p", "r/1#?", values)
    row = await store.get_row("Outcomes", "p", "r/1#?")
    assert row == values
    assert row is not None
    assert [type(each) for each in row.values()] == [str, int, float, bool]


async def test_put_replaces_the_whole_row(store: Any) -> None:
    """Nothing of the former row is left."""
    await store.put_row("Outcomes", "p", "r", {"a": 1, "b": 2})
    await store.put_row("Outcomes", "p", "r", {"a": 3})
    assert await store.get_row("Outcomes", "p", "r") == {"a": 3}


async def test_add_creates_once(store: Any) -> None:
    """Of two that add the same row one wins, and the other writes nothing."""
    assert await store.add_row("Outcomes", "p", "r", {"a": 1}) is True
    assert await store.add_row("Outcomes", "p", "r", {"a": 2}) is False
    assert await store.get_row("Outcomes", "p", "r") == {"a": 1}


async def test_what_is_not_there(store: Any) -> None:
    """Unknown rows are None, unknown tables empty, and deleting them is fine."""
    assert await store.get_row("Outcomes", "p", "r") is None
    assert await store.list_rows("Outcomes") == []
    await store.delete_row("Outcomes", "p", "r")


async def test_rows_are_listed_in_key_order(store: Any) -> None:
    """A listing is of one table, or one partition of it, by partition and row."""
    for partition, row in (("b", "1"), ("a", "2"), ("a", "1")):
        await store.put_row("Outcomes", partition, row, {"at": row})
    await store.put_row("Others", "a", "0", {})
    await store.delete_row("Outcomes", "a", "2")
    assert await store.list_rows("Outcomes") == [("a", "1", {"at": "1"}), ("b", "1", {"at": "1"})]
    assert await store.list_rows("Outcomes", "b") == [("b", "1", {"at": "1"})]
    assert await store.list_rows("Outcomes", most=1) == [("a", "1", {"at": "1"})]
    assert await store.list_rows("Outcomes", most=0) == []


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"x"])
async def test_a_value_that_a_table_cannot_hold_is_refused(store: Any, value: Any) -> None:
    """Only str, int, float and bool go into a row."""
    with pytest.raises(TypeError, match="str, int, float or bool"):
        await store.put_row("Outcomes", "p", "r", {"a": value})


@pytest.mark.parametrize("name", ["dead-letters", "1st", "ab", "a_b", ""])
async def test_a_table_name_that_azure_refuses_is_refused(store: Any, name: str) -> None:
    """Table names follow Azure's rules."""
    with pytest.raises(ValueError, match="table"):
        await store.get_row(name, "p", "r")


@pytest.mark.parametrize(
    "key", ["", "~", "~2f", "a/b\\c#d?e", "it's", "\x00\t\x7f\x85", "Größe 日本", " ", "%2F", "x" * 512]
)
async def test_any_text_can_be_a_key(store: Any, key: str) -> None:
    """Keys come back as they were, whatever Azure would refuse in one."""
    await store.put_row("Outcomes", key, "r", {"a": 1})
    await store.put_row("Outcomes", "p", key, {"a": 2})
    assert await store.get_row("Outcomes", key, "r") == {"a": 1}
    assert await store.add_row("Outcomes", "p", key, {"a": 3}) is False
    assert await store.list_rows("Outcomes", "p") == [("p", key, {"a": 2})]
    assert await store.list_rows("Outcomes", key) == [(key, "r", {"a": 1})]
    await store.delete_row("Outcomes", key, "r")
    assert await store.list_rows("Outcomes", key) == []


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_key_is_read_as_it_was_spelled(text: str) -> None:
    """No two texts have one key, and no key holds what a URL would escape."""
    key = fit_key(text)
    if key is None:
        assert len(text.encode()) * 3 > 512
    else:
        assert read_key(key) == text
        assert re.fullmatch(r"[A-Za-z0-9._~-]{1,512}", key)


async def test_a_key_that_is_too_long_is_refused(store: Any) -> None:
    """A row whose key no table can hold cannot be written, and so is not there."""
    long = "x" * 513
    for partition, row in (("p", long), (long, "r")):
        with pytest.raises(ValueError, match="too long"):
            await store.put_row("Outcomes", partition, row, {})
        with pytest.raises(ValueError, match="too long"):
            await store.add_row("Outcomes", partition, row, {})
        assert await store.get_row("Outcomes", partition, row) is None
        assert await store.list_rows("Outcomes", long) == []
        await store.delete_row("Outcomes", partition, row)


async def test_the_largest_text_is_32_ki_of_utf16(store: Any) -> None:
    """A text of 64 KiB in UTF-16 fits a row; more is refused, wherever the store is."""
    await store.put_row("Outcomes", "p", "r", {"a": "é" * LONGEST_TABLE_TEXT})
    assert await store.get_row("Outcomes", "p", "r") == {"a": "é" * LONGEST_TABLE_TEXT}
    with pytest.raises(ValueError, match="32769 UTF-16 units"):
        await store.put_row("Outcomes", "p", "r", {"a": "é" * LONGEST_TABLE_TEXT + "x"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({f"a{n}": "x" * LONGEST_TABLE_TEXT for n in range(16)}, "some 10.* bytes; at most 1048576"),
        ({f"a{n}": 1 for n in range(251)}, "251 properties; at most 250"),
        ({"PartitionKey": "x"}, "cannot be called 'PartitionKey'"),
        ({"relayAddedBy": "x"}, "cannot be called 'relayAddedBy'"),
        ({"a-b": "x"}, "cannot be called 'a-b'"),
        ({"a": float("nan")}, "a is no finite number"),
        ({"a": 2**63}, "a does not fit 64 bits"),
    ],
    ids=["large", "many", "reserved", "own", "name", "nan", "bits"],
)
async def test_a_row_that_azure_cannot_hold_is_refused(store: Any, values: Any, reason: str) -> None:
    """What would fail in Azure fails on every machine, before anything is written."""
    with pytest.raises(ValueError, match=reason):
        await store.put_row("Outcomes", "p", "r", values)
    assert await store.get_row("Outcomes", "p", "r") is None


async def test_of_many_that_add_one_row_one_wins(store: Any, twin: Any) -> None:
    """Creating is atomic, and the winner's values are there."""
    took = await asyncio.gather(*((store, twin)[n % 2].add_row("Turns", "p", "r", {"by": n}) for n in range(6)))
    assert sum(took) == 1
    assert await store.get_row("Turns", "p", "r") == {"by": took.index(True)}


async def test_a_listing_has_every_page(store: Any) -> None:
    """A listing is whole, however many answers it takes."""
    await asyncio.gather(*(store.put_row("Outcomes", "p", f"{n:04}", {"n": n}) for n in range(60)))
    assert [values["n"] for _, _, values in await store.list_rows("Outcomes")] == list(range(60))

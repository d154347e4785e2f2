"""Tables of the local store."""

from __future__ import annotations

from typing import Any

import pytest

from relay.store.local import LocalStore


async def test_a_row_comes_back_with_its_types(store: LocalStore) -> None:
    """Text, whole numbers, fractions and booleans keep their type."""
    values = {"text": "Größe\n\0", "whole": 2**62, "part": 1.0, "yes": True}
    await store.put_row("Outcomes", "p", "r/1#?", values)
    row = await store.get_row("Outcomes", "p", "r/1#?")
    assert row == values
    assert row is not None
    assert [type(each) for each in row.values()] == [str, int, float, bool]


async def test_put_replaces_the_whole_row(store: LocalStore) -> None:
    """Nothing of the former row is left."""
    await store.put_row("Outcomes", "p", "r", {"a": 1, "b": 2})
    await store.put_row("Outcomes", "p", "r", {"a": 3})
    assert await store.get_row("Outcomes", "p", "r") == {"a": 3}


async def test_add_creates_once(store: LocalStore) -> None:
    """Of two that add the same row one wins, and the other writes nothing."""
    assert await store.add_row("Outcomes", "p", "r", {"a": 1}) is True
    assert await store.add_row("Outcomes", "p", "r", {"a": 2}) is False
    assert await store.get_row("Outcomes", "p", "r") == {"a": 1}


async def test_what_is_not_there(store: LocalStore) -> None:
    """Unknown rows are None, unknown tables empty, and deleting them is fine."""
    assert await store.get_row("Outcomes", "p", "r") is None
    assert await store.list_rows("Outcomes") == []
    await store.delete_row("Outcomes", "p", "r")


async def test_rows_are_listed_in_key_order(store: LocalStore) -> None:
    """A listing is of one table, or one partition of it, by partition and row."""
    for partition, row in (("b", "1"), ("a", "2"), ("a", "1")):
        await store.put_row("Outcomes", partition, row, {"at": row})
    await store.put_row("Others", "a", "0", {})
    await store.delete_row("Outcomes", "a", "2")
    assert await store.list_rows("Outcomes") == [("a", "1", {"at": "1"}), ("b", "1", {"at": "1"})]
    assert await store.list_rows("Outcomes", "b") == [("b", "1", {"at": "1"})]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"x"])
async def test_a_value_that_a_table_cannot_hold_is_refused(store: LocalStore, value: Any) -> None:
    """Only str, int, float and bool go into a row."""
    with pytest.raises(TypeError, match="str, int, float or bool"):
        await store.put_row("Outcomes", "p", "r", {"a": value})


@pytest.mark.parametrize("name", ["dead-letters", "1st", "ab", "a_b", ""])
async def test_a_table_name_that_azure_refuses_is_refused(store: LocalStore, name: str) -> None:
    """Table names follow Azure's rules."""
    with pytest.raises(ValueError, match="table"):
        await store.get_row(name, "p", "r")

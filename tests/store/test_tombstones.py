"""Tombstones: found by type and id, one by one or many at once; they hold no id, and go with the retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.store.tombstones import ONE_BY_ONE, TABLE, Tombstone, Tombstones
from relay.telemetry import Pseudonyms

AT = datetime(2026, 6, 1, tzinfo=UTC)
DELETED = Tombstone("deleted", "deleted", "3", "2026-05-01T10:00:00Z")
OUT_OF_USE = Tombstone("merged", "deactivated", was=(0, 935000002))


@pytest.fixture
def tombstones(store: Any) -> Tombstones:
    return Tombstones(store, Pseudonyms("key"))


@pytest.mark.parametrize("count", [1, ONE_BY_ONE, ONE_BY_ONE + 1])
async def test_those_that_are_there_are_found(tombstones: Tombstones, count: int) -> None:
    """However many are asked for, of whatever types, each comes back as it was set, and no other."""
    await tombstones.put(("Patient", "p0"), DELETED, AT)
    await tombstones.put(("Encounter", "p0"), OUT_OF_USE, AT)
    await tombstones.put(("Patient", "other"), OUT_OF_USE, AT)
    keys = [("Patient", f"p{number}") for number in range(count)]
    assert await tombstones.get([*keys, ("Encounter", "p0"), ("Group", "g")]) == {
        ("Patient", "p0"): DELETED,
        ("Encounter", "p0"): OUT_OF_USE,
    }
    await tombstones.drop(("Patient", "p0"))
    assert await tombstones.get(keys) == {}


async def test_where_they_are_many_not_all_are_listed(tombstones: Tombstones, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a page of them those that are asked for are read, however many these are."""
    monkeypatch.setattr("relay.store.tombstones.LISTED", 3)
    keys = [("Patient", f"p{number}") for number in range(ONE_BY_ONE + 1)]
    for key in keys[::16]:
        await tombstones.put(key, DELETED, AT)
    assert await tombstones.get(keys) == dict.fromkeys(keys[::16], DELETED)


async def test_one_of_a_row_out_of_use_stays(tombstones: Tombstones) -> None:
    """Others are forgotten once they are older than that."""
    await tombstones.put(("Patient", "p0"), DELETED, AT)
    await tombstones.put(("Patient", "p1"), OUT_OF_USE, AT)
    assert await tombstones.expire(AT) == 0
    assert await tombstones.expire(AT + timedelta(seconds=1)) == 1
    assert await tombstones.get([("Patient", "p0"), ("Patient", "p1")]) == {("Patient", "p1"): OUT_OF_USE}


async def test_no_id_is_kept(tombstones: Tombstones, store: Any) -> None:
    """What is kept tells a type, a version and times; under another key it is not found."""
    await tombstones.put(("Patient", "ana-lindqvist"), DELETED, AT)
    assert "lindqvist" not in str(await store.list_rows(TABLE))
    assert await Tombstones(store, Pseudonyms("other")).get([("Patient", "ana-lindqvist")]) == {}

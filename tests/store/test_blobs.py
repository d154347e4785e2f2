"""Blobs of either store: written and read whole, listed by name."""

from __future__ import annotations

from typing import Any

import pytest


async def test_a_blob_is_read_as_it_was_written(store: Any) -> None:
    """Bytes come back unchanged, from sub-folders too; a blob that is there is replaced."""
    await store.put_blob("bundles", "ward/3/a.json", b"\x00\xff")
    assert await store.get_blob("bundles", "ward/3/a.json") == b"\x00\xff"
    await store.put_blob("bundles", "ward/3/a.json", b"")
    assert await store.get_blob("bundles", "ward/3/a.json") == b""


async def test_a_part_of_a_blob_is_read_alone(store: Any) -> None:
    """As many bytes as there are from a place on, none behind the end; what is not there is None."""
    await store.put_blob("bundles", "a/b.ndjson", b"0123456789")
    parts = [
        await store.read_blob("bundles", "a/b.ndjson", *part) for part in ((0, 4), (4, 4), (8, 4), (10, 4), (99, 1))
    ]
    assert parts == [b"0123", b"4567", b"89", b"", b""]
    await store.put_blob("bundles", "empty", b"")
    assert await store.read_blob("bundles", "empty", 0, 4) == b""
    assert await store.read_blob("bundles", "a", 0, 4) is None
    assert await store.read_blob("nowhere", "a", 0, 4) is None


async def test_what_is_not_there_is_none_or_empty(store: Any) -> None:
    """Unknown blobs and containers are no errors, and deleting them is fine."""
    assert await store.get_blob("bundles", "a.json") is None
    assert await store.find_blob("bundles", "a.json") is None
    assert await store.list_blobs("bundles") == []
    await store.delete_blob("bundles", "a.json")
    await store.put_blob("bundles", "a.json", b"x")
    assert await store.get_blob("bundles", "a.json/b") is None
    assert await store.find_blob("bundles", "a.json/b") is None
    await store.delete_blob("bundles", "a.json/b")


async def test_a_listing_is_by_name_and_tells_size_and_time(store: Any, clock: Any) -> None:
    """A listing has every blob of the container, by name, and agrees with `find_blob`."""
    for name in ("b.json", "a/z.json", "a.json"):
        await store.put_blob("bundles", name, b"four")
    listed = await store.list_blobs("bundles")
    assert [each.name for each in listed] == ["a.json", "a/z.json", "b.json"]
    assert {each.size for each in listed} == {4}
    assert all(clock.tells(each.modified) for each in listed)
    assert await store.find_blob("bundles", "a/z.json") == listed[1]


async def test_the_etag_changes_with_each_write(store: Any) -> None:
    """Two writes of one length in one tick of the clock have different etags; reading changes nothing."""
    etags = []
    for data in (b"1", b"2", b"3"):
        await store.put_blob("bundles", "a.json", data)
        etags += [each.etag for each in await store.list_blobs("bundles")]
    assert etags[0] != etags[1] != etags[2]
    assert (await store.list_blobs("bundles"))[0].etag == etags[2]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "a\0b", "a\\b", "x" * 1025]
)
async def test_a_name_that_is_no_path_below_the_container_is_refused(store: Any, name: str) -> None:
    """Names cannot leave the container."""
    with pytest.raises(ValueError, match="blob"):
        await store.put_blob("bundles", name, b"x")


@pytest.mark.parametrize("container", ["Bundles", "..", "a", "bun_dles", ".writing", ""])
async def test_a_container_name_that_azure_refuses_is_refused(store: Any, container: str) -> None:
    """Container names follow Azure's rules; they become folders."""
    with pytest.raises(ValueError, match="container"):
        await store.put_blob(container, "a.json", b"x")


@pytest.mark.parametrize(
    "name", ["größe.json", "a b/c d.json", "100% #1?.json", "a'b&c=d;e.json", "日本.json", "x" * 200]
)
async def test_a_name_may_have_any_character(store: Any, name: str) -> None:
    """What people call their files is kept letter by letter."""
    await store.put_blob("bundles", name, b"x")
    assert [each.name for each in await store.list_blobs("bundles")] == [name]
    assert await store.get_blob("bundles", name) == b"x"
    assert store.blob_url("bundles", name).isascii()
    await store.delete_blob("bundles", name)
    assert await store.list_blobs("bundles") == []

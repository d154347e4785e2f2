"""Blobs of the local store: files below one folder, written whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.store.local import LocalStore


async def test_a_blob_is_read_as_it_was_written(store: LocalStore) -> None:
    """Bytes come back unchanged, from sub-folders too; a blob that is there is replaced."""
    await store.put_blob("bundles", "ward/3/a.json", b"\x00\xff")
    assert await store.get_blob("bundles", "ward/3/a.json") == b"\x00\xff"
    await store.put_blob("bundles", "ward/3/a.json", b"")
    assert await store.get_blob("bundles", "ward/3/a.json") == b""
    assert (store.folder / "bundles" / "ward" / "3" / "a.json").read_bytes() == b""


async def test_what_is_not_there_is_none_or_empty(store: LocalStore) -> None:
    """Unknown blobs and containers are no errors, and deleting them is fine."""
    assert await store.get_blob("bundles", "a.json") is None
    assert await store.find_blob("bundles", "a.json") is None
    assert await store.list_blobs("bundles") == []
    await store.delete_blob("bundles", "a.json")
    await store.put_blob("bundles", "a.json", b"x")
    assert await store.get_blob("bundles", "a.json/b") is None
    assert await store.find_blob("bundles", "a.json/b") is None
    await store.delete_blob("bundles", "a.json/b")


async def test_a_listing_is_by_name_and_tells_size_and_time(store: LocalStore, clock: Any) -> None:
    """A listing has every blob of the container, by name, and agrees with `find_blob`."""
    for name in ("b.json", "a/z.json", "a.json"):
        await store.put_blob("bundles", name, b"four")
    listed = await store.list_blobs("bundles")
    assert [each.name for each in listed] == ["a.json", "a/z.json", "b.json"]
    assert {(each.size, each.modified) for each in listed} == {(4, clock())}
    assert await store.find_blob("bundles", "a/z.json") == listed[1]


async def test_the_etag_changes_with_each_write(store: LocalStore) -> None:
    """Two writes of one length in one tick of the clock have different etags; reading changes nothing."""
    etags = []
    for data in (b"1", b"2", b"3"):
        await store.put_blob("bundles", "a.json", data)
        etags += [each.etag for each in await store.list_blobs("bundles")]
    assert etags[0] != etags[1] != etags[2]
    assert (await store.list_blobs("bundles"))[0].etag == etags[2]


async def test_delete_takes_empty_sub_folders_along(store: LocalStore) -> None:
    """A deleted blob leaves no empty folders, and no other blob goes with it."""
    await store.put_blob("bundles", "x/y/a.json", b"1")
    await store.put_blob("bundles", "x/b.json", b"1")
    await store.delete_blob("bundles", "x/y/a.json")
    assert not (store.folder / "bundles" / "x" / "y").exists()
    assert [each.name for each in await store.list_blobs("bundles")] == ["x/b.json"]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "a\0b", "a\\b", "x" * 1025, "x" * 300]
)
async def test_a_name_that_is_no_path_below_the_container_is_refused(store: LocalStore, name: str) -> None:
    """Names cannot leave the container; what the file system cannot hold is the caller's error."""
    with pytest.raises(ValueError, match="blob"):
        await store.put_blob("bundles", name, b"x")


async def test_a_blob_below_another_blob_is_refused(store: LocalStore) -> None:
    """Where Azure has `a` and `a/b` side by side, files cannot: refused rather than lost."""
    await store.put_blob("bundles", "a", b"x")
    with pytest.raises(ValueError, match="cannot be a file here"):
        await store.put_blob("bundles", "a/b", b"x")
    await store.put_blob("bundles", "c/d", b"x")
    with pytest.raises(ValueError, match="cannot be a file here"):
        await store.put_blob("bundles", "c", b"x")
    assert os.listdir(store.folder / ".writing") == []  # noqa: PTH208 - names are enough


async def test_links_are_not_followed(store: LocalStore, tmp_path: Path) -> None:
    """A link in a container is not listed, and none leads out of it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    await store.put_blob("bundles", "a.json", b"x")
    (store.folder / "bundles" / "link").symlink_to(tmp_path / "secret" / "file")
    (store.folder / "bundles" / "folder").symlink_to(tmp_path / "secret")
    assert [each.name for each in await store.list_blobs("bundles")] == ["a.json"]
    for name in ("link", "folder/file"):
        with pytest.raises(ValueError, match="leads out"):
            await store.get_blob("bundles", name)


@pytest.mark.parametrize("container", ["Bundles", "..", "a", "bun_dles", ".writing", ""])
async def test_a_container_name_that_azure_refuses_is_refused(store: LocalStore, container: str) -> None:
    """Container names follow Azure's rules; they become folders."""
    with pytest.raises(ValueError, match="container"):
        await store.put_blob(container, "a.json", b"x")


async def test_everything_is_private_to_its_owner(store: LocalStore) -> None:
    """Folders are 0700 and files 0600: the payloads are patients' data."""
    await store.put_blob("bundles", "x/a.json", b"1")
    await store.send("inbound", "one")
    assert _modes(store.folder) == {"folder": {0o700}, "file": {0o600}}


def _modes(root: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {"folder": {stat.S_IMODE(root.stat().st_mode)}, "file": set()}
    for path in root.rglob("*"):
        found["folder" if path.is_dir() else "file"].add(stat.S_IMODE(path.stat().st_mode))
    return found

"""Blobs of the local store: files below one folder, written whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay.store.local import LocalStore


async def test_delete_takes_empty_sub_folders_along(local: LocalStore) -> None:
    """A deleted blob leaves no empty folders, and no other blob goes with it."""
    await local.put_blob("bundles", "x/y/a.json", b"1")
    await local.put_blob("bundles", "x/b.json", b"1")
    await local.delete_blob("bundles", "x/y/a.json")
    assert not (local.folder / "bundles" / "x" / "y").exists()
    assert [each.name for each in await local.list_blobs("bundles")] == ["x/b.json"]


async def test_a_blob_below_another_blob_is_refused(local: LocalStore) -> None:
    """Where Azure has `a` and `a/b` side by side, files cannot: refused rather than lost."""
    await local.put_blob("bundles", "a", b"x")
    with pytest.raises(ValueError, match="cannot be a file here"):
        await local.put_blob("bundles", "a/b", b"x")
    await local.put_blob("bundles", "c/d", b"x")
    with pytest.raises(ValueError, match="cannot be a file here"):
        await local.put_blob("bundles", "c", b"x")
    assert os.listdir(local.folder / ".writing") == []  # noqa: PTH208 - names are enough


async def test_links_are_not_followed(local: LocalStore, tmp_path: Path) -> None:
    """A link in a container is not listed, and none leads out of it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    await local.put_blob("bundles", "a.json", b"x")
    (local.folder / "bundles" / "link").symlink_to(tmp_path / "secret" / "file")
    (local.folder / "bundles" / "folder").symlink_to(tmp_path / "secret")
    assert [each.name for each in await local.list_blobs("bundles")] == ["a.json"]
    for name in ("link", "folder/file"):
        with pytest.raises(ValueError, match="leads out"):
            await local.get_blob("bundles", name)


async def test_everything_is_private_to_its_owner(local: LocalStore) -> None:
    """Folders are 0700 and files 0600: the payloads are patients' data."""
    await local.put_blob("bundles", "x/a.json", b"1")
    await local.send("inbound", "one")
    assert _modes(local.folder) == {"folder": {0o700}, "file": {0o600}}


def _modes(root: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {"folder": {stat.S_IMODE(root.stat().st_mode)}, "file": set()}
    for path in root.rglob("*"):
        found["folder" if path.is_dir() else "file"].add(stat.S_IMODE(path.stat().st_mode))
    return found


async def test_a_blob_is_a_file(local: LocalStore) -> None:
    """A blob's name is a path below its container's folder; a name that cannot be a file is the caller's error."""
    await local.put_blob("bundles", "ward/3/a.json", b"1")
    assert (local.folder / "bundles" / "ward" / "3" / "a.json").read_bytes() == b"1"
    with pytest.raises(ValueError, match="cannot be a file here"):
        await local.put_blob("bundles", "x" * 300, b"x")

"""Blobs as files below one folder: `<folder>/<container>/<name>`."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from relay.store import BlobInfo
from relay.store.database import make_folder, storage_errors
from relay.store.names import check_blob, check_container

_SCRATCH = ".writing"  # no container can be called so

# A name the file system cannot hold is the caller's error; a retry would not help.
_NAME_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EILSEQ}


class Files:
    """The blocking side of the local store's blobs; the store calls it in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, container: str, name: str, data: bytes, modified: datetime) -> None:
        """Write a file whole and under its name only when it is on the disk."""
        path = self._path(container, name)
        with storage_errors(path):
            scratch = self._write_scratch(data, modified)
            try:
                with _name_errors(container, name):
                    make_folder(path.parent)
                    scratch.replace(path)
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def get(self, container: str, name: str) -> bytes | None:
        """Read a file; None when it is not there."""
        path = self._path(container, name)
        with storage_errors(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def read(self, container: str, name: str, start: int, length: int) -> bytes | None:
        """Read at most `length` bytes of a file from `start` on; None when it is not there."""
        path = self._path(container, name)
        with storage_errors(path):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(length)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def delete(self, container: str, name: str) -> None:
        """Delete a file and the sub-folders that it leaves empty."""
        path = self._path(container, name)
        with storage_errors(path):
            try:
                path.unlink(missing_ok=True)
            except (NotADirectoryError, IsADirectoryError):
                return
            parent = path.parent
            while parent != self._folder / container:
                try:
                    parent.rmdir()
                except OSError:  # not empty, or gone already
                    break
                parent = parent.parent

    def list(self, container: str) -> list[BlobInfo]:
        """List the regular files of a container by name; links are not followed."""
        root = self._folder / check_container(container)
        with storage_errors(root):
            found = []
            for folder, _, names in os.walk(root):
                for name in names:
                    path = Path(folder, name)
                    try:
                        info = path.lstat()
                    except FileNotFoundError:  # deleted while we looked
                        continue
                    if stat.S_ISREG(info.st_mode):
                        found.append(_blob_info(path.relative_to(root).as_posix(), info))
        return sorted(found, key=lambda blob: blob.name)

    def find(self, container: str, name: str) -> BlobInfo | None:
        """Describe one file; None when it is not there."""
        path = self._path(container, name)
        with storage_errors(path):
            try:
                info = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _blob_info(name, info) if stat.S_ISREG(info.st_mode) else None

    def check(self, now: datetime) -> None:
        """Raise StoreUnavailable unless a file can be written."""
        with storage_errors(self._folder):
            self._write_scratch(b"check", now).unlink()

    def _path(self, container: str, name: str) -> Path:
        path = self._folder / check_container(container) / check_blob(name)
        with storage_errors(path):
            inside = path.resolve().is_relative_to((self._folder / container).resolve())
        if not inside:
            raise ValueError(f"blob {container}/{name}: a link leads out of the container")
        return path

    def _write_scratch(self, data: bytes, modified: datetime) -> Path:
        make_folder(self._folder / _SCRATCH)
        scratch = self._folder / _SCRATCH / uuid.uuid4().hex
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                file.flush()
                seconds = modified.timestamp()
                os.utime(handle, (seconds, seconds))
                os.fsync(handle)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        return scratch


def _blob_info(name: str, info: os.stat_result) -> BlobInfo:
    # The inode tells two writes in one tick of the clock apart: each write is a new file.
    etag = f"0x{info.st_mtime_ns:X}{info.st_size:X}{info.st_ino:X}"
    return BlobInfo(name, info.st_size, etag, datetime.fromtimestamp(info.st_mtime, UTC))


def _sync_folder(folder: Path) -> None:
    """Put a rename on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _name_errors(container: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NAME_ERRORS:
            raise ValueError(f"blob {container}/{name}: cannot be a file here: {error.strerror}") from error
        raise

"""What a container, queue, table or blob may be called: Azure's own rules, so that names carry over."""

from __future__ import annotations

import re

# learn.microsoft.com, "Naming and referencing containers, blobs, and metadata" and "Naming queues and metadata"
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
# the same site, "Understanding the Table service data model"
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_LONGEST_BLOB_NAME = 1024


def check_container(name: str) -> str:
    """Return the name; ValueError unless it is 3 to 63 lower-case letters, digits and single inner hyphens."""
    if not _CONTAINER.fullmatch(name):
        raise ValueError(f"container {name!r}: 3 to 63 of a-z, 0-9 and single hyphens between them")
    return name


def check_queue(name: str) -> str:
    """Return the name; ValueError unless it is 3 to 63 lower-case letters, digits and single inner hyphens."""
    if not _CONTAINER.fullmatch(name):
        raise ValueError(f"queue {name!r}: 3 to 63 of a-z, 0-9 and single hyphens between them")
    return name


def check_table(name: str) -> str:
    """Return the name; ValueError unless it is 3 to 63 letters and digits that begin with a letter."""
    if not _TABLE.fullmatch(name):
        raise ValueError(f"table {name!r}: 3 to 63 letters and digits, a letter first")
    return name


def check_blob(name: str) -> str:
    """Return the name; ValueError when it could leave its container or cannot be a path below it."""
    if not name or len(name) > _LONGEST_BLOB_NAME:
        raise ValueError(f"blob name of {len(name)} characters: 1 to {_LONGEST_BLOB_NAME}")
    if "\0" in name or "\\" in name:
        raise ValueError(f"blob {name!r}: NUL and backslash are refused")
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise ValueError(f"blob {name!r}: absolute names, empty parts, '.' and '..' are refused")
    return name

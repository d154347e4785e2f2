"""What a container, queue, table, blob or row may be: Azure's own rules, so that what is kept carries over."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta

# learn.microsoft.com, "Naming and referencing containers, blobs, and metadata" and "Naming queues and metadata"
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
# the same site, "Understanding the Table service data model"
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_LONGEST_BLOB_NAME = 1024

# the same page: keys of 1 KiB and texts of 64 KiB, both in UTF-16; 1 MiB and 252 properties of one's own in a row
LONGEST_TABLE_TEXT = 32 * 1024
"""UTF-16 units that one text in a row may have."""

# "Put Message": 64 KiB, which is 48 KiB of text once it is base64
LONGEST_TEXT = 48 * 1024
"""Bytes of UTF-8 that fit a message."""

LONGEST_LIFE = timedelta(days=7)
"""How long a message lives, and the longest it can be invisible; Azure's defaults."""

_LONGEST_KEY = 512
_LARGEST_ROW = 1024 * 1024
_MOST_PROPERTIES = 250
_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
_RESERVED = {"PartitionKey", "RowKey", "Timestamp", "relayAddedBy"}
_INT64 = 2**63

# A key stands in the URL, and what a URL has to escape not every server signs alike.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPE = "~"


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


def check_text(queue: str, text: str) -> str:
    """Return the text; ValueError when it does not fit a message."""
    if (size := len(text.encode())) > LONGEST_TEXT:
        raise ValueError(f"queue {queue}: a message of {size} bytes of text; at most {LONGEST_TEXT}")
    return text


def check_delay(span: timedelta) -> timedelta:
    """Return the span; ValueError unless a message can be invisible for so long."""
    if not timedelta(0) <= span <= LONGEST_LIFE:
        raise ValueError(f"a message cannot be invisible for {span}: 0 to {LONGEST_LIFE}")
    return span


def check_row(table: str, partition: str, row: str, values: Mapping[str, object]) -> None:
    """ValueError (TypeError for a value's type) unless a table of Azure can hold this row; the values are not repeated."""
    check_table(table)
    for what, key in (("partition", partition), ("row", row)):
        if fit_key(key) is None:
            raise ValueError(f"table {table}: a {what} key of {len(key)} characters is too long")
    if len(values) > _MOST_PROPERTIES:
        raise ValueError(f"table {table}: a row of {len(values)} properties; at most {_MOST_PROPERTIES}")
    size = 0
    for name, value in values.items():
        if not _PROPERTY.fullmatch(name) or name in _RESERVED:
            raise ValueError(f"table {table}: a property cannot be called {name!r}")
        size += 8 + 2 * len(name) + _size(table, name, value)
    if size > _LARGEST_ROW:
        raise ValueError(f"table {table}: a row of some {size} bytes; at most {_LARGEST_ROW}")


def _size(table: str, name: str, value: object) -> int:
    if not isinstance(value, str | int | float):
        raise TypeError(f"table {table}: {name} is a {type(value).__name__}; str, int, float or bool")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"table {table}: {name} is no finite number")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise ValueError(f"table {table}: {name} does not fit 64 bits")
    if not isinstance(value, str):
        return 8
    units = len(value.encode("utf-16-le"))
    if units > 2 * LONGEST_TABLE_TEXT:
        raise ValueError(f"table {table}: {name} has {units // 2} UTF-16 units; at most {LONGEST_TABLE_TEXT}")
    return units


def fit_key(text: str) -> str | None:
    r"""Spell a text as a table key, which may hold neither `/ \\ # ?` nor control characters; None when it is too long.

    Whatever a URL would escape is `~` and the two hex digits of each of its UTF-8 bytes; an empty text is `~` alone.
    """
    key = _NOT_PLAIN.sub(lambda found: "".join(f"{_ESCAPE}{byte:02x}" for byte in found[0].encode()), text)
    return (key or _ESCAPE) if len(key) <= _LONGEST_KEY else None


def read_key(key: str) -> str:
    """Read what `fit_key` spelled."""
    if key == _ESCAPE:
        return ""
    return re.sub(r"(?:~[0-9a-f]{2})+", lambda found: bytes.fromhex(found[0].replace(_ESCAPE, "")).decode(), key)

"""How texts and numbers compare: as SQL Server's default does, where case and trailing blanks do not count."""

from __future__ import annotations

import re
import sqlite3
from decimal import Decimal
from functools import lru_cache


def connect(database: str) -> sqlite3.Connection:
    """Open a database whose collations are DATAVERSE (texts) and NUMBER (digits), with the function `dvlike`."""
    connection = sqlite3.connect(database, isolation_level=None, cached_statements=1024, check_same_thread=False)
    try:
        connection.create_collation("DATAVERSE", _compare_text)
        connection.create_collation("NUMBER", _compare_numbers)
        connection.create_function("dvlike", 2, _like, deterministic=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


@lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """Reduce a text to what comparisons see of it."""
    return text.casefold().rstrip(" ")


def _compare_text(left: str, right: str) -> int:
    left, right = fold(left), fold(right)
    return (left > right) - (left < right)


def _compare_numbers(left: str, right: str) -> int:
    one, other = Decimal(left), Decimal(right)
    return (one > other) - (one < other)


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    """Compile a LIKE pattern: `%` any text, `_` any character, `[a-c]` one of, `[^a]` none of."""
    parts, position = [], 0
    text = like.casefold()
    while position < len(text):
        character = text[position]
        position += 1
        end = text.find("]", position + 1) if character == "[" else -1
        if character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif end > 0:
            inside = text[position:end]
            negated = "^" if inside.startswith("^") and len(inside) > 1 else ""
            escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", inside[len(negated) :])
            try:
                parts.append(re.compile(f"[{negated}{escaped}]").pattern)
            except re.error:
                parts.append("(?!)")
            position = end + 1
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _like(value: str | None, like: str) -> int | None:
    return None if value is None else int(_pattern(like).fullmatch(value.casefold()) is not None)

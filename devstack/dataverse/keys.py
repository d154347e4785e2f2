"""How a URL names things: segments, and the keys in their parentheses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from devstack.dataverse.columns import check_literal
from devstack.dataverse.errors import BadSyntax, DangerousKey, UndeclaredKey
from devstack.dataverse.lexer import Word, word_at
from devstack.dataverse.metadata import Column, Key, Metadata, Table
from devstack.dataverse.wire import ROOT

FORBIDDEN: Final = re.compile(r"[/<>*%&:\\?+#]")
_NAME: Final = re.compile(r"\$?[A-Za-z_][\w.]*|\$[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a path; `words` are what its parentheses hold, None when it has none."""

    name: str
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True, slots=True)
class ById:
    """The row with this primary key, lower case."""

    id: str


@dataclass(frozen=True, slots=True)
class ByKey:
    """The row with these values in the columns of one alternate key; `text` is the key as written."""

    key: Key
    values: Mapping[str, object]


Address = ById | ByKey


def segments(path: str) -> list[Segment]:
    """Split a decoded path; quotes protect slashes and parentheses. Raises BadSyntax."""
    found: list[Segment] = []
    position = 0
    while True:
        match = _NAME.match(path, position)
        if match is None:
            raise BadSyntax(f"Bad Request - Error in query syntax at position {position} of '{path}'.")
        position, words = match.end(), None
        if path.startswith("(", position):
            words, position = _inside(path, position + 1)
        found.append(Segment(match[0], words))
        if position == len(path):
            return found
        if path[position] != "/":
            raise BadSyntax(f"Bad Request - Error in query syntax at position {position} of '{path}'.")
        position += 1


def _inside(path: str, position: int) -> tuple[tuple[Word, ...], int]:
    words: list[Word] = []
    while True:
        word = word_at(path, position)
        if word.kind == "end" or (word.kind == "punctuation" and word.text == "("):
            raise BadSyntax(f"Bad Request - Error in query syntax at position {position} of '{path}'.")
        position = word.end
        if word.kind == "punctuation" and word.text == ")":
            return tuple(words), position
        words.append(word)


def address(table: Table, words: tuple[Word, ...]) -> Address:
    """Read a key: a GUID, `column=value` pairs of one alternate key. Raises BadSyntax, UndeclaredKey, DangerousKey."""
    if len(words) == 1:
        if words[0].kind != "guid":
            raise BadSyntax("Bad Request - Error in query syntax.")
        return ById(words[0].text)
    pairs = _pairs(words)
    if set(pairs) == {table.key_in_url}:
        if pairs[table.key_in_url].kind != "guid":
            raise BadSyntax("Bad Request - Error in query syntax.")
        return ById(pairs[table.key_in_url].text)
    key = next(
        (
            each
            for each in table.keys
            if each.active and {_property(table, column) for column in each.columns} == set(pairs)
        ),
        None,
    )
    if key is None:
        raise UndeclaredKey(table.name)
    return ByKey(key, {column.name: _value(table, column, word) for column, word in _columns(table, pairs)})


def _property(table: Table, column: str) -> str:
    return table.columns[column].wire_name


def _columns(table: Table, pairs: Mapping[str, Word]) -> list[tuple[Column, Word]]:
    return [(table.properties[name], word) for name, word in pairs.items()]


def _pairs(words: tuple[Word, ...]) -> dict[str, Word]:
    pairs: dict[str, Word] = {}
    for index in range(0, len(words), 4):
        group = words[index : index + 4]
        shape = [word.text if word.kind == "punctuation" else "" for word in group]
        last = index + 4 > len(words)
        if len(group) < 3 or group[0].kind != "name" or shape != (["", "=", ""] if last else ["", "=", "", ","]):  # noqa: PLR2004 - name, =, value
            raise BadSyntax("Bad Request - Error in query syntax.")
        if group[0].text in pairs:
            raise BadSyntax(f"The key '{group[0].text}' is given more than once.")
        pairs[group[0].text] = group[2]
    if not pairs or len(words) % 4 != 3:  # noqa: PLR2004 - name, =, value, comma
        raise BadSyntax("Bad Request - Error in query syntax.")
    return pairs


def _value(table: Table, column: Column, word: Word) -> object:
    if word.kind == "string" and (bad := FORBIDDEN.search(word.text)):
        raise DangerousKey(bad[0])
    return check_literal(table, column, word)


def record(metadata: Metadata, reference: str) -> tuple[Table, Address]:
    """Read what `@odata.bind` or `@odata.id` names: `set(key)`, a leading slash or an absolute URL before it."""
    path = reference
    if re.match(r"https?://", reference, re.IGNORECASE):
        try:
            path = urlsplit(reference).path
        except ValueError:
            raise BadSyntax(f"'{reference}' is not a URL.") from None
    try:
        path = unquote(path, errors="strict").removeprefix(ROOT).removeprefix("/")
    except UnicodeDecodeError:
        raise BadSyntax(f"'{reference}' is not UTF-8.") from None
    found = segments(path)
    if len(found) != 1 or found[0].words is None:
        raise BadSyntax(f"'{reference}' does not name one record (valid: /<entity set>(<key>)).")
    table = metadata.set(found[0].name)
    return table, address(table, found[0].words)

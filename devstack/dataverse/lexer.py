"""Words of OData URLs: quoted strings, numbers, GUIDs, dates, names and punctuation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from devstack.dataverse.errors import BadSyntax

_WORD: Final = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^']|'')*')
    |(?P<guid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?![\w-]))
    |(?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?(?:Z|[+-]\d\d:\d\d)(?!\w))
    |(?P<date>\d{4}-\d\d-\d\d(?![\w:-]))
    |(?P<number>-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?(?![\w.]))
    |(?P<name>[A-Za-z_@][\w.@]*)
    |(?P<punctuation>[(),/=:\[\]])
    )""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `text` is unquoted for strings and lower case for GUIDs; `end` is where the next one starts."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def number(self) -> Decimal:
        """A number's value."""
        return Decimal(self.text)


def word_at(text: str, position: int) -> Word:
    """Return the word at a position, kind "end" at the end; raises BadSyntax for anything else."""
    match = _WORD.match(text, position)
    if match is None:
        rest = text[position:].strip()
        if not rest:
            return Word("end", "", len(text), len(text))
        if rest.startswith("'"):
            raise BadSyntax(f"There is an unterminated string literal at position {position} in '{text}'.")
        raise BadSyntax(f"Syntax error at position {position} in '{text}'.")
    kind = match.lastgroup or ""
    value = match[kind]
    if kind == "string":
        value = value[1:-1].replace("''", "'")
    elif kind == "guid":
        value = value.lower()
    return Word(kind, value, match.start(kind), match.end())

"""Fenced blocks of Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block; `language` is the first word after the fence, `mark` the rest of that line."""

    language: str
    mark: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    for match in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        language, _, mark = match["info"].strip().partition(" ")
        found.append(Block(language, mark, match["text"]))
    return found

"""What the relay sends to Dataverse to write rows, read off the wire."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.mishaps import writes_rows
from support.world import World

both_paths = pytest.mark.parametrize(
    "write", [{"write": "auto", "bulk_from": 1}, {"write": "fewest-calls"}], ids=["bulk", "fewest-calls"]
)
"""Settings of both ways to write; small plans in bulk too."""

_BULK = re.compile(r"/([a-z0-9_]+)/Microsoft\.Dynamics\.CRM\.CreateMultiple$")


@dataclass(frozen=True)
class Write:
    """One request that writes: the set it creates rows in, in bulk, or `$batch`; how many rows; its text."""

    what: str
    rows: int
    text: str
    query: str

    @property
    def made(self) -> list[dict[str, Any]]:
        """The rows of a bulk call."""
        targets: list[dict[str, Any]] = json.loads(self.text)["Targets"]
        return targets


def watch_writes(it: World) -> list[Write]:
    """Return a list that will hold every request that writes, in the order in which they leave."""
    seen: list[Write] = []

    async def note(request: httpx.Request) -> None:
        text = request.content.decode()
        query = request.url.query.decode()
        if bulk := _BULK.search(request.url.path):
            seen.append(Write(bulk[1], len(json.loads(text)["Targets"]), text, query))
        elif writes_rows(request) or re.search(r"^(?:POST|PATCH|DELETE) ", text, re.MULTILINE):
            seen.append(Write("$batch", len(re.findall(r"^(?:POST|PATCH|DELETE) ", text, re.MULTILINE)), text, query))

    it.to_dataverse.before.append(note)
    return seen


def sets(seen: list[Write]) -> list[str]:
    """Return which sets were written, in order, each once where it stands beside itself."""
    found: list[str] = []
    for write in seen:
        if found[-1:] != [write.what]:
            found.append(write.what)
    return found

"""Reads the small inputs of tests/bundles, each named after its hazard."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from relay.inbound.intake import Entry, Incoming, read_bundle
from relay.settings import Settings

FOLDER = Path(__file__).resolve().parents[1] / "bundles"


@functools.cache
def limits(**overrides: Any) -> Settings:
    """Return the default limits, or others."""
    return Settings(**overrides)


def take(body: bytes, *, content_type: str = "", content_encoding: str = "", **overrides: Any) -> Incoming:
    """Read a body as a request with these headers and limits would be."""
    return read_bundle(body, content_type=content_type, content_encoding=content_encoding, limits=limits(**overrides))


def take_file(name: str) -> Incoming:
    """Read one of the small inputs."""
    return take((FOLDER / name).read_bytes())


def take_bundle(*entries: Any, kind: str = "batch") -> Incoming:
    """Read a bundle of these entries."""
    return take(json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)}).encode())


def verdict(entry: Entry) -> str:
    """Say what became of an entry: `taken`, why it is skipped, or the code of its problem."""
    if entry.problem:
        assert entry.problem.severity == "error"
        return entry.problem.code
    return entry.skip or "taken"


def verdicts(incoming: Incoming) -> list[str]:
    """Say what became of each entry, in order."""
    assert [entry.index for entry in incoming.entries] == list(range(len(incoming.entries)))
    return [verdict(entry) for entry in incoming.entries]


def references(value: Any) -> list[str]:
    """Collect the text of every Reference in parsed JSON."""
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    if not isinstance(value, dict):
        return []
    own = [value["reference"]] if isinstance(value.get("reference"), str) else []
    return own + [found for each in value.values() for found in references(each)]

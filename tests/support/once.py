"""Reads the shipped maps and facts once per process: they never change, and reading takes longer than most tests."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path, PurePath

import yaml

from relay.mapping import metadata
from relay.mapping.model import Table

_SHIPPED = (Path(__file__).parents[2] / "maps" / metadata.METADATA_FILE).read_bytes()

_parse = metadata.parse_metadata


def read_once() -> None:
    """Let a text that was taken apart, and facts that are the shipped ones, be what they were the first time."""
    yaml.compose = functools.lru_cache(maxsize=256)(yaml.compose)
    metadata.parse_metadata = _parse_metadata


def _parse_metadata(path: PurePath, data: bytes) -> Mapping[str, Table]:
    return dict(_shipped()) if data == _SHIPPED else _parse(path, data)


@functools.cache
def _shipped() -> Mapping[str, Table]:
    return _parse(PurePath(metadata.METADATA_FILE), _SHIPPED)

"""Column facts: reads `metadata.json`, the tables that maps may name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from relay.errors import MapError
from relay.mapping.model import Column, Table

METADATA_FILE = "metadata.json"


def load_metadata(path: Path) -> Mapping[str, Table]:
    """Read the facts of every table in `path`, by logical name.

    Raises MapError when the file is missing, is not JSON, or lacks a fact.
    """
    try:
        return parse_metadata(path, path.read_bytes())
    except OSError as error:
        raise MapError(f"{path}: cannot be read: {error.strerror}") from None


def parse_metadata(path: PurePath, data: bytes) -> Mapping[str, Table]:
    """Read the facts from the content of a file of this name; raises MapError as `load_metadata`."""
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise MapError(f"{path}: is not JSON: {error}") from None
    tables = document.get("tables") if isinstance(document, dict) else None
    if not isinstance(tables, dict):
        raise MapError(f"{path}: tables: must be an object of tables by logical name")
    return {name: _table(name, facts, path) for name, facts in tables.items()}


def _table(name: str, facts: Mapping[str, Any], path: PurePath) -> Table:
    try:
        return Table(
            name=name,
            entity_set=facts["entitySet"],
            primary_id=facts["primaryId"],
            primary_name=facts["primaryName"],
            columns={column: _column(column, each) for column, each in facts["columns"].items()},
            optimistic_concurrency=facts.get("optimisticConcurrency", True),
        )
    except KeyError as error:
        raise MapError(f"{path}: tables.{name}: lacks {error}") from None
    except (AttributeError, TypeError, ValueError, IndexError):
        raise MapError(f"{path}: tables.{name}: has a fact of the wrong shape") from None


def _column(name: str, facts: Mapping[str, Any]) -> Column:
    return Column(
        name=name,
        type=facts["type"],
        max_length=facts.get("maxLength"),
        minimum=facts.get("min"),
        maximum=facts.get("max"),
        format=facts.get("format", ""),
        required=facts.get("required", ""),
        options={int(each[0]): str(each[1]) for each in facts.get("options", ())},
        targets=tuple(facts.get("targets", ())),
        navigation=dict(facts.get("navigation", {})),
        precision=facts.get("precision"),
        states={int(value): int(state[0]) for value, _, *state in facts.get("options", ()) if state},
    )

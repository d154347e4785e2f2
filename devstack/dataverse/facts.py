"""Tables read from a facts file such as `maps/metadata.json`, and written as one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from devstack.dataverse.metadata import READ_ONLY, Column, Key, Table


def load(*paths: Path) -> list[Table]:
    """Read the tables of facts files; raises ValueError naming the file, table and what is missing or there twice."""
    tables: dict[str, Table] = {}
    sets: dict[str, str] = {}
    for path in paths:
        for name, facts, columns in _facts(path, path.stat().st_mtime_ns):
            try:
                made = _table(name, facts, columns)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: table {name}: {type(error).__name__}: {error}") from error
            if name in tables:
                raise ValueError(f"{path}: table {name}: a table of this name is in another file too")
            if made.entity_set in sets:
                raise ValueError(
                    f"{path}: table {name}: the entity set {made.entity_set} is that of {sets[made.entity_set]} already"
                )
            tables[name] = made
            sets[made.entity_set] = name
    return list(tables.values())


@lru_cache(maxsize=8)
def _facts(path: Path, _modified: int) -> list[tuple[str, Mapping[str, Any], Mapping[str, Column]]]:
    """Read a facts file once: its columns never change, the tables that are made of them may."""
    read: list[tuple[str, Mapping[str, Any], Mapping[str, Column]]] = []
    try:
        tables = json.loads(path.read_text("utf-8"))["tables"].items()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: not {{"tables": {{name: facts}}}}: {error}') from error
    for name, facts in tables:
        try:
            read.append((name, facts, {each: column(each, one) for each, one in facts["columns"].items()}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: table {name}: {type(error).__name__}: {error}") from error
    return read


def table(name: str, facts: Mapping[str, Any]) -> Table:
    """Build a table from its facts; raises KeyError naming a fact that is missing."""
    return _table(name, facts, {each: column(each, one) for each, one in facts["columns"].items()})


def _table(name: str, facts: Mapping[str, Any], columns: Mapping[str, Column]) -> Table:
    keys = [
        Key(
            each["name"],
            tuple(each["columns"]),
            each.get("label") or each["name"],
            each.get("schemaName", ""),
            each.get("status", "Active"),
            each.get("made", 0.0),
            bool(each.get("custom")),
        )
        for each in facts.get("keys", ())
    ]
    return Table(
        name=name,
        schema_name=facts["schemaName"],
        display_name=facts["displayName"],
        entity_set=facts["entitySet"],
        primary_id=facts["primaryId"],
        primary_name=facts["primaryName"],
        ownership=facts["ownership"],
        optimistic_concurrency=facts.get("optimisticConcurrency", True),
        columns=dict(columns),
        keys=keys,
        key_in_url=facts.get("keyInUrl", ""),
        collection_name=facts.get("collectionName", ""),
        description=facts.get("description", ""),
        custom=bool(facts.get("custom")),
        change_tracking=bool(facts.get("changeTracking", True)),
        flags=dict(facts.get("flags", {})),
    )


def column(name: str, facts: Mapping[str, Any]) -> Column:
    """Build a column from its facts; raises KeyError naming a fact that is missing."""
    options = facts.get("options", ())
    return Column(
        name=name,
        type=facts["type"],
        schema_name=facts.get("schemaName") or name,
        label=facts.get("label") or name,
        max_length=facts.get("maxLength"),
        minimum=facts.get("min"),
        maximum=facts.get("max"),
        format=facts.get("format", ""),
        required=facts.get("required", ""),
        options={option[0]: option[1] for option in options},
        states={option[0]: option[2] for option in options if len(option) > 2},  # noqa: PLR2004 - value, label, state
        targets=tuple(facts.get("targets", ())),
        navigation=dict(facts.get("navigation", {})),
        collections=dict(facts.get("collections", {})),
        relationships=dict(facts.get("relationships", {})),
        delete=facts.get("delete", "RemoveLink"),
        read_only=name in READ_ONLY or bool(facts.get("readOnly")),
        secret=bool(facts.get("secret")),
        unique=bool(facts.get("unique")),
        custom=bool(facts.get("custom")),
        precision=facts.get("precision"),
        shown=facts.get("shown", ""),
        behavior=facts.get("behavior", ""),
        default=facts.get("default"),
        description=facts.get("description", ""),
    )


def facts(table: Table) -> dict[str, Any]:
    """Write a table as `table` reads it; what is empty or usual is left out."""
    return _kept(
        schemaName=table.schema_name,
        displayName=table.display_name,
        entitySet=table.entity_set,
        primaryId=table.primary_id,
        primaryName=table.primary_name,
        ownership=table.ownership,
        keyInUrl=table.key_in_url if table.key_in_url != table.primary_id else "",
        collectionName=table.collection_name,
        description=table.description,
        custom=table.custom,
        flags=table.flags,
        keys=[
            _kept(
                name=key.name,
                columns=list(key.columns),
                label=key.label,
                schemaName=key.schema_name,
                status=key.status if not key.active else "",
                made=key.made,
                custom=key.custom,
            )
            for key in table.keys
        ],
        columns={name: _column_facts(column) for name, column in table.columns.items()},
    ) | {"optimisticConcurrency": table.optimistic_concurrency, "changeTracking": table.change_tracking}


def _column_facts(column: Column) -> dict[str, Any]:
    kept = _kept(
        type=column.type,
        schemaName=column.schema_name,
        label=column.label,
        format=column.format,
        required=column.required,
        options=[
            [value, text, *([column.states[value]] if column.states else [])] for value, text in column.options.items()
        ],
        targets=list(column.targets),
        navigation=dict(column.navigation),
        collections=dict(column.collections),
        relationships=dict(column.relationships),
        delete=column.delete if column.delete != "RemoveLink" else "",
        readOnly=column.read_only,
        secret=column.secret,
        unique=column.unique,
        custom=column.custom,
        shown=column.shown,
        behavior=column.behavior,
        description=column.description,
    )
    numbers = {
        "maxLength": column.max_length,
        "min": column.minimum,
        "max": column.maximum,
        "precision": column.precision,
        "default": column.default,
    }
    return kept | {name: number for name, number in numbers.items() if number is not None}


def _kept(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}

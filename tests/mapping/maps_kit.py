"""Helpers for the commands on maps: made-up folders, and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mapping_kit import IDENTIFIER, MAPS, TOP

from relay.cli import main

FACTS: dict[str, Any] = json.loads((MAPS / "metadata.json").read_text(encoding="utf-8"))
PATIENT_TABLES = ("contact", "prefix_patientidentifier", "msemr_codeableconcept")
NAMES = "  - {column: lastname, copy: '$.name[0].family'}\n  - {column: msemr_contacttype, default: 935000000}\n"
WHOLE = TOP + IDENTIFIER + "attributes:\n" + NAMES
"""A map about which there is nothing to tell but options and navigation names."""


def folder_of(at: Path, *texts: str, tables: Iterable[str] = PATIENT_TABLES, **changes: Mapping[str, Any]) -> Path:
    """Write maps beside the facts of a few tables; `changes` are facts of columns by `table__column`."""
    facts = {name: json.loads(json.dumps(FACTS["tables"][name])) for name in tables}
    for name, change in changes.items():
        table, _, column = name.partition("__")
        facts[table]["columns"].setdefault(column, {}).update(change)
    at.mkdir(exist_ok=True)
    (at / "metadata.json").write_text(json.dumps({"source": {}, "tables": facts}), encoding="utf-8")
    for number, text in enumerate(texts):
        (at / f"map{number}.yaml").write_text(text, encoding="utf-8")
    return at


def relay(*arguments: object) -> int:
    """Run a command."""
    return main([str(each) for each in arguments])

"""Helpers for the commands on maps: made-up folders, and an org to read from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mapping_kit import IDENTIFIER, MAPS, TOP

from devstack.dataverse import create_app
from devstack.host.serve import serving
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


@asynccontextmanager
async def org(metadata: Path) -> AsyncIterator[str]:
    """Serve an org with the tables of a facts file; gives its root."""
    async with create_app(metadata=metadata) as app, serving(app) as url:
        yield url


async def relay(*arguments: object) -> int:
    """Run a command beside the servers of this loop."""
    return await asyncio.to_thread(main, [str(each) for each in arguments])

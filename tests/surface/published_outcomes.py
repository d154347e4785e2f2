"""What POST /bundle says of each of Microsoft's published bundles; `python tests/surface/published_outcomes.py` writes the table.

Read every difference before keeping it: what is written here is what users are told of these files.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("published_outcomes.json")
WAYS: Mapping[str, Mapping[str, str]] = {"to Dataverse alone": {}, "to FHIR first": {"forward": "true"}}


def published() -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each published file."""
    from support.data import files

    for folder in ("ms-fhir-server-bundles", "ahds-samples"):
        yield from files(f"{folder}/*.gz")


async def outcomes(folder: Path, way: str) -> dict[str, list[Any]]:
    """Post each file to a stack in process that has seen none before; returns by name (status, counts by result and code)."""
    from surface_kit import surface

    found: dict[str, list[Any]] = {}
    async with surface(folder, webhook=False, **WAYS[way]) as it:
        for name, content in published():
            answer = await it.post(content)
            if answer.status_code == 202:
                await it.settle()
                answer = await it.http.get(answer.headers["Content-Location"])
            found[name] = [answer.status_code, _counted(answer.json())]
            it.dataverse.store.reset()
            it.fhir.store.clear()
            it.forget_calls()
    return found


def _counted(body: Mapping[str, Any]) -> dict[str, int]:
    """Count entries by result, and by why where they were not carried out; of a refusal its code."""
    if body.get("resourceType") == "OperationOutcome":
        return {body["issue"][0]["details"]["text"]: 1}
    return dict(sorted(Counter(map(_said, body["entries"])).items()))


def _said(entry: Mapping[str, Any]) -> str:
    told = ("error",) if entry["result"] == "failed" else ("error", "information")
    codes = sorted(
        {each["code"] for each in entry["issues"] if each["severity"] in told and each["at"] != "identifier"}
    )
    return " ".join([entry["result"], *(codes if entry["result"] in ("failed", "skipped") else [])])


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = {way: await outcomes(Path(folder) / way[3:7].strip(), way) for way in WAYS}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]
    asyncio.run(_write())

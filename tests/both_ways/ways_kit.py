"""Maps that let Dataverse's changes out, and a world that runs on them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.world import API, ROOT, World, world

CARE_PLAN = "urn:oid:org.d365.mc4h.careplan.id"
PATIENT = "urn:oid:org.d365.mc4h.patient.id"
NAMES = ("metadata.json", "patient.yaml", "practitioner.yaml", "organization.yaml", "encounter.yaml", "careplan.yaml")


def maps_with(folder: Path, changes: Mapping[str, Mapping[str, str]]) -> Path:
    """Copy five shipped maps; `changes` are texts to replace, by file: each must be there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copy(ROOT / "maps" / name, folder / name)
    for name, texts in changes.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in texts.items():
            assert old in text, f"{name}: {old}"
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@asynccontextmanager
async def open_world(folder: Path, changes: Mapping[str, Mapping[str, str]], **settings: Any) -> AsyncIterator[World]:
    """Run a world on maps that are changed so."""
    async with world(folder, maps=maps_with(folder / "maps", changes), **settings) as w:
        yield w


async def create(w: World, entity_set: str, row: Mapping[str, Any]) -> str:
    """Create a row as a user; returns its GUID."""
    answer = await w.http.post(f"{API}/{entity_set}", json=row)
    assert answer.is_success, answer.text
    return str(answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")).lower()


async def update(w: World, entity_set: str, guid: str, row: Mapping[str, Any]) -> None:
    """Change a row as a user."""
    answer = await w.http.patch(f"{API}/{entity_set}({guid})", json=row, headers={"If-Match": "*"})
    assert answer.is_success, answer.text


async def resources(w: World, kind: str) -> list[dict[str, Any]]:
    """Return every resource of a type that the FHIR server has."""
    return [each for address, each in w.newest().items() if address.startswith(f"{kind}/")]

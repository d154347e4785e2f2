"""Helpers for mapping tests: a folder with the shipped facts and one made-up map, and a resolver of plain references."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay.mapping.load import MapSet, load_maps
from relay.mapping.model import ByFhirId, ByIdentifier

ROOT = Path(__file__).parents[2]
MAPS = ROOT / "maps"
GUID = "123e4567-e89b-12d3-a456-426614174000"
URN = "urn:oid:org.d365.mc4h.patient.id"
TOP = "resource: Patient\ntable: contact\nkey: msemr_azurefhirid\n"
IDENTIFIER = f"""identifier:
  system: {URN}
  table: prefix_patientidentifier
  lookup: prefix_patient
  system_column: prefix_system
  value_column: prefix_value
"""


def load(folder: Path, *texts: str) -> MapSet:
    """Load made-up maps beside the shipped facts."""
    shutil.copy(MAPS / "metadata.json", folder / "metadata.json")
    for number, text in enumerate(texts):
        (folder / f"map{number}.yaml").write_text(text, encoding="utf-8")
    return load_maps(folder)


def resolve(reference: Mapping[str, Any]) -> ByFhirId | ByIdentifier | None:
    """Resolve `Type/id` and logical references; nothing else means a row."""
    text = reference.get("reference")
    if isinstance(text, str) and text.count("/") == 1 and not text.startswith("#"):
        return ByFhirId(*text.split("/"))
    identifier = reference.get("identifier")
    if isinstance(identifier, dict):
        return ByIdentifier("Practitioner", identifier["system"], identifier["value"])
    return None

"""Helpers for tests of the shipped maps: published files, and what the maps make of one resource."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from mapping_kit import MAPS

from relay.inbound.intake import read_bundle
from relay.inbound.references import References
from relay.mapping.load import MapSet, load_maps, parse_maps
from relay.mapping.preview import preview
from relay.settings import load_settings
from support.data import files, need_fhir_data, resources

GOLDEN = Path(__file__).parent / "golden"
SHIPPED = load_maps(MAPS)
TABLES: dict[str, Any] = json.loads((MAPS / "metadata.json").read_text("utf-8"))["tables"]
_LINE = re.compile(r" \([a-z]+\.yaml:\d+\)$")
"""Where in a map the line stands that an issue is about: that moves with every comment."""
_DISABLED = re.compile(r", disabled: true(?=})|^ *disabled: true\n", re.MULTILINE)


@cache
def switched_on(*kinds: str) -> MapSet:
    """Return the shipped maps, the disabled lines of some types (of all, when none is named) enabled."""
    read = {path.name: path.read_text(encoding="utf-8") for path in MAPS.glob("*.yaml")}
    for name in [f"{kind.lower()}.yaml" for kind in kinds] or read:
        read[name], count = _DISABLED.subn("", read[name])
        assert count or not kinds
    return parse_maps("maps", {name: text.encode() for name, text in read.items()}, MAPS / "metadata.json")


@cache
def published(name: str) -> bytes:
    """Read a published file by its name without endings; of NDJSON `name.ndjson:line`."""
    need_fhir_data()
    file, _, line = name.partition(".ndjson:")
    found = resources(f"{file}.ndjson.gz") if line else files(f"{name}.json.gz")
    return next(content for each, content in found if each.partition(".json")[0] == name or each == name)


def shown(maps: MapSet, content: bytes, wanted: str = "") -> dict[str, Any]:
    """Preview one resource, its references read as they are in a bundle: the one named, the first of a type, or the first."""
    incoming = read_bundle(content, content_type="application/fhir+json", content_encoding="", limits=load_settings())
    references = References(incoming, fhir_url="")
    named = (entry for entry in incoming.entries if wanted in {"", entry.resource_type, "/".join(entry.key or ())})
    entry = next(each for each in named if each.resource is not None)
    assert entry.resource is not None
    whole = preview(maps, [entry.resource], references.resolver(entry))
    for issue in whole["resources"][0]["issues"]:
        issue["message"] = _LINE.sub("", issue["message"])
    return whole


def made(resource: dict[str, Any], maps: MapSet = SHIPPED) -> dict[str, Any]:
    """Preview one resource, of which only what matters is given."""
    (one,) = shown(maps, json.dumps({"id": "1", **resource}).encode())["resources"]
    assert isinstance(one, dict)
    return one


def filled(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that a row of a preview has a value in."""
    return {name: value for name, value in row["columns"].items() if value is not None}


def label(table: str, column: str, value: int | None) -> str | None:
    """Return what people read in a column of options."""
    options = {option[0]: option[1] for option in TABLES[table]["columns"][column]["options"]}
    return None if value is None else options[value]

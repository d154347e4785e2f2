"""The elements that R4 requires of a resource, as facts, against the models of fhir.resources."""

from __future__ import annotations

from importlib import import_module

import pytest
from mapping_kit import MAPS

from relay.mapping.load import load_maps
from relay.mapping.r4 import REQUIRED, RESOURCE_TYPES


@pytest.mark.parametrize("kind", REQUIRED)
def test_required_elements_are_those_of_r4(kind: str) -> None:
    """Each required element is there and no other one; a choice of types is one element with [x]."""
    pytest.importorskip("fhir.resources")
    model = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    required: set[str] = set()
    for name, field in model.model_fields.items():
        facts = field.json_schema_extra or {}
        if facts.get("one_of_many_required"):
            required.add(f"{facts['one_of_many']}[x]")
        elif field.is_required() or facts.get("element_required"):
            required.add(field.alias or name)
    assert set(REQUIRED[kind]) == required


def test_every_type_with_a_map_is_listed() -> None:
    """Otherwise a map that makes resources could not be checked."""
    maps = load_maps(MAPS)
    assert {*(entity.resource for entity in maps), *maps.off} <= REQUIRED.keys() <= RESOURCE_TYPES

"""The page on maps names every key, action and issue code there is."""

from __future__ import annotations

import re

import pytest
from mapping_kit import ROOT

from relay.mapping.actions import ACTIONS
from relay.mapping.load import load_maps
from relay.mapping.shape import ExpansionShape, IdentifierShape, MapShape

PAGE = (ROOT / "docs" / "maps.md").read_text(encoding="utf-8")
SHAPES = [MapShape, IdentifierShape, ExpansionShape, *(kind.shape for kind in ACTIONS.values())]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_key_is_on_the_page(shape: type[MapShape]) -> None:
    """A key that nobody can find is not there."""
    assert load_maps  # the loader registers every action
    for name, field in shape.model_fields.items():
        assert re.search(rf"[`\n ]{field.alias or name}\b", PAGE), name


def test_every_issue_of_translating_is_on_the_page() -> None:
    """People search the page for the code in the outcome."""
    found: set[str] = set()
    for name in ("actions", "building", "expansions", "lookups", "translate"):
        text = (ROOT / "relay" / "mapping" / f"{name}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'"(?:error|warning|information)",\s*"([a-z-]+)"', text))
    text = (ROOT / "relay" / "mapping" / "values.py").read_text(encoding="utf-8")
    found |= set(re.findall(r'Unfit\(\s*"([a-z-]+)"', text)) - {"unknown-option"}  # options are checked at load
    found -= {"error", "warning", "information"}  # the annotations of severity
    assert len(found) > 10
    for code in found:
        assert f"`{code}`" in PAGE, code

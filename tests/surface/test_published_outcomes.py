"""Each of Microsoft's published bundles has the outcome that is written down: marks, bad JSON, conditions, patches and all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from published_outcomes import TABLE, WAYS, outcomes

from support.data import need_fhir_data


@pytest.mark.parametrize("way", WAYS)
async def test_published_outcomes(tmp_path: Path, way: str) -> None:
    """Every file is answered with its status, and every entry by its result and code; none by 500."""
    need_fhir_data()
    table = json.loads(TABLE.read_text(encoding="utf-8"))[way]
    found = await outcomes(tmp_path, way)
    assert found == table
    assert all(status in (200, 207, 400, 422) for status, _ in found.values())

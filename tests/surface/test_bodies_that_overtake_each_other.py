"""Versions of one second that overtake each other on a server whose versions have no order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from surface_kit import FHIR_JSON, surface

from support.samples import patient


@pytest.mark.parametrize("versions", ["opaque", "ordered"])
async def test_a_late_body_of_the_same_second_changes_nothing(tmp_path: Path, versions: str) -> None:
    """Where neither time nor version says which is the newer one, the resource is read."""
    async with surface(tmp_path, fhir_versions=versions) as it:
        for gender in ("male", "female"):
            await it.put(patient(identifiers=0, gender=gender))
        for gender, version in (("female", "2"), ("male", "1")):
            meta = {"versionId": version, "lastUpdated": "2026-06-01T12:00:00Z"}
            body = {**patient(identifiers=0, gender=gender), "meta": meta}
            answer = await it.http.put(
                "/api/fhir-hook/Patient/p1", content=json.dumps(body).encode(), headers=FHIR_JSON
            )
            assert answer.status_code == 202
            await it.settle()
        assert [row["gendercode"] for row in it.rows("contact")] == [2]

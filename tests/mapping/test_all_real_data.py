"""Every resource of the real data goes through its map; what comes of it is written down, by type and issue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.cli import main
from support.data import need_fhir_data

GOLDEN = Path(__file__).parent / "golden" / "all_real_data.json"


def test_the_totals_are_those_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    """`relay maps coverage --json` over the whole folder: resources, mapped or not, failed, and issues by code.

    The one file that is no JSON is told; nothing else is. To write the totals down anew, after reading the difference:
    `relay maps coverage --json FOLDER`, and of each type the keys below.
    """
    folder = need_fhir_data()
    assert main(["maps", "coverage", "--json", str(folder)]) == 1
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["failed"] == len(told.err.strip().splitlines()) == 1
    found: dict[str, Any] = {
        each["type"]: {key: each[key] for key in ("resources", "map", "failed", "issues")} for each in document["types"]
    }
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))

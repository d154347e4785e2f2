"""Whole synthetic records, as fast as HAPI takes them: each mapped resource gets its one GUID, and the rate is printed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from real_kit import guids, real

from support.data import bundles, need_fhir_data

pytestmark = pytest.mark.real

RECORDS = 3


def records() -> list[dict[str, Any]]:
    """Return what the records refer to (practitioners, organisations), then the smallest records."""
    need_fhir_data()
    found = [(name, json.loads(text)) for name, text in bundles("synthea-blaze/*.json.gz")]
    shared = sorted((each for name, each in found if "nformation" in name), key=lambda each: len(each["entry"]))[:2]
    people = sorted((each for name, each in found if "nformation" not in name), key=lambda each: len(each["entry"]))
    return shared + people[:RECORDS]


async def test_whole_records_get_their_guids(tmp_path: Path, own_hapi: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever has a map is written and carries one GUID; no entry fails, and afterwards all is still."""
    count, seconds = 0, 0.0
    async with real(tmp_path, own_hapi) as it:
        for record in records():
            made = await it.fhir.post("", json=record)
            assert made.status_code == 200, made.text
            addresses = [each["response"]["location"].split("/_history")[0] for each in made.json()["entry"]]
            sent = {"resourceType": "Bundle", "type": "collection"}
            sent["entry"] = [{"resource": each} for each in await it.held(addresses)]  # type: ignore[assignment]  # JSON
            began = time.perf_counter()
            answer = await it.relay.post("/api/bundle", json=sent, headers={"Content-Type": "application/fhir+json"})
            seconds += time.perf_counter() - began
            assert answer.status_code == 200, answer.text
            entries = answer.json()["entries"]
            assert {each["result"] for each in entries} <= {"created", "unchanged", "skipped"}
            linked = {each["resource"] for each in entries if each["result"] != "skipped"}
            for resource in await it.held(sorted(linked)):
                assert len(guids(resource)) == 1, resource["id"]
            count += len(linked)
        assert await it.stack.settle(within=120)
    with capsys.disabled():
        print(f"\n{count} resources by the relay and back to HAPI: {count / seconds:.0f} a second")  # noqa: T201 - the figure

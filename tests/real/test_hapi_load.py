"""Everything that is loaded into HAPI under its Subscription has one row and one GUID, and then all is still; the rate is printed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_kit import Real, guids, real
from subscription_kit import subscribed

from support.data import bundles, need_fhir_data, resources
from support.world import shipped_maps

pytestmark = pytest.mark.real

RECORDS = int(os.environ.get("RELAY_TEST_RECORDS", "1"))
PART = 200  # resources of one batch to HAPI


def loads() -> Iterator[dict[str, Any]]:
    """Yield what is loaded: the published patients in batches, then whole records and what they refer to."""
    need_fhir_data()
    patients = [json.loads(text) for _, text in resources("bulk-1000-patients/Patient.*.gz")]
    for start in range(0, len(patients), PART):
        entries = [
            {"resource": each, "request": {"method": "PUT", "url": f"Patient/{each['id']}"}}
            for each in patients[start : start + PART]
        ]
        yield {"resourceType": "Bundle", "type": "batch", "entry": entries}
    found = [(name, json.loads(text)) for name, text in bundles("synthea-blaze/*.json.gz")]
    yield from (each for name, each in found if "nformation" in name)
    people = sorted((each for name, each in found if "nformation" not in name), key=lambda each: len(each["entry"]))
    yield from people[:RECORDS]


async def load(it: Real, bundle: dict[str, Any]) -> list[str]:
    """Give a bundle to HAPI and return the addresses of what it has now."""
    answer = await it.fhir.post("", json=bundle)
    assert answer.status_code == 200, answer.text
    made = [each["response"] for each in answer.json()["entry"]]
    assert all(each["status"].startswith("2") for each in made)
    return [each["location"].split("/_history")[0] for each in made]


async def test_a_load_gets_its_guids(tmp_path: Path, own_hapi: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Patients and whole records: each mapped resource has exactly one GUID, that of its row, in its second version."""
    maps = {each.resource: each for each in shipped_maps().maps if each.identifier and each.identifier.writeback}
    async with (
        real(tmp_path, own_hapi, trust_sent_bodies="true", retry_first="1s", retry_longest="5s") as it,
        subscribed(it, f"[{','.join(maps)}]") as hook,
    ):
        began = time.perf_counter()
        addresses = [each for bundle in loads() for each in await load(it, bundle)]
        mapped = [each for each in addresses if each.partition("/")[0] in maps]
        await hook.still(least=2 * len(mapped), within=400)
        seconds = time.perf_counter() - began
        rows = {
            row[table.primary_id]: row
            for table in {each.table.name: each.table for each in maps.values()}.values()
            for row in it.stack.dataverse.store.query(f'select * from "{table.name}"', [])  # noqa: S608 - our own names
        }
        for resource in await it.held(mapped):
            each = maps[resource["resourceType"]]
            (guid,) = guids(resource)
            assert rows[guid][each.key] == resource["id"]
            assert resource["meta"]["versionId"] == "2"
        assert len(rows) == len(mapped)
        calls = it.calls()
    with capsys.disabled():
        rate = f"{len(mapped)} resources by HAPI's Subscription and back: {len(mapped) / seconds:.0f} a second"
        print(f"\n{rate}, {len(hook.sent)} notifications, {len(calls)} calls to HAPI")  # noqa: T201 - the figure

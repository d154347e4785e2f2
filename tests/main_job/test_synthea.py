"""The main job on bundles that nobody here wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from support.data import need_fhir_data
from support.samples import results
from support.state import state
from support.world import World, world

FILES = (
    "0-hospitalInformation1625911868739",
    "0-practitionerInformation1625911868739",
    "0f2074a0-4173-1a32-988f-5316d7f1cbbe",
)
MAPPED = ("Patient", "Practitioner", "Organization", "Encounter", "CarePlan")


async def _load(w: World) -> None:
    """Bring the hospital, its practitioners and one patient's record to the FHIR server."""
    for name in FILES:
        body = gzip.decompress((need_fhir_data() / "synthea-blaze" / f"{name}.json.gz").read_bytes())
        answer = await w.fhir_http.post("/", content=body, headers={"Content-Type": "application/fhir+json"})
        assert answer.status_code == 200, answer.text[:500]


def _searchset(w: World, kinds: tuple[str, ...]) -> dict[str, Any]:
    found = [each for each in w.newest().values() if each["resourceType"] in kinds]
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": each} for each in found]}


@pytest.mark.parametrize(
    ("setting", "kinds"), [("inline", MAPPED), ("event", ("Patient", "Encounter", "CarePlan"))], ids=["inline", "event"]
)
async def test_a_synthea_record_ends_linked_on_both_sides(tmp_path: Path, setting: str, kinds: tuple[str, ...]) -> None:
    """Every mapped resource has its row and exactly one Dynamics identifier, and sending it again writes nothing."""
    need_fhir_data()
    async with world(tmp_path, writeback=setting, events=setting == "event") as w:
        await _load(w)
        sent = _searchset(w, kinds)
        reply = await w.post(sent)
        assert reply.body
        bad = {name: result for name, result in results(reply.body).items() if result != "created"}
        assert bad == {}, [each["issues"] for each in reply.body["entries"] if each["resource"] in bad]
        await w.settle()
        assert await w.dead() == []
        newest = w.newest()
        for entry in reply.body["entries"]:
            resource = newest[entry["resource"]]
            urn = f"urn:oid:org.d365.mc4h.{resource['resourceType'].lower()}.id"
            ours = [each["value"] for each in resource["identifier"] if each.get("system") == urn]
            assert ours == [entry["row"]["id"]]
        before = await state(w, times=True)
        versions = len(w.fhir.store.log)
        again = await w.post(_searchset(w, kinds))
        assert again.body
        assert set(results(again.body).values()) == {"unchanged"}
        await w.settle()
        assert await state(w, times=True) == before
        assert len(w.fhir.store.log) == versions


async def test_a_transaction_as_synthea_wrote_it_becomes_rows(tmp_path: Path) -> None:
    """POST entries, urn:uuid and conditional references; what never reached the FHIR server is no dead letter."""
    folder = need_fhir_data() / "synthea-blaze"
    async with world(tmp_path, events=False) as w:
        for name in FILES:
            reply = await w.post((folder / f"{name}.json.gz").read_bytes(), content_encoding="gzip")
            assert reply.body
            kinds = [each for each in reply.body["entries"] if each["resource"].split("/")[0] in MAPPED]
            assert {each["result"] for each in kinds} == {"created"}, json.dumps(kinds)[:2000]
            assert {each["writeback"] for each in kinds} == {"none"}
        await w.settle()
        assert await w.dead() == []
        assert w.newest() == {}

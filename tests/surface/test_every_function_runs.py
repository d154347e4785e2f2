"""Every function of the app is invoked through the platform's runtime package, by what triggers it, and does its work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msind_kit import retrieved, upsert
from surface_kit import OURS, surface

from devstack.host.runtime import Runtime
from relay.inbound.jobs import DROPPED_OUTCOMES

GOLDEN = Path(__file__).with_name("functions.json")
PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"use": "official", "family": "Alder"}]}
BUNDLE = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": PATIENT}]}


async def test_every_function_runs_in_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each published function has run to its end once its trigger fired; one that is added needs a line here."""
    ran: list[str] = []
    invoke = Runtime.invoke

    async def noted(self: Runtime, function: Any, *arguments: Any, **options: Any) -> Any:
        result = await invoke(self, function, *arguments, **options)  # a function that raises is not noted
        ran.append(function.name)
        return result

    monkeypatch.setattr(Runtime, "invoke", noted)
    async with surface(tmp_path) as it:
        assert (await it.http.get("/api/health")).json()["status"] == "ok"
        assert (await it.http.get("/api/ready")).json()["status"] == "ok"
        await it.put(PATIENT)
        outcome = (await it.post(BUNDLE)).json()
        assert outcome["status"] == "succeeded"
        assert (await it.http.get(f"/api/bundle/{outcome['id']}")).json()["id"] == outcome["id"]
        assert (await upsert(it, BUNDLE)).status_code == 200
        assert (await retrieved(it, "Patient/p1"))["id"] == "p1"
        assert (await it.http.put("/api/fhir-hook/Patient/p1", json=PATIENT)).status_code == 202
        # queue and event: the worker carries a bundle out, and a user's row is linked
        left = await it.post(BUNDLE, Prefer="respond-async")
        assert left.status_code == 202
        await it.put(PATIENT | {"id": "p2"})
        row = {"lastname": "Alder", "msemr_azurefhirid": "p2", "msemr_contacttype": 935000000}
        assert (await it.org.post("/contacts", json=row)).is_success
        await it.store.put_blob("bundles", "monday.json", json.dumps(BUNDLE).encode())
        for queue in ("inbound-poison", "writeback-poison", "webjobs-blobtrigger-poison"):
            await it.store.send(queue, "{}")
        await it.settle()
        assert (await it.outcome(left))["status"] == "succeeded"
        systems = [each["system"] for each in (await it.read("Patient", "p2"))["identifier"]]
        assert [each for each in systems if each.startswith(OURS)] == ["urn:oid:org.d365.mc4h.patient.id"]
        assert [each.name for each in await it.store.list_blobs(DROPPED_OUTCOMES)] == ["monday.json.json"]
        letters = {(each["kind"], each["code"]) for each in await it.relay.dead_letters.list()}
        assert letters == {("inbound", "poison"), ("writeback", "poison"), ("blob", "poison")}
        await it.host.invoke("sweep")
        await it.host.invoke("fhir_event", json.dumps({"eventType": "Microsoft.HealthcareApis.DicomImageCreated"}))
    assert set(ran) == set(json.loads(GOLDEN.read_text()))

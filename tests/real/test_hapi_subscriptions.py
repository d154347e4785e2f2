"""HAPI's Subscription calls the relay: rows in Dataverse, GUIDs in HAPI's resources, and the echo ends it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from real_kit import guids, real
from subscription_kit import subscribed

from support.samples import encounter, patient

pytestmark = pytest.mark.real


async def test_a_patient_made_in_hapi(tmp_path: Path, hapi_url: str) -> None:
    """Created in HAPI, it has its row and its GUID with nobody sending anything; the echo costs no call to HAPI."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it, subscribed(it, "Patient?") as hook:
        it.calls()
        assert (await it.put(patient(fhir_id))).is_success
        await hook.still(least=2)
        resource = await it.read(f"Patient/{fhir_id}")
        row = await it.row("contacts", fhir_id)
        assert guids(resource) == (row["contactid"],)
        assert resource["meta"]["versionId"] == "2"
        assert hook.sent == [f"PUT /api/fhir-hook/Patient/{fhir_id}"] * 2
        read_and_put = [f"GET /fhir/Patient/{fhir_id}", f"PUT /fhir/Patient/{fhir_id}"]
        assert [each for each in it.calls() if not each.endswith("/metadata")] == read_and_put
        # an edit comes through too, and its echo-free change is one row's update
        assert (await it.put({**resource, "gender": "male"})).is_success
        await hook.still(least=3)
        assert (await it.row("contacts", fhir_id))["gendercode"] == 1
        assert it.calls() == []
        assert guids(await it.read(f"Patient/{fhir_id}")) == (row["contactid"],)


async def test_what_comes_before_what_it_refers_to(tmp_path: Path, hapi_url: str) -> None:
    """An encounter made in HAPI before its patient waits for the patient's row, and then has its GUID."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with (
        real(tmp_path, hapi_url, retry_first="500ms", retry_longest="1s") as it,
        subscribed(it, "Patient?", "Encounter?") as hook,
    ):
        assert (await it.put(encounter(fhir_id, f"Patient/{fhir_id}"))).is_success
        assert (await it.put(patient(fhir_id))).is_success
        await hook.still(least=4)
        for kind, entity_set, key in (
            ("Patient", "contacts", "contactid"),
            ("Encounter", "msemr_encounters", "msemr_encounterid"),
        ):
            row = await it.row(entity_set, fhir_id)
            assert guids(await it.read(f"{kind}/{fhir_id}")) == (row[key],)

"""HAPI's Subscription calls the relay: rows in Dataverse, GUIDs in HAPI's resources, and the echo ends it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from real_kit import guids, real
from subscription_kit import documented, subscribed, until

from devstack.control import Fault
from support.samples import encounter, patient

pytestmark = pytest.mark.real


async def test_a_patient_made_in_hapi(tmp_path: Path, hapi_url: str) -> None:
    """With the Subscription that the docs show: created in HAPI, it has its row and its GUID with nobody sending anything; the echo costs no call to HAPI."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it, subscribed(it) as hook:
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
        # an edit by somebody is one row's update, and no call to HAPI
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
        subscribed(it) as hook,
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


async def test_a_subscription_without_payload(tmp_path: Path, hapi_url: str) -> None:
    """HAPI says by an empty POST that something changed; the types of the path are searched, page after page."""
    ids = [f"sub-{uuid4().hex[:8]}" for _ in range(5)]
    async with real(tmp_path, hapi_url) as it, subscribed(it, "Patient?", path="/Patient", payload=None) as hook:
        sys.modules["relay.fhir.client"].PAGE = 2  # type: ignore[attr-defined]  # the app's own copy of it
        it.calls()
        for each in ids:
            assert (await it.put(patient(each))).is_success
        await hook.still(least=10)
        assert set(hook.sent) == {"POST /api/fhir-hook/Patient"}
        searches = [each for each in it.calls() if "_lastUpdated" in each or "_getpages" in each]
        assert any("_getpages" in each for each in searches)
        for each in ids:
            row = await it.row("contacts", each)
            resource = await it.read(f"Patient/{each}")
            assert guids(resource) == (row["contactid"],)
            assert resource["meta"]["versionId"] == "2"


async def test_a_deletion_is_told_where_hapi_is_asked_to(tmp_path: Path, hapi_url: str) -> None:
    """With its extension for that HAPI sends DELETE: the server is asked whether it is so, and the row goes out of use."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it, subscribed(it) as hook:
        assert (await it.put(patient(fhir_id))).is_success
        await hook.still(least=2)
        assert (await it.fhir.delete(f"Patient/{fhir_id}")).is_success
        await hook.still(least=3)
        assert hook.sent[2] == f"DELETE /api/fhir-hook/Patient/{fhir_id}"
        assert hook.door.calls[2]["status"] == 202
        assert (await it.row("contacts", fhir_id))["statecode"] == 1
        assert (await it.fhir.get(f"Patient/{fhir_id}")).status_code == 410


async def test_hapi_sends_again_what_was_not_taken(tmp_path: Path, hapi_url: str) -> None:
    """While the relay answers 503 HAPI comes again, and nothing is lost."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it, subscribed(it) as hook:
        hook.door.faults.append(Fault(status=503, times=2))
        assert (await it.put(patient(fhir_id))).is_success
        await hook.still(least=4)
        assert [each["status"] for each in hook.door.calls] == [503, 503, 202, 202]
        row = await it.row("contacts", fhir_id)
        assert guids(await it.read(f"Patient/{fhir_id}")) == (row["contactid"],)


async def test_a_payload_search_is_answered_with_a_bundle(tmp_path: Path, hapi_url: str) -> None:
    """HAPI sends what such a search finds as a transaction; the answer is a Bundle, else it would send it for ever."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    search = {
        "url": "http://hapifhir.io/fhir/StructureDefinition/subscription-payload-search-criteria",
        "valueString": "Patient?_id=${matched_resource_id}",
    }
    async with real(tmp_path, hapi_url) as it, subscribed(it, "Patient?", extension=[search]) as hook:
        assert (await it.put(patient(fhir_id))).is_success
        await hook.still(least=2)
        assert hook.sent == ["POST /api/fhir-hook"] * 2
        row = await it.row("contacts", fhir_id)
        assert guids(await it.read(f"Patient/{fhir_id}")) == (row["contactid"],)


async def test_a_topic_with_ids_only(tmp_path: Path, hapi_url: str) -> None:
    """HAPI's own notifications by topic, as the docs show both: what they name is read, and the echo's is the last."""
    fhir_id = f"sub-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it:
        assert (await it.put(documented("Basic"))).is_success
        async with subscribed(it, shown=1) as hook:

            async def told() -> bool:  # HAPI looks for new topics once a minute
                name = [{"family": f"Alder {uuid4().hex}"}]
                assert (await it.put({**patient(fhir_id), "name": name})).is_success
                await asyncio.sleep(1)
                return bool(hook.sent)

            await until(told, within=120)
            await hook.still(least=2)
            assert set(hook.sent) == {"POST /api/fhir-hook"}
            assert {each["status"] for each in hook.door.calls} == {202}
            row = await it.row("contacts", fhir_id)
            resource = await it.read(f"Patient/{fhir_id}")
            assert guids(resource) == (row["contactid"],)
            assert row["lastname"] == resource["name"][0]["family"]

"""Deletions on FHIR servers that nobody here wrote: one says 410, the other 404, and only the first takes a row out of use."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from real_kit import Real, guids, real

from support.merges import deletion, told
from support.samples import Json, bundle, patient

pytestmark = pytest.mark.real


async def send(it: Real, sent: Json, status: int = 200) -> Json:
    """Send a bundle to the relay, wait until all is still, and return the outcome."""
    answer = await it.relay.post("/api/bundle", json=sent)
    assert answer.status_code == status, answer.text
    assert await it.stack.settle()
    outcome: Json = answer.json()
    return outcome


async def test_hapi(tmp_path: Path, hapi_url: str) -> None:
    """Two deletions in one read take their rows out of use; a late version brings nothing back, one that is there does."""
    one, two = f"gone-{uuid4().hex[:8]}", f"gone-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url) as it:
        for each in (one, two):
            await it.put(patient(each))
        await send(it, bundle(patient(one), patient(two)))
        linked = await it.read(f"Patient/{one}")
        assert told(await send(it, deletion(f"Patient/{one}"))) == [("skipped", ["not-deleted"])]
        for each in (one, two):
            assert (await it.fhir.delete(f"Patient/{each}")).is_success
        it.calls()
        outcome = await send(it, deletion(f"Patient/{one}", f"Patient/{two}"))
        assert told(outcome) == [("updated", ["deactivated"])] * 2
        assert len(it.calls()) == 1
        assert told(await send(it, deletion(f"Patient/{one}", f"Patient/{two}"))) == [("unchanged", [])] * 2
        assert [reason for _, (reason,) in told(await send(it, bundle(linked, patient(two))))] == [
            "resource-deleted",
            "resource-deleted",
        ]
        assert [(await it.row("contacts", each))["statecode"] for each in (one, two)] == [1, 1]
        await it.put(patient(one))
        back = await it.read(f"Patient/{one}")
        assert told(await send(it, bundle(back))) == [("updated", ["reactivated"])]
        row = await it.row("contacts", one)
        assert (row["statecode"], row["statuscode"]) == (0, 1)
        assert guids(await it.read(f"Patient/{one}")) == (row["contactid"],)


async def test_medplum(tmp_path: Path, medplum_url: str) -> None:
    """After a deletion it answers 404, which is no proof: the row stays, and a person is told."""
    fhir_id = f"gone-{uuid4().hex[:8]}"
    async with real(tmp_path, medplum_url) as it:
        await it.put(patient(fhir_id))
        await send(it, bundle(patient(fhir_id)))
        await it.fhir.delete(f"Patient/{fhir_id}")
        outcome = await send(it, deletion(f"Patient/{fhir_id}", f"Patient/{fhir_id}-other"), 207)
        assert told(outcome) == [("failed", ["unknown-on-server"]), ("skipped", ["unknown-on-server"])]
        assert (await it.row("contacts", fhir_id))["statecode"] == 0

from __future__ import annotations

import json

import pytest
from contract_kit import Met, patient

from relay.errors import Failed
from relay.fhir.client import Put
from relay.fhir.links import Link
from relay.writeback.writer import GONE, Writer


async def test_a_guarded_put_does_not_bring_back(server: Met) -> None:
    """What was deleted after it was read stays deleted, alone and in a batch, whatever the status says."""
    gone, other, more = [await server.patient() for _ in range(3)]
    async with server.client() as fhir:
        reads = await fhir.read([("Patient", each) for each in (gone, other, more)])
        await server.delete(gone)
        await server.delete(other)
        texts = [json.dumps(patient(each, gender="male")) for each in (gone, other, more)]
        alone = await fhir.write([Put("Patient", gone, texts[0], reads[0].etag)])
        among = await fhir.write(
            [
                Put("Patient", each, text, read.etag)
                for each, text, read in zip((other, more), texts[1:], reads[1:], strict=True)
            ]
        )
        after = await fhir.read([("Patient", gone), ("Patient", other)])
    refused = {*server.profile.conflict, *GONE}
    assert {alone[0].status, among[0].status} <= refused
    assert among[1].status == 200
    assert {each.status for each in after} <= GONE
    assert server.profile.after_delete in (None, after[0].status)


async def test_what_is_gone_has_no_version_to_put_over(server: Met) -> None:
    """A read of what was deleted gives no ETag, so that no PUT can be made of it."""
    fhir_id = await server.patient()
    await server.delete(fhir_id)
    async with server.client() as fhir:
        (read,) = await fhir.read([("Patient", fhir_id)])
        assert (read.text, read.etag) == ("", "")
        with pytest.raises(Failed) as refused:
            await fhir.write([Put("Patient", fhir_id, json.dumps(patient(fhir_id)), read.etag)])
    assert refused.value.code == "no-version"


async def test_the_writer_leaves_what_is_gone(server: Met) -> None:
    """A link to a deleted resource fails as `gone`; an entry that was only posted was never there: no dead letter."""
    gone = await server.patient()
    await server.delete(gone)
    system, guid = "urn:oid:org.d365.mc4h.patient.id", "b7cbe6c4-8c3f-4b3e-9d3b-0c8a52a3d001"
    links = [
        Link("Patient", gone, "contact", guid, system),
        Link("Patient", server.id(), "contact", guid, system, posted=True),
    ]

    async def no_row(*_: str) -> bool:
        return False

    async with server.client() as fhir:
        results = await Writer(fhir, no_row).write(links)
        (read,) = await fhir.read([("Patient", gone)])
    assert [(each.state, each.code) for each in results] == [("failed", "gone"), ("none", "not-on-server")]
    assert read.status in GONE

from __future__ import annotations

import json

import pytest
from contract_kit import Met, patient

from devstack.control import Fault
from relay.errors import Transient
from relay.fhir.client import Put
from relay.fhir.links import Link
from relay.writeback.writer import Writer

DATE = {"Date": "Mon, 01 Jun 2026 12:00:00 GMT", "Retry-After": "Mon, 01 Jun 2026 12:00:07 GMT"}
FORMS = {
    "seconds": ({"Retry-After": "3"}, 3.0),
    "milliseconds": ({"Retry-After": "3", "x-ms-retry-after-ms": "2500"}, 2.5),
    "date": (DATE, 7.0),
    "no word": ({}, None),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_believed(server: Met, form: str, status: int) -> None:
    """Alone or in a batch, the wait that the server names is what the caller learns; then it goes through."""
    headers, wait = FORMS[form]
    ids = [("Patient", await server.patient()) for _ in range(2)]
    async with server.client() as fhir:
        server.control.faults.append(Fault(status=status, headers=headers, times=2))
        (read,) = await fhir.read(ids[:1])
        assert (read.status, read.retry_after) == (status, wait)
        with pytest.raises(Transient) as busy:
            await fhir.read(ids)
        assert (busy.value.code, busy.value.retry_after) == (f"fhir-{status}", wait)
        assert [each.status for each in await fhir.read(ids)] == [200, 200]


async def test_a_busy_server_loses_nothing(server: Met) -> None:
    """A write-back that meets a busy server is queued with the wait, and done once the server is not."""
    fhir_id = await server.patient()
    link = Link("Patient", fhir_id, "contact", "b7cbe6c4-8c3f-4b3e-9d3b-0c8a52a3d002", "urn:oid:x")

    async def no_row(*_: str) -> bool:
        return False

    async with server.client() as fhir:
        writer = Writer(fhir, no_row)
        server.control.faults.append(Fault(method="PUT", status=429, headers={"Retry-After": "1"}))
        (busy,) = await writer.write([link])
        (done,) = await writer.write([link])
    assert (busy.state, busy.code, busy.retry_after, done.state) == ("queued", "fhir-429", 1.0, "written")
    assert (await server.read(fhir_id))["identifier"] == [{"system": link.system, "value": link.row_id}]


async def test_an_answer_that_is_lost_is_no_second_write(server: Met) -> None:
    """The PUT was done and its answer lost: the next one is refused as stale, and nothing is there twice."""
    fhir_id = await server.patient()
    async with server.client() as fhir:
        (read,) = await fhir.read([("Patient", fhir_id)])
        put = Put("Patient", fhir_id, json.dumps(patient(fhir_id, gender="male")), read.etag)
        server.control.faults.append(Fault(method="PUT", effect="lose"))
        with pytest.raises(Transient):
            await fhir.write([put])
        (again,) = await fhir.write([put])
    assert again.status in server.profile.conflict
    assert (await server.read(fhir_id))["gender"] == "male"

"""How many HTTP calls a bundle of new resources costs, counted on the wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.samples import bundle, patient
from support.state import state
from support.world import world

INBOUND = 1  # the request that brought the bundle

HUNDRED = [patient(f"p{number}", identifiers=4) for number in range(100)]


async def test_a_hundred_new_patients_cost_five_calls(tmp_path: Path) -> None:
    """One in, one locate, one write, one batch of reads, one batch of PUTs; events cause no further call."""
    async with world(tmp_path, write="fewest-calls") as w:
        await w.put(*HUNDRED)
        w.forget_calls()
        reply = await w.post(bundle(*HUNDRED))
        assert reply.status == 200
        assert reply.body
        assert reply.body["receipt"]["calls"] == {"dataverse": 2, "fhir": 2}
        assert reply.body["receipt"]["rows"]["created"] == 100 * (1 + 4 + 1)
        assert reply.body["receipt"]["reference_calls"] == 202
        await w.settle()
        assert INBOUND + sum(w.calls().values()) == 5
        assert len(w.events) == 600


async def test_trusted_bodies_save_the_read(tmp_path: Path) -> None:
    """A sender that forwards the server's own bodies saves the batch of reads: four calls."""
    async with world(tmp_path, write="fewest-calls", trust_sent_bodies=True) as w:
        await w.put(*HUNDRED)
        sent = bundle(*w.newest().values())
        w.forget_calls()
        reply = await w.post(sent)
        assert reply.status == 200
        await w.settle()
        assert INBOUND + sum(w.calls().values()) == 4
        assert all("urn:oid:org.d365.mc4h.patient.id" in json.dumps(each) for each in w.newest().values())


async def test_a_trusted_body_without_a_version_is_read_first(tmp_path: Path) -> None:
    """Without meta.versionId nothing would guard the PUT, so the read is made all the same."""
    async with world(tmp_path, trust_sent_bodies=True) as w:
        await w.put(patient("a"), patient("b"))
        w.forget_calls()
        await w.post(bundle(patient("a"), patient("b")))
        assert [call["method"] for call in w.fhir.calls] == ["POST", "POST"]


async def test_a_trusted_body_that_is_out_of_date_loses_nothing(tmp_path: Path) -> None:
    """If-Match refuses the PUT of an older body; the newer one is read and keeps its changes."""
    async with world(tmp_path, trust_sent_bodies=True) as w:
        await w.put(patient("a"))
        sent = bundle(w.newest()["Patient/a"])
        await w.put(patient("a", active=True))
        reply = await w.post(sent)
        assert reply.status == 200
        now = w.newest()["Patient/a"]
        assert now["active"] is True
        assert now["identifier"][-1]["system"] == "urn:oid:org.d365.mc4h.patient.id"


@pytest.mark.parametrize("batch_entries", [500, 30])
async def test_inline_and_event_end_in_the_same_two_databases(tmp_path: Path, batch_entries: int) -> None:
    """What causes the write-back changes the calls, not the rows or the resources."""
    states = []
    for setting in ("inline", "event"):
        async with world(tmp_path / setting, writeback=setting, fhir_batch_entries=batch_entries) as w:
            some = HUNDRED[:40]
            await w.put(*some)
            reply = await w.post(bundle(*some))
            assert reply.status == 200
            await w.settle()
            assert await w.dead() == []
            states.append(await state(w))
    assert states[0] == states[1]
    assert all(
        any(each["system"] == "urn:oid:org.d365.mc4h.patient.id" for each in resource["identifier"])
        for resource in states[0]["fhir"].values()
    )

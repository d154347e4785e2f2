"""Whatever interrupts a bundle on its way through the FHIR server, one resource and one row of each is what is left."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from devstack.control import Fault
from support.forwarded import new, of_type, refusal, visit
from support.mishaps import Kill, Wire, once
from support.samples import bundle, codes, patient
from support.world import URN, world


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_dataverse_is_away_after_the_server_has_answered(tmp_path: Path, kind: str) -> None:
    """The ids answered are kept: nothing is sent to the server a second time."""
    async with world(tmp_path, forward=True) as it:
        it.dataverse.faults.append(Fault(path=r"\$batch", times=40))
        reply = await it.post(visit(kind))
        assert reply.status == 202
        held = it.newest()
        assert len(held) == 3
        it.forget_calls()
        await it.settle()
        assert it.newest().keys() == held.keys()
        assert [it.versions(each) for each in held] == [2, 2, 2], "made, and written back to"
        assert len(await it.rows("contacts")) == 2


async def test_given_up_after_the_server_has_answered(tmp_path: Path) -> None:
    """What the server answered stays with the dead letter: its job carried out again sends nothing a second time."""
    async with world(tmp_path, forward=True, retry_for="1m", events=False) as it:
        it.dataverse.faults.append(Fault(path=r"\$batch", times=400))
        sent = json.dumps(visit()).encode()
        reply = await it.post(sent, respond_async=True)
        (message,) = await it.store.peek("inbound")
        await it.settle()
        assert len(await it.dead()) == 1
        held = it.newest()
        it.dataverse.faults.clear()
        await it.store.delete_blob("relay-outcomes", f"{reply.job}.json")
        await it.store.put_blob("relay-payloads", reply.job, sent)
        await it.relay.inbound.work(message.text)
        assert it.newest().keys() == held.keys()
        assert len(await it.rows("contacts")) == 2
        assert await it.store.list_blobs("relay-forwards") == []


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_the_answer_is_lost(tmp_path: Path, kind: str) -> None:
    """What was done though the answer was lost is found, and not done again: not even over somebody's change since."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        reply = await it.post(visit(kind))
        assert reply.status == 202
        (person,) = of_type(it, "Patient")
        await it.put({**person, "birthDate": "1999-01-01"})
        await it.settle()
        assert len(it.newest()) == 3
        assert (await it.read("Patient", person["id"]))["birthDate"] == "1999-01-01"
        assert it.versions(f"Patient/{person['id']}") == 3, "made, changed, written back to"
        (row,) = await it.rows("contacts", f"msemr_azurefhirid eq '{person['id']}'")
        assert (row["birthdate"], row["msemr_azurefhirversion"]) == ("1999-01-01", "2"), (
            "the row is what the server has"
        )


@pytest.mark.parametrize("guard", ["", 'W/"1"'])
async def test_the_answer_to_a_put_is_lost(tmp_path: Path, guard: str) -> None:
    """A PUT that was done is known by its content; a guarded one would be refused the second time."""
    async with world(tmp_path, forward=True, events=False) as it:
        await it.put(patient())
        sent = bundle(patient(birthDate="2000-01-01"))
        if guard:
            sent["entry"][0]["request"]["ifMatch"] = guard
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        await it.post(sent)
        await it.settle()
        (row,) = await it.rows("contacts")
        assert row["birthdate"] == "2000-01-01"
        assert it.versions("Patient/p1") == 3, "the sender's two, and the write-back"


async def test_a_put_that_was_not_done_goes_again(tmp_path: Path) -> None:
    """Where the server shows that it was not reached, a transaction and a batch go once more."""
    for kind in ("transaction", "batch"):
        async with world(tmp_path / kind, forward=True) as it:
            it.fhir.store._clock = it.clock
            await it.put(patient())
            it.fhir.faults.append(Fault(method="POST", path="^/$", status=503))
            reply = await it.post(bundle(patient(birthDate="2000-01-01"), kind=kind))
            assert reply.status == 202
            await it.settle()
            assert (await it.read("Patient", "p1"))["birthDate"] == "2000-01-01"


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("landed", [True, False])
async def test_somebody_wrote_since(tmp_path: Path, kind: str, landed: bool) -> None:
    """A PUT whose answer was lost is not put over what was written since: the entry says so, and its sender decides."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        await it.put(patient())
        fault = Fault(method="POST", path="^/$", effect="lose") if landed else Fault(method="POST", path="^/$")
        it.fhir.faults.append(fault)
        reply = await it.post(bundle(patient(birthDate="2000-01-01"), kind=kind))
        it.clock.advance(timedelta(seconds=1))
        await it.put(patient(active=True))
        await it.settle()
        assert (await it.read("Patient", "p1"))["active"] is True
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert codes(outcome) == {"Patient/p1": ["changed-meanwhile"]}


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_anywhere(tmp_path: Path, at: int, moment: Any) -> None:
    """Killed before or after any request, a new process ends with one resource and one row of each."""
    async with world(tmp_path, forward=True, events=False) as it:
        Wire(at, moment).watch(it)
        try:
            await it.post(visit())
        except Kill:
            await it.restart()
        await it.settle()
        assert sorted(each.partition("/")[0] for each in it.newest()) == ["Encounter", "Patient", "Practitioner"]
        assert len(await it.rows("contacts")) == 2
        assert all(len(each["identifier"]) > 1 for each in it.newest().values())
        assert await it.dead() == []


@pytest.mark.parametrize(
    ("kind", "guard", "ends"),
    [("batch", "", "created"), ("transaction", "", "created"), ("batch", 'W/"1"', "fhir-409")],
)
async def test_409_without_a_guard_is_tried_again(tmp_path: Path, kind: str, guard: str, ends: str) -> None:
    """A 409 to what named no version is a lock or a deadlock, to a guarded one it is the answer."""
    async with world(tmp_path, forward=True) as it:
        sent = bundle(patient(), kind=kind)
        if guard:
            sent["entry"][0]["request"]["ifMatch"] = guard
        if kind == "batch":
            body = {"resourceType": "Bundle", "type": "batch-response", "entry": [refusal("409 Conflict")]}
            it.fhir.faults.append(Fault(method="POST", path="^/$", status=200, body=body))
        else:
            it.fhir.faults.append(Fault(method="POST", path="^/$", status=409))
        reply = await it.post(sent)
        if ends == "created":
            assert reply.status == 202
            await it.settle()
            assert len(await it.rows("contacts")) == 1
        else:
            assert reply.body is not None
            assert codes(reply.body) == {"Patient/p1": [ends]}


async def test_the_server_is_away_while_doubts_are_settled(tmp_path: Path) -> None:
    """Nothing is sent again before the server has told what it has."""
    async with world(tmp_path, forward=True) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        it.fhir.faults.append(Fault(method="GET", path="/Patient/", times=2))
        await it.post({"resourceType": "Bundle", "type": "batch", "entry": [new(patient())]})
        await it.settle()
        (person,) = of_type(it, "Patient")
        assert it.versions(f"Patient/{person['id']}") == 2


async def test_another_writer_between_forward_and_write_back(tmp_path: Path) -> None:
    """Who changes the resource right after it was forwarded loses nothing: it is read before it is put."""
    async with world(tmp_path, forward=True, trust_sent_bodies=True, events=False) as it:
        once(
            it.to_dataverse,
            lambda _: True,
            lambda: it.put(patient(active=True, telecom=[{"system": "phone", "value": "1"}])),
        )
        await it.post(bundle(patient()))
        now = await it.read("Patient", "p1")
        assert (now["active"], now["identifier"][-1]["system"]) == (True, URN.format("patient"))


async def test_the_name_of_the_source_changes_meanwhile(tmp_path: Path) -> None:
    """The ids of what was sent stay those that were chosen then: nothing is made a second time under others."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        assert (await it.post(visit())).status == 202
        it.relay.settings = it.relay.settings.model_copy(update={"source_name": "moved"})
        await it.restart()
        await it.settle()
        assert len(it.newest()) == 3
        assert len(await it.rows("contacts")) == 2

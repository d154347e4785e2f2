"""Conditional creates and PUTs go to the FHIR server as they are, and the row is that of the resource they met."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.control import Fault
from support.forwarded import URNS, new, of_type
from support.samples import codes, encounter, organization, patient, results
from support.world import world


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_a_conditional_create_that_finds_one(tmp_path: Path, kind: str) -> None:
    """The resource found is the server's own in Dataverse too, and what refers to the entry refers to it."""
    async with world(tmp_path, forward=True) as it:
        await it.put(patient("there", birthDate="1999-09-09"))
        there = new(patient("there"), "p", ifNoneExist="identifier=https://site.example/0|there-0")
        sent = {"resourceType": "Bundle", "type": kind, "entry": [new(encounter(subject=URNS["p"]), "e"), there]}
        reply = await it.post(sent)
        assert reply.body is not None
        (seen,) = of_type(it, "Encounter")
        assert seen["subject"] == {"reference": "Patient/there"}
        assert results(reply.body) == {f"Encounter/{seen['id']}": "created", "Patient/there": "created"}
        (row,) = await it.rows("contacts")
        assert row["birthdate"] == "1999-09-09"
        assert len(of_type(it, "Patient")) == 1


@pytest.mark.parametrize("exists", [True, False])
async def test_a_conditional_put(tmp_path: Path, exists: bool) -> None:
    """A PUT by condition goes as it is; the row is that of the resource it met or made."""
    async with world(tmp_path, forward=True) as it:
        if exists:
            await it.put(patient("there"))
        entry = new({**patient("there"), "birthDate": "2001-01-01"})
        entry["request"] = {"method": "PUT", "url": "Patient?identifier=https://site.example/0|there-0"}
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        (person,) = of_type(it, "Patient")
        assert (person["id"] == "there") == exists
        (row,) = await it.rows("contacts")
        assert (row["msemr_azurefhirid"], row["birthdate"]) == (person["id"], "2001-01-01")


async def test_a_server_that_does_not_say_what_it_found(tmp_path: Path) -> None:
    """Azure may answer a conditional create with 200 and nothing else: the resource is searched by its identifier."""
    async with world(tmp_path, forward=True) as it:
        await it.put(patient("there", active=True))
        body = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "200 OK"}}]}
        it.fhir.faults.append(Fault(method="POST", path="^/$", status=200, body=body))
        there = new(patient("there"), ifNoneExist="identifier=https%3A%2F%2Fsite.example%2F0%7Cthere-0")
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [there]})
        assert reply.body is not None
        assert results(reply.body) == {"Patient/there": "created"}


async def test_a_condition_that_nobody_can_follow(tmp_path: Path) -> None:
    """Where neither the answer nor a search by identifier tells the id, the entry fails and no row is made."""
    async with world(tmp_path, forward=True) as it:
        body = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "200 OK"}}]}
        it.fhir.faults.append(Fault(method="POST", path="^/$", status=200, body=body))
        reply = await it.post(
            {"resourceType": "Bundle", "type": "batch", "entry": [new(patient(), ifNoneExist="birthdate=1980-02-29")]}
        )
        assert reply.body is not None
        assert codes(reply.body) == {"Patient": ["unknown-id"]}


async def test_a_server_that_does_not_search(tmp_path: Path) -> None:
    """A search that the server refuses is the entry's failure, not the bundle's."""
    async with world(tmp_path, forward=True) as it:
        said = {"response": {"status": "200 OK"}}, {"response": {"status": "201"}}
        body = {"resourceType": "Bundle", "type": "batch-response", "entry": list(said)}
        it.fhir.faults.append(Fault(method="POST", path="^/$", status=200, body=body))
        it.fhir.faults.append(Fault(path="_search", status=405))
        there = new(patient("there"), ifNoneExist="identifier=https://site.example/0|there-0")
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [there, new(patient("b"))]})
        assert reply.body is not None
        assert [each["result"] for each in reply.body["entries"]] == ["failed", "created"]


async def test_entries_that_wait_for_each_others_ids(tmp_path: Path) -> None:
    """Two conditional creates of a batch that refer to each other can be sent by nobody: they say so."""
    async with world(tmp_path, forward=True) as it:
        one = organization("a", partOf={"reference": URNS["o"]})
        other = organization("b", partOf={"reference": URNS["p"]})
        condition = {"ifNoneExist": "identifier=https://site.example/org|org-{}"}
        entries = [
            new(one, "p", ifNoneExist=condition["ifNoneExist"].format("a")),
            new(other, "o", ifNoneExist=condition["ifNoneExist"].format("b")),
        ]
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": entries})
        assert reply.body is not None
        assert [each["issues"][0]["code"] for each in reply.body["entries"]] == ["unforwarded-reference"] * 2
        reply = await it.post({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        assert reply.status == 200, "the server resolves them in a transaction"


async def test_a_conditional_create_is_repeated(tmp_path: Path) -> None:
    """A create with ifNoneExist whose answer is lost is sent again, and finds what it made."""
    async with world(tmp_path, forward=True) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        entry = new(patient(), ifNoneExist="identifier=https://site.example/0|p1-0")
        await it.post({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        await it.settle()
        assert len(of_type(it, "Patient")) == 1
        assert len(await it.rows("contacts")) == 1


async def test_the_resource_found_cannot_be_read(tmp_path: Path) -> None:
    """What a condition found is read before its row is made: later if the server is busy, not at all if it is gone."""
    for status, ends in ((503, "created"), (404, "failed")):
        async with world(tmp_path / str(status), forward=True) as it:
            await it.put(patient("there"))
            entry = new(patient("there"), ifNoneExist="identifier=https://site.example/0|there-0")
            it.fhir.faults.append(Fault(method="GET", path="/Patient/there", status=status))
            reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
            await it.settle()
            outcome = (await it.relay.inbound.status(reply.job)).body
            assert outcome is not None
            assert [each["result"] for each in outcome["entries"]] == [ends]

"""The answer of the FHIR server was lost, and somebody came in between: what they did is not undone by the next try."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from devstack.control import Fault
from relay.inbound.change import Change
from support.forwarded import new, of_type
from support.merges import deletion, remove
from support.samples import bundle, codes, encounter, patient
from support.world import World, world


async def outcome_of(it: World, job: str) -> dict[str, Any]:
    """Return the outcome of a job that is over."""
    body = (await it.relay.inbound.status(job)).body
    assert body is not None
    return dict(body)


def lose(it: World, *, landed: bool = True) -> None:
    """Lose the answer to the next bundle that goes to the FHIR server, or the bundle itself."""
    fault = Fault(method="POST", path="^/$", effect="lose") if landed else Fault(method="POST", path="^/$")
    it.fhir.faults.append(fault)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_what_was_deleted_and_put_back(tmp_path: Path, kind: str) -> None:
    """A DELETE is not done again where somebody has put the resource since."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        await it.put(patient())
        await it.post(bundle(patient()))
        lose(it)
        reply = await it.post(deletion("Patient/p1", kind=kind))
        assert reply.status == 202
        it.clock.advance(timedelta(seconds=2))
        await it.put(patient(active=True))
        await it.settle()
        assert (await it.read("Patient", "p1")).get("active") is True
        assert codes(await outcome_of(it, reply.job)) == {"Patient/p1": ["changed-meanwhile"]}
        assert [row["statecode"] for row in await it.rows("contacts")] == [0]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_delete_that_was_not_done_goes_again(tmp_path: Path, kind: str) -> None:
    """Where the resource is there as it was, the DELETE goes once more; where it is gone, it was done."""
    for landed in (True, False):
        async with world(tmp_path / str(landed), forward=True, events=False) as it:
            it.fhir.store._clock = it.clock
            await it.put(patient())
            await it.post(bundle(patient()))
            it.clock.advance(timedelta(seconds=2))
            lose(it, landed=landed)
            reply = await it.post(deletion("Patient/p1", kind=kind))
            await it.settle()
            assert await it.read("Patient", "p1") == {"status": 410}
            assert codes(await outcome_of(it, reply.job)) == {"Patient/p1": []}
            assert [row["statecode"] for row in await it.rows("contacts")] == [1]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_what_was_made_and_deleted(tmp_path: Path, kind: str) -> None:
    """A new resource that somebody has deleted since is not made again."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        lose(it)
        reply = await it.post({"resourceType": "Bundle", "type": kind, "entry": [new(patient()), new(patient("p2"))]})
        (one, other) = of_type(it, "Patient")
        await remove(it, f"Patient/{one['id']}")
        await it.settle()
        assert [each["id"] for each in of_type(it, "Patient")] == [other["id"]]
        assert sorted(codes(await outcome_of(it, reply.job)).values()) == [[], ["changed-meanwhile"]]
        assert len(await it.rows("contacts")) == 1


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_put_by_condition(tmp_path: Path, kind: str) -> None:
    """A PUT whose URL is a condition is not put over what somebody wrote since either."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        await it.put(patient("there"))
        lose(it)
        entry = new({**patient("there"), "birthDate": "2001-01-01"})
        entry["request"] = {"method": "PUT", "url": "Patient?identifier=https://site.example/0|there-0"}
        reply = await it.post({"resourceType": "Bundle", "type": kind, "entry": [entry]})
        it.clock.advance(timedelta(seconds=2))
        await it.put({**await it.read("Patient", "there"), "active": True})
        await it.settle()
        now = await it.read("Patient", "there")
        assert (now.get("active"), now["birthDate"]) == (True, "2001-01-01")
        assert [each["issues"][0]["code"] for each in (await outcome_of(it, reply.job))["entries"]] == [
            "changed-meanwhile"
        ]


@pytest.mark.parametrize(
    "full_url", ["http://sender.example/Patient/p1", "", "urn:uuid:00000000-0000-4000-8000-000000000001"]
)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_reference_to_what_gets_its_id_from_the_server(tmp_path: Path, kind: str, full_url: str) -> None:
    """By the type and id that its sender gave it, an entry with ifNoneExist is meant, not who has that id on the server."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        await it.put(patient("p1"), patient("there"))
        mine = {
            "resource": patient(
                "p1", identifiers=0, identifier=[{"system": "https://site.example/0", "value": "there-0"}]
            )
        }
        request = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=https://site.example/0|there-0"}
        one = {**mine, "request": request} | ({"fullUrl": full_url} if full_url else {})
        visit = new(encounter(subject="Patient/p1"))
        reply = await it.post({"resourceType": "Bundle", "type": kind, "entry": [one, visit]})
        assert reply.status == 200, reply.body
        (seen,) = of_type(it, "Encounter")
        assert seen["subject"]["reference"] == "Patient/there"


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_the_relays_own_write_back_is_nobodys_change(tmp_path: Path, kind: str) -> None:
    """The server tells of the PUT before it is looked for, and the GUID comes in: the PUT was done all the same."""
    async with world(tmp_path, forward=True, events=False, retry_first="60") as it:
        it.fhir.store._clock = it.clock
        lose(it)
        reply = await it.post(bundle(patient(identifier=[]), kind=kind))
        it.clock.advance(timedelta(seconds=2))
        await it.relay.inbound.changes([Change("hook", "Patient", "p1", None, "unknown", None)])
        await it.settle()
        assert codes(await outcome_of(it, reply.job)) == {"Patient/p1": []}
        assert it.versions("Patient/p1") == 2, "put, and written back to"


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(("landed", "history"), [(True, True), (False, True), (False, False)])
async def test_what_was_put_and_deleted(tmp_path: Path, kind: str, landed: bool, history: bool) -> None:
    """A resource that somebody deleted since is not brought back; one that was gone before is put, as its sender asks."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.store._clock = it.clock
        await it.put(patient())
        if not landed:
            await remove(it, "Patient/p1")
            it.clock.advance(timedelta(seconds=2))
        if not history:
            it.fhir.faults.append(Fault(path="_history", status=404))
        lose(it, landed=landed)
        reply = await it.post(bundle(patient(active=True), kind=kind))
        if landed:
            it.clock.advance(timedelta(seconds=2))
            await remove(it, "Patient/p1")
        await it.settle()
        assert ("Patient/p1" in it.newest()) is not landed
        expected = ["changed-meanwhile"] if landed else []
        assert codes(await outcome_of(it, reply.job)) == {"Patient/p1": expected}

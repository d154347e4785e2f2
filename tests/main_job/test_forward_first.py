"""With RELAY_FORWARD a bundle goes to the FHIR server first, and to Dataverse with the ids and versions answered."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import httpx
import pytest

from devstack.control import Fault
from support.forwarded import URNS, new, of_type, visit
from support.samples import bundle, encounter, organization, patient, practitioner, results
from support.synthea import smallest_record
from support.world import URN, world


@pytest.mark.parametrize("writeback", ["inline", "event"])
@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_new_resources_get_ids_rows_and_guids(tmp_path: Path, kind: str, writeback: str) -> None:
    """What has no id gets one on the server, references in it name that id on both sides, and the GUIDs come back."""
    async with world(tmp_path, forward=True, writeback=writeback) as it:
        reply = await it.post(visit(kind))
        assert reply.status == 200, reply.body
        assert reply.body is not None
        await it.settle()
        (person,), (doctor,), (seen,) = (of_type(it, each) for each in ("Patient", "Practitioner", "Encounter"))
        assert seen["subject"] == {"reference": f"Patient/{person['id']}"}
        assert seen["participant"][0]["individual"] == {"reference": f"Practitioner/{doctor['id']}"}
        assert results(reply.body) == {
            f"{each['resourceType']}/{each['id']}": "created" for each in (seen, person, doctor)
        }
        rows = {each["msemr_azurefhirid"]: each for each in await it.rows("contacts")}
        assert rows.keys() == {person["id"], doctor["id"]}
        (row,) = await it.rows("msemr_encounters")
        assert row["_msemr_encounterpatientidentifier_value"] == rows[person["id"]]["contactid"]
        assert person["identifier"][-1] == {
            "system": URN.format("patient"),
            "value": rows[person["id"]]["contactid"],
        }
        assert it.versions(f"Patient/{person['id']}") == 2


async def test_one_call_more(tmp_path: Path) -> None:
    """The way to the server is one call for all entries; the receipt counts it."""
    async with world(tmp_path, forward=True, write="fewest-calls", events=False) as it:
        reply = await it.post(visit())
        assert [each["method"] for each in it.fhir.calls] == ["POST"] * 3, "forward, read, write back"
        assert reply.body is not None
        assert reply.body["receipt"]["calls"] == {"dataverse": 2, "fhir": 3}


async def test_off_by_default(tmp_path: Path) -> None:
    """Without the setting nothing of a bundle goes to the server."""
    async with world(tmp_path) as it:
        reply = await it.post(visit("batch"))
        assert reply.status == 422
        assert it.newest() == {}


@pytest.mark.parametrize("kind", ["batch", "collection", "resource"])
async def test_without_a_request(tmp_path: Path, kind: str) -> None:
    """A resource with an id is put under it; the version in Dataverse is the server's, not the sender's."""
    async with world(tmp_path, forward=True) as it:
        sent = patient(meta={"versionId": "77", "lastUpdated": "2019-01-01T00:00:00Z", "profile": ["http://x.example"]})
        whole = {"resourceType": "Bundle", "type": kind, "entry": [{"resource": sent}]}
        reply = await it.post(sent if kind == "resource" else whole)
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "created"}
        (row,) = await it.rows("contacts")
        assert row["msemr_azurefhirversion"] == "1"
        assert not row["msemr_azurefhirlastupdatedon"].startswith("2019")
        assert (await it.read("Patient", "p1"))["meta"]["profile"] == ["http://x.example"]


@pytest.mark.parametrize("kind", ["searchset", "history", "batch-response"])
async def test_what_a_server_tells_is_not_sent_there(tmp_path: Path, kind: str) -> None:
    """A bundle that says what a server has goes to Dataverse alone."""
    async with world(tmp_path, forward=True) as it:
        entry = {"resource": patient(), "response": {"status": "200"}}
        reply = await it.post({"resourceType": "Bundle", "type": kind, "entry": [entry]})
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "created"}
        assert it.versions("Patient/p1") == 0


async def test_microsofts_api_is_not_forwarded(tmp_path: Path) -> None:
    """msind_UpsertBundle writes to Dataverse alone, as it always did, also when it is put off."""
    async with world(tmp_path, forward=True) as it:
        it.dataverse.faults.append(Fault(path=r"\$batch", times=20))
        parameters = json.dumps({"msind_JSON": json.dumps(bundle(patient()))}).encode()
        reply = await it.relay.upserts.upsert(parameters, "application/json", "")
        assert reply.status == 503
        await it.settle()
        assert len(await it.rows("contacts")) == 1
        assert it.versions("Patient/p1") == 0


@pytest.mark.parametrize("way", ["post", "respond-async", "file"])
async def test_every_way_in(tmp_path: Path, way: str) -> None:
    """A posted bundle, one answered 202 and a dropped file are forwarded alike."""
    async with world(tmp_path, forward=True) as it:
        if way == "file":
            await it.relay.inbound.drop("a.json", json.dumps(visit()).encode())
        else:
            await it.post(visit(), respond_async=way == "respond-async")
        await it.settle()
        assert [len(of_type(it, each)) for each in ("Patient", "Practitioner", "Encounter")] == [1, 1, 1]
        assert len(await it.rows("contacts")) == 2
        assert await it.store.list_blobs("relay-forwards") == []


async def test_numbers_and_order_stay_as_they_were_sent(tmp_path: Path) -> None:
    """The server gets the resource to the letter, but for its id and the references that are renamed."""
    text = '{"resourceType":"Observation","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10},"subject":{"reference":"%s"}}'
    async with world(tmp_path, forward=True) as it:
        bodies: list[bytes] = []

        async def keep(request: httpx.Request) -> None:
            bodies.append(request.content)

        it.to_fhir.before.append(keep)
        entry = f'{{"resource":{text % URNS["p"]},"request":{{"method":"POST","url":"Observation"}}}}'
        whole = f'{{"resourceType":"Bundle","type":"batch","entry":[{json.dumps(new(patient(), "p"))},{entry}]}}'
        await it.post(whole)
        (person,) = of_type(it, "Patient")
        (seen,) = of_type(it, "Observation")
        sent = text % f"Patient/{person['id']}"
        assert f'{sent[:-1]},"id":"{seen["id"]}"}}'.encode() in bodies[0]


@pytest.mark.parametrize(
    ("full_url", "reference", "meant"),
    [
        ("https://other.example/fhir/Patient/9", "https://other.example/fhir/Patient/9", True),
        ("URN:UUID:0000000A-0000-4000-8000-000000000000", "urn:uuid:0000000a-0000-4000-8000-000000000000", True),
        ("urn:oid:1.2.3", "urn:oid:1.2.3", True),
        ("https://other.example/fhir/Observation/9", "https://other.example/fhir/Observation/9", False),
    ],
    ids=["URL", "UUID in capitals", "OID", "URL of another type"],
)
async def test_names_of_new_resources(tmp_path: Path, full_url: str, reference: str, meant: bool) -> None:
    """A new resource is meant by its fullUrl: a URN, or a URL that ends in its type and some id."""
    async with world(tmp_path, forward=True) as it:
        entry = {**new(patient()), "fullUrl": full_url}
        seen = new(encounter(subject=reference))
        await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry, seen]})
        (person,), (visited,) = of_type(it, "Patient"), of_type(it, "Encounter")
        assert (visited["subject"]["reference"] == f"Patient/{person['id']}") == meant


async def test_a_url_of_another_resource_names_nobody(tmp_path: Path) -> None:
    """A fullUrl that ends in another id than the resource has is a slip: a reference to it is not turned to another patient."""
    async with world(tmp_path, forward=True) as it:
        sent = bundle(patient("b"), encounter(subject="https://x.example/Patient/a"))
        sent["entry"][0]["fullUrl"] = "https://x.example/Patient/a"
        await it.post(sent)
        assert (await it.read("Encounter", "e1"))["subject"]["reference"] == "https://x.example/Patient/a"


async def test_a_large_batch_goes_in_parts(tmp_path: Path) -> None:
    """A batch beyond the server's limit is cut; references across the cut name the ids chosen."""
    async with world(tmp_path, forward=True, fhir_batch_entries=2, events=False) as it:
        reply = await it.post(visit("batch"))
        assert reply.status == 200
        (seen,), (person,) = of_type(it, "Encounter"), of_type(it, "Patient")
        assert seen["subject"] == {"reference": f"Patient/{person['id']}"}
        assert [each["path"] for each in it.fhir.calls[:2]] == ["/", "/"]


async def test_a_large_transaction_is_cut_between_what_does_not_belong_together(tmp_path: Path) -> None:
    """Resources that refer to each other stay in one transaction; one that is too large for the server says so."""
    entries = [new(organization(f"o{n}")) for n in range(3)] + [
        new(patient(), "p"),
        new(encounter(subject=URNS["p"]), "e"),
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    async with world(tmp_path / "fits", forward=True, fhir_batch_entries=2, events=False) as it:
        reply = await it.post(sent)
        assert reply.status == 200
        assert len([each for each in it.fhir.calls if each["path"] == "/"][:3]) == 3
        assert len(it.newest()) == 5
    async with world(tmp_path / "too-large", forward=True, fhir_batch_entries=1, events=False) as it:
        reply = await it.post(sent)
        assert reply.body is not None
        assert reply.status == 207
        assert [each["result"] for each in reply.body["entries"]] == [*["created"] * 3, *["failed"] * 2]
        assert reply.body["entries"][4]["issues"][0]["code"] == "transaction-too-large"
        assert of_type(it, "Patient") == []


async def test_a_batch_the_server_finds_too_large_is_halved(tmp_path: Path) -> None:
    """A limit that nobody knew of costs calls, nothing else."""
    async with world(tmp_path, forward=True, events=False) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", status=413))
        reply = await it.post(visit("batch"))
        assert reply.status == 200
        assert len(it.newest()) == 3


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_a_delete(tmp_path: Path, kind: str) -> None:
    """A DELETE goes to the server with the others, and the row of what is gone there is put out of use."""
    async with world(tmp_path, forward=True, events=False) as it:
        await it.post(bundle(patient(), patient("p2")))
        sent = bundle(patient("p2", active=True), kind=kind)
        sent["entry"].append({"request": {"method": "DELETE", "url": "Patient/p1"}})
        reply = await it.post(sent)
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p2": "unchanged", "Patient/p1": "updated"}
        assert (await it.read("Patient", "p1"))["status"] == 410
        assert {each["msemr_azurefhirid"]: each["statecode"] for each in await it.rows("contacts")} == {
            "p1": 1,
            "p2": 0,
        }


async def test_the_bundle_comes_again(tmp_path: Path) -> None:
    """Sent again, what names its id or a condition changes nothing but versions; a POST alone makes a new resource."""
    async with world(tmp_path, forward=True) as it:
        entry = new(practitioner(), ifNoneExist="identifier=http://hl7.org/fhir/sid/us-npi|npi-d1")
        sent = {"resourceType": "Bundle", "type": "batch", "entry": [*bundle(patient())["entry"], entry]}
        await it.post(sent)
        await it.settle()
        again = await it.post(sent)
        assert again.body is not None
        assert len(await it.rows("contacts")) == 2
        assert len(it.newest()) == 2
        twice = {"resourceType": "Bundle", "type": "batch", "entry": [new(organization())]}
        await it.post(twice)
        await it.post(twice)
        assert len(of_type(it, "Organization")) == 2


async def test_ids_of_a_sender_that_posts(tmp_path: Path) -> None:
    """A POST takes no id from its sender and overwrites nothing; references to that id in the bundle follow it."""
    async with world(tmp_path, forward=True) as it:
        await it.put(patient(active=True))
        sent = bundle(patient(), encounter(), kind="transaction")
        for entry in sent["entry"]:
            entry["request"] = {"method": "POST", "url": entry["resource"]["resourceType"]}
        reply = await it.post(sent)
        assert reply.status == 200
        assert (await it.read("Patient", "p1"))["active"] is True
        (seen,) = of_type(it, "Encounter")
        assert seen["subject"]["reference"] not in ("Patient/p1", "")
        assert seen["subject"]["reference"] in it.newest()


async def test_a_whole_record(tmp_path: Path) -> None:
    """A synthetic record with its conditional references goes to an empty server and an empty org, and only once."""
    async with world(tmp_path, forward=True, events=False) as it:
        *informed, record = smallest_record()
        for each in informed:
            assert (await it.post(each)).status == 200
        it.forget_calls()
        reply = await it.post(record)
        assert reply.status == 200
        assert reply.body is not None
        count = len(reply.body["entries"])
        sent = Counter(each["resource"]["resourceType"] for each in json.loads(record)["entry"])
        held = Counter(address.partition("/")[0] for address in it.newest())
        assert all(held[kind] >= sent[kind] for kind in sent)
        assert len(it.fhir.calls) == 3, "forward, read, write back"
        assert "urn:uuid" not in json.dumps([each.get("subject") for each in it.newest().values()])
        for each in informed:
            again = await it.post(each)
            assert again.body is not None
            assert {entry["result"] for entry in again.body["entries"]} == {"unchanged"}, "found by ifNoneExist"
        assert count > 50

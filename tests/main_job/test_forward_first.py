"""With RELAY_FORWARD a bundle goes to the FHIR server first, and to Dataverse with the ids and versions answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.control import Fault
from support.mishaps import Kill, Wire, once
from support.samples import bundle, codes, encounter, organization, patient, practitioner, results
from support.synthea import smallest_record
from support.world import URN, World, world

URNS = {name: f"urn:uuid:00000000-0000-4000-8000-00000000000{number}" for number, name in enumerate("pdeo", 1)}
Json = dict[str, Any]


def new(resource: Mapping[str, Any], name: str = "", **request: str) -> Json:
    """Return an entry that creates a resource, which has no id yet."""
    without = {key: value for key, value in resource.items() if key != "id"}
    entry = {"resource": without, "request": {"method": "POST", "url": str(resource["resourceType"]), **request}}
    return {"fullUrl": URNS[name], **entry} if name else entry


def visit(kind: str = "transaction") -> Json:
    """Return an encounter of a patient by a practitioner, all of them new, the one that refers first."""
    seen = encounter(subject=URNS["p"], participant=[{"individual": {"reference": URNS["d"]}}])
    entries = [new(seen, "e"), new(patient(), "p"), new(practitioner(), "d")]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def of_type(it: World, kind: str) -> list[Json]:
    """Return the resources of a type on the FHIR server."""
    return [each for address, each in it.newest().items() if address.startswith(f"{kind}/")]


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


# --- what the server refuses


def refusal(status: str, *diagnostics: str) -> Json:
    """Return an OperationOutcome that says more than may be told on."""
    issues = [
        {"severity": "error", "code": "value", "diagnostics": each, "expression": ["Patient.birthDate"]}
        for each in diagnostics
    ]
    return {"response": {"status": status, "outcome": {"resourceType": "OperationOutcome", "issue": issues}}}


async def test_one_refused_of_a_batch(tmp_path: Path) -> None:
    """A refused entry of a batch fails with the server's code and element, without its words; the others go on."""
    async with world(tmp_path, forward=True) as it:
        body = {"resourceType": "Bundle", "type": "batch-response"}
        said = refusal("422 Unprocessable", "HAPI-0450: Lindqvist was not born on 1984-13-09")
        good = {"response": {"status": "201", "location": "Patient/b/_history/4", "etag": 'W/"4"'}}
        it.fhir.faults.append(Fault(method="POST", status=200, body={**body, "entry": [said, good]}))
        reply = await it.post(bundle(patient("a"), patient("b")))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/a": "failed", "Patient/b": "created"}
        (issue,) = reply.body["entries"][0]["issues"]
        assert issue == {
            "severity": "error",
            "code": "fhir-422",
            "message": "the FHIR server refused it (422: value HAPI-0450 at Patient.birthDate)",
            "at": "Bundle.entry[0]",
        }
        (row,) = await it.rows("contacts")
        assert (row["msemr_azurefhirid"], row["msemr_azurefhirversion"]) == ("b", "4")


async def test_a_refused_transaction_fails_whole(tmp_path: Path) -> None:
    """Where the server refuses one entry of a transaction, nothing is written on either side."""
    async with world(tmp_path, forward=True) as it:
        await it.put(organization())
        stale = {"method": "PUT", "url": "Organization/o1", "ifMatch": 'W/"9"'}
        sent = visit()
        sent["entry"].append({"resource": organization(), "request": stale})
        reply = await it.post(sent)
        assert reply.status == 422
        assert reply.body is not None
        assert {code for each in codes(reply.body).values() for code in each} == {"fhir-412"}
        assert list(it.newest()) == ["Organization/o1"]
        assert await it.rows("contacts") == []


async def test_a_transaction_with_an_entry_that_cannot_be_carried_out(tmp_path: Path) -> None:
    """A transaction of which the relay cannot do one entry does not reach the server; of a batch the others do."""
    patch = {"request": {"method": "PATCH", "url": "Patient/p9"}, "resource": {"resourceType": "Binary"}}
    async with world(tmp_path, forward=True) as it:
        sent = visit()
        sent["entry"].append(patch)
        reply = await it.post(sent)
        assert reply.body is not None
        assert [each["issues"][0]["code"] for each in reply.body["entries"]] == [
            *["transaction-refused"] * 3,
            "unsupported",
        ]
        assert it.newest() == {}
        reply = await it.post({**sent, "type": "batch"})
        assert reply.body is not None
        assert [each["result"] for each in reply.body["entries"]] == [*["created"] * 3, "failed"]


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
async def test_a_server_that_lets_no_client_choose_an_id(tmp_path: Path, status: str) -> None:
    """Where no id can be chosen a retry could create twice: the entry says so, and that ifNoneExist would help."""
    async with world(tmp_path, forward=True) as it:
        body = {"resourceType": "Bundle", "type": "batch-response", "entry": [refusal(status)]}
        it.fhir.faults.append(Fault(method="POST", status=200, body=body))
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [new(patient())]})
        assert reply.body is not None
        (issue,) = reply.body["entries"][0]["issues"]
        assert issue["code"] == "create-refused"
        assert "ifNoneExist" in issue["message"]


@pytest.mark.parametrize(
    ("kind", "outcome", "code"),
    [("batch", True, "fhir-404"), ("transaction", False, "fhir-404"), ("transaction", True, "create-refused")],
)
async def test_a_base_that_is_no_server(tmp_path: Path, kind: str, outcome: bool, code: str) -> None:
    """Where the whole call is refused by somebody who is no FHIR server, the entries say that and no more."""
    async with world(tmp_path, forward=True) as it:
        body = refusal("404", "x")["response"]["outcome"] if outcome else "<html></html>"
        it.fhir.faults.append(Fault(method="POST", times=2, status=404, body=body))
        reply = await it.post({"resourceType": "Bundle", "type": kind, "entry": [new(patient())]})
        assert reply.body is not None
        assert codes(reply.body) == {"Patient": [code]}


async def test_a_put_that_guards_itself(tmp_path: Path) -> None:
    """`ifNoneMatch: *` and `ifMatch` reach the server: nothing is overwritten that the sender did not mean to."""
    async with world(tmp_path, forward=True) as it:
        await it.put(patient("a", active=True), patient("b", active=True))
        sent = bundle(patient("a"), patient("b"))
        sent["entry"][0]["request"]["ifNoneMatch"] = "*"
        sent["entry"][1]["request"]["ifMatch"] = 'W/"7"'
        reply = await it.post(sent)
        assert reply.body is not None
        assert codes(reply.body) == {"Patient/a": ["fhir-412"], "Patient/b": ["fhir-412"]}
        assert [it.versions("Patient/a"), it.versions("Patient/b")] == [1, 1]


async def test_what_does_not_go(tmp_path: Path) -> None:
    """Reads are passed over, operations and deletions of nobody fail, and the server sees none of them."""
    operation = new(patient())
    operation["request"]["url"] = "Patient/$validate"
    read = {"request": {"method": "GET", "url": "Patient/p1"}}
    nobody = {"request": {"method": "DELETE", "url": "Patient"}}
    async with world(tmp_path, forward=True) as it:
        sent = {"resourceType": "Bundle", "type": "batch", "entry": [operation, read, nobody]}
        reply = await it.post({**sent, "entry": [*sent["entry"], new(organization())]})
        assert reply.body is not None
        assert [each["result"] for each in reply.body["entries"]] == ["failed", "skipped", "failed", "created"]
        assert reply.body["entries"][0]["issues"][0]["code"] == "unsupported"
        assert [each.partition("/")[0] for each in it.newest()] == ["Organization"]


async def test_what_validation_rejects_does_not_go(tmp_path: Path) -> None:
    """With RELAY_VALIDATE=reject a resource that is found wrong reaches neither side; of a batch the others do."""
    async with world(tmp_path, forward=True, validate_bundles="reject") as it:
        sent = bundle(patient("a", birthDate="yesterday"), patient("b"))
        reply = await it.post(sent)
        assert reply.body is not None
        assert codes(reply.body) == {"Patient/a": ["structure"], "Patient/b": []}
        assert list(it.newest()) == ["Patient/b"]
        reply = await it.post({**sent, "type": "transaction"})
        assert reply.body is not None
        assert codes(reply.body) == {"Patient/a": ["structure"], "Patient/b": ["transaction-refused"]}


# --- conditions


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


# --- references


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


# --- more than the server takes


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


# --- interrupted


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


async def test_a_conditional_create_is_repeated(tmp_path: Path) -> None:
    """A create with ifNoneExist whose answer is lost is sent again, and finds what it made."""
    async with world(tmp_path, forward=True) as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        entry = new(patient(), ifNoneExist="identifier=https://site.example/0|p1-0")
        await it.post({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        await it.settle()
        assert len(of_type(it, "Patient")) == 1
        assert len(await it.rows("contacts")) == 1


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


@pytest.mark.parametrize("url", ["Encounter", "Patient/_search", "Encounter?identifier=a|b"])
async def test_a_url_of_another_type(tmp_path: Path, url: str) -> None:
    """An entry whose URL is about something else than its resource goes nowhere."""
    async with world(tmp_path, forward=True) as it:
        entry = new(patient())
        entry["request"] = {"method": "PUT" if "?" in url else "POST", "url": url}
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        assert codes(reply.body) == {"Patient": ["invalid-element"]}
        assert it.calls() == {"dataverse": 0, "fhir": 0}


@pytest.mark.parametrize("condition", ["identifier=a|b#c", "identifier=a\nHost: x", ""])
async def test_a_condition_that_is_none(tmp_path: Path, condition: str) -> None:
    """A condition that no query can hold goes nowhere; neither does a PUT with an empty one."""
    async with world(tmp_path, forward=True) as it:
        entry = new(patient())
        entry["request"] = {"method": "PUT", "url": f"Patient?{condition}"}
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        assert codes(reply.body) == {"Patient": ["invalid-element"]}


async def test_a_part_of_a_resource_is_not_created(tmp_path: Path) -> None:
    """What is tagged SUBSETTED becomes no resource, though it has no id to overwrite."""
    async with world(tmp_path, forward=True) as it:
        entry = new(patient(meta={"tag": [{"code": "SUBSETTED"}]}))
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        assert codes(reply.body) == {"Patient": ["subsetted"]}


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

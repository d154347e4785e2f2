"""What is not forwarded, or refused by the FHIR server, says why; of a batch the others go on, a transaction fails whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.control import Fault
from support.forwarded import new, refusal, visit
from support.samples import bundle, codes, organization, patient, results
from support.world import world


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

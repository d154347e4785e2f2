import gzip
import re
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "id": "p1", "gender": "female"}


def code(response: httpx.Response) -> str:
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0]["code"])


async def test_create_assigns_an_id(client: httpx.AsyncClient) -> None:
    """POST ignores an id in the body and answers 201 with the URL of version 1, ETag and Last-Modified."""
    response = await client.post("/Patient", json=PATIENT)
    created = response.json()
    assert response.status_code == 201
    assert created["id"] != "p1"
    assert response.headers["location"] == f"http://fhir.test/Patient/{created['id']}/_history/1"
    assert response.headers["etag"] == 'W/"1"'
    assert response.headers["content-type"].startswith("application/fhir+json")
    assert created["meta"]["versionId"] == "1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", created["meta"]["lastUpdated"])
    assert parsedate_to_datetime(response.headers["last-modified"]).tzinfo is not None
    assert (await client.get(f"/Patient/{created['id']}")).json() == created


async def test_update_creates_under_the_given_id(client: httpx.AsyncClient) -> None:
    """PUT to an id that is free answers 201, to one that is taken 200 and makes the next version."""
    first = await client.put("/Patient/p1", json=PATIENT)
    second = await client.put("/Patient/p1", json=PATIENT)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["etag"] == 'W/"2"'
    assert second.headers["location"].endswith("/Patient/p1/_history/2")
    assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"2"'


async def test_the_server_sets_version_and_time(client: httpx.AsyncClient) -> None:
    """A versionId and lastUpdated in the body are replaced; the rest of meta stays."""
    sent = {**PATIENT, "meta": {"versionId": "9", "source": "#x", "lastUpdated": "2001-01-01T00:00:00Z", "tag": []}}
    meta = (await client.put("/Patient/p1", json=sent)).json()["meta"]
    assert list(meta) == ["versionId", "source", "lastUpdated", "tag"]
    assert (meta["versionId"], meta["source"]) == ("1", "#x")
    assert meta["lastUpdated"] > "2020"


async def test_an_identical_put_makes_a_version_or_not(connect: Any) -> None:
    """`identical_put="same"` answers 200 with the version that is there; key order does not count."""
    client = connect(identical_put="same")
    await client.put("/Patient/p1", json=PATIENT)
    turned = dict(reversed(PATIENT.items()))
    assert (await client.put("/Patient/p1", json=turned)).headers["etag"] == 'W/"1"'
    response = await client.put("/Patient/p1", json={**PATIENT, "gender": "male"})
    assert (response.status_code, response.headers["etag"]) == (200, 'W/"2"')


async def test_old_versions_stay_readable(client: httpx.AsyncClient) -> None:
    """Vread gives a version as it was, 404 for one that never was."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json={**PATIENT, "gender": "male"})
    old = await client.get("/Patient/p1/_history/1")
    assert (old.json()["gender"], old.headers["etag"]) == ("female", 'W/"1"')
    assert (await client.get("/Patient/p1/_history/3")).status_code == 404


async def test_history_lists_versions_newest_first(client: httpx.AsyncClient) -> None:
    """History holds every version with its request and response, a deletion without a resource."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json=PATIENT)
    await client.delete("/Patient/p1")
    bundle = (await client.get("/Patient/p1/_history")).json()
    assert (bundle["type"], bundle["total"]) == ("history", 3)
    assert [e["request"]["method"] for e in bundle["entry"]] == ["DELETE", "PUT", "PUT"]
    assert [e["response"]["status"] for e in bundle["entry"]] == ["204 No Content", "200 OK", "201 Created"]
    assert ["resource" in e for e in bundle["entry"]] == [False, True, True]
    assert (await client.get("/Patient/p2/_history")).status_code == 404


async def test_history_of_a_type_and_of_all(client: httpx.AsyncClient) -> None:
    """`/Type/_history` and `/_history` list versions of many resources, from `_since` on."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Group/g1", json={"resourceType": "Group", "id": "g1"})
    assert (await client.get("/Patient/_history")).json()["total"] == 1
    assert (await client.get("/_history?_count=1")).json()["entry"][0]["resource"]["id"] == "g1"
    assert (await client.get("/_history?_since=2999-01-01T00:00:00Z")).json()["total"] == 0
    assert (await client.get("/_history?_since=yesterday")).status_code == 400
    assert (await client.get("/_history?_id=p1")).status_code == 501


async def test_a_deleted_resource_is_gone_until_it_is_put_again(client: httpx.AsyncClient) -> None:
    """DELETE answers 204, a read 410 with the deletion's ETag, and a PUT goes on with the next version."""
    await client.put("/Patient/p1", json=PATIENT)
    deleted = await client.delete("/Patient/p1")
    read = await client.get("/Patient/p1")
    assert (deleted.status_code, deleted.headers["etag"]) == (204, 'W/"2"')
    assert (read.status_code, read.headers["etag"], code(read)) == (410, 'W/"2"', "deleted")
    assert (await client.get("/Patient/p1/_history/2")).status_code == 410
    assert (await client.delete("/Patient/p1")).headers["etag"] == 'W/"2"'
    back = await client.put("/Patient/p1", json=PATIENT)
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')


async def test_reading_what_never_was(client: httpx.AsyncClient) -> None:
    """An unknown id answers 404 with an OperationOutcome; deleting it answers 204."""
    read = await client.get("/Patient/p1")
    assert (read.status_code, code(read)) == (404, "not-found")
    assert (await client.delete("/Patient/p1")).status_code == 204


async def test_a_read_of_a_known_version_says_so(client: httpx.AsyncClient) -> None:
    """If-None-Match with the current ETag answers 304 without a body."""
    await client.put("/Patient/p1", json=PATIENT)
    same = await client.get("/Patient/p1", headers={"If-None-Match": 'W/"1"'})
    assert (same.status_code, same.content) == (304, b"")
    assert (await client.get("/Patient/p1", headers={"If-None-Match": 'W/"7"'})).status_code == 200


@pytest.mark.parametrize(("wish", "kind"), [("minimal", None), ("OperationOutcome", "OperationOutcome")])
async def test_prefer_chooses_the_body(client: httpx.AsyncClient, wish: str, kind: str | None) -> None:
    """`Prefer: return=` decides on the body; ETag and Location come all the same."""
    response = await client.put("/Patient/p1", json=PATIENT, headers={"Prefer": f"respond-sync; return={wish}"})
    assert response.headers["etag"] == 'W/"1"'
    assert response.headers["location"]
    assert (response.json()["resourceType"] if response.content else None) == kind


async def test_gzip_bodies(client: httpx.AsyncClient) -> None:
    """A gzip body is taken; one that is broken or cut short answers 400."""
    body = gzip.compress(b'{"resourceType": "Patient", "id": "p1"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert (await client.put("/Patient/p1", content=body, headers=headers)).status_code == 201
    for bad in (b"nonsense", body[:-4], b"", body + body):
        assert (await client.put("/Patient/p1", content=bad, headers=headers)).status_code == 400


async def test_metadata(client: httpx.AsyncClient) -> None:
    """The CapabilityStatement names FHIR 4.0.1 and every R4 type."""
    statement = (await client.get("/metadata")).json()
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    types = [each["type"] for each in statement["rest"][0]["resource"]]
    assert len(types) == len(set(types)) == 146
    assert statement["implementation"]["url"] == "http://fhir.test"


async def test_a_given_base_url_is_used(connect: Any) -> None:
    """`base_url` is what the server's own URLs begin with."""
    response = await connect(base_url="https://elsewhere/fhir/").post("/Patient", json=PATIENT)
    assert response.headers["location"].startswith("https://elsewhere/fhir/Patient/")


async def test_head_reads(client: httpx.AsyncClient) -> None:
    """HEAD answers as GET does."""
    await client.put("/Patient/p1", json=PATIENT)
    assert (await client.head("/Patient/p1")).headers["etag"] == 'W/"1"'
    assert (await client.head("/Patient/p2")).status_code == 404

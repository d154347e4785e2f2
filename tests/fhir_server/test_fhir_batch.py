from typing import Any

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "id": "p1", "gender": "female"}


def batch(*entries: Any, type_: str = "batch") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type_, "entry": list(entries)}


def entry(
    method: str, url: str, resource: Any = None, full_url: str | None = None, **conditions: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **conditions}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


async def send(client: httpx.AsyncClient, *entries: Any, **headers: str) -> list[dict[str, Any]]:
    response = await client.post("/", json=batch(*entries), headers=headers)
    assert response.status_code == 200, response.text
    bundle = response.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "batch-response")
    answers: list[dict[str, Any]] = bundle.get("entry", [])
    assert len(answers) == len(entries)
    return answers


async def test_entries_answer_each_for_itself(client: httpx.AsyncClient) -> None:
    """A batch answers 200 and each entry has its own status; what failed has an OperationOutcome."""
    answers = await send(
        client,
        entry("PUT", "Patient/p1", PATIENT),
        entry("GET", "Patient/nobody"),
        entry("PUT", "Patient/p1", PATIENT, ifMatch='W/"7"'),
        entry("PUT", "Patient/p2", PATIENT),
        entry("GET", "Patient/p1"),
        entry("DELETE", "Patient/p1"),
        entry("GET", "Patient/p1"),
    )
    assert [a["response"]["status"] for a in answers] == [
        "201 Created",
        "404 Not Found",
        "412 Precondition Failed",
        "400 Bad Request",
        "200 OK",
        "204 No Content",
        "410 Gone",
    ]
    assert answers[2]["response"]["outcome"]["resourceType"] == "OperationOutcome"


async def test_a_read_in_a_batch_carries_the_resource(client: httpx.AsyncClient) -> None:
    """A GET entry answers with fullUrl, resource, etag and lastModified, whatever is preferred for writes."""
    stored = (await client.put("/Patient/p1", json=PATIENT)).json()
    for prefer in ("return=representation", "return=minimal"):
        (answer,) = await send(client, entry("GET", "Patient/p1"), Prefer=prefer)
        assert answer["resource"] == stored
        assert answer["fullUrl"] == "http://fhir.test/Patient/p1"
        assert answer["response"]["etag"] == 'W/"1"'
        assert answer["response"]["lastModified"] == stored["meta"]["lastUpdated"]


async def test_what_else_can_be_read_in_a_batch(client: httpx.AsyncClient) -> None:
    """Searches, versions and histories are entries too; If-None-Match answers 304 without the resource."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json={**PATIENT, "gender": "male"})
    search, old, history, same, absolute = await send(
        client,
        entry("GET", "Patient?_id=p1"),
        entry("GET", "Patient/p1/_history/1"),
        entry("GET", "/Patient/p1/_history"),
        entry("GET", "Patient/p1", ifNoneMatch='W/"2"'),
        entry("GET", "http://fhir.test/Patient/p1"),
    )
    assert search["resource"]["entry"][0]["resource"]["id"] == "p1"
    assert old["resource"]["gender"] == "female"
    assert history["resource"]["total"] == 2
    assert same["response"]["status"] == "304 Not Modified"
    assert "resource" not in same
    assert absolute["resource"]["id"] == "p1"


async def test_writes_in_a_batch(client: httpx.AsyncClient) -> None:
    """Writes answer location, etag and lastModified, and the resource unless `return=minimal` is preferred."""
    full, create = await send(client, entry("PUT", "Patient/p1", PATIENT), entry("POST", "Patient", PATIENT))
    assert full["response"]["location"] == "http://fhir.test/Patient/p1/_history/1"
    assert full["resource"]["id"] == "p1"
    assert create["response"]["status"] == "201 Created"
    assert create["resource"]["id"] not in ("p1", None)
    (minimal,) = await send(client, entry("PUT", "Patient/p1", PATIENT, ifMatch='W/"1"'), Prefer="return=minimal")
    assert "resource" not in minimal
    assert (minimal["response"]["status"], minimal["response"]["etag"]) == ("200 OK", 'W/"2"')


async def test_conditions_in_a_batch(connect: Any) -> None:
    """Conditions of an entry act as the headers do, and the conflict switch counts here too."""
    client = connect(conflict_status=409)
    thing = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "7"}]}
    first, second, conditional = await send(
        client,
        entry("POST", "Patient", thing, ifNoneExist="identifier=urn:x|7"),
        entry("POST", "Patient", thing, ifNoneExist="identifier=urn:x|7"),
        entry("PUT", "Patient?identifier=urn:x|7", thing),
    )
    id_ = first["resource"]["id"]
    assert second["response"]["status"] == "200 OK"
    assert second["resource"]["id"] == conditional["resource"]["id"] == id_
    (stale,) = await send(client, entry("PUT", f"Patient/{id_}", {**thing, "id": id_}, ifMatch='W/"1"'))
    assert stale["response"]["status"] == "409 Conflict"


async def test_references_between_entries_of_a_batch(client: httpx.AsyncClient) -> None:
    """A urn:uuid reference means the entry with that fullUrl, earlier or later."""
    urn = "urn:uuid:11111111-1111-1111-1111-111111111111"
    observation = {"resourceType": "Observation", "subject": {"reference": urn}, "note": [{"text": urn}]}
    first, patient, last = await send(
        client,
        entry("POST", "Observation", observation),
        entry("POST", "Patient", PATIENT, full_url=urn),
        entry("POST", "Observation", observation),
    )
    for answer in (first, last):
        assert answer["resource"]["subject"]["reference"] == f"Patient/{patient['resource']['id']}"
        assert answer["resource"]["note"] == [{"text": urn}]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (None, "400 Bad Request"),
        ({}, "400 Bad Request"),
        ({"request": {"method": "SEND", "url": "Patient"}}, "400 Bad Request"),
        ({"request": {"method": ["GET"], "url": "Patient"}}, "400 Bad Request"),
        ({"request": {"method": "GET"}}, "400 Bad Request"),
        ({"request": {"method": "GET", "url": "https://elsewhere/Patient/1"}}, "400 Bad Request"),
        ({"request": {"method": "PUT", "url": "Patient/1", "ifMatch": 1.5}}, "400 Bad Request"),
        ({"request": {"method": "PUT", "url": "Patient/1"}}, "400 Bad Request"),
        ({"request": {"method": "POST", "url": "Patient"}, "resource": "x"}, "400 Bad Request"),
        ({"request": {"method": "PUT", "url": "Patient?name=x"}, "resource": {}}, "501 Not Implemented"),
        ({"request": {"method": "PATCH", "url": "Patient/1"}}, "501 Not Implemented"),
        ({"request": {"method": "GET", "url": "Person2/1"}}, "404 Not Found"),
    ],
)
async def test_a_bad_entry_fails_alone(client: httpx.AsyncClient, bad: Any, status: str) -> None:
    """In a batch a malformed entry has its own error; in a transaction it is the answer."""
    answers = await send(client, bad, entry("PUT", "Patient/p1", PATIENT))
    assert [a["response"]["status"] for a in answers] == [status, "201 Created"]
    whole = await client.post(
        "/", json=batch(bad, entry("PUT", "Patient/p2", {**PATIENT, "id": "p2"}), type_="transaction")
    )
    assert str(whole.status_code) == status[:3]
    assert whole.json()["issue"][0]["diagnostics"].startswith("entry[0]: ")
    assert (await client.get("/Patient/p2")).status_code == 404


@pytest.mark.parametrize(
    "bundle", [PATIENT, batch(type_="collection"), {**batch(), "entry": {}}, {**batch(), "type": 1.0}, 7]
)
async def test_a_post_to_the_base_wants_a_bundle(client: httpx.AsyncClient, bundle: Any) -> None:
    """Anything but a batch or transaction answers 400."""
    assert (await client.post("/", json=bundle)).status_code == 400


async def test_an_empty_batch(client: httpx.AsyncClient) -> None:
    """No entries, no answers."""
    assert await send(client) == []


async def test_the_entry_limit(connect: Any) -> None:
    """With `entry_limit` a larger bundle answers 400, as Azure does, and nothing of it is done."""
    client = connect(entry_limit=2)
    entries = [entry("PUT", f"Patient/{n}", {**PATIENT, "id": str(n)}) for n in range(3)]
    response = await client.post("/", json=batch(*entries))
    assert response.status_code == 400
    assert "2 at most" in response.json()["issue"][0]["diagnostics"]
    assert (await client.get("/Patient")).json()["total"] == 0
    assert (await client.post("/", json=batch(*entries[:2]))).status_code == 200

from typing import Any

import httpx
import pytest

URN = "urn:uuid:11111111-1111-1111-1111-111111111111"
OTHER = "urn:uuid:22222222-2222-2222-2222-222222222222"
PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "7"}]}


def entry(
    method: str, url: str, resource: Any = None, full_url: str | None = None, **conditions: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **conditions}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


async def send(client: httpx.AsyncClient, *entries: Any) -> httpx.Response:
    return await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})


async def done(client: httpx.AsyncClient, *entries: Any) -> list[dict[str, Any]]:
    response = await send(client, *entries)
    assert response.status_code == 200, response.text
    assert response.json()["type"] == "transaction-response"
    answers: list[dict[str, Any]] = response.json()["entry"]
    return answers


def observation(reference: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "subject": {"reference": reference}, **more}


async def test_references_become_ids(client: httpx.AsyncClient) -> None:
    """urn:uuid references are resolved in both directions; contained, unknown and absolute ones stay."""
    kept = [{"reference": each} for each in ("#c", OTHER, "http://elsewhere/Patient/1", "Patient/x")]
    answers = await done(
        client,
        entry("POST", "Observation", observation(URN, performer=kept)),
        entry("POST", "Patient", PATIENT, full_url=URN),
    )
    id_ = answers[1]["resource"]["id"]
    stored = (await client.get(f"/Observation/{answers[0]['resource']['id']}")).json()
    assert stored == answers[0]["resource"]
    assert stored["subject"]["reference"] == f"Patient/{id_}"
    assert stored["performer"] == kept


async def test_text_that_looks_like_a_reference_stays(client: httpx.AsyncClient) -> None:
    """Only the value of a member named `reference` is resolved."""
    text = f'"reference":"{URN}" \\"reference":"{URN}"'
    answers = await done(
        client,
        entry("POST", "Observation", observation(URN, note=[{"text": text}, {"text": URN}, {"reference": 1.10}])),
        entry("POST", "Patient", PATIENT, full_url=URN),
    )
    assert answers[0]["resource"]["note"] == [{"text": text}, {"text": URN}, {"reference": 1.1}]


async def test_references_to_conditional_entries(client: httpx.AsyncClient) -> None:
    """A fullUrl means the resource that ifNoneExist or a conditional update found."""
    created = (await client.post("/Patient", json=PATIENT)).json()
    answers = await done(
        client,
        entry("POST", "Patient", PATIENT, full_url=URN, ifNoneExist="identifier=urn:x|7"),
        entry("POST", "Observation", observation(URN)),
        entry("PUT", "Patient?identifier=urn:x|8", {"resourceType": "Patient"}, full_url=OTHER),
        entry("POST", "Observation", observation(OTHER)),
    )
    assert [a["response"]["status"][:3] for a in answers] == ["200", "201", "201", "201"]
    assert answers[1]["resource"]["subject"]["reference"] == f"Patient/{created['id']}"
    assert answers[3]["resource"]["subject"]["reference"] == f"Patient/{answers[2]['resource']['id']}"


async def test_conditional_references(client: httpx.AsyncClient) -> None:
    """`Type?identifier=…` means the one resource that matches, created in this transaction or before."""
    before = (await client.post("/Patient", json=PATIENT)).json()
    practitioner = {"resourceType": "Practitioner", "identifier": [{"system": "http://npi", "value": "é|1"}]}
    answers = await done(
        client,
        entry("POST", "Observation", observation("Patient?identifier=urn:x|7")),
        entry("POST", "Observation", observation(r"Practitioner?identifier=http://npi|é\|1")),
        entry("POST", "Practitioner", practitioner),
    )
    assert answers[0]["resource"]["subject"]["reference"] == f"Patient/{before['id']}"
    assert answers[1]["resource"]["subject"]["reference"] == f"Practitioner/{answers[2]['resource']['id']}"


@pytest.mark.parametrize("count", [0, 2])
async def test_a_conditional_reference_must_match_once(client: httpx.AsyncClient, count: int) -> None:
    """None or many matches fail the transaction: 412."""
    for _ in range(count):
        await client.post("/Patient", json=PATIENT)
    response = await send(client, entry("POST", "Observation", observation("Patient?identifier=urn:x|7")))
    assert response.status_code == 412
    assert (await client.get("/Observation")).json()["total"] == 0


async def test_all_or_nothing(client: httpx.AsyncClient) -> None:
    """One failing entry undoes creates, updates and deletions, in the resources, the index and the history."""
    await client.put("/Patient/p1", json={**PATIENT, "id": "p1"})
    await client.put("/Patient/p2", json={"resourceType": "Patient", "id": "p2"})
    snapshot = (await client.get("/_emulator/snapshot")).json()
    response = await send(
        client,
        entry("POST", "Patient", PATIENT),
        entry("PUT", "Patient/p1", {"resourceType": "Patient", "id": "p1"}),
        entry("DELETE", "Patient/p2"),
        entry("PUT", "Patient/p3", {"resourceType": "Patient", "id": "p3"}, ifMatch='W/"1"'),
    )
    assert response.status_code == 404
    assert response.json()["resourceType"] == "OperationOutcome"
    assert response.json()["issue"][0]["diagnostics"].startswith("entry[3]: ")
    assert (await client.get("/_emulator/snapshot")).json() == snapshot
    assert (await client.get("/Patient?identifier=urn:x|7")).json()["total"] == 1
    assert (await client.get("/Patient/p2")).status_code == 200


async def test_a_stale_version_fails_the_transaction(connect: Any) -> None:
    """A stale ifMatch answers the conflict status for the whole transaction."""
    for status in (409, 412):
        client = connect(conflict_status=status)
        patient = {**PATIENT, "id": "p1"}
        await client.put("/Patient/p1", json=patient)
        assert (await send(client, entry("PUT", "Patient/p1", patient, ifMatch='W/"2"'))).status_code == status


async def test_deletes_come_first_and_reads_last(client: httpx.AsyncClient) -> None:
    """The order of entries does not count; answers come in their order."""
    await client.put("/Patient/p1", json={**PATIENT, "id": "p1"})
    answers = await done(
        client,
        entry("GET", "Patient?identifier=urn:x|7"),
        entry("PUT", "Patient/p2", {**PATIENT, "id": "p2"}),
        entry("POST", "Patient", PATIENT),
        entry("DELETE", "Patient/p1"),
    )
    assert [a["response"]["status"][:3] for a in answers] == ["200", "201", "201", "204"]
    assert answers[0]["resource"]["total"] == 2


async def test_a_resource_is_named_once(client: httpx.AsyncClient) -> None:
    """Two entries that write the same resource fail the transaction: 400."""
    put = entry("PUT", "Patient/p1", {"resourceType": "Patient", "id": "p1"})
    for other in (put, entry("DELETE", "Patient/p1")):
        response = await send(client, put, other)
        assert response.status_code == 400
        assert "Patient/p1" in response.json()["issue"][0]["diagnostics"]
    assert (await client.get("/Patient/p1")).status_code == 404


async def test_an_identical_put_in_a_transaction(connect: Any) -> None:
    """With `identical_put="same"` the comparison counts the references as they were resolved."""
    client = connect(identical_put="same")
    patient = {**PATIENT, "id": "p1"}
    entries = [
        entry("PUT", "Patient/p1", patient),
        entry("PUT", "Observation/o1", observation("Patient?identifier=urn:x|7", id="o1")),
    ]
    for status in ("201", "200"):
        answers = await done(client, *entries)
        assert [a["response"]["status"][:3] for a in answers] == [status, status]
        assert [a["response"]["etag"] for a in answers] == ['W/"1"', 'W/"1"']
    assert (await client.get("/_history")).json()["total"] == 2

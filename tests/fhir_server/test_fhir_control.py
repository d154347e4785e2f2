from typing import Any

import httpx
import pytest

from devstack.control import Fault
from devstack.fhir import FhirServer

PATIENT = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:x", "value": "7"}]}


async def test_calls_are_recorded(server: FhirServer, client: httpx.AsyncClient) -> None:
    """The control side lists what the server was asked, with the status of each."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.get("/Patient?_id=p2,%20")
    await client.get("/Patient/p2")
    calls = (await client.get("/_emulator/calls")).json()
    assert [(c["method"], c["path"], c["status"]) for c in calls] == [
        ("PUT", "/Patient/p1", 201),
        ("GET", "/Patient?_id=p2,%20", 200),
        ("GET", "/Patient/p2", 404),
    ]
    assert server.calls == calls


async def test_faults_strike(server: FhirServer, client: httpx.AsyncClient) -> None:
    """A fault answers in place of the server, or loses the answer of what was done."""
    server.faults += [Fault(method="PUT", status=429, headers={"Retry-After": "1"}), Fault(method="PUT", effect="lose")]
    assert (await client.put("/Patient/p1", json=PATIENT)).status_code == 429
    assert (await client.get("/Patient/p1")).status_code == 404
    with pytest.raises(httpx.TransportError):
        await client.put("/Patient/p1", json=PATIENT)
    assert (await client.get("/Patient/p1")).status_code == 200


async def test_reset_forgets_everything(client: httpx.AsyncClient) -> None:
    """After a reset an id starts with version 1 again, and no search finds what was there."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.post("/_emulator/reset")
    assert (await client.get("/Patient?identifier=7")).json()["total"] == 0
    assert (await client.put("/Patient/p1", json=PATIENT)).headers["etag"] == 'W/"1"'


async def test_a_snapshot_holds_versions_deletions_and_identifiers(client: httpx.AsyncClient) -> None:
    """A restored server reads, searches and counts versions as the one it was taken of."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json={**PATIENT, "gender": "male"})
    await client.put("/Patient/p2", json={**PATIENT, "id": "p2"})
    await client.delete("/Patient/p2")
    taken = (await client.get("/_emulator/snapshot")).json()
    await client.post("/_emulator/reset")
    assert (await client.put("/_emulator/snapshot", json=taken)).status_code == 204
    assert (await client.get("/_emulator/snapshot")).json() == taken
    assert (await client.get("/Patient/p1/_history/1")).status_code == 200
    assert (await client.get("/Patient/p2")).status_code == 410
    assert [e["resource"]["id"] for e in (await client.get("/Patient?identifier=7")).json()["entry"]] == ["p1"]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Person2"},
        {"versionId": "2"},
        {"method": "SEND"},
        {"lastUpdated": "soon"},
        {"body": "{"},
        {"body": "[]"},
        {"body": '{"resourceType":"Group"}'},
        {"body": 7},
        {"id": []},
    ],
)
async def test_a_wrong_snapshot_changes_nothing(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    """A snapshot that is not one answers 400 naming the version, and what is there stays."""
    await client.put("/Patient/p1", json=PATIENT)
    taken = (await client.get("/_emulator/snapshot")).json()
    response = await client.put("/_emulator/snapshot", json={"versions": [taken["versions"][0] | change]})
    assert response.status_code == 400
    assert "versions[0]" in response.json()["error"]
    assert (await client.get("/_emulator/snapshot")).json() == taken
    others: list[Any] = [[], {}, {"versions": {}}]
    for other in others:
        assert (await client.put("/_emulator/snapshot", json=other)).status_code == 400


async def test_listeners_hear_of_each_commit(server: FhirServer, client: httpx.AsyncClient) -> None:
    """`on_change` gets every committed version once, in order, and nothing of what failed or was only read."""
    heard: list[dict[str, str]] = []
    server.on_change.append(heard.append)
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"9"'})
    await client.get("/Patient/p1")
    entries: list[Any] = [
        {"request": {"method": "PUT", "url": "Patient/p1"}, "resource": PATIENT},
        {"request": {"method": "DELETE", "url": "Patient/p1"}},
        {"request": {"method": "PUT", "url": "Patient/p1"}, "resource": {}},
    ]
    await client.post("/", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert [(c["type"], c["id"], c["versionId"], c["op"]) for c in heard] == [
        ("Patient", "p1", "1", "create"),
        ("Patient", "p1", "2", "update"),
        ("Patient", "p1", "3", "delete"),
    ]

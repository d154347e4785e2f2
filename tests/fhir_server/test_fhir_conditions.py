import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "id": "p1"}
KEY = "urn:x|7"


def with_identifier(value: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": value}], **more}


@pytest.mark.parametrize("status", [412, 409])
async def test_a_stale_if_match_is_a_conflict(connect: Any, status: int) -> None:
    """PUT and DELETE with an old version answer 412, or 409 with that switch, and change nothing."""
    client = connect(conflict_status=status)
    await client.put("/Patient/p1", json=PATIENT)
    await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"1"'})
    for method in ("PUT", "DELETE"):
        body = PATIENT if method == "PUT" else None
        response = await client.request(method, "/Patient/p1", json=body, headers={"If-Match": 'W/"1"'})
        assert response.status_code == status
        assert response.json()["issue"][0]["code"] == "conflict"
        assert response.headers["etag"] == 'W/"2"'
    assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"2"'


async def test_if_match_on_a_missing_id_creates_nothing(client: httpx.AsyncClient) -> None:
    """If-Match on an id that never was answers 404."""
    assert (await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"1"'})).status_code == 404
    assert (await client.get("/Patient/p1")).status_code == 404


async def test_if_match_on_a_missing_id_creates_it_with_that_switch(connect: Any) -> None:
    """As HAPI does: where no version ever was, If-Match means nothing."""
    client = connect(lost_put=201)
    made = await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"1"'})
    assert (made.status_code, made.headers["etag"]) == (201, 'W/"1"')
    assert (await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"7"'})).status_code == 412


async def test_if_match_does_not_bring_back_the_dead(client: httpx.AsyncClient) -> None:
    """The version before a deletion is stale."""
    await client.put("/Patient/p1", json=PATIENT)
    await client.delete("/Patient/p1")
    assert (await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": 'W/"1"'})).status_code == 412
    assert (await client.get("/Patient/p1")).status_code == 410


@pytest.mark.parametrize("tag", ['"1"', "1", "*", 'W/"1', ""])
async def test_if_match_is_a_weak_etag(client: httpx.AsyncClient, tag: str) -> None:
    """Anything but W/"n" answers 400, as Azure does."""
    await client.put("/Patient/p1", json=PATIENT)
    assert (await client.put("/Patient/p1", json=PATIENT, headers={"If-Match": tag})).status_code == 400


async def test_if_none_match_star_only_creates(client: httpx.AsyncClient) -> None:
    """If-None-Match: * answers 412 when the resource exists; another value on an update is not supported."""
    star = {"If-None-Match": "*"}
    assert (await client.put("/Patient/p1", json=PATIENT, headers=star)).status_code == 201
    assert (await client.put("/Patient/p1", json=PATIENT, headers=star)).status_code == 412
    assert (await client.put("/Patient/p1", json=PATIENT, headers={"If-None-Match": 'W/"1"'})).status_code == 501


async def test_conditional_create(client: httpx.AsyncClient) -> None:
    """If-None-Exist: none creates (201), one is answered as it is (200), more are refused (412)."""
    header = {"If-None-Exist": f"identifier={KEY}"}
    first = await client.post("/Patient", json=with_identifier("7"), headers=header)
    second = await client.post("/Patient", json=with_identifier("7", gender="male"), headers=header)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    await client.post("/Patient", json=with_identifier("7"))
    assert (await client.post("/Patient", json=with_identifier("7"), headers=header)).status_code == 412


async def test_what_a_conditional_create_says(client: httpx.AsyncClient) -> None:
    """Both answers name the resource and its version in Location and ETag; a minimal one has no body."""
    header = {"If-None-Exist": f"identifier={KEY}", "Prefer": "return=minimal"}
    first = await client.post("/Patient", json=with_identifier("7"), headers=header)
    location = first.headers["Location"]
    id_ = location.split("/")[-3]
    assert (location, first.headers["ETag"], first.content) == (
        f"http://fhir.test/Patient/{id_}/_history/1",
        'W/"1"',
        b"",
    )
    await client.put(f"/Patient/{id_}", json=with_identifier("7", id=id_))
    second = await client.post("/Patient", json=with_identifier("7"), headers=header)
    assert (second.status_code, second.content) == (200, b"")
    assert (second.headers["Location"], second.headers["ETag"]) == (
        location.replace("_history/1", "_history/2"),
        'W/"2"',
    )


@pytest.mark.parametrize("value", ["p|q", "r,s$t\\u", "é &=#+%"])
@pytest.mark.parametrize("mark", ["", "?"])
async def test_a_condition_is_read_as_a_query(client: httpx.AsyncClient, value: str, mark: str) -> None:
    """If-None-Exist is a query string: percent-encoded, and escaped as tokens are."""
    escaped = re.sub(r"([\\,$|])", r"\\\1", value)
    said = f"{mark}identifier=urn:x|{quote(escaped)}"
    made = [await client.post("/Patient", json=with_identifier(value), headers={"If-None-Exist": said}) for _ in "12"]
    assert [each.status_code for each in made] == [201, 200]
    assert (
        await client.post("/Patient", json=with_identifier("p"), headers={"If-None-Exist": said})
    ).status_code == 200


async def test_a_deleted_resource_is_not_there(client: httpx.AsyncClient) -> None:
    """What was deleted does not keep a conditional create from making another."""
    header = {"If-None-Exist": f"identifier={KEY}"}
    first = await client.post("/Patient", json=with_identifier("7"), headers=header)
    await client.delete(f"/Patient/{first.json()['id']}")
    again = await client.post("/Patient", json=with_identifier("7"), headers=header)
    assert again.status_code == 201
    assert again.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("condition", ["", " ", "?", "_count=1", "_format=json"])
async def test_a_create_on_no_condition_is_refused(client: httpx.AsyncClient, condition: str) -> None:
    """A condition without a criterion is an error of the sender, not a plain create: 412."""
    header = {"If-None-Exist": condition}
    assert (await client.post("/Patient", json=with_identifier("7"), headers=header)).status_code == 412
    entry = {
        "resource": with_identifier("7"),
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": condition},
    }
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    answer = (await client.post("/", json=batch)).json()["entry"][0]["response"]
    assert answer["status"].startswith("412")
    assert (await client.get("/Patient")).json()["total"] == 0


@pytest.mark.parametrize(
    ("condition", "status"),
    [("identifier=", 400), ("identifier=|", 400), ("name=x", 501), ("Patient?identifier=urn:x|7", 501)],
)
async def test_a_condition_that_cannot_be_read(client: httpx.AsyncClient, condition: str, status: int) -> None:
    """A condition that cannot be searched for creates nothing."""
    header = {"If-None-Exist": condition}
    assert (await client.post("/Patient", json=with_identifier("7"), headers=header)).status_code == status
    assert (await client.get("/Patient")).json()["total"] == 0


async def test_conditions_of_another_interaction(client: httpx.AsyncClient) -> None:
    """If-None-Exist on an update and If-Match on a create are refused by name, never passed over."""
    put = await client.put("/Patient/p1", json=PATIENT, headers={"If-None-Exist": f"identifier={KEY}"})
    post = await client.post("/Patient", json=with_identifier("7"), headers={"If-Match": 'W/"1"'})
    assert (put.status_code, post.status_code) == (501, 501)
    assert "If-None-Exist" in put.json()["issue"][0]["diagnostics"]
    assert "If-Match" in post.json()["issue"][0]["diagnostics"]
    assert (await client.get("/Patient")).json()["total"] == 0


async def test_conditional_update(client: httpx.AsyncClient) -> None:
    """PUT with a search: none creates (201), one is updated (200), more are refused (412)."""
    first = await client.put(f"/Patient?identifier={KEY}", json=with_identifier("7"))
    second = await client.put(f"/Patient?identifier={KEY}", json=with_identifier("7", gender="male"))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["etag"] == 'W/"2"'
    await client.post("/Patient", json=with_identifier("7"))
    assert (await client.put(f"/Patient?identifier={KEY}", json=with_identifier("7"))).status_code == 412


async def test_conditional_update_and_the_id_in_the_body(client: httpx.AsyncClient) -> None:
    """The body's id is taken when nothing matches, must be the match's when one does, and must not be taken."""
    created = await client.put(f"/Patient?identifier={KEY}", json=with_identifier("7", id="p1"))
    assert created.json()["id"] == "p1"
    assert (await client.put(f"/Patient?identifier={KEY}", json=with_identifier("7", id="p2"))).status_code == 400
    assert (await client.put("/Patient?identifier=other", json=with_identifier("8", id="p1"))).status_code == 409


async def test_conditional_delete(client: httpx.AsyncClient) -> None:
    """DELETE with a search deletes the one match, refuses more (412), and answers 204 for none."""
    assert (await client.delete(f"/Patient?identifier={KEY}")).status_code == 204
    for _ in range(2):
        await client.post("/Patient", json=with_identifier("7"))
    assert (await client.delete(f"/Patient?identifier={KEY}")).status_code == 412
    await client.put("/Patient/p9", json=with_identifier("9", id="p9"))
    assert (await client.delete("/Patient?identifier=urn:x|9")).status_code == 204
    assert (await client.get("/Patient/p9")).status_code == 410


@pytest.mark.parametrize("query", ["", "?_count=1", "?_format=json"])
async def test_a_condition_must_be_selective(client: httpx.AsyncClient, query: str) -> None:
    """A condition without a criterion would mean every resource: 412."""
    for method in ("PUT", "DELETE"):
        body = PATIENT if method == "PUT" else None
        assert (await client.request(method, f"/Patient{query}", json=body)).status_code == 412

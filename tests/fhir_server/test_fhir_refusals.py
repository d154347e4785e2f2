import httpx
import pytest

from devstack.fhir import create_app

PATIENT = {"resourceType": "Patient", "id": "p1"}
DEEP = b'{"resourceType":"Patient","id":"p1","x":' + b"[" * 300 + b"]" * 300 + b"}"
VERY_DEEP = b'{"resourceType":"Patient","id":"p1","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"resourceType":"Patient","id":"p1","x":NaN}', "NaN"),
        (b'{"resourceType":"Patient","id":"p1","x":"\xff"}', "not UTF-8"),
        (b'{"resourceType":"Patient","id":"p1","x":"\\ud800"}', "surrogates"),
        (b"[]", "not a resource"),
        (b'{"id":"p1"}', "resourceType None"),
        (b'{"resourceType":"Person2","id":"p1"}', "resourceType 'Person2'"),
        (b'{"resourceType":["Patient"],"id":"p1"}', "resourceType"),
        (b'{"resourceType":"Group","id":"p1"}', "resourceType is Group, the URL says Patient"),
        (b'{"resourceType":"Patient"}', "id must be p1"),
        (b'{"resourceType":"Patient","id":"p2"}', "id must be p1"),
        (b'{"resourceType":"Patient","id":1.0}', "id must be p1"),
        (b'{"resourceType":"Patient","id":"p1","meta":[]}', "meta is not an object"),
        (DEEP, "ecursion"),
        (VERY_DEEP, "deep"),
    ],
)
async def test_a_bad_body_answers_400(client: httpx.AsyncClient, body: bytes, says: str) -> None:
    """What is no resource of the URL's type and id is refused by an OperationOutcome, and nothing is stored."""
    response = await client.put("/Patient/p1", content=body)
    assert response.status_code == 400
    assert says in response.json()["issue"][0]["diagnostics"]
    assert (await client.get("/Patient/p1")).status_code == 404


@pytest.mark.parametrize("id_", ["a_b", "a" * 65, "%20", "a%2Fb"])
async def test_an_id_has_a_form(client: httpx.AsyncClient, id_: str) -> None:
    """An id that FHIR does not allow is refused, not stored."""
    response = await client.put(f"/Patient/{id_}", json={**PATIENT, "id": id_})
    assert response.status_code == 400


async def test_an_unknown_type_in_the_url_answers_404(client: httpx.AsyncClient) -> None:
    """A path that is no R4 resource type is no end point."""
    for path in ("/Person2", "/Person2/1", "/patient/1", "/favicon.ico"):
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "feature"),
    [
        ("GET", "/Patient?name=x", "search parameter name"),
        ("GET", "/Patient?identifier:of-type=x", "search parameter identifier:of-type"),
        ("GET", "/Patient?_summary=count", "search parameter _summary"),
        ("GET", "/Patient?_format=xml", "_format=xml"),
        ("GET", "/Patient/p1?_elements=id", "parameter _elements"),
        ("GET", "/Patient/p1/$everything", "operation $everything"),
        ("GET", "/Patient/$match", "operation $match"),
        ("GET", "/$export", "operation $export"),
        ("GET", "/Patient/p1/Observation", "the path Patient/p1/Observation"),
        ("GET", "/", "GET on the base"),
        ("PATCH", "/Patient/p1", "PATCH"),
        ("PUT", "/Patient/p1?_meta-history=false", "parameter _meta-history"),
    ],
)
async def test_what_is_not_supported_is_named(client: httpx.AsyncClient, method: str, path: str, feature: str) -> None:
    """An unsupported feature answers 501 with an OperationOutcome that names it."""
    response = await client.request(method, path, json=PATIENT if method in ("PUT", "PATCH") else None)
    assert response.status_code == 501
    issue = response.json()["issue"][0]
    assert issue["code"] == "not-supported"
    assert feature in issue["diagnostics"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/fhir+xml"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Accept": "application/fhir+xml"}, 406),
        ({"Prefer": "return=everything"}, 400),
        ({"X-Provenance": "{}"}, 501),
    ],
)
async def test_headers_it_cannot_serve(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    """A content type, encoding, preference or header that it cannot serve is refused before anything is stored."""
    response = await client.put("/Patient/p1", content=b'{"resourceType":"Patient","id":"p1"}', headers=headers)
    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"
    assert (await client.get("/Patient/p1")).status_code == 404


async def test_wrong_methods(client: httpx.AsyncClient) -> None:
    """History cannot be written: 405; a POST to a resource is not supported: 501."""
    assert (await client.put("/Patient/p1/_history/1", json=PATIENT)).status_code == 405
    assert (await client.post("/Patient/p1", json=PATIENT)).status_code == 501


async def test_switches_are_checked() -> None:
    """A switch with a wrong value is refused with its choices."""
    with pytest.raises(ValueError, match="version, same"):
        create_app(identical_put="never")  # type: ignore[arg-type]  # the wrong value is the test
    with pytest.raises(ValueError, match="409, 412"):
        create_app(conflict_status=400)  # type: ignore[arg-type]  # the wrong value is the test
    with pytest.raises(ValueError, match="lost_put: 200 is not one of 201, 404"):
        create_app(lost_put=200)  # type: ignore[arg-type]  # the wrong value is the test

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def load(client: httpx.AsyncClient) -> None:
    identifiers: dict[str, Any] = {
        "a": [{"system": "urn:x", "value": "1"}, {"system": "urn:y", "value": "2"}],
        "b": [{"system": "urn:x", "value": "2"}],
        "c": [{"value": "1"}, {"system": "urn:z"}, {}, None, {"system": 1.5, "value": True}],
        "d": [{"system": "urn:x", "value": "p|q,r$s\\t"}],
        "e": "nonsense",
    }
    for id_, identifier in identifiers.items():
        resource = {"resourceType": "Patient", "id": id_, "identifier": identifier}
        assert (await client.put(f"/Patient/{id_}", json=resource)).status_code == 201
    document = {"resourceType": "DocumentReference", "id": "m", "identifier": [{"system": "urn:x", "value": "1"}]}
    await client.put("/DocumentReference/m", json={**document, "masterIdentifier": {"system": "urn:m", "value": "9"}})
    single = {"resourceType": "QuestionnaireResponse", "id": "q", "identifier": {"system": "urn:x", "value": "1"}}
    await client.put("/QuestionnaireResponse/q", json=single)


async def ids(client: httpx.AsyncClient, query: str, type_: str = "Patient") -> list[str]:
    response = await client.get(f"/{type_}?{query}")
    assert response.status_code == 200, response.text
    bundle = response.json()
    assert bundle["type"] == "searchset"
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abcde"),
        ("_id=b", "b"),
        ("_id=d,a,nobody,a", "da"),
        ("_id=a,b&_id=b,c", "b"),
        ("identifier=urn:x|1", "a"),
        ("identifier=1", "ac"),
        ("identifier=|1", "c"),
        ("identifier=urn:x|", "abd"),
        ("identifier=urn:z|", "c"),
        ("identifier=urn:x|1,urn:x|2", "ab"),
        ("identifier=urn:x|1&identifier=urn:y|2", "a"),
        ("identifier=urn:x|1&identifier=urn:x|2", ""),
        ("identifier=urn:x|2&_id=a,b,c", "b"),
        ("identifier=URN:X|1", ""),
        ("identifier=urn:x|" + quote(r"p\|q\,r\$s\\t"), "d"),
        ("identifier=urn:x|1&_format=application/fhir%2Bjson", "a"),
    ],
)
async def test_what_a_search_finds(client: httpx.AsyncClient, query: str, found: str) -> None:
    """Comma means or, a repeated name means and; systems and values are compared exactly."""
    await load(client)
    assert await ids(client, query) == list(found)


async def test_a_single_identifier_is_found(client: httpx.AsyncClient) -> None:
    """Types whose identifier is one object are searched alike."""
    await load(client)
    assert await ids(client, "identifier=urn:x|1", "QuestionnaireResponse") == ["q"]


async def test_a_master_identifier_is_found(client: httpx.AsyncClient) -> None:
    """R4 searches a document's masterIdentifier and its identifiers under one name."""
    await load(client)
    for token in ("urn:m|9", "9", "urn:m|", "urn:x|1"):
        assert await ids(client, f"identifier={token}", "DocumentReference") == ["m"]


async def test_a_search_sees_the_current_version(client: httpx.AsyncClient) -> None:
    """An update or a deletion takes the old identifiers out of the index; a resource put again is found again."""
    await load(client)
    changed = {"resourceType": "Patient", "id": "a", "identifier": [{"system": "urn:x", "value": "9"}]}
    await client.put("/Patient/a", json=changed)
    assert await ids(client, "identifier=urn:x|1") == []
    assert await ids(client, "identifier=urn:x|9") == ["a"]
    await client.delete("/Patient/a")
    assert await ids(client, "identifier=urn:x|9") == []
    assert await ids(client, "_id=a") == []
    await client.put("/Patient/a", json=changed)
    assert await ids(client, "identifier=urn:x|9") == ["a"]


async def test_pages(client: httpx.AsyncClient) -> None:
    """`_count` cuts the answer into pages tied by next links; the total is of all; 0 gives the total only."""
    await load(client)
    seen: list[str] = []
    url: str | None = "/Patient?_count=2"
    while url:
        bundle = (await client.get(url)).json()
        assert bundle["total"] == 5
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert seen == list("abcde")
    none = (await client.get("/Patient?_count=0")).json()
    assert none["total"] == 5
    assert "entry" not in none


async def test_entries_of_a_search(client: httpx.AsyncClient) -> None:
    """An entry has the resource's URL and says that it matched."""
    await load(client)
    bundle = (await client.get("/Patient?_id=a")).json()
    assert bundle["entry"][0]["fullUrl"] == "http://fhir.test/Patient/a"
    assert bundle["entry"][0]["search"] == {"mode": "match"}
    assert bundle["link"][0] == {"relation": "self", "url": "http://fhir.test/Patient?_id=a"}


async def test_a_search_by_post(client: httpx.AsyncClient) -> None:
    """POST Type/_search takes the parameters as a form."""
    await load(client)
    response = await client.post("/Patient/_search", data={"identifier": "urn:x|1,urn:x|2"})
    assert [e["resource"]["id"] for e in response.json()["entry"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("identifier=urn:x|1", "a"),
        ("identifier=urn%3Ax%7C2,urn%3Ax%7C1", "ba"),
        ("identifier=urn%3Ax%7C" + quote(r"p\|q\,r\$s\\t"), "d"),
        ("identifier=%7C1&_id=a,c", "c"),
        ("identifier=urn:u|%C3%A9+%2B", "u"),
        ("identifier=urn:u|é+%2B", "u"),
        ("", "abcdeu"),
    ],
)
async def test_a_form_reads_as_a_query_does(client: httpx.AsyncClient, form: str, found: str) -> None:
    """A form means what the same query string would: percent signs, plus signs, escapes and UTF-8."""
    await load(client)
    odd = {"resourceType": "Patient", "id": "u", "identifier": [{"system": "urn:u", "value": "é +"}]}
    await client.put("/Patient/u", json=odd)
    response = await client.post("/Patient/_search", content=form.encode(), headers=FORM)
    assert [each["resource"]["id"] for each in response.json().get("entry", [])] == list(found)


async def test_the_pages_of_a_search_by_post(client: httpx.AsyncClient) -> None:
    """A next link is followed by GET, so it leads to the type and not to _search."""
    await load(client)
    first = (await client.post("/Patient/_search?_count=2", content=b"identifier=urn:x|", headers=FORM)).json()
    links = {link["relation"]: link["url"] for link in first["link"]}
    assert links["self"] == "http://fhir.test/Patient?_count=2&identifier=urn:x|"
    second = (await client.get(links["next"])).json()
    assert [each["resource"]["id"] for bundle in (first, second) for each in bundle["entry"]] == ["a", "b", "d"]


async def test_a_form_that_is_no_text(client: httpx.AsyncClient) -> None:
    """A form that is not UTF-8 answers 400, and one of another content type 415."""
    response = await client.post("/Patient/_search", content=b"identifier=\xff", headers=FORM)
    assert (response.status_code, "UTF-8" in response.json()["issue"][0]["diagnostics"]) == (400, True)
    assert (await client.post("/Patient/_search", json={"identifier": "x"})).status_code == 415


async def test_a_search_of_all_types_is_not_supported(client: httpx.AsyncClient) -> None:
    """A search on the base is refused by name."""
    response = await client.post("/_search", content=b"identifier=x", headers=FORM)
    assert (response.status_code, "all types" in response.json()["issue"][0]["diagnostics"]) == (501, True)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("gt2026-01-31T09:00:00Z", "bc"),
        ("ge2026-01-31T09:00:00Z", "abc"),
        ("lt2026-01-31T10:00:00.000Z", "a"),
        ("le2026-01-31T11:00:00%2B01:00", "ab"),
        ("2026-01-31T10:00Z", "b"),
        ("eq2026-01-31", "abc"),
        ("2026-01", "abc"),
        ("2026", "abc"),
        ("gt2026-01", ""),
        ("lt2026", ""),
    ],
)
async def test_a_search_by_time(connect: Any, value: str, found: str) -> None:
    """`_lastUpdated` compares with the span that a date or time means."""
    now = [datetime(2026, 1, 31, 9, tzinfo=UTC)]
    client = connect(clock=lambda: now[0])
    for id_ in "abc":
        await client.put(f"/Patient/{id_}", json={"resourceType": "Patient", "id": id_})
        now[0] += timedelta(hours=1)
    assert await ids(client, f"_lastUpdated={value}") == list(found)


@pytest.mark.parametrize(
    "query",
    [
        "_count=-1",
        "_count=x",
        "_offset=²",
        "_lastUpdated=soon",
        "_lastUpdated=2026-13",
        "identifier=|",
        "identifier=",
        "identifier=a,,b",
    ],
)
async def test_a_wrong_value_answers_400(client: httpx.AsyncClient, query: str) -> None:
    """A value that cannot be read is refused, not ignored."""
    response = await client.get(f"/Patient?{query}")
    assert response.status_code == 400
    assert response.json()["resourceType"] == "OperationOutcome"

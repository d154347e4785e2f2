"""Searches for what changed: every page of them, on our own server alone, and odd answers are no result."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from relay.errors import Failed, RelayError, Transient
from relay.fhir.client import FhirClient
from relay.fhir.pages import page_of

SINCE = datetime(2026, 6, 1, 12, 0, 0, 5000, tzinfo=UTC)
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def patient(fhir_id: str, **meta: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": fhir_id, "meta": meta}


def page(*resources: dict[str, Any], following: str = "") -> dict[str, Any]:
    """Return a page of a searchset with a link to the next one."""
    link = [{"relation": "self", "url": "x"}] + ([{"relation": "next", "url": following}] if following else [])
    entries = [{"resource": each} for each in resources]
    return {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entries}


async def found(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[list[str], list[str]]:
    """Search for patients at a server that answers so; returns the ids, and the URLs that were asked for."""
    asked: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return answer(request)

    client = FhirClient("http://fhir.test/base", transport=httpx.MockTransport(serve))
    try:
        return [each.id async for page in client.updated("Patient", SINCE) for each in page.found], asked
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("http://fhir.test/base/Patient?_offset=1", "Patient?_offset=1"),
        ("http://evil.example/other/Patient?_offset=1", "Patient?_offset=1"),
        ("http://fhir.test/base?_getpages=abc&_count=1", "?_getpages=abc&_count=1"),
        ("Patient?_offset=1", "Patient?_offset=1"),
    ],
)
async def test_every_page_is_asked_of_our_own_server(link: str, address: str) -> None:
    """Of the link to the next page only its query counts, whatever host it names."""

    def answer(request: httpx.Request) -> httpx.Response:
        first = "_lastUpdated" in str(request.url)
        return httpx.Response(200, json=page(patient("a"), following=link) if first else page(patient("b")))

    ids, asked = await found(answer)
    assert ids == ["a", "b"]
    assert asked[0] == "http://fhir.test/base/Patient?_lastUpdated=ge2026-06-01T12%3A00%3A00.005Z&_count=200"
    assert asked[1:] == [f"http://fhir.test/base/{address}"]


async def test_a_page_that_leads_to_itself_is_the_last() -> None:
    """A server that links in a circle is asked for each page once."""
    ids, asked = await found(lambda _: httpx.Response(200, json=page(patient("a"), following="Patient?_page=1")))
    assert (ids, len(asked)) == (["a", "a"], 2)


@pytest.mark.parametrize(("status", "error"), [(503, Transient), (429, Transient), (400, Failed), (404, Failed)])
async def test_a_server_that_does_not_search(status: int, error: type[RelayError]) -> None:
    """Busy is for later, a refusal is for good; the code has the status."""
    with pytest.raises(error) as failed:
        await found(lambda _: httpx.Response(status))
    assert failed.value.code == f"fhir-{status}"


def test_what_a_page_holds() -> None:
    """Resources of the type to the letter, the newest time, and no text of what is only a part."""
    first = patient("a", versionId="3", lastUpdated="2026-06-01T12:00:00.250+00:00")
    second = patient("b", tag=[SUBSETTED], lastUpdated="2026-06-01T14:00:00+02:00", versionId=None)
    odd = patient("c", lastUpdated="yesterday")
    outcome = {"resourceType": "OperationOutcome"}
    text = json.dumps(page(first, second, odd, outcome, patient("d", lastUpdated="2026-06-01T12:00:00")))
    read = page_of(text, "Patient")
    assert [(each.id, each.version, bool(each.text)) for each in read.found] == [
        ("a", "3", True),
        ("b", "", False),
        ("c", "", True),
        ("d", "", True),
    ]
    assert read.found[0].text == json.dumps(first)
    assert read.newest == datetime(2026, 6, 1, 12, 0, 0, 250000, tzinfo=UTC)
    assert read.next == ""
    assert page_of('{"resourceType":"Bundle"}', "Patient").found == ()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"resourceType":"Patient"}',
        '{"resourceType":"Bundle","entry":{}}',
        json.dumps(page({"resourceType": "Patient", "id": "a b"})),
        json.dumps(page({"resourceType": "Patient"})),
        json.dumps(page(following="Patient?a b")),
        json.dumps(page(following="Patient")),
    ],
)
def test_what_is_no_page(text: str) -> None:
    """An answer that cannot be read is no end of the search."""
    with pytest.raises(Transient):
        page_of(text, "Patient")


@pytest.mark.parametrize("link", [7, {"relation": "next"}, {"relation": "next", "url": "http://[x?a"}, "next"])
def test_links_that_are_none(link: Any) -> None:
    """What is no link leads nowhere."""
    assert page_of(json.dumps({**page(), "link": [link]}), "Patient").next == ""


async def test_events_of_a_subscription() -> None:
    """$events answers with bytes, or not at all; a busy server is asked again."""
    answers = {200: b"{}", 404: None, 501: None}

    async def ask(status: int) -> bytes | None:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=b"{}"))
        client = FhirClient("http://fhir.test", transport=transport)
        try:
            return await client.events("s1", 1, 2)
        finally:
            await client.aclose()

    assert {status: await ask(status) for status in answers} == answers
    with pytest.raises(Transient):
        await ask(503)

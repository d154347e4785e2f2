"""Pages of a history or a search: what they list, and which next page is followed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from relay.errors import Failed, Transient
from relay.fhir.client import FhirClient
from relay.fhir.history import Listed, listing_of

BASE = "https://fhir.example/r4/"
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def bundle(*entries: Any, next_url: Any = None) -> dict[str, Any]:
    links = [{"relation": "self", "url": BASE}] + ([{"relation": "next", "url": next_url}] if next_url else [])
    return {"resourceType": "Bundle", "type": "history", "link": links, "entry": list(entries)}


PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "2", "lastUpdated": "2026-06-01T14:00:00+02:00"},
}


@pytest.mark.parametrize(
    ("entry", "listed"),
    [
        ({"resource": PATIENT}, Listed("Patient", "p1", "2", AT, deleted=False)),
        (
            {
                "resource": {"resourceType": "Patient", "id": "p1"},
                "response": {"etag": 'W/"2"', "lastModified": "2026-06-01T12:00:00Z"},
            },
            Listed("Patient", "p1", "2", AT, deleted=False),
        ),
        (
            {
                "request": {"method": "DELETE", "url": "Patient/p1"},
                "response": {"etag": 'W/"3"', "lastModified": "2026-06-01T12:00:00Z"},
            },
            Listed("Patient", "p1", "3", AT, deleted=True),
        ),
        (
            {"request": {"method": "DELETE", "url": "Patient/p1/_history/3"}},
            Listed("Patient", "p1", "3", None, deleted=True),
        ),
        ({"fullUrl": f"{BASE}Patient/p1"}, Listed("Patient", "p1", "", None, deleted=True)),
        (
            {"request": {"url": "Patient"}, "fullUrl": f"{BASE}Patient/p1", "response": {"lastModified": "2026"}},
            Listed("Patient", "p1", "", None, deleted=True),
        ),
    ],
)
def test_an_entry_is_a_version(entry: Any, listed: Listed) -> None:
    """Its time and version are those of the resource, else of the response; a deletion is named by its request or fullUrl."""
    assert listing_of(bundle(entry), "_history").listed == (listed,)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"resource": {"id": "p1"}},
        {"resource": {"resourceType": "Patient", "id": "../x"}},
        {"request": {"url": "Patient?x=1"}},
    ],
)
def test_an_entry_that_names_no_resource_is_counted(entry: Any) -> None:
    """It is not lost in silence."""
    page = listing_of(bundle(entry, {"resource": PATIENT}), "_history")
    assert (len(page.listed), page.unread) == (1, 1)


def test_what_stands_beside_the_matches_is_no_match() -> None:
    """Included resources and a search's OperationOutcome did not change because they are shown."""
    page = listing_of(
        bundle(*({"resource": PATIENT, "search": {"mode": each}} for each in ("match", "include", "outcome"))), BASE
    )
    assert (len(page.listed), page.unread) == (1, 0)
    assert listing_of({"resourceType": "Bundle"}, "_history").listed == ()


@pytest.mark.parametrize(
    ("url", "followed"),
    [
        ("https://fhir.example/r4/_history?ct=1", "_history?ct=1"),
        ("https://inside:8080/fhir/_history?ct=1", "_history?ct=1"),
        ("https://evil.example/r4?_getpages=1", "?_getpages=1"),
        ("//evil.example/_history?x=1", "_history?x=1"),
        ("_history?page=2", "_history?page=2"),
        (7, ""),
    ],
)
def test_the_next_page_is_below_our_own_base(url: Any, followed: str) -> None:
    """Of a link only the query counts, and whether it is of a history: a server behind a gateway calls itself otherwise."""
    assert listing_of(bundle(next_url=url), "_history").next == followed


def test_a_link_that_cannot_be_read_is_a_bad_answer() -> None:
    """What has no query would ask for the first page again, or for everything."""
    with pytest.raises(Transient):
        listing_of(bundle(next_url="https://fhir.example/r4/_history/2"), "_history")


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (httpx.Response(200, text="<html>"), Transient, "bad-answer"),
        (httpx.Response(200, json={"resourceType": "OperationOutcome"}), Transient, "bad-answer"),
        (httpx.Response(429, headers={"Retry-After": "7"}), Transient, "fhir-429"),
        (httpx.Response(410), Failed, "fhir-410"),
        (httpx.Response(302, headers={"Location": "https://evil.example"}), Failed, "fhir-302"),
    ],
)
async def test_an_answer_that_is_no_page(answer: httpx.Response, error: type[Exception], code: str) -> None:
    """A busy server is asked later, a refusal is told by its status, and no redirect is followed."""
    client = FhirClient(BASE, transport=httpx.MockTransport(lambda _: answer))
    with pytest.raises(error) as caught:
        await client.listing("_history")
    assert getattr(caught.value, "code", "") == code
    await client.aclose()

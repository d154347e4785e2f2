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
    assert listing_of(bundle(entry), BASE).listed == (listed,)


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
    page = listing_of(bundle(entry, {"resource": PATIENT}), BASE)
    assert (len(page.listed), page.unread) == (1, 1)


def test_what_stands_beside_the_matches_is_no_match() -> None:
    """Included resources and a search's OperationOutcome did not change because they are shown."""
    page = listing_of(
        bundle(*({"resource": PATIENT, "search": {"mode": each}} for each in ("match", "include", "outcome"))), BASE
    )
    assert (len(page.listed), page.unread) == (1, 0)
    assert listing_of({"resourceType": "Bundle"}, BASE).listed == ()


@pytest.mark.parametrize(
    ("url", "followed"),
    [
        ("https://fhir.example/r4?_getpages=1", "https://fhir.example/r4?_getpages=1"),
        ("https://FHIR.example:443/_history?ct=1", "https://FHIR.example:443/_history?ct=1"),
        ("_history?page=2", f"{BASE}_history?page=2"),
        (7, ""),
    ],
)
def test_the_next_page_is_at_the_servers_own_origin(url: Any, followed: str) -> None:
    """Any path of it; a relative link is read against the base."""
    assert listing_of(bundle(next_url=url), BASE).next == followed


@pytest.mark.parametrize(
    "url",
    [
        "http://fhir.example/r4",
        "https://fhir.example:8443/r4",
        "https://evil.example/r4",
        "//evil.example",
        "https://[x",
    ],
)
async def test_a_page_elsewhere_is_not_followed(url: str) -> None:
    """Neither a link that a page shows nor one that was kept leads to another origin."""
    with pytest.raises(Failed) as refused:
        listing_of(bundle(next_url=url), BASE)
    assert refused.value.code == "foreign-link"
    if "://" in url:
        with pytest.raises(Failed) as refused:
            await FhirClient(BASE).listing(url)
        assert refused.value.code == "foreign-link"


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

"""A page of a history or of a search, read for which versions it lists and where the next page is. Pure.

Facts of servers: a deletion is an entry without a resource, named by its request (HAPI: with the version behind it) or
its fullUrl; the next page's link is absolute (hl7.org/fhir/R4/http.html#paging), and names the server as it sees itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from relay.errors import Failed, Transient
from relay.fhir.answers import FHIR_ID, version_of

_NAMED = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry: a version of a resource, `updated` None where the server does not say when it was made."""

    type: str
    id: str
    version: str
    updated: datetime | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What a page lists, the URL of the next one (empty: there is none), and how many entries could not be read."""

    listed: tuple[Listed, ...]
    next: str = ""
    unread: int = 0


def listing_of(bundle: Any, base: str) -> Listing:
    """Read a page; `base` is the FHIR server's.

    Raises Transient `bad-answer` for what is no Bundle, Failed `foreign-link` when the next page is at another origin.
    """
    if not isinstance(bundle, Mapping) or bundle.get("resourceType") != "Bundle":
        raise Transient("the FHIR server answered no Bundle", code="bad-answer")
    entries = bundle.get("entry")
    found = [_listed(each) for each in entries if not _is_beside(each)] if isinstance(entries, list) else []
    listed = tuple(each for each in found if each is not None)
    return Listing(listed, _next(bundle, base), len(found) - len(listed))


def _is_beside(entry: Any) -> bool:
    """Tell whether an entry of a search is there beside the matches: included, or an OperationOutcome."""
    search = entry.get("search") if isinstance(entry, Mapping) else None
    return isinstance(search, Mapping) and search.get("mode", "match") != "match"


def _listed(entry: Any) -> Listed | None:
    if not isinstance(entry, Mapping):
        return None
    resource, request, response = (_object(entry.get(name)) for name in ("resource", "request", "response"))
    meta = _object(resource.get("meta"))
    if resource:
        kind, fhir_id = resource.get("resourceType"), resource.get("id")
        version = meta.get("versionId")
    else:
        named = next(_names(request.get("url"), entry.get("fullUrl")), None)
        kind, fhir_id, version = named or (None, None, None)
    if not isinstance(kind, str) or not isinstance(fhir_id, str):
        return None
    if not _TYPE.fullmatch(kind) or not FHIR_ID.fullmatch(fhir_id):
        return None
    etag = response.get("etag")
    version = version if isinstance(version, str) else version_of(etag) if isinstance(etag, str) else ""
    updated = _instant(meta.get("lastUpdated")) or _instant(response.get("lastModified"))
    return Listed(kind, fhir_id, version or "", updated, deleted=not resource)


def _names(*urls: object) -> Iterator[tuple[str, str, str | None]]:
    for url in urls:
        if isinstance(url, str) and (match := _NAMED.fullmatch(url)) is not None:
            yield match[1], match[2], match[3]


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _instant(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None


def _next(bundle: Mapping[str, Any], base: str) -> str:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("relation") == "next":
            url = link.get("url")
            if not isinstance(url, str):
                break
            url = _joined(base, url)
            if origin(url) != origin(base):
                raise Failed(
                    "the FHIR server's next page is at another origin than RELAY_FHIR_URL", code="foreign-link"
                )
            return url
    return ""


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return ""


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL; the port that goes with the scheme where it names none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None

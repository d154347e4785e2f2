"""A page of a history or of a search, read for which versions it lists and where the next page is. Pure.

Facts of servers: a deletion is an entry without a resource, named by its request (HAPI: with the version behind it) or
its fullUrl, and on HAPI has no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay.errors import Transient
from relay.fhir.answers import FHIR_ID, FHIR_TYPE, version_of
from relay.fhir.pages import instant, next_address

_NAMED = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?")


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
    """What a page lists, the address of the next one below our base (empty: there is none), how many entries could not be read, and when the server answered if it says so."""

    listed: tuple[Listed, ...]
    next: str = ""
    unread: int = 0
    at: datetime | None = None


def listing_of(bundle: Any, kind: str) -> Listing:
    """Read a page; `kind` is what was asked for, a type or `_history`.

    Raises Transient `bad-answer` for what is no Bundle, or has a link to the next page that cannot be read.
    """
    if not isinstance(bundle, Mapping) or bundle.get("resourceType") != "Bundle":
        raise Transient("the FHIR server answered no Bundle", code="bad-answer")
    entries = bundle.get("entry")
    found = [_listed(each) for each in entries if not _is_beside(each)] if isinstance(entries, list) else []
    listed = tuple(each for each in found if each is not None)
    return Listing(
        listed,
        next_address(bundle.get("link"), kind),
        len(found) - len(listed),
        instant(_object(bundle.get("meta")).get("lastUpdated")),
    )


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
    if not FHIR_TYPE.fullmatch(kind) or not FHIR_ID.fullmatch(fhir_id):
        return None
    etag = response.get("etag")
    version = version if isinstance(version, str) else version_of(etag) if isinstance(etag, str) else ""
    updated = instant(meta.get("lastUpdated")) or instant(response.get("lastModified"))
    return Listed(kind, fhir_id, version or "", updated, deleted=not resource)


def _names(*urls: object) -> Iterator[tuple[str, str, str | None]]:
    for url in urls:
        if isinstance(url, str) and (match := _NAMED.fullmatch(url)) is not None:
            yield match[1], match[2], match[3]


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

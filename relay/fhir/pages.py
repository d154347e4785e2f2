"""A page of a search for what changed: its resources to the letter, how new they are, and what asks for the next one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from relay.errors import Failed, Transient
from relay.fhir import json_text
from relay.fhir.answers import FHIR_ID
from relay.fhir.subset import is_subset

_QUERY = re.compile(r"[!-~]{1,4000}")  # what a URL may hold: no space, no line end


@dataclass(frozen=True, slots=True)
class Changed:
    """One resource that a search found; `text` is empty where the server sent a part of it only."""

    id: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `newest` is the newest meta.lastUpdated on it, `next` what to ask the same base for, empty at the end."""

    found: tuple[Changed, ...]
    newest: datetime | None
    next: str


def first_page(kind: str, since: datetime, count: int) -> str:
    """Return the address that asks for the resources of a type that were changed at or after a time."""
    return f"{kind}?_lastUpdated=ge{_in_url(since)}&_count={count}"


def first_of_history(since: datetime, count: int) -> str:
    """Return the address that asks for the history of the whole server since a time."""
    return f"_history?_since={_in_url(since)}&_count={count}"


def _in_url(at: datetime) -> str:
    return quote(at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), safe="")


def page_of(text: str, kind: str) -> Page:
    """Read a searchset; raises Transient `bad-answer` for what is none."""
    try:
        top = json_text.members(text, json_text.document(text).start)
        kinds = json_text.value_at(text, top["resourceType"]) if "resourceType" in top else None
        spans = json_text.elements(text, top["entry"].start) if "entry" in top else []
        entries = [json_text.members(text, span.start) for span in spans]
        links = json_text.value_at(text, top["link"]) if "link" in top else []
    except Failed as failure:
        raise Transient("the FHIR server's answer to a search cannot be read", code="bad-answer") from failure
    if kinds != "Bundle":
        raise Transient("the FHIR server answered a search with something else than a Bundle", code="bad-answer")
    found: list[Changed] = []
    times: list[datetime] = []
    for entry in entries:
        resource = json_text.value_at(text, entry["resource"]) if "resource" in entry else None
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            continue  # an OperationOutcome, or what was included
        fhir_id, meta = resource.get("id"), resource.get("meta")
        if not isinstance(fhir_id, str) or not FHIR_ID.fullmatch(fhir_id):
            raise Transient("the FHIR server answered a search with a resource that has no id", code="bad-answer")
        meta = meta if isinstance(meta, dict) else {}
        start, end = entry["resource"]
        version = meta.get("versionId")
        whole = "" if is_subset(resource) else text[start:end]
        found.append(Changed(fhir_id, version if isinstance(version, str) else "", whole))
        if (at := instant(meta.get("lastUpdated"))) is not None:
            times.append(at)
    return Page(tuple(found), max(times, default=None), next_address(links, kind))


def next_address(links: Any, kind: str) -> str:
    """Return the next page's address below our own base: of the link only the query counts, its host is never asked.

    `kind` is the type that was asked for, or `_history`: where the link's path ends in it, the address begins with it.
    Empty at the end; raises Transient `bad-answer` for a link that no URL can be made of.
    """
    for each in links if isinstance(links, list) else []:
        url = each.get("url") if isinstance(each, dict) and each.get("relation") == "next" else None
        if not isinstance(url, str):
            continue
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        if _QUERY.fullmatch(parts.query):
            last = parts.path.rstrip("/").rpartition("/")[2]
            return f"{kind if last == kind else ''}?{parts.query}"
        raise Transient("the FHIR server's link to the next page cannot be read", code="bad-answer")
    return ""


def instant(value: object) -> datetime | None:
    """Read an instant, in UTC; None for what has no time zone, is none, or lies outside of what UTC can say.

    .NET's `DateTime.MinValue`, a word for no time, is such a one east of Greenwich.
    """
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at.astimezone(UTC) if at is not None and at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None

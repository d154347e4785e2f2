"""Versions and replies as FHIR JSON: bundles of search, history and answers to a batch."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from devstack.fhir.interactions import Reply
from devstack.fhir.search import page_link
from devstack.fhir.store import Version, instant


def resource(reply: Reply, *, base: str, url: str) -> Any:
    """Return what a reply shows, for orjson: the resource as stored, a bundle, or None. `url` is the path asked for."""
    if reply.page is not None:
        return _page(reply, base=base, url=url)
    if reply.version is None or reply.version.body is None:
        return None
    return orjson.Fragment(reply.version.body)


def location(version: Version, base: str) -> str:
    """Return the URL of a version."""
    return f"{base}/{version.type}/{version.id}/_history/{version.number}"


def answer_entry(reply: Reply, *, base: str, url: str, with_resource: bool) -> dict[str, Any]:
    """Return the entry of a batch-response or transaction-response."""
    version = reply.version
    entry: dict[str, Any] = {}
    response: dict[str, Any] = {"status": status_line(reply.status)}
    if version is not None:
        entry["fullUrl"] = f"{base}/{version.type}/{version.id}"
        if version.body is not None:
            response["location"] = location(version, base)
        response |= {"etag": version.etag, "lastModified": instant(version.updated)}
    if with_resource and (shown := resource(reply, base=base, url=url)) is not None:
        entry["resource"] = shown
    entry["response"] = response
    return entry


def status_line(status: int) -> str:
    """Return the status as `response.status` has it, such as `412 Precondition Failed`."""
    return f"{status} {HTTPStatus(status).phrase}"


def _page(reply: Reply, *, base: str, url: str) -> dict[str, Any]:
    found, query = reply.page or [], reply.query
    end = len(found) if query.count is None else query.offset + query.count
    path, _, text = url.partition("?")
    links = [{"relation": "self", "url": f"{base}/{url}"}]
    if query.count and end < len(found):
        links.append({"relation": "next", "url": f"{base}/{path}?{page_link(text, end)}"})
    bundle = {"resourceType": "Bundle", "type": reply.kind, "total": len(found), "link": links}
    shown = found[query.offset : end]
    if shown:  # FHIR has no empty arrays
        bundle["entry"] = [_match(each, base) if reply.kind == "searchset" else _past(each, base) for each in shown]
    return bundle


def _match(version: Version, base: str) -> dict[str, Any]:
    return {
        "fullUrl": f"{base}/{version.type}/{version.id}",
        "resource": orjson.Fragment(version.body or b"null"),
        "search": {"mode": "match"},
    }


def _past(version: Version, base: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{base}/{version.type}/{version.id}"}
    if version.body is not None:
        entry["resource"] = orjson.Fragment(version.body)
    url = version.type if version.method == "POST" else f"{version.type}/{version.id}"
    status = {"POST": 201, "DELETE": 204}.get(version.method, 201 if version.number == 1 else 200)
    entry["request"] = {"method": version.method, "url": url}
    entry["response"] = {
        "status": status_line(status),
        "etag": version.etag,
        "lastModified": instant(version.updated),
    }
    return entry

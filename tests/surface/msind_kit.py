"""Calls of Microsoft's custom APIs as their callers make them, and shipped maps with a word changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from surface_kit import Surface, surface

from support.world import ROOT

HEADERS = {"Content-Type": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0"}
CONTEXT = "http://dataverse/api/data/v9.2/$metadata#Microsoft.Dynamics.CRM."
RESULT = [
    "msind_fhirresourceid",
    "msind_fhirresourcetype",
    "msind_resultingrecordid",
    "msind_resultingrecordtype",
    "msind_requestactionperformed",
    "msind_requeststatus",
    "msind_requeststatusdetail",
]
CREATED, UPDATED, EXPANDED = 935000000, 935000001, 935000002
SUCCESS, WARNING, ERROR = 935000000, 935000001, 935000002


def bundle(*resources: Mapping[str, Any], kind: str = "batch", method: str = "PUT") -> dict[str, Any]:
    """Return a bundle of resources as the training unit's samples have it."""
    if kind.endswith("-response"):
        entries: list[dict[str, Any]] = [
            {"resource": each, "response": {"status": "201 Created"}} for each in resources
        ]
    else:
        entries = [
            {
                "fullUrl": f"urn:uuid:00000000-0000-0000-0000-{number:012}",
                "resource": each,
                "request": {"method": method, "url": f"{each['resourceType']}/{each.get('id', '')}"},
            }
            for number, each in enumerate(resources)
        ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


async def call(it: Surface, name: str, body: Any, **headers: str) -> httpx.Response:
    """POST a custom API's parameters; bytes go as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await it.http.post(f"/api/{name}", content=content, headers=HEADERS | headers)


async def upsert(it: Surface, sent: Mapping[str, Any], tag: str | None = None) -> httpx.Response:
    """Call msind_UpsertBundle."""
    given = {"msind_JSON": json.dumps(sent)} | ({"msind_BundleTag": tag} if tag is not None else {})
    return await call(it, "msind_UpsertBundle", given)


async def results(it: Surface, *resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Upsert resources that are all to succeed, and return the results."""
    answer = await upsert(it, bundle(*resources))
    assert (answer.status_code, answer.json()["msind_Status"]) == (200, True), answer.text
    found: list[dict[str, Any]] = answer.json()["msind_Results"]
    return found


async def retrieve(it: Surface, query: str) -> dict[str, Any]:
    """Call msind_RetrieveBundle and return its answer, of the published shape."""
    answer = await call(it, "msind_RetrieveBundle", {"msind_FHIRQuery": query})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert list(body) == ["@odata.context", "msind_Status", "msind_StatusDetail", "msind_JSON"]
    assert body["@odata.context"] == f"{CONTEXT}msind_RetrieveBundleResponse"
    assert type(body["msind_Status"]) is bool
    assert body["msind_Status"] is (body["msind_JSON"] is not None)
    detail = json.loads(body["msind_StatusDetail"])
    assert list(detail) == ["Message", "Warning"]
    assert all(list(each) == ["Time Stamp", "Message"] for each in detail["Warning"])
    return body


async def retrieved(it: Surface, query: str) -> dict[str, Any]:
    """Return the resource of a query that is to succeed."""
    body = await retrieve(it, query)
    assert body["msind_Status"] is True, body["msind_StatusDetail"]
    resource: dict[str, Any] = json.loads(body["msind_JSON"])
    return resource


def maps_with(folder: Path, changes: Mapping[str, Mapping[str, str]]) -> str:
    """Copy the shipped maps; `changes` are texts to replace, by file: each must be there, "" stands for the end."""
    shutil.copytree(ROOT / "maps", folder)
    for name, texts in changes.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in texts.items():
            assert old in text, f"{name}: {old}"
            text = text.replace(old, new, 1) if old else text + new
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


@asynccontextmanager
async def on_maps(folder: Path, changes: Mapping[str, Mapping[str, str]], **options: Any) -> AsyncIterator[Surface]:
    """Serve the app on maps that are changed so."""
    maps = maps_with(folder / "maps", changes)
    async with surface(folder, webhook=False, maps=maps, **options) as it:
        yield it

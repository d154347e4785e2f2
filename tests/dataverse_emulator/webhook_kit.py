"""Registering a webhook the way the Web API wants it, and reading what it is sent."""

from __future__ import annotations

from typing import Any

import httpx

ROOT = "http://org/api/data/v9.2/"
ID = "11111111-2222-3333-4444-555555555555"
ENDPOINT = {
    "name": "relay",
    "url": "http://functions.example/api/dataverse/event",
    "contract": 8,
    "authtype": 4,
    "authvalue": "s3cret/key==",
}


async def register(
    api: httpx.AsyncClient, table: str = "contact", message: str = "Create", **more: Any
) -> tuple[str, str]:
    """Register a webhook the way the Web API wants it; returns the URLs of endpoint and step."""
    endpoint = (await api.post("serviceendpoints", json=ENDPOINT)).headers["OData-EntityId"]
    found = (await api.get(f"sdkmessages?$filter=name eq '{message}'&$select=sdkmessageid")).json()["value"]
    message_id = found[0]["sdkmessageid"]
    text = f"primaryobjecttypecode eq '{table}' and _sdkmessageid_value eq {message_id}"
    found = (await api.get(f"sdkmessagefilters?$filter={text}&$select=sdkmessagefilterid")).json()["value"]
    answer = await api.post("sdkmessageprocessingsteps", json=step(endpoint, message_id, found[0]) | more)
    assert answer.status_code == 204, answer.text
    return endpoint, answer.headers["OData-EntityId"]


def step(endpoint: str, message: str, narrowed: dict[str, str]) -> dict[str, Any]:
    return {
        "name": "relay: Create of contact",
        "stage": 40,
        "mode": 1,
        "rank": 1,
        "supporteddeployment": 0,
        "asyncautodelete": True,
        "eventhandler_serviceendpoint@odata.bind": endpoint.removeprefix(ROOT),
        "sdkmessageid@odata.bind": f"/sdkmessages({message})",
        "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({narrowed['sdkmessagefilterid']})",
    }


def attributes(context: dict[str, Any]) -> dict[str, Any]:
    target = pairs(context["InputParameters"])["Target"]
    return pairs(target["Attributes"])


def pairs(members: list[dict[str, Any]]) -> dict[str, Any]:
    return {member["key"]: member["value"] for member in members}

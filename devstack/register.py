"""Registers the webhook the way an integrator would: through the Web API's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from relay.dataverse.batch import MAX_OPERATIONS, ChangeSet, Request, decode, encode

API = "/api/data/v9.2/"


async def register_webhook(
    org: str,
    endpoint: str,
    tables: Mapping[str, Iterable[str]],
    *,
    key: str = "local",
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:
    """Make Dataverse at `org` post these messages (Create, Update) of these tables to `endpoint`, with `?code=<key>`.

    Raises httpx.HTTPStatusError or DataverseError when the org refuses a row.
    """
    root = org.rstrip("/") + API
    async with httpx.AsyncClient(base_url=root, transport=transport) as http:

        async def rows(entity_set: str, columns: str, condition: str) -> list[Any]:
            answer = await http.get(entity_set, params={"$select": columns, "$filter": condition})
            answer.raise_for_status()
            return list(answer.json()["value"])

        point = {"name": "relay", "url": endpoint, "contract": 8, "authtype": 4, "authvalue": key, "messageformat": 2}
        answer = await http.post("serviceendpoints", json=point)
        answer.raise_for_status()
        service = answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")
        steps: list[Request] = []
        for name in sorted({name for each in tables.values() for name in each}):
            (known,) = await rows("sdkmessages", "sdkmessageid", f"name eq '{name}'")
            message = known["sdkmessageid"]
            columns = "sdkmessagefilterid,primaryobjecttypecode"
            found = await rows("sdkmessagefilters", columns, f"_sdkmessageid_value eq {message}")
            filters = {each["primaryobjecttypecode"]: each["sdkmessagefilterid"] for each in found}
            for table in (table for table, names in tables.items() if name in names):
                step = {
                    "name": f"relay: {name} of {table}",
                    "stage": 40,
                    "mode": 1,
                    "rank": 1,
                    "supporteddeployment": 0,
                    "asyncautodelete": True,
                    "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({service})",
                    "sdkmessageid@odata.bind": f"/sdkmessages({message})",
                    "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({filters[table]})",
                }
                steps.append(Request("POST", "sdkmessageprocessingsteps", step))
        for start in range(0, len(steps), MAX_OPERATIONS):
            part = [ChangeSet(tuple(steps[start : start + MAX_OPERATIONS]))]
            kind, body = encode(part, root)
            answer = await http.post("$batch", content=body, headers={"Content-Type": kind})
            answer.raise_for_status()
            for refused, *_ in decode(answer.headers["Content-Type"], answer.content, part):
                if refused.error is not None:
                    raise refused.error

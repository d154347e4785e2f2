"""Registers the webhook the way an integrator would: through the Web API's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import httpx

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

    Raises httpx.HTTPStatusError when the org refuses a row.
    """
    async with httpx.AsyncClient(base_url=org.rstrip("/") + API, transport=transport) as http:

        async def create(entity_set: str, row: dict[str, object]) -> str:
            answer = await http.post(entity_set, json=row)
            answer.raise_for_status()
            return answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")

        async def find(entity_set: str, column: str, condition: str) -> str:
            answer = await http.get(entity_set, params={"$select": column, "$filter": condition})
            answer.raise_for_status()
            return str(answer.json()["value"][0][column])

        point = {"name": "relay", "url": endpoint, "contract": 8, "authtype": 4, "authvalue": key, "messageformat": 2}
        service = await create("serviceendpoints", point)
        messages = {
            name: await find("sdkmessages", "sdkmessageid", f"name eq '{name}'")
            for name in sorted({name for each in tables.values() for name in each})
        }
        for table, name in ((table, name) for table, names in tables.items() for name in sorted(names)):
            message = messages[name]
            condition = f"primaryobjecttypecode eq '{table}' and _sdkmessageid_value eq {message}"
            message_filter = await find("sdkmessagefilters", "sdkmessagefilterid", condition)
            step = {
                "name": f"relay: {name} of {table}",
                "stage": 40,
                "mode": 1,
                "rank": 1,
                "supporteddeployment": 0,
                "asyncautodelete": True,
                "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({service})",
                "sdkmessageid@odata.bind": f"/sdkmessages({message})",
                "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({message_filter})",
            }
            await create("sdkmessageprocessingsteps", step)

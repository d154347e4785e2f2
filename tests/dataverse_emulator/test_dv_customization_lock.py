"""Customizations go one at a time: one that begins while another runs is refused with 429 and 0x80071151 (support: concurrent solution operations; the status 429 is what public scripts meet)."""

from __future__ import annotations

import asyncio

import httpx
from definition_kit import Clock, column, made, refusal, table

from devstack.dataverse import create_app

BOOK = "EntityDefinitions(LogicalName='new_book')"
TEXT = (
    "Cannot start the requested operation [Publish] because there is another [EntityCustomization] running at this "
    "moment. Use Solution History for more details."
)


def client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://org/api/data/v9.2/")


async def test_a_second_customization_is_refused() -> None:
    """While a table is being made nothing else is customized; reading and writing rows goes on."""
    clock = Clock()
    async with create_app(clock=clock, customization_ms=20) as app, client(app) as api:
        first = asyncio.create_task(api.post("EntityDefinitions", json=table("new_Book")))
        while not app.calls:  # noqa: ASYNC110 - until the first call has begun, which takes a turn of the loop
            await asyncio.sleep(0)
        refused = await api.post("PublishXml", json={"ParameterXml": "<importexportxml/>"})
        assert (*refusal(refused), refused.json()["error"]["message"]) == (429, "0x80071151", TEXT)
        assert (await api.post("contacts", json={"lastname": "x"})).status_code == 204
        assert (await api.get("EntityDefinitions(LogicalName='contact')")).status_code == 200
        assert (await first).status_code == 204
        assert refusal(await api.post(f"{BOOK}/Attributes", json=column("String", "new_A"))) == (429, "0x80071151")
        clock.now += 0.02
        await made(api, f"{BOOK}/Attributes", column("String", "new_A"))


async def test_customizations_of_one_request_follow_each_other() -> None:
    """A batch, and CreateEntities with several tables, do not lock themselves out."""
    async with create_app(customization_ms=1) as app, client(app) as api:
        entities = [
            table(name) | {"@odata.type": "Microsoft.Dynamics.CRM.ComplexEntityMetadata"} for name in ("new_A", "new_B")
        ]
        answer = await api.post("CreateEntities", json={"Entities": entities})
        assert answer.status_code == 204, answer.text
        assert (await api.get("new_bs")).status_code == 200


async def test_without_a_duration_nothing_is_locked() -> None:
    """By default customizations take no time, so that none meets another."""
    async with create_app(clock=Clock()) as app, client(app) as api:
        await made(api, "EntityDefinitions", table("new_Book"))
        await made(api, f"{BOOK}/Attributes", column("String", "new_A"))

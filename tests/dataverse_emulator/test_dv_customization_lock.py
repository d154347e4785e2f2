"""Customizations go one at a time: one that begins while another runs is refused with 429 and 0x80071151 (support: concurrent solution operations; the status 429 is what public scripts meet)."""

from __future__ import annotations

import asyncio
import json

import httpx
from definition_kit import Clock, column, made, refusal, table
from webhook_kit import register

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


async def test_what_waits_for_a_synchronous_step_is_in_the_way() -> None:
    """While a transaction waits for a webhook nothing is customized, and a key's index waits too."""
    clock, arrived, go = Clock(), asyncio.Event(), asyncio.Event()

    async def receive(_: httpx.Request) -> httpx.Response:
        arrived.set()
        await go.wait()
        return httpx.Response(200)

    async with create_app(webhook_transport=httpx.MockTransport(receive), wall_clock=clock) as app, client(app) as api:
        await register(api, mode=0)
        await made(api, "EntityDefinitions", table("new_Book", column("Integer", "new_No")))
        await made(api, f"{BOOK}/Keys", {"SchemaName": "new_Key", "KeyAttributes": ["new_no"]})
        writing = asyncio.create_task(api.post("contacts", json={"lastname": "x"}))
        await asyncio.wait_for(arrived.wait(), 5)
        clock.now += 1
        assert refusal(await api.delete(BOOK)) == (429, "0x80071151")
        assert (await api.patch("new_books(new_no=1)", json={})).status_code == 400
        go.set()
        assert (await writing).status_code == 204
        assert (await api.patch("new_books(new_no=1)", json={})).status_code == 204
        assert (await api.delete(BOOK)).status_code == 204


async def test_definitions_and_synchronous_steps_are_not_for_one_transaction() -> None:
    """A change set that makes a table, and then a row with a synchronous step, is refused and leaves neither."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with create_app(webhook_transport=transport) as app, client(app) as api:
        await register(api, mode=0)
        parts = [("EntityDefinitions", table("new_Book")), ("contacts", {"lastname": "x"})]
        head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: "
        lines = [
            f"--c\r\n{head}{number}\r\n\r\nPOST {path} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}"
            for number, (path, body) in enumerate(parts)
        ]
        inner = "\r\n".join([*lines, "--c--"])
        text = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}\r\n--b--\r\n"
        answer = await api.post("$batch", content=text, headers={"Content-Type": "multipart/mixed; boundary=b"})
        assert (answer.status_code, "synchronous step" in answer.text) == (501, True)
        assert (await api.get("new_books")).status_code == 404
        assert (await api.get("contacts/$count")).text == "0"


async def test_a_key_may_become_active_with_a_synchronous_step() -> None:
    """The call that finds a key's index made may have a synchronous step of its own."""
    clock = Clock()
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with create_app(webhook_transport=transport, wall_clock=clock) as app, client(app) as api:
        await register(api, mode=0)
        await made(api, "EntityDefinitions", table("new_Book", column("Integer", "new_No")))
        await made(api, f"{BOOK}/Keys", {"SchemaName": "new_Key", "KeyAttributes": ["new_no"]})
        clock.now += 1
        assert (await api.post("contacts", json={"lastname": "x"})).status_code == 204
        assert (await api.patch("new_books(new_no=1)", json={})).status_code == 204

"""What others see of a row whose transaction waits for a synchronous webhook (inferred: no page says so)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from webhook_kit import ROOT, register

from devstack.dataverse import create_app
from devstack.dataverse.pipeline import OpenRow

ID = "11111111-2222-3333-4444-555555555555"
OTHER = "22222222-2222-3333-4444-555555555555"

Callback = Callable[[httpx.AsyncClient], Awaitable[Any]]


class Plugin:
    """Stands for a webhook that calls back: does `then` once while the caller waits, and keeps what that gave."""

    def __init__(self) -> None:
        self.api: httpx.AsyncClient | None = None
        self.then: Callback | None = None
        self.got: Any = None

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        then, self.then = self.then, None
        if then is not None and self.api is not None:
            self.got = await then(self.api)
        return httpx.Response(200)


@asynccontextmanager
async def org(
    plugin: Plugin, *, open_row: OpenRow = "not-found", patience: float = 0.01
) -> AsyncIterator[httpx.AsyncClient]:
    """Run an organization with a synchronous step on Create of contacts."""
    app = create_app(webhook_transport=httpx.MockTransport(plugin), open_row=open_row, sql_timeout=patience)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        await register(api, message="Update", mode=0)
        plugin.api = api
        yield api


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"] if answer.content else ""


async def test_a_call_back_does_not_see_the_row() -> None:
    """The webhook's own read of the new row is 404, and the set has no such row, until the transaction is over."""
    plugin = Plugin()
    async with org(plugin) as api:

        async def look(api: httpx.AsyncClient) -> tuple[httpx.Response, str]:
            return await api.get(f"contacts({ID})"), (await api.get("contacts/$count")).text

        plugin.then = look
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204
        read, number = plugin.got
        assert (code(read), number) == ((404, "0x80040217"), "0")
        assert (await api.get(f"contacts({ID})")).status_code == 200


async def test_a_read_may_be_made_to_wait() -> None:
    """With `open_row` `time-out` the read waits for the transaction and ends in the SQL time-out."""
    plugin = Plugin()
    async with org(plugin, open_row="time-out") as api:
        plugin.then = lambda api: api.get(f"contacts({ID})")
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204
        assert code(plugin.got) == (500, "0x80044151")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", f"contacts({ID})", {"lastname": "x"}),
        ("DELETE", f"contacts({ID})", None),
        ("POST", "contacts", {"parentcustomerid_contact@odata.bind": f"/contacts({ID})"}),
    ],
)
async def test_writes_that_need_the_row_wait(method: str, path: str, body: object) -> None:
    """A call back that changes, deletes or binds the row waits, ends in the time-out, and the first write stands."""
    plugin = Plugin()
    async with org(plugin) as api:
        plugin.then = lambda api: api.request(method, path, json=body)
        assert (await api.post("contacts", json={"contactid": ID, "lastname": "mine"})).status_code == 204
        assert code(plugin.got) == (500, "0x80044151")
        assert (await api.get(f"contacts({ID})")).json()["lastname"] == "mine"


async def test_writers_go_on_when_the_transaction_is_over() -> None:
    """A user's write of a held row waits for its end and is then carried out on what was committed; reads see the old."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()

    async def hold(_: httpx.AsyncClient) -> None:
        entered.set()
        await go.wait()

    async with org(plugin, patience=30) as api:
        await api.post("contacts", json={"contactid": ID, "lastname": "old"})
        plugin.then = hold
        first = asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "new", "firstname": "a"}))
        await entered.wait()
        second = asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "newer"}))
        assert (await api.get(f"contacts({ID})")).json()["lastname"] == "old"
        go.set()
        assert [(await each).status_code for each in (first, second)] == [204, 204]
        row = (await api.get(f"contacts({ID})")).json()
        assert (row["lastname"], row["firstname"]) == ("newer", "a")


async def test_other_rows_are_nobodys_concern() -> None:
    """A call back may write rows that the transaction did not touch; both writes stand."""
    plugin = Plugin()
    async with org(plugin) as api:
        plugin.then = lambda api: api.post("contacts", json={"contactid": OTHER})
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204
        assert plugin.got.status_code == 204
        assert (await api.get("contacts/$count")).text == "2"


async def test_a_key_that_is_taken_meanwhile() -> None:
    """Who waited finds its primary key taken when it writes again: that is the duplicate it always was."""
    plugin = Plugin()
    async with org(plugin) as api:
        plugin.then = lambda api: api.post("contacts", json={"contactid": ID})
        answer = await api.post("contacts", json={"contactid": ID})
        assert sorted([code(answer)[1], code(plugin.got)[1]]) == ["", "0x80044151"]
        assert (await api.get("contacts/$count")).text == "1"


async def test_a_reset_ends_what_waits() -> None:
    """A reset while a webhook is awaited leaves nothing behind: the write fails and its rows are never there."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()

    async def hold(_: httpx.AsyncClient) -> None:
        entered.set()
        await go.wait()

    async with org(plugin) as api:
        plugin.then = hold
        first = asyncio.create_task(api.post("contacts", json={"contactid": ID}))
        await entered.wait()
        await api.post("http://org/_emulator/reset")
        go.set()
        assert code(await first) == (400, "0x80040265")
        assert (await api.get("contacts/$count")).text == "0"
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204

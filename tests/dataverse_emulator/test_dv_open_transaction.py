"""What others see of a row whose transaction waits for a synchronous webhook (inferred: no page says so)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webhook_kit import ROOT, register

from conftest import Receiver
from devstack.dataverse import Emulator, create_app
from devstack.dataverse.pipeline import OpenRow
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient

ID = "11111111-2222-3333-4444-555555555555"
OTHER = "22222222-2222-3333-4444-555555555555"

PATIENCE = 33.0
WHOLE = {"Prefer": "return=representation"}
Callback = Callable[[httpx.AsyncClient], Awaitable[Any]]


class Plugin:
    """Stands for a webhook that calls back: does `then` once while the caller waits, and keeps what that gave."""

    def __init__(self) -> None:
        self.api: httpx.AsyncClient | None = None
        self.app: Emulator | None = None
        self.then: Callback | None = None
        self.got: Any = None
        self.calls = 0

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.calls += 1
        then, self.then = self.then, None
        if then is not None and self.api is not None:
            self.got = await then(self.api)
        return httpx.Response(200)


def at_once(seconds: float) -> asyncio.Timeout:
    """Make a time-out that does not wait for its time: of the SQL time-out's seconds none pass, others never end."""
    return asyncio.timeout(0 if seconds == PATIENCE else None)


@asynccontextmanager
async def org(
    plugin: Plugin, *, open_row: OpenRow = "not-found", patient: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Run an organization with synchronous steps on Create and Update of contacts, where waits end at once or never."""
    app = create_app(
        webhook_transport=httpx.MockTransport(plugin),
        open_row=open_row,
        sql_timeout=PATIENCE,
        timeout=(lambda _: asyncio.timeout(None)) if patient else at_once,
    )
    plugin.app = app
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        app.declare_key("contact", "msemr_azurefhirid", name="fhirid")
        await register(api, mode=0)
        await register(api, message="Update", mode=0)
        await register(api, message="Delete", mode=0)
        plugin.api = api
        yield api


def holding(entered: asyncio.Event, go: asyncio.Event) -> Callback:
    """Make what says that it was called, and waits."""

    async def hold(_: httpx.AsyncClient) -> None:
        entered.set()
        await go.wait()

    return hold


async def turns(number: int = 50) -> None:
    """Let everything go on that can."""
    for _ in range(number):
        await asyncio.sleep(0)


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


@pytest.mark.parametrize("path", [f"contacts({ID})", "contacts", "contacts/$count", "contacts(msemr_azurefhirid='x')"])
async def test_a_read_may_be_made_to_wait(path: str) -> None:
    """With `open_row` `time-out` a read of the row or of its set waits for the transaction and ends in the SQL time-out."""
    plugin = Plugin()
    async with org(plugin, open_row="time-out") as api:
        plugin.then = lambda api: api.get(path)
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
    async with org(plugin, patient=True) as api:
        await api.post("contacts", json={"contactid": ID, "lastname": "old"})
        plugin.then = holding(entered, go)
        first = asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "new", "firstname": "a"}))
        await entered.wait()
        second = asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "newer"}))
        assert (await api.get(f"contacts({ID})")).json()["lastname"] == "old"
        go.set()
        assert [(await each).status_code for each in (first, second)] == [204, 204]
        row = (await api.get(f"contacts({ID})")).json()
        assert (row["lastname"], row["firstname"]) == ("newer", "a")


async def test_a_read_elsewhere_never_waits() -> None:
    """With `open_row` `time-out` reads of other rows and of other tables are answered."""
    plugin = Plugin()
    async with org(plugin, open_row="time-out") as api:
        await api.post("accounts", json={"accountid": OTHER})

        async def look(api: httpx.AsyncClient) -> list[int]:
            paths = (f"contacts({OTHER})", f"accounts({OTHER})", "accounts", "WhoAmI", "")
            return [(await api.get(path)).status_code for path in paths]

        plugin.then = look
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204
        assert plugin.got == [404, 200, 200, 200, 200]


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


async def test_what_is_nowhere_is_not_waited_for() -> None:
    """A write that binds to a row that neither the database nor an open transaction has is told so at once."""
    plugin = Plugin()
    async with org(plugin) as api:
        bind = {"parentcustomerid_contact@odata.bind": f"/contacts({OTHER})"}
        plugin.then = lambda api: api.post("contacts", json=bind)
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204
        assert code(plugin.got) == (404, "0x80040217")


async def test_an_alternate_key_is_taken_from_the_start() -> None:
    """A value of an alternate key that the transaction wrote is waited for, whatever its case; another is free."""
    plugin = Plugin()
    async with org(plugin) as api:

        async def rival(api: httpx.AsyncClient) -> list[tuple[int, str]]:
            keys = ("ABC ", "abd")
            return [code(await api.post("contacts", json={"msemr_azurefhirid": each})) for each in keys]

        plugin.then = rival
        assert (await api.post("contacts", json={"msemr_azurefhirid": "abc"})).status_code == 204
        assert plugin.got == [(500, "0x80044151"), (204, "")]


async def test_an_upsert_by_key_waits_and_updates() -> None:
    """An upsert by the key that the transaction takes waits for it, and is then an update: one row, no duplicate."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()
    async with org(plugin, patient=True) as api:
        plugin.then = holding(entered, go)
        url = "contacts(msemr_azurefhirid='abc')"
        first = asyncio.create_task(api.patch(url, json={"lastname": "mine"}))
        await entered.wait()
        second = asyncio.create_task(api.patch(url, json={"firstname": "yours"}))
        await turns()
        assert not second.done()
        go.set()
        assert [(await each).status_code for each in (first, second)] == [204, 204]
        (row,) = (await api.get("contacts")).json()["value"]
        assert (row["lastname"], row["firstname"]) == ("mine", "yours")


async def test_nothing_is_left_looking_up_what_is_gone() -> None:
    """A row that the transaction looks up cannot be deleted meanwhile; it may be changed."""
    plugin = Plugin()
    async with org(plugin) as api:
        await api.post("accounts", json={"accountid": OTHER})

        async def rival(api: httpx.AsyncClient) -> list[tuple[int, str]]:
            url = f"accounts({OTHER})"
            return [code(await api.delete(url)), code(await api.patch(url, json={"name": "x"}))]

        plugin.then = rival
        bind = {"parentcustomerid_account@odata.bind": f"/accounts({OTHER})"}
        assert (await api.post("contacts", json=bind)).status_code == 204
        assert plugin.got == [(500, "0x80044151"), (204, "")]


@pytest.mark.parametrize("undone", [False, True])
async def test_who_binds_to_a_row_waits_to_hear_whether_it_goes(*, undone: bool) -> None:
    """A row that a transaction deletes can be bound to by nobody until its end: then it is there, or it is not."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()
    async with org(plugin, patient=True) as api:
        await api.post("contacts", json={"contactid": ID})
        plugin.then = holding(entered, go)
        first = asyncio.create_task(api.delete(f"contacts({ID})"))
        await entered.wait()
        bind = {"parentcustomerid_contact@odata.bind": f"/contacts({ID})"}
        second = asyncio.create_task(api.post("contacts", json=bind))
        await turns()
        assert not second.done()
        if undone:
            first.cancel()
        go.set()
        await asyncio.wait((first,))
        assert code(await second) == ((204, "") if undone else (404, "0x80040217"))


async def test_a_change_set_that_waits_calls_nobody_twice() -> None:
    """A change set whose second request has to wait goes on from there: the first one's webhook was called once."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()
    async with org(plugin, patient=True) as api:
        await api.post("contacts", json={"contactid": ID})
        plugin.calls = 0
        plugin.then = holding(entered, go)
        first = asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "a"}))
        await entered.wait()
        both = ChangeSet(
            (Request("POST", "contacts", {"contactid": OTHER}), Request("PATCH", f"contacts({ID})", {"firstname": "b"}))
        )
        async with DataverseClient("http://org", transport=api._transport) as client:
            second = asyncio.create_task(client.batch([both]))
            await turns()
            assert (plugin.calls, second.done()) == (2, False)
            go.set()
            assert [each.status for each in (await second)[0]] == [204, 204]
        assert (await first).status_code == 204
        assert plugin.calls == 3
        row = (await api.get(f"contacts({ID})")).json()
        assert (row["lastname"], row["firstname"]) == ("a", "b")


async def test_two_that_wait_for_each_other() -> None:
    """Two change sets that each need what the other has written: one is told of the deadlock, the other one goes through."""
    plugin = Plugin()
    async with org(plugin, patient=True) as api:
        for each in (ID, OTHER):
            await api.post("contacts", json={"contactid": each})

        def crossing(*ids: str) -> ChangeSet:
            return ChangeSet(tuple(Request("PATCH", f"contacts({each})", {"lastname": ids[0]}) for each in ids))

        async with DataverseClient("http://org", transport=api._transport) as client:
            sets = (crossing(ID, OTHER), crossing(OTHER, ID))
            answers = [each[0] for each in await asyncio.gather(*(client.batch([one]) for one in sets))]
        codes = sorted([[each.error.code if each.error else "" for each in answer] for answer in answers])
        assert codes == [["", ""], ["0x80044150"]]
        names = {(await api.get(f"contacts({each})")).json()["lastname"] for each in (ID, OTHER)}
        assert len(names) == 1


async def test_the_journal_is_written_again_exactly() -> None:
    """What a transaction wrote before it waited is afterwards what it was: versions, times, ids, deletions."""
    plugin = Plugin()
    async with org(plugin) as api:
        await api.post("contacts", json={"contactid": ID})
        seen: list[dict[str, Any]] = []

        async def rival(api: httpx.AsyncClient) -> None:
            seen.append((await api.post("accounts", json={"name": "x"}, headers=WHOLE)).json())

        plugin.then = rival
        answer = await api.post("contacts", json={"contactid": OTHER, "lastname": "Doe"}, headers=WHOLE)
        row = (await api.get(f"contacts({OTHER})")).json()
        assert {name: value for name, value in answer.json().items() if name != "@odata.context"} == {
            name: value for name, value in row.items() if name != "@odata.context"
        }
        version = [int(each["@odata.etag"][3:-1]) for each in (row, seen[0])]
        assert version[0] < version[1]


@pytest.mark.parametrize("status", [200, 500])
async def test_a_step_of_an_undone_registration_is_not_called(
    api: httpx.AsyncClient, receiver: Receiver, status: int
) -> None:
    """A step that a failing change set registered and used is forgotten with it, whether it failed itself or not."""
    receiver.statuses = [status]
    endpoint, kept = await register(api, mode=0)
    row = (await api.get(kept)).json()
    await api.delete(kept)
    again = {name: row[name] for name in ("name", "stage", "mode", "rank", "supporteddeployment")} | {
        "eventhandler_serviceendpoint@odata.bind": endpoint,
        "sdkmessageid@odata.bind": f"/sdkmessages({row['_sdkmessageid_value']})",
        "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({row['_sdkmessagefilterid_value']})",
    }
    requests = [("sdkmessageprocessingsteps", again), ("contacts", {}), ("contacts", {"nosuch": 1})]
    async with DataverseClient("http://org", transport=api._transport) as client:
        await client.batch([ChangeSet(tuple(Request("POST", *each) for each in requests))])
    assert len(receiver.requests) == 1
    assert (await api.post("contacts", json={})).status_code == 204
    assert len(receiver.requests) == 1


async def waiting(plugin: Plugin, api: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
    """Start a write that waits for its webhook, for ever, and one that waits for the first."""
    entered = asyncio.Event()
    plugin.then = holding(entered, asyncio.Event())
    tasks = [asyncio.create_task(api.post("contacts", json={"contactid": ID}))]
    await entered.wait()
    tasks.append(asyncio.create_task(api.patch(f"contacts({ID})", json={"lastname": "x"})))
    await turns()
    return tasks


@pytest.mark.parametrize("restored", [False, True])
async def test_a_reset_ends_what_waits(*, restored: bool) -> None:
    """A reset or a restored snapshot ends the writes that wait, and the call to the webhook with them; nothing is left behind."""
    plugin = Plugin()
    async with org(plugin, patient=True) as api:
        snapshot = (await api.get("http://org/_emulator/snapshot")).json()
        tasks = await waiting(plugin, api)
        if restored:
            await api.put("http://org/_emulator/snapshot", json=snapshot)
        else:
            await api.post("http://org/_emulator/reset")
        assert [code(await each) for each in tasks] == [(400, "0x80040265")] * 2
        assert plugin.app is not None
        assert (plugin.app.webhooks.inflight, plugin.app.store.held) == (0, False)
        assert (await api.get("contacts/$count")).text == "0"
        assert (await api.post("contacts", json={"contactid": ID})).status_code == 204


async def test_a_caller_that_goes_away_leaves_nothing() -> None:
    """A caller that is gone before its webhook has answered has written nothing; who waits for it goes on."""
    plugin = Plugin()
    async with org(plugin, patient=True) as api:
        first, second = await waiting(plugin, api)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).status_code == 204
        assert (await api.get("contacts/$count")).text == "1"
        assert plugin.app is not None
        await plugin.app.webhooks.idle()


async def test_closing_ends_what_waits() -> None:
    """Closing the emulator ends the writes that wait, and then the database is closed."""
    plugin = Plugin()
    async with org(plugin, patient=True) as api:
        assert plugin.app is not None
        tasks = await waiting(plugin, api)
        await plugin.app.aclose()
        assert [code(await each) for each in tasks] == [(400, "0x80040265")] * 2
        assert plugin.app.store.closed
        await plugin.app.aclose()


async def test_all_is_quiet_only_after_the_webhook() -> None:
    """`idle` waits for the calls of synchronous steps too, and ends."""
    plugin, entered, go = Plugin(), asyncio.Event(), asyncio.Event()
    async with org(plugin, patient=True) as api:
        assert plugin.app is not None
        plugin.then = holding(entered, go)
        first = asyncio.create_task(api.post("contacts", json={}))
        await entered.wait()
        quiet = asyncio.create_task(plugin.app.webhooks.idle())
        await turns()
        assert (quiet.done(), plugin.app.webhooks.inflight) == (False, 1)
        go.set()
        await quiet
        assert (await first).status_code == 204


async def test_definitions_wait_for_no_step() -> None:
    """A key whose index is made meanwhile is no part of the transaction that finds it made."""
    plugin = Plugin()
    moments = iter([0.0, *[1e9] * 99])
    app = create_app(webhook_transport=httpx.MockTransport(plugin), wall_clock=lambda: next(moments))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        body = {
            "@odata.type": "Microsoft.Dynamics.CRM.EntityKeyMetadata",
            "SchemaName": "new_NickKey",
            "DisplayName": {"LocalizedLabels": [{"Label": "Nick", "LanguageCode": 1033}]},
            "KeyAttributes": ["nickname"],
        }
        answer = await api.post("EntityDefinitions(LogicalName='contact')/Keys", json=body)
        assert answer.status_code == 204, answer.text
        assert (await api.post("contacts", json={"nickname": "x"})).status_code == 204
        assert (await api.get("contacts(nickname='x')")).status_code == 200


async def test_definitions_cannot_be_kept_waiting() -> None:
    """A change set that makes a column and then has to wait for a webhook is 501, and makes neither column nor row."""
    plugin = Plugin()
    column = {
        "@odata.type": "Microsoft.Dynamics.CRM.IntegerAttributeMetadata",
        "SchemaName": "new_Number",
        "DisplayName": {"LocalizedLabels": [{"Label": "Number", "LanguageCode": 1033}]},
    }
    attributes = "EntityDefinitions(LogicalName='contact')/Attributes"
    both = ChangeSet((Request("POST", attributes, column), Request("POST", "contacts", {})))
    async with org(plugin) as api, DataverseClient("http://org", transport=api._transport) as client:
        ((refused,),) = await client.batch([both])
        assert (refused.status, plugin.calls) == (501, 0)
        assert (await api.get(f"{attributes}(LogicalName='new_number')")).status_code == 404
        assert (await api.get("contacts/$count")).text == "0"


PEOPLE = [f"{number}1111111-2222-3333-4444-555555555555" for number in range(3)]
WRITES = st.one_of(
    st.builds(
        lambda row, body: ("PATCH", f"contacts({row})", body),
        st.sampled_from(PEOPLE),
        st.fixed_dictionaries(
            {},
            optional={
                "lastname": st.sampled_from("ab"),
                "msemr_azurefhirid": st.sampled_from("xy"),
                "parentcustomerid_contact@odata.bind": st.sampled_from([f"/contacts({each})" for each in PEOPLE]),
            },
        ),
    ),
    st.builds(lambda row: ("DELETE", f"contacts({row})", None), st.sampled_from(PEOPLE)),
)


@settings(max_examples=25, deadline=None)
@given(sets=st.lists(st.lists(WRITES, min_size=1, max_size=4), min_size=1, max_size=3), beside=st.booleans())
def test_waiting_changes_nothing(sets: list[list[tuple[str, str, Any]]], *, beside: bool) -> None:
    """Change sets end alike, and leave alike rows, whether their transactions wait for webhooks or not.

    Beside each other they may wait for one another, which may cost one of them its work but no row its integrity.
    """
    waited, plain = (asyncio.run(carried_out(sets, steps=steps, beside=beside and steps)) for steps in (True, False))
    if not beside:
        assert waited == plain
    rows = {each[0]: each for each in waited[1]}
    assert all(parent is None or parent in rows for *_, parent in rows.values())
    keys = [key for _, _, key, _ in rows.values() if key is not None]
    assert len(keys) == len(set(keys))


async def carried_out(
    sets: list[list[tuple[str, str, Any]]], *, steps: bool, beside: bool
) -> tuple[list[list[str]], list[tuple[str | None, ...]]]:
    """Return the codes of each change set's answers and the rows that are there in the end."""
    app, plugin = shared(), Plugin()
    app.webhooks._transport = httpx.MockTransport(plugin)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=ROOT) as api:
        await api.post("http://org/_emulator/reset")
        for message in ("Create", "Update", "Delete") if steps else ():
            await register(api, message=message, mode=0)
        requests = [ChangeSet(tuple(Request(*each) for each in part)) for part in sets]
        async with DataverseClient("http://org", transport=transport) as client:
            if beside:
                answers = await asyncio.gather(*(client.batch([each]) for each in requests))
            else:
                answers = [await client.batch([each]) for each in requests]
        codes = [[each.error.code if each.error else "" for each in one[0]] for one in answers]
        columns = ("contactid", "lastname", "msemr_azurefhirid", "_parentcustomerid_value")
        rows = [tuple(each[name] for name in columns) for each in (await api.get("contacts")).json()["value"]]
        client_of_webhooks, app.webhooks._client = app.webhooks._client, None
        if client_of_webhooks is not None:
            await client_of_webhooks.aclose()
    return codes, rows


@lru_cache(maxsize=1)
def shared() -> Emulator:
    """Make the emulator of all examples."""
    app = create_app()
    app.declare_key("contact", "msemr_azurefhirid", name="fhirid")
    return app


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    shared().store.close()

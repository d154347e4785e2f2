"""Synchronous steps: called while the transaction is open, and able to stop it (docs: use-webhooks.md, bypass-custom-business-logic.md)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx
import pytest
from webhook_kit import ROOT, pairs, register

from conftest import Receiver
from devstack.dataverse import Emulator, create_app
from devstack.stack import Stack
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient

ID = "11111111-2222-3333-4444-555555555555"


async def count(api: httpx.AsyncClient) -> int:
    return int((await api.get("contacts/$count")).text)


async def test_the_caller_waits_for_the_webhook(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """A synchronous step is called before the answer; its context says that it is in the transaction."""
    await register(api, mode=0)
    assert (await api.post("contacts?tag=here", json={"contactid": ID, "lastname": "Doe"})).status_code == 204
    (request,) = receiver.requests
    context = json.loads(request.content)
    assert (context["Mode"], context["Stage"], context["IsInTransaction"]) == (0, 40, True)
    assert context["OperationId"] == "00000000-0000-0000-0000-000000000000"
    assert context["PostEntityImages"] == []
    assert pairs(context["OutputParameters"]) == {"id": ID}
    assert pairs(context["ParentContext"]["SharedVariables"])["tag"] == "here"
    assert (await api.get(f"contacts({ID})")).json()["lastname"] == "Doe"


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_a_failing_webhook_takes_the_write_back(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, status: int
) -> None:
    """A webhook that does not answer 2xx fails the operation with 0x80040265, and nothing is written or told."""
    await register(api, mode=0)
    await register(api)
    receiver.statuses = [status] * (2 if status == 503 else 1)
    answer = await api.post("contacts", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80040265")
    assert await count(api) == 0
    await app.webhooks.idle()
    assert receiver.statuses == []  # one more try for 503; no asynchronous step heard of it
    assert (await api.post("contacts", json={})).status_code == 204


async def test_a_lost_connection_takes_the_write_back() -> None:
    """A webhook that does not answer at all fails the operation."""

    async def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody is there")

    app = create_app(webhook_transport=httpx.MockTransport(broken))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        assert (await api.patch(f"contacts({ID})", json={})).json()["error"]["code"] == "0x80040265"
        assert await count(api) == 0


async def test_a_change_set_is_undone_as_a_whole(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """One row's webhook that fails undoes its change set; what was posted for the rows before it has left already."""
    await register(api, mode=0)
    receiver.statuses = [202, 500]
    sets = [ChangeSet((Request("POST", "contacts", {}), Request("POST", "contacts", {}))) for _ in range(2)]
    async with DataverseClient("http://org", transport=api._transport) as client:
        undone, whole = await client.batch(sets)
    assert [each.error and each.error.code for each in undone] == ["0x80040265"]
    assert [each.status for each in whole] == [204, 204]
    assert (len(receiver.requests), await count(api)) == (4, 2)
    shared = pairs(json.loads(receiver.requests[0].content)["SharedVariables"])
    assert (shared["IsODataTransaction"], shared["ODataChangesetRequestCount"]) == (True, 2)


async def test_a_later_failure_cannot_take_the_post_back(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Of a change set whose second request is refused, the first one's webhook was called all the same."""
    await register(api, mode=0)
    both = ChangeSet((Request("POST", "contacts", {}), Request("POST", "contacts", {"nosuch": 1})))
    async with DataverseClient("http://org", transport=api._transport) as client:
        ((refused,),) = await client.batch([both])
    assert refused.status == 400
    assert (len(receiver.requests), await count(api)) == (1, 0)


async def test_bulk_rows_are_called_one_by_one(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Each row of CreateMultiple has its call; one that fails undoes all."""
    await register(api, mode=0)
    targets = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.contact"}] * 3}
    receiver.statuses = [202, 202, 500]
    url = "contacts/Microsoft.Dynamics.CRM.CreateMultiple"
    assert (await api.post(url, json=targets)).json()["error"]["code"] == "0x80040265"
    assert (len(receiver.requests), await count(api)) == (3, 0)
    assert (await api.post(url, json=targets)).status_code == 200
    assert await count(api) == 3


async def test_pre_operation_comes_first_and_knows_less(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Stage 20 is called before stage 40, without the id in its output and without images of afterwards."""
    await register(api, mode=0)
    await register(api, mode=0, stage=20)
    await api.post("contacts", json={})
    before, after = (json.loads(request.content) for request in receiver.requests)
    assert (before["Stage"], after["Stage"]) == (20, 40)
    assert (before["OutputParameters"], before["PostEntityImages"]) == ([], [])


async def test_updates_and_deletes(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Updates and deletes are called for, and undone, like creates."""
    await api.post("contacts", json={"contactid": ID, "lastname": "Doe"})
    await register(api, message="Update", mode=0, filteringattributes="lastname")
    await register(api, message="Delete", mode=0)
    assert (await api.patch(f"contacts({ID})", json={"firstname": "x"})).status_code == 204
    assert receiver.requests == []
    receiver.statuses = [500, 500]
    assert (await api.patch(f"contacts({ID})", json={"lastname": "x"})).status_code == 400
    assert (await api.delete(f"contacts({ID})")).status_code == 400
    assert (await api.get(f"contacts({ID})")).json()["lastname"] == "Doe"
    assert (await api.delete(f"contacts({ID})")).status_code == 204
    assert await count(api) == 0


@pytest.mark.parametrize(
    ("headers", "modes"),
    [
        ({}, [0, 1]),
        ({"MSCRM.BypassBusinessLogicExecution": "CustomSync"}, [1]),
        ({"MSCRM.BypassBusinessLogicExecution": "CustomAsync"}, [0]),
        ({"MSCRM.BypassBusinessLogicExecution": "CustomSync,CustomAsync"}, []),
        ({"MSCRM.BypassCustomPluginExecution": "true"}, [1]),
        ({"MSCRM.BypassBusinessLogicExecutionStepIds": ID}, [0, 1]),
    ],
)
async def test_steps_can_be_passed_over(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, headers: dict[str, str], modes: list[int]
) -> None:
    """Headers pass over synchronous or asynchronous steps; step ids do not reach steps of service endpoints here."""
    await register(api, mode=0)
    await register(api)
    await api.post("contacts", json={}, headers=headers)
    await app.webhooks.idle()
    assert sorted(json.loads(request.content)["Mode"] for request in receiver.requests) == modes


@pytest.mark.parametrize("reaches", [False, True])
async def test_steps_may_be_passed_over_by_id(receiver: Receiver, *, reaches: bool) -> None:
    """With `bypass_steps` the named steps are passed over, synchronous or not; unknown ids are ignored."""
    app = create_app(webhook_transport=httpx.MockTransport(receiver), bypass_steps=reaches)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        steps = [(await register(api, mode=mode))[1][-37:-1] for mode in (0, 1, 0)]
        named = f"{steps[0].upper()}, {steps[1]},{ID}"
        await api.post("contacts", json={}, headers={"MSCRM.BypassBusinessLogicExecutionStepIds": named})
        await app.webhooks.idle()
        called = [json.loads(request.content)["OwningExtension"]["Id"] for request in receiver.requests]
        assert sorted(called) == sorted(steps[2:] if reaches else steps)


async def test_a_silent_webhook_takes_the_write_back() -> None:
    """A synchronous webhook that does not answer within 60 seconds fails the operation; it is called once."""
    asked: list[float] = []
    calls: list[httpx.Request] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        asked.append(seconds)
        return asyncio.timeout(0)

    async def silent(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        await asyncio.Event().wait()
        raise AssertionError

    app = create_app(webhook_transport=httpx.MockTransport(silent), timeout=timeout)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        answer = await api.post("contacts", json={"contactid": ID})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80040265")
        assert (asked, len(calls), await count(api)) == ([60.0], 1, 0)


async def test_steps_are_called_by_stage_and_rank(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Stage before rank, rank before the order of registration; one that fails is the last that is called."""
    for stage, rank in ((40, 2), (40, 1), (20, 9)):
        await register(api, mode=0, stage=stage, rank=rank, name=f"{stage} {rank}")
    names = {
        each["sdkmessageprocessingstepid"]: each["name"]
        for each in (await api.get("sdkmessageprocessingsteps")).json()["value"]
    }
    receiver.statuses = [200, 500]
    await api.post("contacts", json={})
    await api.post("contacts", json={})
    called = [names[json.loads(request.content)["OwningExtension"]["Id"]] for request in receiver.requests]
    assert called == ["20 9", "40 1", "20 9", "40 1", "40 2"]


async def test_deep_inserts_are_called_row_by_row(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Each row of a deep insert has its call, and one that fails undoes all of it."""
    await register(api, mode=0)
    await register(api, "account", mode=0)
    body = {"lastname": "Doe", "parentcustomerid_account": {"name": "Clinic"}}
    receiver.statuses = [200, 500]
    assert (await api.post("contacts", json=body)).status_code == 400
    assert (await count(api), (await api.get("accounts/$count")).text) == (0, "0")
    assert (await api.post("contacts", json=body)).status_code == 204
    tables = [request.headers["x-ms-dynamics-entity-name"] for request in receiver.requests]
    assert tables == ["account", "contact"] * 2


@pytest.mark.parametrize(
    "headers",
    [
        {"MSCRM.BypassBusinessLogicExecution": "Everything"},
        {"MSCRM.BypassBusinessLogicExecutionStepIds": ",".join([ID] * 4)},
    ],
)
async def test_headers_that_ask_too_much(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Unknown words and more than three step ids are 400."""
    assert (await api.post("contacts", json={}, headers=headers)).status_code == 400


async def test_a_stack_settles() -> None:
    """A stack is quiet once the call of a synchronous step, and what its webhook wrote, are over; and says so."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def webhook(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["Mode"] == 0:
            entered.set()
            await go.wait()
            await api.post("accounts", json={"name": "made meanwhile"})
        return httpx.Response(200)

    class Quiet:
        async def idle(self, *, delayed: bool) -> None:
            assert delayed

    app = create_app(webhook_transport=httpx.MockTransport(webhook))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        await register(api, "account")
        stack = Stack("", "", "", cast("Any", Quiet()), cast("Any", None), app, None)
        write = asyncio.create_task(api.post("contacts", json={}))
        await entered.wait()
        assert not await stack.settle(within=0)
        go.set()
        assert await stack.settle(within=30)
        assert (await write).status_code == 204
        assert app.webhooks.delivered == 2

"""System jobs: an asynchronous delivery is a row of `asyncoperation` from the start (docs: asynchronous-service.md, use-webhooks.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from webhook_kit import ID, ROOT, register

from conftest import Receiver
from devstack.dataverse import Emulator, create_app


class Gate:
    """Stands for a webhook that is slow: says that it was called, and answers when it may."""

    def __init__(self) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.entered.set()
        await self.go.wait()
        return httpx.Response(200)


@asynccontextmanager
async def org(webhook: Any, database: str = ":memory:") -> AsyncIterator[tuple[Emulator, httpx.AsyncClient]]:
    app = create_app(database=database, webhook_transport=httpx.MockTransport(webhook))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        yield app, api


async def jobs(api: httpx.AsyncClient, condition: str = "") -> list[dict[str, Any]]:
    suffix = f"?$filter={condition}" if condition else ""
    found: list[dict[str, Any]] = (await api.get(f"asyncoperations{suffix}")).json()["value"]
    return found


async def states(api: httpx.AsyncClient) -> list[tuple[int, int]]:
    return [(each["statecode"], each["statuscode"]) for each in await jobs(api)]


async def test_a_job_waits_runs_and_is_over() -> None:
    """A job is Ready, then Locked and In Progress, then Completed; one that succeeded goes where the step says so."""
    gate = Gate()
    async with org(gate) as (app, api):
        await register(api, asyncautodelete=False)
        await register(api)
        await api.post("contacts", json={"contactid": ID})
        assert await states(api) == [(0, 0), (0, 0)]
        await gate.entered.wait()
        assert await states(api) == [(2, 20), (2, 20)]
        gate.go.set()
        await app.webhooks.idle()
        (job,) = await jobs(api)
        assert (job["statecode"], job["statuscode"], job["message"]) == (3, 30, None)
        assert job["startedon"] <= job["completedon"]


async def test_a_job_says_what_it_is_about(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """The job of a failure names step, message, table, row, correlation and tries; it is found as the reference finds it."""
    _, step = await register(api)
    receiver.statuses = [503, 503]
    await api.post("contacts", json={"contactid": ID})
    await app.webhooks.idle()
    (job,) = await jobs(api, f"statuscode eq 31 and _owningextensionid_value eq {step[-37:-1]}")
    context = json.loads(receiver.requests[0].content)
    expected = {
        "asyncoperationid": context["OperationId"],
        "correlationid": context["CorrelationId"],
        "messagename": "Create",
        "primaryentitytype": "contact",
        "_regardingobjectid_value": ID,
        "retrycount": 1,
        "statecode": 3,
        "operationtype": 1,
    }
    assert {name: job[name] for name in expected} == expected
    assert "503" in job["message"]
    assert job["friendlymessage"] == job["message"]


async def test_a_time_out_is_a_failure_at_once() -> None:
    """A webhook that does not answer within 60 seconds has failed, without another try."""
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
        await register(api)
        await api.post("contacts", json={})
        await app.webhooks.idle()
        assert (asked, len(calls)) == ([60.0], 1)
        (job,) = await jobs(api)
        assert (job["statuscode"], job["retrycount"]) == (31, 0)
        assert "Timeout" in job["message"]


async def test_a_job_that_somebody_deleted_is_no_matter() -> None:
    """Deleting the job of a delivery under way leaves the delivery as it is, and the job away."""
    gate = Gate()
    async with org(gate) as (app, api):
        await register(api, asyncautodelete=False)
        await api.post("contacts", json={})
        await gate.entered.wait()
        ((job),) = await jobs(api)
        assert (await api.delete(f"asyncoperations({job['asyncoperationid']})")).status_code == 204
        gate.go.set()
        await app.webhooks.idle()
        assert (await jobs(api), app.webhooks.delivered) == ([], 1)


async def test_the_row_may_be_gone_before_its_job(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """A deletion's job is about no row; and a row can be deleted while a job about it waits."""
    await register(api, message="Delete", asyncautodelete=False)
    await register(api, asyncautodelete=False)
    await api.post("contacts", json={"contactid": ID})
    assert (await api.delete(f"contacts({ID})")).status_code == 204
    await app.webhooks.idle()
    found = sorted((each["messagename"], each["_regardingobjectid_value"]) for each in await jobs(api))
    assert found == [("Create", None), ("Delete", None)]
    assert len(receiver.requests) == 2


async def test_closing_cancels_the_jobs(tmp_path: Path) -> None:
    """Jobs that the emulator's end cuts short are Canceled in its database, not waiting for ever."""
    gate = Gate()
    async with org(gate, str(tmp_path / "org")) as (_, api):
        await register(api)
        for _ in range(2):
            await api.post("contacts", json={})
        await gate.entered.wait()
    async with org(gate, str(tmp_path / "org")) as (_, api):
        assert await states(api) == [(3, 32), (3, 32)]


@pytest.mark.parametrize("moment", ["queued", "under way"])
async def test_a_reset_drops_what_is_on_its_way(moment: str) -> None:
    """After a reset nothing is queued, under way or counted, whether a delivery had begun or not."""
    gate = Gate()
    async with org(gate) as (app, api):
        await register(api)
        await api.post("contacts", json={})
        if moment == "under way":
            await gate.entered.wait()
        await api.post("http://org/_emulator/reset")
        await app.webhooks.idle()
        status = (await api.get("http://org/_emulator/webhooks")).json()
        assert status == {"queued": 0, "inflight": 0, "delivered": 0, "failed": 0}
        assert await jobs(api) == []

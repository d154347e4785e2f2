"""Service protection: three facets for each web server, affinity, and the hint (docs: api-limits.md, send-parallel-requests.md)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from webhook_kit import ROOT, register

from devstack.dataverse import Emulator, create_app
from devstack.dataverse.protection import Protection


class Clock:
    """Seconds that pass when somebody sleeps or a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@asynccontextmanager
async def org(clock: Clock, **limits: Any) -> AsyncIterator[tuple[Emulator, httpx.AsyncClient]]:
    """Run an organization with these limits, and a client that keeps no cookies."""
    times = {name: limits.pop(name) for name in ("call_ms", "operation_ms") if name in limits}
    app = create_app(protection=Protection(**limits), clock=clock, sleep=clock.sleep, **times)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        yield app, api


async def ask(api: httpx.AsyncClient, cookie: str = "", **headers: str) -> httpx.Response:
    api.cookies.clear()
    return await api.get("WhoAmI", headers={"Cookie": cookie, **headers} if cookie else headers)


def bearer(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"Bearer header.{payload}.signature"


def told(answer: httpx.Response) -> tuple[int, str, str | None]:
    code = answer.json()["error"]["code"] if answer.status_code == 429 else ""
    return answer.status_code, code, answer.headers.get("Retry-After")


async def test_requests_in_a_sliding_window() -> None:
    """Beyond the limit a request is 429 with code, text and the seconds until the oldest one leaves the window."""
    clock = Clock()
    async with org(clock, requests=3, window_seconds=10) as (_, api):
        for _ in range(3):
            assert (await ask(api)).status_code == 200
            clock.now += 2
        answer = await ask(api)
        assert told(answer) == (429, "0x80072322", "4")
        assert answer.json()["error"]["message"] == (
            "Number of requests exceeded the limit of 3 over time window of 10 seconds."
        )
        clock.now += 4
        assert (await ask(api)).status_code == 200


async def test_execution_time_in_a_sliding_window() -> None:
    """What calls take is added up; beyond the limit it is 429 until enough of it has left the window."""
    clock = Clock()
    async with org(clock, execution_ms=100, window_seconds=10, call_ms=60) as (_, api):
        await ask(api)
        await ask(api)
        answer = await ask(api)
        assert told(answer) == (429, "0x80072321", "10")
        assert answer.json()["error"]["message"].startswith(
            "Combined execution time of incoming requests exceeded limit of 100  milliseconds over time window of 10 seconds."
        )
        clock.now += 10
        assert (await ask(api)).status_code == 200


async def test_a_batch_is_one_request_and_its_time_counts() -> None:
    """A batch counts as one request; what everything inside takes counts as execution time. Rows in bulk are the same."""
    clock = Clock()
    part = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET contacts HTTP/1.1\r\n\r\n"
    batch = {"content": part * 4 + "--b--\r\n", "headers": {"Content-Type": "multipart/mixed; boundary=b"}}
    rows = [{"@odata.type": "Microsoft.Dynamics.CRM.contact"}] * 3
    async with org(clock, requests=10, execution_ms=1000, operation_ms=50) as (_, api):
        for answer, left in (
            (await api.post("$batch", **batch), ("9", "0.80")),  # type: ignore[arg-type]
            (await api.post("contacts/Microsoft.Dynamics.CRM.CreateMultiple", json={"Targets": rows}), ("8", "0.65")),
        ):
            assert answer.status_code == 200
            names = ("burst-remaining-xrm-requests", "time-remaining-xrm-requests")
            assert tuple(answer.headers[f"x-ms-ratelimit-{name}"] for name in names) == left


async def test_concurrency_bites_at_once() -> None:
    """One request more than may run at a time is 429 while the others run, and goes through afterwards."""
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(_: float) -> None:
        entered.set()
        await gate.wait()

    app = create_app(protection=Protection(concurrency=1), call_ms=1, sleep=slow)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        first = asyncio.create_task(ask(api))
        await entered.wait()
        assert told(await ask(api))[:2] == (429, "0x80072326")
        gate.set()
        assert (await first).status_code == 200
        assert (await ask(api)).status_code == 200


async def test_a_refused_request_does_nothing() -> None:
    """A throttled write is not carried out, and costs no request of the budget."""
    clock = Clock()
    async with org(clock, requests=1, window_seconds=10) as (_, api):
        assert (await api.post("contacts", json={})).status_code == 204
        assert (await api.post("contacts", json={})).status_code == 429
        clock.now += 10
        assert (await api.get("contacts/$count")).text == "1"


async def test_hammering_lengthens_the_wait() -> None:
    """A request that comes although it was told to wait makes the wait longer; those on their way already do not."""
    clock = Clock()
    async with org(clock, requests=1, window_seconds=10) as (_, api):
        await ask(api)
        assert [told(await ask(api))[2] for _ in range(3)] == ["10", "10", "10"]
        clock.now += 2
        assert [told(await ask(api))[2] for _ in range(3)] == ["9", "10", "11"]
        clock.now += 11
        assert (await ask(api)).status_code == 200


async def test_each_web_server_counts_for_itself() -> None:
    """Without the affinity cookie requests go to the servers in turn; with it, to the one it names."""
    clock = Clock()
    async with org(clock, requests=2, servers=2) as (_, api):
        cookies = [(await ask(api)).headers["Set-Cookie"] for _ in range(2)]
        assert cookies == ["ARRAffinity=server0; Path=/; HttpOnly", "ARRAffinity=server1; Path=/; HttpOnly"]
        first = await ask(api, "ARRAffinity=server0")
        assert (first.status_code, "Set-Cookie" in first.headers) == (200, False)
        assert (await ask(api, "ARRAffinity=server0")).status_code == 429
        assert (await ask(api, "ARRAffinity=server1")).status_code == 200
        assert (await ask(api, "ARRAffinity=server7")).status_code == 429


async def test_each_user_has_a_budget() -> None:
    """The principal that a token names is the user, whichever token it is; credentials of other kinds are users as they are."""
    clock = Clock()
    async with org(clock, requests=1) as (_, api):
        for first, second in (
            (bearer(oid="a", nonce=1), bearer(oid="a", nonce=2)),
            (bearer(appid="b"), bearer(appid="b", exp=5)),
            ("Bearer x", "Bearer x"),
            ("Bearer a.W10.c", "Bearer a.W10.c"),
            (bearer(oid=5), bearer(oid=5)),
        ):
            assert (await ask(api, Authorization=first)).status_code == 200
            assert (await ask(api, Authorization=second)).status_code == 429


async def test_a_call_for_somebody_else_is_charged_to_the_caller() -> None:
    """Acting for another user opens no other budget."""
    clock = Clock()
    async with org(clock, requests=1) as (_, api):
        user = (await ask(api)).json()["UserId"]
        assert (await ask(api, MSCRMCallerID=user)).status_code == 429


async def test_what_is_left_is_told_of_the_server_that_answered() -> None:
    """A request with the affinity cookie is told what is left on its own server."""
    clock = Clock()
    async with org(clock, requests=5, servers=2) as (_, api):
        left = "x-ms-ratelimit-burst-remaining-xrm-requests"
        assert [(await ask(api, f"ARRAffinity=server{number}")).headers[left] for number in (1, 1, 0, 1)] == [
            "4",
            "3",
            "4",
            "2",
        ]


async def test_limits_may_change_while_a_request_runs() -> None:
    """A request under way when the servers become fewer is answered by the one it had."""
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(_: float) -> None:
        entered.set()
        await gate.wait()

    app = create_app(protection=Protection(requests=9, servers=3), call_ms=1, sleep=slow)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        first = asyncio.create_task(ask(api, "ARRAffinity=server2"))
        await entered.wait()
        assert (await api.put("http://org/_emulator/limits", json={"requests": 9})).status_code == 200
        gate.set()
        assert (await first).status_code == 200


async def test_time_is_what_passed_and_what_was_charged() -> None:
    """Execution time is the real time of a call and the time that the model of latency adds."""
    clock = Clock()

    async def webhook(_: httpx.Request) -> httpx.Response:
        clock.now += 0.3
        return httpx.Response(200)

    transport = httpx.MockTransport(webhook)
    app = create_app(
        webhook_transport=transport, protection=Protection(execution_ms=1000), clock=clock, sleep=clock.sleep
    )
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        await api.put("http://org/_emulator/limits", json={"execution_ms": 1000, "call_ms": 200})
        answer = await api.post("contacts", json={})
        assert answer.headers["x-ms-ratelimit-time-remaining-xrm-requests"] == "0.50"


async def test_hints_and_what_is_left_are_told() -> None:
    """The recommended parallelism and what is left of each budget are headers of every answer, when there are limits."""
    clock = Clock()
    async with org(clock, requests=5, execution_ms=1000, dop_hint=12, call_ms=250) as (_, api):
        await ask(api)
        headers = (await ask(api)).headers
        assert headers["x-ms-dop-hint"] == "12"
        assert headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "3"
        assert headers["x-ms-ratelimit-time-remaining-xrm-requests"] == "0.50"
    async with create_app() as app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        assert not [
            name for name in (await ask(api)).headers if "hint" in name or "ratelimit" in name or "cookie" in name
        ]


async def test_limits_are_read_and_set_while_it_runs() -> None:
    """The control side shows limits and times, takes others (what was counted is forgotten), and reset puts back the first."""
    clock = Clock()
    async with org(clock, requests=1, servers=2) as (_, api):
        limits = (await api.get("http://org/_emulator/limits")).json()
        assert (limits["requests"], limits["servers"], limits["bulk_row_ms"]) == (1, 2, None)
        answer = await api.put("http://org/_emulator/limits", json={"requests": 2, "window_seconds": 60, "call_ms": 5})
        assert (answer.json()["requests"], answer.json()["servers"], answer.json()["call_ms"]) == (2, 1, 5)
        assert [(await ask(api)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await api.post("http://org/_emulator/reset")).status_code == 204
        assert (await api.get("http://org/_emulator/limits")).json() == limits
        assert (await api.delete("http://org/_emulator/limits")).status_code == 405


@pytest.mark.parametrize(
    ("limits", "place"),
    [([], "limits"), ({"request": 1}, "request"), ({"requests": 0}, "requests"), ({"call_ms": -1}, "call_ms"),
     ({"servers": None}, "servers"), ({"concurrency": "5"}, "concurrency"), ({"execution_ms": True}, "execution_ms")],
)  # fmt: skip
async def test_wrong_limits_are_refused(limits: object, place: str) -> None:
    """A limit that is not there or not a number is 400 and named."""
    async with org(Clock()) as (_, api):
        answer = await api.put("http://org/_emulator/limits", json=limits)
        assert answer.status_code == 400
        assert place in answer.json()["error"]


@pytest.mark.parametrize(
    "cookie", ["a=b; (=)", "ARRAffinity", "ARRAffinity=", "ARRAffinity=server-1", "ARRAffinity=999999999"]
)
async def test_a_cookie_that_names_no_server(cookie: str) -> None:
    """A cookie that cannot be read or names no server that is there is none: the request goes to the next server."""
    clock = Clock()
    async with org(clock, requests=1, servers=2) as (_, api):
        answers = [await ask(api, cookie) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert all("ARRAffinity=server" in answer.headers["Set-Cookie"] for answer in answers)

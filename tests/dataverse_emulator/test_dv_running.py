"""Running the emulator: over the network, on a file, reset, restored, made to fail, and closed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from devstack.dataverse import Emulator, create_app

ROOT = "http://org/api/data/v9.2/"
ID = "11111111-2222-3333-4444-555555555555"


def client(app: Emulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ROOT)


async def test_over_the_network() -> None:
    """The emulator serves HTTP, names rows by the Host it was asked at, and closes with its server."""
    app = create_app()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/data/v9.2/"
    async with httpx.AsyncClient(base_url=url) as api:
        made = await api.post("contacts", json={"contactid": ID, "firstname": "Ann"})
        assert made.headers["OData-EntityId"] == f"{url}contacts({ID})"
        found = await api.get("contacts", params={"$filter": "firstname eq 'ann'"})
        assert found.json()["@odata.context"].startswith(url)
        assert (await api.patch("contacts(firstname='%2F')", json={})).status_code == 400
    server.should_exit = True
    await serving
    with pytest.raises(Exception, match="closed"):
        app.store.snapshot()


async def test_rows_on_a_file_survive(tmp_path: Path) -> None:
    """With a database file the rows, their versions and the organization are there again."""
    path = str(tmp_path / "rows.sqlite")
    async with create_app(database=path) as app, client(app) as api:
        await api.post("contacts", json={"contactid": ID, "lastname": "Doe"})
        before = (await api.get(f"contacts({ID})")).json()
    async with create_app(database=path) as app, client(app) as api:
        assert (await api.get(f"contacts({ID})")).json() == before
        await api.patch(f"contacts({ID})", json={"lastname": "Roe"})
        after = (await api.get(f"contacts({ID})")).json()
        assert after["versionnumber"] > before["versionnumber"]
        assert (await api.get("systemusers/$count")).text == "1"


async def test_organizations_in_memory_share_nothing() -> None:
    """Each begins as a copy of the empty one: rows, keys and columns of one are not there in another, nor in a later one."""
    async with create_app() as one, create_app() as other, client(one) as api, client(other) as theirs:
        one.declare_key("contact", "lastname", name="byname")
        del one.metadata.tables["contact"].columns["nickname"]
        assert (await api.post("contacts", json={"contactid": ID, "lastname": "Doe"})).status_code == 204
        assert (await api.post("contacts", json={"lastname": "Doe"})).status_code == 412
        async with create_app() as later, client(later) as last:
            for each, there in ((other, theirs), (later, last)):
                assert "nickname" in each.metadata.tables["contact"].columns
                assert "byname" not in {key.name for key in each.metadata.tables["contact"].keys}
                for _ in range(2):
                    assert (await there.post("contacts", json={"lastname": "Doe"})).status_code == 204
                assert (await there.get(f"contacts({ID})")).status_code == 404
                assert (await there.get("systemusers/$count")).text == "1"


async def test_reset_empties_the_organization(app: Emulator, api: httpx.AsyncClient) -> None:
    """A reset leaves what every organization holds: people, messages and their filters."""
    await api.post("contacts", json={"contactid": ID})
    me = (await api.get("WhoAmI")).json()["UserId"]
    assert (await api.post("http://org/_emulator/reset")).status_code == 204
    assert (await api.get("contacts/$count")).text == "0"
    assert (await api.get(f"systemusers({me})")).status_code == 200
    assert (await api.get("sdkmessagefilters?$filter=primaryobjecttypecode eq 'contact'")).json()["value"]
    assert app.webhooks.deliveries == 0


async def test_a_snapshot_brings_everything_back(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A restored snapshot has every row with its version, and webhooks registered in it are called."""
    endpoint = {"name": "w", "url": "http://x/", "contract": 8, "authtype": 4, "authvalue": "k"}
    made = (await api.post("serviceendpoints", json=endpoint)).headers["OData-EntityId"]
    message = (await api.get("sdkmessages?$filter=name eq 'Create'")).json()["value"][0]["sdkmessageid"]
    step = {
        "name": "s",
        "stage": 40,
        "mode": 1,
        "eventhandler_serviceendpoint@odata.bind": made,
        "sdkmessageid@odata.bind": f"/sdkmessages({message})",
    }
    assert (await api.post("sdkmessageprocessingsteps", json=step)).status_code == 204
    await api.post("accounts", json={"accountid": ID, "name": "Clinic", "revenue": 1.25})
    before = (await api.get(f"accounts({ID})")).json()
    snapshot = (await api.get("http://org/_emulator/snapshot")).json()
    await api.post("http://org/_emulator/reset")
    assert (await api.put("http://org/_emulator/snapshot", json=snapshot)).status_code == 204
    assert (await api.get(f"accounts({ID})")).json() == before
    await app.webhooks.idle()
    receiver.requests.clear()
    await api.post("accounts", json={"name": "Other"})
    await app.webhooks.idle()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "document",
    [[], {}, {"tables": {"nothing": []}}, {"tables": {"contact": [{"contactid": ID, "nothing": 1}]}}],
)
async def test_what_is_no_snapshot_changes_nothing(api: httpx.AsyncClient, document: object) -> None:
    """A snapshot that does not fit is 400, and the rows stay as they were."""
    await api.post("contacts", json={"contactid": ID})
    answer = await api.put("http://org/_emulator/snapshot", json=document)
    assert answer.status_code == 400
    assert (await api.get("contacts/$count")).text == "1"


async def test_a_lost_answer_leaves_the_row(app: Emulator, api: httpx.AsyncClient) -> None:
    """When the answer of a create is lost, the same create again is told 0x80040237."""
    fault = {"method": "POST", "path": "contacts", "effect": "lose"}
    await api.put("http://org/_emulator/faults", json=[fault])
    with pytest.raises(httpx.RemoteProtocolError):
        await api.post("contacts", json={"contactid": ID})
    again = await api.post("contacts", json={"contactid": ID})
    assert again.json()["error"]["code"] == "0x80040237"
    assert [(call["method"], call["status"]) for call in app.calls] == [("POST", 0), ("POST", 412)]


async def test_the_control_side_of_webhooks_is_read_only(api: httpx.AsyncClient) -> None:
    """The numbers of the webhooks can be read; anything else is 405."""
    url = "http://org/_emulator/webhooks"
    assert (await api.get(url)).json() == {"queued": 0, "inflight": 0, "delivered": 0, "failed": 0}
    assert (await api.post(url)).status_code == 405
    assert (await api.get("http://org/_emulator/calls")).json() == []


async def test_time_can_be_made_to_pass() -> None:
    """Latency is per call and per operation in it; without settings there is none."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    part = (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        "GET contacts HTTP/1.1\r\n\r\n\r\n"
    )
    async with create_app(call_ms=50, operation_ms=40, sleep=sleep) as app, client(app) as api:
        await api.get("contacts")
        headers = {"Content-Type": "multipart/mixed; boundary=b"}
        await api.post("$batch", content=part * 3 + "--b--\r\n", headers=headers)
        app.guard.take({})
        await api.get("contacts")
    assert waits == [0.09, 0.17]


async def test_calls_can_be_correlated(api: httpx.AsyncClient) -> None:
    """The request's correlation id is the service's request id."""
    answer = await api.get("WhoAmI", headers={"x-ms-correlation-id": ID})
    assert answer.headers["x-ms-service-request-id"] == ID

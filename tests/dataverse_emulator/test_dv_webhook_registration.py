"""Webhooks are registered through plain rows; what cannot work is refused there (docs: use-webhooks.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from webhook_kit import ENDPOINT, register

from devstack.dataverse import Emulator


async def test_the_key_can_be_written_and_never_read(api: httpx.AsyncClient) -> None:
    """An endpoint never shows its key; `isauthvalueset` tells that there is one."""
    url = (await api.post("serviceendpoints", json=ENDPOINT)).headers["OData-EntityId"]
    row = await api.get(url)
    assert row.json()["isauthvalueset"] is True
    assert "s3cret" not in row.text
    assert "authvalue" not in row.json()
    for path in (f"{url}?$select=authvalue", f"{url}/authvalue", "serviceendpoints?$filter=authvalue eq 'x'"):
        answer = await api.get(path)
        assert answer.status_code in (400, 404)
        assert "s3cret" not in answer.text
    listed = (await api.get("serviceendpoints?$filter=contract eq 8&$select=name")).json()["value"]
    assert [each["name"] for each in listed] == ["relay"]


async def test_steps_are_listed_below_their_endpoint(api: httpx.AsyncClient) -> None:
    """The steps of an endpoint are a collection of it; an endpoint with steps cannot be deleted."""
    endpoint, step_url = await register(api)
    rows = (await api.get(f"{endpoint}/serviceendpoint_sdkmessageprocessingstep?$select=name")).json()["value"]
    assert [row["sdkmessageprocessingstepid"] for row in rows] == [step_url[-37:-1]]
    assert (await api.delete(endpoint)).status_code == 400
    assert (await api.delete(step_url)).status_code == 204
    assert (await api.delete(endpoint)).status_code == 204


async def test_changed_registrations_count_at_once(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A disabled or deleted step is not called; an endpoint's new URL and key are used."""
    endpoint, step_url = await register(api)
    await api.patch(endpoint, json={"url": "http://functions.example/new?a=b", "authvalue": "new"})
    await api.post("contacts", json={})
    await api.patch(step_url, json={"statecode": 1})
    await api.post("contacts", json={})
    await api.patch(step_url, json={"statecode": 0})
    await api.delete(step_url)
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert [str(each.url) for each in receiver.requests] == ["http://functions.example/new?a=b&code=new"]


async def test_two_steps_are_two_deliveries(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """Duplicate registrations are not refused; each one delivers."""
    await register(api)
    await register(api)
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"contract": 7}, 501),
        ({"authtype": 5}, 501),
        ({"authtype": 6}, 501),
        ({"messageformat": 1}, 501),
        ({"contract": 99}, 400),
        ({"contract": None}, 400),
        ({"authvalue": None}, 400),
        ({"url": "ftp://x"}, 400),
        ({"url": "http://["}, 400),
        ({"url": "/relative"}, 400),
        ({"url": "x" * 2001}, 400),
        ({"authvalue": "x" * 2049}, 400),
    ],
)
async def test_endpoints_that_cannot_work_are_refused(
    api: httpx.AsyncClient, change: dict[str, Any], status: int
) -> None:
    """Other contracts and kinds of authentication are 501; wrong values 400; nothing is registered."""
    answer = await api.post("serviceendpoints", json=ENDPOINT | change)
    assert answer.status_code == status, answer.text
    assert (await api.get("serviceendpoints/$count")).text == "0"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"mode": 0, "stage": 10}, 501),
        ({"stage": 20}, 400),
        ({"stage": None}, 400),
        ({"sdkmessageid@odata.bind": None}, 400),
    ],
)
async def test_steps_that_cannot_work_are_refused(api: httpx.AsyncClient, change: dict[str, Any], status: int) -> None:
    """Steps before validation are 501; an asynchronous one outside stage 40 or without a message is 400."""
    endpoint, step_url = await register(api)
    answer = await api.patch(step_url, json=change)
    assert answer.status_code == status, answer.text
    assert (await api.get(step_url)).json()["mode"] == 1
    assert endpoint

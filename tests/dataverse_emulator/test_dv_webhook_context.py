"""What a webhook is sent: the RemoteExecutionContext in its finer points (docs: understand-the-data-context.md; captures of 2020 and 2025)."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from webhook_kit import ENDPOINT, ID, ROOT, attributes, pairs, register

from conftest import Receiver
from devstack.dataverse import Emulator, create_app
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.events import parse_event


@asynccontextmanager
async def org(receiver: Receiver, **switches: Any) -> AsyncIterator[tuple[Emulator, httpx.AsyncClient]]:
    app = create_app(webhook_transport=httpx.MockTransport(receiver), **switches)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        yield app, api


def contexts(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(each.content) for each in receiver.requests]


async def test_dates_may_be_iso_8601(receiver: Receiver) -> None:
    """With `iso_dates` every date of the message is in ISO 8601, in all its members; without it none is."""
    body = {"contactid": ID, "birthdate": "1970-01-02"}
    for iso in (True, False):
        async with org(receiver, iso_dates=iso) as (app, api):
            await register(api)
            await api.post("contacts", json=body)
            await app.webhooks.idle()
    new, old = receiver.requests
    assert b"/Date(" not in new.content
    context, before = contexts(receiver)
    assert (
        attributes(context)["birthdate"] == attributes(context["ParentContext"])["birthdate"] == "1970-01-02T00:00:00Z"
    )
    assert attributes(before)["birthdate"] == "/Date(86400000)/"
    assert context["OperationCreatedOn"].endswith("Z")
    assert before["OperationCreatedOn"].endswith("+0000)/")
    assert old.content.count(b"\\/Date(") >= 5
    assert [parse_event(each.content).occurred is not None for each in (new, old)] == [True, True]


async def test_text_is_escaped_as_the_platform_does(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Slashes and control characters are escaped, a backslash before a letter stays what it is; the text is the text."""
    text = 'a/b\nc\td\\n"é'
    await register(api)
    await api.post("contacts", json={"description": text, "lastname": "x"})
    await app.webhooks.idle()
    (request,) = receiver.requests
    assert b'a\\/b\\u000ac\\u0009d\\\\n\\"' in request.content
    assert attributes(contexts(receiver)[0])["description"] == text


async def test_work_in_a_change_set_says_so(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """SharedVariables tell the change set and the number of its requests, in ParentContext too; alone there is none."""
    await register(api)
    both = ChangeSet(tuple(Request("POST", "contacts?tag=t", {}) for _ in range(2)))
    async with DataverseClient("http://org", transport=api._transport) as client:
        await client.batch([both])
    await api.post("contacts", json={})
    await app.webhooks.idle()
    *inside, alone = contexts(receiver)
    for each in inside:
        for shared in (pairs(each["SharedVariables"]), pairs(each["ParentContext"]["SharedVariables"])):
            assert (shared["IsODataTransaction"], shared["ODataChangesetRequestCount"], shared["tag"]) == (True, 2, "t")
    assert "IsODataTransaction" not in pairs(alone["SharedVariables"])


async def test_each_step_is_an_operation_of_its_own(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Two steps of one event share its correlation, and have an OperationId each."""
    await register(api)
    await register(api)
    await api.post("contacts", json={})
    await app.webhooks.idle()
    one, other = contexts(receiver)
    assert one["CorrelationId"] == other["CorrelationId"]
    assert one["OperationId"] != other["OperationId"]


async def image(api: httpx.AsyncClient, step: str, **more: Any) -> httpx.Response:
    body = {"name": "i", "entityalias": "row", "imagetype": 1, "messagepropertyname": "id", "attributes": "lastname"}
    return await api.post(
        "sdkmessageprocessingstepimages", json=body | {"sdkmessageprocessingstepid@odata.bind": step} | more
    )


@pytest.mark.parametrize("mode", [0, 1])
async def test_a_create_has_an_image_of_afterwards(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, mode: int
) -> None:
    """A post image on Create, of the property `id`, shows the new row, to synchronous and asynchronous steps."""
    _, step = await register(api, mode=mode)
    assert (await image(api, step)).status_code == 204
    await api.post("contacts", json={"contactid": ID, "firstname": "Ann", "lastname": "Doe"})
    await app.webhooks.idle()
    (context,) = contexts(receiver)
    assert pairs(pairs(context["PostEntityImages"])["row"]["Attributes"]) == {"contactid": ID, "lastname": "Doe"}
    assert context["PreEntityImages"] == []


@pytest.mark.parametrize(
    ("message", "stage", "change", "status"),
    [
        ("Create", 40, {"messagepropertyname": "Target"}, 400),
        ("Create", 40, {"imagetype": 0}, 400),
        ("Create", 40, {"imagetype": 2}, 400),
        ("Create", 20, {}, 400),
        ("Create", 40, {"entityalias": None}, 400),
        ("Update", 40, {}, 400),
        ("Update", 40, {"messagepropertyname": "Target", "imagetype": 2}, 204),
        ("Update", 20, {"messagepropertyname": "Target", "imagetype": 0}, 204),
        ("Update", 20, {"messagepropertyname": "Target", "imagetype": 2}, 400),
        ("Delete", 40, {"messagepropertyname": "Target", "imagetype": 0}, 204),
        ("Delete", 40, {"messagepropertyname": "Target", "imagetype": 1}, 400),
    ],
)
async def test_which_images_there_are(
    api: httpx.AsyncClient, message: str, stage: int, change: dict[str, Any], status: int
) -> None:
    """Create has post images of `id` at stage 40, Update both of `Target`, Delete the one before; none of what is not yet."""
    _, step = await register(api, message=message, mode=0, stage=stage)
    answer = await image(api, step, **change)
    assert answer.status_code == status, answer.text


async def test_an_update_shows_before_and_after(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Stage 20 of an Update has the pre image; stage 40 has both."""
    await api.post("contacts", json={"contactid": ID, "lastname": "old"})
    for stage, kind in ((20, 0), (40, 2)):
        _, step = await register(api, message="Update", mode=0, stage=stage)
        await image(api, step, messagepropertyname="Target", imagetype=kind)
    await api.patch(f"contacts({ID})", json={"lastname": "new"})
    names = [
        [[each["value"] for each in found["value"]["Attributes"] if each["key"] == "lastname"] for found in images]
        for context in contexts(receiver)
        for images in (context["PreEntityImages"], context["PostEntityImages"])
    ]
    assert names == [[["old"]], [], [["old"]], [["new"]]]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://f.example/x", 204),
        ("https://f.example:443/x", 204),
        ("http://f.example:80/x", 204),
        ("http://f.example:443/x", 400),
        ("https://f.example:8443/x", 400),
        ("http://127.0.0.1:7071/x", 400),
    ],
)
async def test_ports(receiver: Receiver, caplog: pytest.LogCaptureFixture, url: str, status: int) -> None:
    """Only 80 for http and 443 for https are posted to: others are refused with `strict_ports`, else warned of and used."""
    async with org(receiver, strict_ports=True) as (_, api):
        answer = await api.post("serviceendpoints", json=ENDPOINT | {"url": url})
        assert (answer.status_code, "port 80" in answer.text) == (status, status == 400)
    async with org(receiver) as (app, api):
        endpoint, _ = await register(api)
        assert (await api.patch(endpoint, json={"url": url})).status_code == 204
        with caplog.at_level(logging.WARNING, "devstack.dataverse.webhooks"):
            await api.post("contacts", json={})
        await app.webhooks.idle()
        assert ("port 80" in caplog.text, app.webhooks.delivered) == (status == 400, 1)

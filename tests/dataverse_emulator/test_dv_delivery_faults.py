"""Deliveries that come twice, get lost or change places, as the control side asks for (docs: use-webhooks.md promises no order and no single delivery)."""

from __future__ import annotations

import json

import httpx
import pytest
from webhook_kit import register

from conftest import Receiver
from devstack.dataverse import Emulator

URL = "http://org/_emulator/webhooks"


async def names(app: Emulator, api: httpx.AsyncClient, receiver: Receiver, **mishaps: int) -> str:
    """Make contacts a, b, c under these mishaps and return the names that were delivered, in order."""
    await register(api)
    assert (await api.put(URL, json=mishaps)).status_code == 200
    for name in "abc":
        await api.post("contacts", json={"lastname": name})
        if not mishaps.get("reverse"):
            await app.webhooks.idle()
    await app.webhooks.idle()
    found = []
    for request in receiver.requests:
        target = json.loads(request.content)["InputParameters"][0]["value"]
        found += [each["value"] for each in target["Attributes"] if each["key"] == "lastname"]
    return "".join(found)


@pytest.mark.parametrize(
    ("mishaps", "expected"),
    [({"duplicate": 2}, "aabbc"), ({"lose": 1}, "bc"), ({"reverse": 3}, "cba"), ({}, "abc"), ({"reverse": 9}, "cba")],
)
async def test_deliveries(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, mishaps: dict[str, int], expected: str
) -> None:
    """So many of the next deliveries are doubled, dropped, or kept until all is quiet and sent last first."""
    assert await names(app, api, receiver, **mishaps) == expected


async def test_a_reset_forgets_them(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """After a reset deliveries are as they should be."""
    await api.put(URL, json={"lose": 5, "reverse": 5})
    await api.post("http://org/_emulator/reset")
    assert await names(app, api, receiver) == "abc"


@pytest.mark.parametrize("document", [[], {"loose": 1}, {"lose": -1}, {"lose": "1"}])
async def test_wrong_mishaps(api: httpx.AsyncClient, document: object) -> None:
    """What is not a number of a known mishap is 400."""
    assert (await api.put(URL, json=document)).status_code == 400

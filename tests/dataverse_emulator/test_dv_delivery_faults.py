"""Events that come twice, get lost or change places, as the control side asks for (docs: use-webhooks.md promises no order and no single delivery)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from webhook_kit import attributes, register

from conftest import Receiver
from devstack.control import OF_EVENTS
from devstack.dataverse import Emulator
from devstack.dataverse.troubles import TROUBLES

FAULTS = "http://org/_emulator/faults"
JOBS = "asyncoperations?$select=statuscode"


async def make(app: Emulator, api: httpx.AsyncClient, names: str, *, one_by_one: bool = True) -> None:
    for name in names:
        await api.post("contacts", json={"lastname": name})
        if one_by_one:
            await settled(app)
    await app.webhooks.idle()


async def settled(app: Emulator) -> None:
    """Wait for what is under way, and not for events that are kept back."""
    while app.webhooks._tasks:
        await next(iter(app.webhooks._tasks))


def told(receiver: Receiver) -> str:
    return "".join(str(attributes(json.loads(each.content))["lastname"]) for each in receiver.requests)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"name": "duplicate_event", "times": 2}, "aabbcd"),
        ({"name": "duplicate_event", "times": 0}, "aabbccdd"),
        ({"name": "lost_event"}, "bcd"),
        ({"name": "lost_event", "after": 1, "times": 2}, "ad"),
        ({"name": "lost_event", "path": "^account/"}, "abcd"),
        ({"name": "lost_event", "path": "^contact/Create$"}, "bcd"),
        ({"name": "reordered_events"}, "bacd"),
        ({"name": "reordered_events", "times": 3}, "cbad"),
        ({"name": "reordered_events", "times": 9}, "dcba"),
    ],
)
async def test_what_becomes_of_events(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, fault: dict[str, Any], expected: str
) -> None:
    """So many of the next events are doubled, dropped, or kept and told last first; those that never come when all is quiet."""
    await register(api)
    assert (await api.put(FAULTS, json=[fault])).status_code == 200
    await make(app, api, "abcd", one_by_one=fault.get("times") != 9)
    assert told(receiver) == expected
    assert app.webhooks.queued == app.webhooks.inflight == 0


async def test_events_kept_back_are_queued(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Until there are enough of them the kept events count as queued, and their jobs wait."""
    await register(api)
    await api.put(FAULTS, json=[{"name": "reordered_events", "times": 3}])
    for name in "ab":
        await api.post("contacts", json={"lastname": name})
    assert (app.webhooks.queued, receiver.requests) == (2, [])
    assert [each["statuscode"] for each in (await api.get(JOBS)).json()["value"]] == [0, 0]
    await api.post("contacts", json={"lastname": "c"})
    await settled(app)
    assert told(receiver) == "cba"


async def test_a_lost_event_leaves_no_trace(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """No job tells of an event that got lost; a doubled one is one job, with one OperationId."""
    await register(api, asyncautodelete=False)
    await api.put(FAULTS, json=[{"name": "lost_event"}, {"name": "duplicate_event"}])
    await make(app, api, "ab")
    first, second = (json.loads(each.content) for each in receiver.requests)
    assert first == second
    (job,) = (await api.get("asyncoperations")).json()["value"]
    assert job["asyncoperationid"] == first["OperationId"]


async def test_synchronous_steps_are_spared(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """These faults are of the queue that asynchronous steps have: a synchronous one is called once, and the fault waits."""
    await register(api, mode=0)
    await api.put(FAULTS, json=[{"name": "lost_event"}])
    await make(app, api, "a")
    assert (told(receiver), len(app.faults)) == ("a", 1)


async def test_a_reset_forgets_them(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """After a reset events are told as they should be, and what was kept back never is."""
    await register(api)
    await api.put(FAULTS, json=[{"name": "reordered_events", "times": 5}])
    await api.post("contacts", json={"lastname": "gone"})
    await api.post("http://org/_emulator/reset")
    assert (app.webhooks.queued, app.faults) == (0, [])
    await register(api)
    await make(app, api, "abc")
    assert told(receiver) == "abc"


def test_every_name_is_tried() -> None:
    """The names of what befalls events are those above."""
    names = {name for name, each in TROUBLES.items() if each.fault.get("effect") in OF_EVENTS}
    assert names == {"lost_event", "duplicate_event", "reordered_events"}


@pytest.mark.parametrize(
    "fault", [{"name": "reordered_events", "times": 0}, {"name": "lost_event", "inside": True}, {"effect": "forget"}]
)
async def test_wrong_faults(api: httpx.AsyncClient, fault: dict[str, Any]) -> None:
    """Events cannot be reordered for ever, nor be inside a batch: 400."""
    assert (await api.put(FAULTS, json=[fault])).status_code == 400

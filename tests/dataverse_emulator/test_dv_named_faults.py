"""Faults that Dataverse is known for, asked for by name: whole calls, and single operations of a batch (docs: bulk-operations.md, api-limits.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from devstack.control import Fault
from devstack.dataverse.troubles import TROUBLES
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import read_error
from relay.dataverse.throttle import Governor

FAULTS = "http://org/_emulator/faults"
TARGETS = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.contact"}]}
KINDS = {
    "throttle_requests": "transient",
    "throttle_time": "transient",
    "throttle_concurrency": "transient",
    "customization_lock": "transient",
    "deadlock_1205": "transient",
    "sql_timeout": "transient",
    "second_error_shape": "transient",
    "bulk_rollback": "terminal",
    "no_bulk": "terminal",
    "stale_etag": "race",
}


async def put(api: httpx.AsyncClient, *faults: dict[str, Any]) -> None:
    answer = await api.put(FAULTS, json=list(faults))
    assert answer.status_code == 200, answer.text


async def count(api: httpx.AsyncClient) -> int:
    return int((await api.get("contacts/$count")).text)


@pytest.mark.parametrize("name", sorted(KINDS))
async def test_each_name_means_what_the_client_reads(api: httpx.AsyncClient, name: str) -> None:
    """A fault by name answers in Dataverse's own words, which the relay's client classes as such; nothing is done."""
    await put(api, {"name": name, "inside": False, "method": "POST"})
    answer = await api.post("contacts/Microsoft.Dynamics.CRM.CreateMultiple", json=TARGETS)
    assert read_error(answer.status_code, answer.headers, answer.json()).kind == KINDS[name]
    assert ("Retry-After" in answer.headers) == name.startswith("throttle")
    assert await count(api) == 0
    assert (await api.get(FAULTS)).json() == []


async def test_every_name_is_tried() -> None:
    """The names are those above, and the one whose answer nobody gets."""
    assert sorted(TROUBLES) == sorted([*KINDS, "lost_response"])


async def test_a_lost_answer_has_been_carried_out(api: httpx.AsyncClient) -> None:
    """`lost_response` does the work and cuts the connection."""
    await put(api, {"name": "lost_response", "method": "POST"})
    with pytest.raises(httpx.RemoteProtocolError):
        await api.post("contacts", json={})
    assert await count(api) == 1


async def test_names_are_listed_and_checked(api: httpx.AsyncClient) -> None:
    """The control side lists the names with their meaning and refuses others, naming the valid ones."""
    names = (await api.get("http://org/_emulator/fault-names")).json()
    assert names.keys() == TROUBLES.keys()
    assert all(names.values())
    answer = await api.put(FAULTS, json=[{"name": "deadlock"}])
    assert answer.status_code == 400
    assert "deadlock_1205" in answer.json()["error"]


async def test_fields_beside_a_name_win(api: httpx.AsyncClient) -> None:
    """What is given beside the name replaces what the name stands for."""
    await put(api, {"name": "deadlock_1205", "times": 2, "status": 400, "path": "accounts"})
    assert (await api.post("contacts", json={})).status_code == 204
    assert [(await api.post("accounts", json={})).status_code for _ in range(3)] == [400, 400, 204]


async def test_single_operations_of_a_batch_are_struck(api: httpx.AsyncClient) -> None:
    """With `inside` the fault strikes one operation: the change set it is in is undone, the others of the batch stand."""
    await put(api, {"name": "deadlock_1205", "inside": True, "after": 1})
    sets = [ChangeSet((Request("POST", "contacts", {}), Request("POST", "contacts", {}))) for _ in range(2)]
    transport = api._transport
    async with DataverseClient("http://org", transport=transport, governor=Governor()) as client:
        struck, whole = await client.batch(sets)
    assert [each.error and each.error.code for each in struck] == ["0x80044150"]
    assert [each.status for each in whole] == [204, 204]
    assert await count(api) == 2


async def test_faults_of_calls_and_of_operations_are_apart(api: httpx.AsyncClient) -> None:
    """A fault inside batches leaves whole calls alone; only an answer can strike inside."""
    await put(api, {"name": "sql_timeout", "inside": True, "times": 0})
    assert (await api.post("contacts", json={})).status_code == 204
    answer = await api.put(FAULTS, json=[{"effect": "lose", "inside": True}])
    assert (answer.status_code, "inside" in answer.json()["error"]) == (400, True)
    with pytest.raises(ValueError, match="there are no named ones"):
        Fault.parse({"name": "sql_timeout"})

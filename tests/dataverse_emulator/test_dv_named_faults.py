"""Faults that Dataverse is known for, asked for by name: whole calls, and single operations of a batch (docs: bulk-operations.md, api-limits.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from webhook_kit import register

from conftest import Receiver
from devstack.control import OF_EVENTS, Fault
from devstack.dataverse import Emulator
from devstack.dataverse.troubles import TROUBLES
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import read_error
from relay.dataverse.throttle import Governor

FAULTS = "http://org/_emulator/faults"
MISSING = "00000000-0000-0000-0000-00000000dead"
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


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        (
            "throttle_requests",
            "0x80072322",
            "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
        ),
        (
            "throttle_time",
            "0x80072321",
            (
                "Combined execution time of incoming requests exceeded limit of 1,200,000  milliseconds over time window of "
                "300 seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later."
            ),
        ),
        ("throttle_concurrency", "0x80072326", "Number of concurrent requests exceeded the limit of 52."),
    ],
)
async def test_throttling_in_its_own_words(
    app: Emulator, api: httpx.AsyncClient, name: str, code: str, message: str
) -> None:
    """The three facets have the codes and texts of the documented default limits, and say how long to wait."""
    app.arm(name)
    answer = await api.get("contacts")
    assert answer.status_code == 429
    assert answer.json()["error"] == {"code": code, "message": message}
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("deadlock_1205", "0x80044150", "Sql Number: 1205"),
        ("sql_timeout", "0x80044151", "Sql Number: -2"),
        ("customization_lock", "0x80071151", "Cannot start the requested operation ["),
    ],
)
async def test_what_sql_and_customizations_say(
    app: Emulator, api: httpx.AsyncClient, name: str, code: str, words: str
) -> None:
    """Clients tell these by code or by the number that SQL Server gives."""
    app.arm(name)
    error = (await api.get("contacts")).json()["error"]
    assert (error["code"], words in error["message"]) == (code, True)


async def test_every_name_is_tried() -> None:
    """The names of what befalls calls: those above, one whose answer nobody gets, one in which somebody else comes first."""
    of_calls = [name for name, each in TROUBLES.items() if each.fault.get("effect") not in OF_EVENTS]
    assert sorted(of_calls) == sorted([*KINDS, "lost_response", "stale_etag"])


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


async def test_a_row_is_saved_by_somebody_first(app: Emulator, api: httpx.AsyncClient) -> None:
    """`stale_etag` gives the row another version just before a write that names one, and strikes no other write."""
    made = await api.post("contacts", json={"lastname": "a"}, headers={"Prefer": "return=representation"})
    url, version = f"contacts({made.json()['contactid']})", made.headers["ETag"]
    app.arm("stale_etag")
    for free in ({}, {"If-Match": "*"}, {"If-Match": "null"}):
        assert (await api.patch(url, json={"firstname": "x"}, headers=free)).status_code == 204
    version = (await api.get(url)).headers["ETag"]
    answer = await api.patch(url, json={"lastname": "b"}, headers={"If-Match": version})
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "0x80060882")
    read = await api.get(url)
    assert (read.json()["lastname"], read.headers["ETag"] == version) == ("a", False)
    again = await api.patch(url, json={"lastname": "b"}, headers={"If-Match": read.headers["ETag"]})
    assert again.status_code == 204


async def test_a_change_set_meets_a_row_that_somebody_saved(app: Emulator, api: httpx.AsyncClient) -> None:
    """In a batch the save stands although the change set that met it is undone, also where it comes late in it."""
    row = (await api.post("contacts", json={}, headers={"Prefer": "return=representation"})).json()
    url, version = f"contacts({row['contactid']})", row["@odata.etag"]
    app.arm("stale_etag")
    changes = [
        Request("POST", "contacts", {}),
        Request("PATCH", url, {"lastname": "b"}, headers={"If-Match": version}),
    ]
    async with DataverseClient("http://org", transport=api._transport, governor=Governor()) as client:
        (struck,) = await client.batch([ChangeSet(tuple(changes))])
    assert [each.error and each.error.code for each in struck] == ["0x80060882"]
    assert await count(api) == 1
    assert (await api.get(url)).headers["ETag"] != version
    assert app.faults == []


async def test_a_save_of_no_row_changes_nothing(app: Emulator, api: httpx.AsyncClient) -> None:
    """A row that is not there, or a path that names none, cannot be saved by anybody: the answer is what it would be."""
    version = {"If-Match": 'W/"1"'}
    for url, status in ((f"contacts({MISSING})", 404), ("contacts", 405), ("nothings(1)", 501)):
        app.arm("stale_etag")
        assert (await api.patch(url, json={}, headers=version)).status_code == status


async def test_a_bulk_action_is_taken_back_after_its_work(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    """`bulk_rollback` does the work, synchronous steps with it, and takes all of it back; later steps hear nothing."""
    await register(api)
    app.arm("bulk_rollback")
    answer = await api.post("contacts/Microsoft.Dynamics.CRM.UpsertMultiple", json=TARGETS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80040216")
    await app.webhooks.idle()
    assert (await count(api), receiver.requests) == (0, [])
    app.arm("bulk_rollback")
    answer = await api.post("contacts/Microsoft.Dynamics.CRM.UpsertMultiple", json={"Targets": []})
    assert answer.json()["error"]["code"] == "0x80040203", "an error of its own comes first"
    assert (await api.post("contacts", json={})).status_code == 204


@pytest.mark.parametrize("name", ["second_error_shape", "throttle_requests", "sql_timeout"])
async def test_inside_a_batch_an_answer_is_the_same(app: Emulator, api: httpx.AsyncClient, name: str) -> None:
    """An operation of a batch is answered as a whole call would be: status, body and headers."""
    app.arm(name)
    alone = await api.get("contacts")
    app.arm(name, inside=True)
    content = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET contacts HTTP/1.1\r\n\r\n--b--\r\n"
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert answer.status_code == alone.status_code
    assert alone.text in answer.text
    assert ("Retry-After: 2" in answer.text) == ("Retry-After" in alone.headers)


async def test_an_answer_without_words(app: Emulator, api: httpx.AsyncClient) -> None:
    """A fault without a body that strikes inside a batch is an error without words."""
    app.faults.append(Fault(inside=True, status=503))
    content = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET contacts HTTP/1.1\r\n\r\n--b--\r\n"
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert (answer.status_code, '{"error":{"code":"","message":""}}' in answer.text) == (503, True)


async def test_names_are_armed_in_python(app: Emulator, api: httpx.AsyncClient) -> None:
    """`arm` adds a fault by its name; a name or field that is not there is refused as over HTTP."""
    app.arm("deadlock_1205", method="post", times=2)
    assert [(await api.post("contacts", json={})).status_code for _ in range(3)] == [500, 500, 204]
    with pytest.raises(ValueError, match="deadlock_1205"):
        app.arm("deadlock")
    with pytest.raises(ValueError, match="valid: method"):
        app.arm("deadlock_1205", time=2)

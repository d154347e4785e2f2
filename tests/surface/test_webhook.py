from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from surface_kit import OURS, Flaky, Surface, surface

ROUTE = "/api/dataverse/event"
ORGANIZATION = "b5e0f5a9-0c5c-4a59-9b0a-4f3f3d2c1b00"
OTHER = "0d8a3a52-54f5-4a0f-9f04-6d3d2f2f7a11"
WALK_IN = {"resourceType": "Patient", "id": "w1", "name": [{"family": "Marsh"}]}
SECRET = "Zwetschgenbaum"


@asynccontextmanager
async def walked_in(folder: Path, **options: Any) -> AsyncIterator[tuple[Surface, str]]:
    """Let a user make a contact for a patient that the FHIR server has, without an event; gives its GUID."""
    async with surface(folder, webhook=False, **options) as it:
        await it.put(WALK_IN)
        row = {"lastname": "Marsh", "msemr_azurefhirid": "w1", "msemr_contacttype": 935000000}
        created = await it.org.post("/contacts", json=row)
        assert created.status_code == 204
        guid = created.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")
        it.forget_calls()
        yield it, guid


def event(guid: str, **changed: Any) -> dict[str, Any]:
    """Return a post-create message as Dataverse sends it; a change to None leaves the member out."""
    target = {
        "__type": "Entity:http://schemas.microsoft.com/xrm/2011/Contracts",
        "Attributes": [{"key": "lastname", "value": SECRET}, {"key": "msemr_azurefhirid", "value": "w1"}],
        "Id": guid,
        "LogicalName": "contact",
    }
    message: dict[str, Any] = {
        "BusinessUnitId": "5a1c7d3e-0000-4000-8000-000000000001",
        "CorrelationId": "5a1c7d3e-0000-4000-8000-000000000002",
        "Depth": 1,
        "InputParameters": [{"key": "Target", "value": target}],
        "MessageName": "Create",
        "OperationCreatedOn": "/Date(1780315200000+0000)/",
        "OperationId": "5a1c7d3e-0000-4000-8000-000000000003",
        "OrganizationId": ORGANIZATION,
        "OutputParameters": [{"key": "id", "value": guid}],
        "ParentContext": None,
        "PrimaryEntityId": guid,
        "PrimaryEntityName": "contact",
        "SharedVariables": [{"key": "IsAutoTransact", "value": True}],
        "Stage": 40,
    }
    return {name: value for name, value in (message | changed).items() if value is not None}


async def send(it: Surface, message: Any, **options: Any) -> httpx.Response:
    """Deliver a message as Dataverse does."""
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    return await it.http.post(ROUTE, content=content, **({"headers": {"Content-Type": "application/json"}} | options))


async def identifiers(it: Surface) -> list[str]:
    """Return the GUIDs that the patient carries."""
    await it.settle()
    resource = await it.read("Patient", "w1")
    return [each["value"] for each in resource.get("identifier", []) if each["system"].startswith(OURS)]


KEYS = {"dataverse_event": ["first", "second"], "post_bundle": ["other"]}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 401),
        ({"headers": {"x-functions-key": "wrong"}}, 401),
        ({"params": {"code": "wrong"}}, 401),
        ({"params": {"code": ""}}, 401),
        ({"headers": {"x-functions-key": "other"}}, 401),
        ({"headers": {"x-functions-key": "wrong"}, "params": {"code": "first"}}, 401),
        ({"headers": {"x-functions-key": "first"}}, 202),
        ({"params": {"code": "first"}}, 202),
        ({"headers": {"x-functions-key": "second"}}, 202),
        ({"params": {"code": "second"}}, 202),
    ],
    ids=str,
)
async def test_a_key_of_the_function_lets_an_event_in(tmp_path: Path, options: dict[str, Any], status: int) -> None:
    """The key comes as `x-functions-key` or `?code=`, two are valid at once, and without one nothing is stored."""
    async with walked_in(tmp_path, keys=KEYS) as (it, guid):
        answer = await send(it, event(guid), **options)
        assert answer.status_code == status
        assert answer.content == b""
        assert await it.store.length("writeback") == (1 if status == 202 else 0)


async def test_an_event_of_a_users_row_links_the_resource(tmp_path: Path) -> None:
    """The event alone brings the identifier row and the GUID in the FHIR resource."""
    async with walked_in(tmp_path) as (it, guid):
        assert (await send(it, event(guid))).status_code == 202
        assert it.calls() == []  # the answer waits for nobody
        assert await identifiers(it) == [guid]
        assert [row["prefix_value"] for row in it.rows("prefix_patientidentifier")] == [guid]


@pytest.mark.parametrize(
    "changed",
    [
        {"InputParameters": None},
        {"InputParameters": None, "ParentContext": None, "OutputParameters": None},
        {"InputParameters": []},
        {"PrimaryEntityId": None},
        {"OperationCreatedOn": "2026-06-01T12:00:00.1234567Z"},
        {"OperationCreatedOn": "/Date(1780315200000)/"},
        {"OperationCreatedOn": "/Date(1780315200000+0200)/"},
        {"OperationCreatedOn": "yesterday"},
        {"PrimaryEntityName": "CONTACT"},
        {"SomethingNew": {"a": [1, 2, {"b": None}]}},
    ],
    ids=str,
)
async def test_what_dataverse_may_send_is_taken(tmp_path: Path, changed: Mapping[str, Any]) -> None:
    """A stripped message, either spelling of a date, and members of later versions all lead to the same link."""
    async with walked_in(tmp_path) as (it, guid):
        assert (await send(it, event(guid, **changed))).status_code == 202
        assert await identifiers(it) == [guid]


def lie(guid: str, **attributes: Any) -> dict[str, Any]:
    """Return an event whose attributes are not the row's."""
    pairs = [{"key": name, "value": value} for name, value in attributes.items()]
    target = {"Attributes": pairs, "Id": guid, "LogicalName": "contact"}
    return event(guid, InputParameters=[{"key": "Target", "value": target}])


@pytest.mark.parametrize(
    "attributes",
    [
        {"msemr_azurefhirid": "somebody-else"},
        {"msemr_azurefhirid": None, "msemr_contacttype": {"Value": 935000001}},
        {"msemr_azurefhirid": "../../metadata", "contactid": OTHER},
        {"prefix_patient": {"Id": OTHER, "LogicalName": "contact"}},
    ],
    ids=str,
)
async def test_the_body_is_only_a_hint(tmp_path: Path, attributes: dict[str, Any]) -> None:
    """What an event says of a row's columns changes nothing: the row is read again, and it counts."""
    async with walked_in(tmp_path) as (it, guid):
        await it.put({"resourceType": "Patient", "id": "somebody-else"})
        assert (await send(it, lie(guid, **attributes))).status_code == 202
        assert await identifiers(it) == [guid]
        assert "identifier" not in await it.read("Patient", "somebody-else")


async def test_an_event_of_a_row_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    """A forged or late event reads, finds no row, and ends there: no PUT, no row, no dead letter."""
    async with walked_in(tmp_path) as (it, _):
        before = it.snapshot()
        assert (await send(it, event("5a1c7d3e-0000-4000-8000-000000000004"))).status_code == 202
        assert await identifiers(it) == []
        assert it.snapshot() == before
        assert await it.relay.dead_letters.list() == []


@pytest.mark.parametrize("changed", [{"MessageName": "Delete"}, {"PrimaryEntityName": "phonecall"}], ids=str)
async def test_events_of_other_kinds_are_taken_and_cost_nothing(tmp_path: Path, changed: dict[str, Any]) -> None:
    """An event that no map is about is answered 202, so that Dataverse keeps quiet, and asks nobody anything."""
    async with walked_in(tmp_path) as (it, guid):
        assert (await send(it, event(guid, **changed))).status_code == 202
        await it.settle()
        assert it.calls() == []


@pytest.mark.parametrize("spelling", [ORGANIZATION, ORGANIZATION.upper(), f"{{{ORGANIZATION}}}"])
async def test_the_configured_organisation_is_let_in(tmp_path: Path, spelling: str) -> None:
    """Case and braces of RELAY_DATAVERSE_ORGANIZATION_ID do not matter."""
    async with walked_in(tmp_path, dataverse_organization_id=spelling) as (it, guid):
        assert (await send(it, event(guid))).status_code == 202
        assert (await send(it, event(guid, OrganizationId=ORGANIZATION.upper()))).status_code == 202


@pytest.mark.parametrize("claimed", [OTHER, "", None, 7])
async def test_any_other_organisation_is_refused(tmp_path: Path, claimed: Any) -> None:
    """With RELAY_DATAVERSE_ORGANIZATION_ID set, an event of another organisation, or of none, is 400 and not stored."""
    async with walked_in(tmp_path, dataverse_organization_id=ORGANIZATION) as (it, guid):
        answer = await send(it, event(guid, OrganizationId=claimed))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong-organization")
        assert await it.store.length("writeback") == 0


GARBAGE: dict[str, Callable[[str], bytes]] = {
    "nothing": lambda _: b"",
    "text": lambda _: b"hello",
    "half of it": lambda guid: json.dumps(event(guid)).encode()[:100],
    "a list": lambda guid: json.dumps([event(guid)]).encode(),
    "null": lambda _: b"null",
    "an empty object": lambda _: b"{}",
    "no message": lambda guid: json.dumps(event(guid, MessageName="")).encode(),
    "a message that is no text": lambda guid: json.dumps(event(guid, MessageName=7)).encode(),
    "a table that is no name": lambda guid: json.dumps(event(guid, PrimaryEntityName="contact' or 1 eq 1")).encode(),
    "no row": lambda guid: json.dumps(
        event(guid, PrimaryEntityId="x", OutputParameters=None, InputParameters=None)
    ).encode(),
    "a row that is no GUID": lambda guid: json.dumps(
        event(guid, PrimaryEntityId="1) or (1 eq 1", OutputParameters=None, InputParameters=None)
    ).encode(),
    "deep": lambda _: b'{"a":' * 100_000,
    "a message's name without end": lambda guid: json.dumps(event(guid, MessageName="Create" * 20_000)).encode(),
    "not UTF-8": lambda guid: json.dumps(event(guid)).encode("utf-16"),
    "a huge number": lambda _: b'{"MessageName":"Create","Stage":' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_400_and_not_stored(tmp_path: Path, name: str) -> None:
    """What is no event is refused with a code and a reason; Dataverse does not repeat a 400."""
    async with walked_in(tmp_path) as (it, guid):
        answer = await send(it, GARBAGE[name](guid))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not-an-event")
        assert await it.store.length("writeback") == 0


@pytest.mark.parametrize(
    "tag", ["relay-" + "x" * 60_000, "\U0001f600" * 20_000, "relay-\u0000"], ids=["x", "emoji", "NUL"]
)
async def test_a_tag_that_is_not_ours_is_nothing_to_us(tmp_path: Path, tag: str) -> None:
    """Any text can be a write's tag: one that the relay did not make is not kept, and the row is linked as ever."""
    async with walked_in(tmp_path) as (it, guid):
        answer = await send(it, event(guid, SharedVariables=[{"key": "tag", "value": tag}]))
        assert answer.status_code == 202
        assert await identifiers(it) == [guid]


async def test_without_a_store_dataverse_is_asked_to_send_again(tmp_path: Path) -> None:
    """An event that cannot be stored is 503 with Retry-After: Dataverse sends it once more on that and nothing else."""
    async with walked_in(tmp_path, wrap=lambda store: Flaky(store, at=-1)) as (it, guid):
        answer = await send(it, event(guid))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["error"]["code"] == "store-unavailable"
        assert str(tmp_path) not in answer.text


async def test_only_ids_of_an_event_are_kept(tmp_path: Path) -> None:
    """No value of a column, however it is wrapped, gets from an event's body into the store's files."""
    async with walked_in(tmp_path) as (it, guid):
        image = {"Attributes": [{"key": "fullname", "value": SECRET}], "Id": guid, "LogicalName": "contact"}
        message = event(
            guid,
            PostEntityImages=[{"key": "image", "value": image}],
            OrganizationName=SECRET,
            SharedVariables=[{"key": "note", "value": SECRET}, {"key": "tag", "value": SECRET}],
        )
        (pair,) = message["InputParameters"]
        nested = {"LogicalName": "contact", "Attributes": [{"key": "lastname", "value": SECRET}]}
        pair["value"]["Attributes"].append({"key": "contact_parent", "value": nested})
        assert (await send(it, message)).status_code == 202
        (queued,) = await it.store.peek("writeback", hidden=True)
        kept = json.loads(queued.text)
        assert {name for name, value in kept.items() if value} == {
            "table",
            "id",
            "message",
            "operation",
            "first",
            "kind",
        }
        files = b"".join(each.read_bytes() for each in it.store.folder.rglob("*") if each.is_file())
        assert guid.encode() in files
        assert SECRET.encode() not in files

"""Webhooks: registered through plain rows, delivered after commit, retried and reported as Dataverse does (docs: use-webhooks.md)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from webhook_kit import ENDPOINT, attributes, pairs, register

from devstack.dataverse import Emulator, create_app
from devstack.dataverse.app import FACTS

ROOT = "http://org/api/data/v9.2/"
ID = "11111111-2222-3333-4444-555555555555"


async def test_a_create_is_posted_with_key_and_headers(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A create posts to the endpoint with the key as `code` and the headers that tell what happened."""
    await register(api)
    await api.post("contacts", json={"lastname": "Doe"})
    await api.post("accounts", json={"name": "not subscribed"})
    await app.webhooks.idle()
    (request,) = receiver.requests
    assert str(request.url).startswith(ENDPOINT["url"])
    assert request.url.params["code"] == ENDPOINT["authvalue"]
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["x-ms-dynamics-organization"] == "emulator"
    assert request.headers["x-ms-dynamics-entity-name"] == "contact"
    assert request.headers["x-ms-dynamics-request-name"] == "Create"
    assert "x-ms-dynamics-msg-size-exceeded" not in request.headers
    context = json.loads(request.content)
    assert request.headers["x-ms-correlation-request-id"] == context["CorrelationId"]
    assert app.webhooks.deliveries == 1


async def test_the_body_is_the_execution_context(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """The body has the captured members, key/value lists, typed values, and dates in milliseconds."""
    await api.post("accounts", json={"accountid": ID, "name": "Clinic"})
    _, step_url = await register(api)
    body = {
        "lastname": "a/b",
        "gendercode": 2,
        "birthdate": "1970-01-02",
        "annualincome": 12.5,
        "donotemail": True,
        "nickname": None,
        "parentcustomerid_account@odata.bind": f"/accounts({ID})",
    }
    made = await api.post("contacts", json=body)
    await app.webhooks.idle()
    content = receiver.requests[0].content
    assert b"\\/Date(86400000)\\/" in content
    assert re.search(rb"[^\\]/", content) is None
    context = json.loads(content)
    me = (await api.get("WhoAmI")).json()
    row_id = made.headers["OData-EntityId"][-37:-1]
    expected = {
        "BusinessUnitId": me["BusinessUnitId"],
        "Depth": 1,
        "InitiatingUserId": me["UserId"],
        "MessageName": "Create",
        "Mode": 1,
        "OrganizationId": me["OrganizationId"],
        "OutputParameters": [{"key": "id", "value": row_id}],
        "PrimaryEntityId": row_id,
        "PrimaryEntityName": "contact",
        "SecondaryEntityName": "none",
        "Stage": 40,
        "UserId": me["UserId"],
    }
    assert {name: context[name] for name in expected} == expected
    assert context["OwningExtension"]["Id"] == step_url[-37:-1]
    assert re.fullmatch(r"/Date\(\d+\+0000\)/", context["OperationCreatedOn"])
    values = attributes(context)
    contracts = "http://schemas.microsoft.com/xrm/2011/Contracts"
    assert values["lastname"] == "a/b"
    assert values["gendercode"] == {"__type": f"OptionSetValue:{contracts}", "Value": 2}
    assert values["annualincome"] == {"__type": f"Money:{contracts}", "Value": 12.5}
    assert values["birthdate"] == "/Date(86400000)/"
    assert (values["donotemail"], values["nickname"], values["contactid"]) == (True, None, row_id)
    assert values["parentcustomerid"] == {
        "__type": f"EntityReference:{contracts}",
        "Id": ID,
        "KeyAttributes": [],
        "LogicalName": "account",
        "Name": None,
        "RowVersion": None,
    }
    assert {"createdon", "modifiedon", "createdby", "ownerid", "statecode", "statuscode", "fullname"} <= set(values)
    formatted = pairs(pairs(context["InputParameters"])["Target"]["FormattedValues"])
    assert formatted["gendercode"] == "Female"
    image = pairs(context["PostEntityImages"])["AsynchronousStepPrimaryName"]
    assert pairs(image["Attributes"]) == {"fullname": "a/b", "contactid": row_id}


async def test_the_parent_context_holds_what_the_client_sent(
    app: Emulator, api: httpx.AsyncClient, receiver: Any
) -> None:
    """ParentContext has stage 30 and only the client's columns, with owner and status."""
    await register(api)
    await api.post("contacts", json={"lastname": "Doe"})
    await app.webhooks.idle()
    context = json.loads(receiver.requests[0].content)
    parent = context["ParentContext"]
    assert (parent["Stage"], parent["ParentContext"], parent["MessageName"]) == (30, None, "Create")
    assert set(attributes(parent)) == {"lastname", "ownerid", "statecode", "statuscode"}
    assert "SuppressDuplicateDetection" in pairs(parent["InputParameters"])
    assert parent["CorrelationId"] == context["CorrelationId"]


async def test_the_tag_is_a_shared_variable(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """`?tag=` arrives in SharedVariables, also from inside a batch; without it there is no tag."""
    await register(api)
    await api.post("contacts?tag=relay%2F1", json={})
    content = (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        "POST contacts?tag=inside HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{}\r\n--b--\r\n"
    )
    await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    await api.post("contacts", json={})
    await app.webhooks.idle()
    tags = [pairs(json.loads(each.content)["SharedVariables"]).get("tag") for each in receiver.requests]
    assert sorted(tags, key=str) == [None, "inside", "relay/1"]
    assert pairs(json.loads(receiver.requests[0].content)["ParentContext"]["SharedVariables"])["tag"] is not None


async def test_an_upsert_raises_create_or_update(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A PATCH that creates is a Create; one that updates is none."""
    await register(api)
    for _ in range(2):
        await api.patch(f"contacts({ID})", json={"lastname": "Doe"})
    await app.webhooks.idle()
    assert [each.headers["x-ms-dynamics-request-name"] for each in receiver.requests] == ["Create"]


async def test_updates_can_be_narrowed_to_columns(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A step on Update with filtering columns hears of those columns only, with the changed values."""
    await api.post("contacts", json={"contactid": ID})
    await register(api, message="Update", filteringattributes="lastname,nickname")
    await api.patch(f"contacts({ID})", json={"firstname": "Ann"})
    await api.patch(f"contacts({ID})", json={"lastname": "Doe"})
    await app.webhooks.idle()
    (request,) = receiver.requests
    context = json.loads(request.content)
    assert set(attributes(context)) == {"contactid", "lastname", "modifiedon", "modifiedby"}
    assert context["OutputParameters"] == []


async def test_images_carry_other_columns(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A registered image shows the chosen columns before and after an update."""
    await api.post("contacts", json={"contactid": ID, "firstname": "Ann", "lastname": "Doe", "nickname": "N"})
    _, step_url = await register(api, message="Update")
    image = {
        "name": "image",
        "entityalias": "row",
        "imagetype": 2,
        "messagepropertyname": "Target",
        "attributes": "firstname,lastname",
        "sdkmessageprocessingstepid@odata.bind": step_url,
    }
    assert (await api.post("sdkmessageprocessingstepimages", json=image)).status_code == 204
    await api.patch(f"contacts({ID})", json={"lastname": "Roe"})
    await app.webhooks.idle()
    context = json.loads(receiver.requests[0].content)
    before = pairs(pairs(context["PreEntityImages"])["row"]["Attributes"])
    after = pairs(pairs(context["PostEntityImages"])["row"]["Attributes"])
    assert before == {"contactid": ID, "firstname": "Ann", "lastname": "Doe"}
    assert after == {"contactid": ID, "firstname": "Ann", "lastname": "Roe"}


async def test_a_delete_names_the_row(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """A step on Delete gets a reference to the row that is gone."""
    await api.post("contacts", json={"contactid": ID})
    await register(api, message="Delete")
    await api.delete(f"contacts({ID})")
    await app.webhooks.idle()
    target = pairs(json.loads(receiver.requests[0].content)["InputParameters"])["Target"]
    assert (target["LogicalName"], target["Id"]) == ("contact", ID)


async def test_what_is_undone_is_not_told(app: Emulator, api: httpx.AsyncClient, receiver: Any) -> None:
    """Events of a change set that fails are never delivered."""
    await register(api)
    bodies = ['{"lastname": "gone"}', '{"nothing": 1}']
    parts = "".join(
        "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {number}\r\n\r\nPOST contacts HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
        for number, body in enumerate(bodies)
    )
    content = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert answer.status_code == 400
    await app.webhooks.idle()
    assert receiver.requests == []


async def test_the_row_is_there_when_it_is_told(api: httpx.AsyncClient, receiver: Any, app: Emulator) -> None:
    """Delivery comes after commit: the receiver can read the row, and the caller did not wait for it."""
    seen: list[int] = []
    release = asyncio.Event()

    async def hook(request: httpx.Request) -> httpx.Response:
        await release.wait()
        seen.append((await api.get(f"contacts({json.loads(request.content)['PrimaryEntityId']})")).status_code)
        return httpx.Response(204)

    app.webhooks._transport = httpx.MockTransport(hook)
    await register(api)
    assert (await api.post("contacts", json={})).status_code == 204
    assert seen == []
    status = (await api.get("http://org/_emulator/webhooks")).json()
    assert (status["queued"] + status["inflight"], status["delivered"]) == (1, 0)
    release.set()
    await app.webhooks.idle()
    assert seen == [200]
    assert receiver.requests == []
    status = (await api.get("http://org/_emulator/webhooks")).json()
    assert status == {"queued": 0, "inflight": 0, "delivered": 1, "failed": 0}


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_error_gets_one_more_try(
    app: Emulator, api: httpx.AsyncClient, receiver: Any, status: int
) -> None:
    """502, 503 and 504 are tried once more, then the job fails."""
    await register(api)
    receiver.statuses = [status]
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert (len(receiver.requests), app.webhooks.delivered, app.webhooks.failed) == (2, 1, 0)
    receiver.statuses = [status] * 5
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert (len(receiver.requests), app.webhooks.delivered, app.webhooks.failed) == (4, 1, 1)
    assert receiver.requests[2].content == receiver.requests[3].content


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500])
async def test_any_other_failure_is_final(app: Emulator, api: httpx.AsyncClient, receiver: Any, status: int) -> None:
    """Nothing else is tried again; a failed system job of the step remains."""
    _, step_url = await register(api)
    receiver.statuses = [status]
    made = (await api.post("contacts", json={})).headers["OData-EntityId"]
    await app.webhooks.idle()
    assert len(receiver.requests) == 1
    text = f"statuscode eq 31 and _owningextensionid_value eq {step_url[-37:-1]}"
    (job,) = (await api.get(f"asyncoperations?$filter={text}")).json()["value"]
    assert (job["statecode"], job["messagename"], job["primaryentitytype"]) == (3, "Create", "contact")
    assert job["_regardingobjectid_value"] == made[-37:-1]
    assert str(status) in job["message"]


async def test_a_lost_connection_is_final(api: httpx.AsyncClient, app: Emulator) -> None:
    """An endpoint that cannot be reached is not tried again."""
    tries = []

    def hook(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        raise httpx.ConnectError("refused")

    app.webhooks._transport = httpx.MockTransport(hook)
    await register(api)
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert (len(tries), app.webhooks.failed) == (1, 1)
    assert (await api.get("asyncoperations/$count?$filter=statuscode eq 31")).text == "1"


@pytest.mark.parametrize(("autodelete", "jobs"), [(True, "0"), (False, "1")])
async def test_successes_are_kept_when_the_step_keeps_them(
    app: Emulator, api: httpx.AsyncClient, *, autodelete: bool, jobs: str
) -> None:
    """A succeeded job remains only where the step does not delete it."""
    await register(api, asyncautodelete=autodelete)
    await api.post("contacts", json={})
    await app.webhooks.idle()
    assert (await api.get("asyncoperations/$count?$filter=statuscode eq 30")).text == jobs


async def test_a_large_message_loses_its_larger_members(tmp_path: Path, receiver: Any) -> None:
    """Over 256 KB the parameters, images and parent context go, a header says so, and the tag stays."""
    facts = json.loads(FACTS.read_text("utf-8"))
    facts["tables"]["contact"]["columns"]["description"] = {"type": "Memo", "maxLength": 1048576}
    (tmp_path / "facts.json").write_text(json.dumps(facts), "utf-8")
    transport = httpx.MockTransport(receiver)
    async with (
        create_app(metadata=tmp_path / "facts.json", webhook_transport=transport) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ROOT) as api,
    ):
        await register(api)
        for length in (100_000, 140_000):
            assert (await api.post("contacts?tag=t", json={"description": "x" * length})).status_code == 204
            await app.webhooks.idle()
    small, large = receiver.requests
    dropped = {"ParentContext", "InputParameters", "PreEntityImages", "PostEntityImages"}
    assert "x-ms-dynamics-msg-size-exceeded" not in small.headers
    assert dropped <= set(json.loads(small.content))
    assert "x-ms-dynamics-msg-size-exceeded" in large.headers
    context = json.loads(large.content)
    assert dropped.isdisjoint(context)
    assert pairs(context["SharedVariables"])["tag"] == "t"
    assert context["PrimaryEntityName"] == "contact"


async def test_closing_drops_what_is_under_way(receiver: Any) -> None:
    """Closing the emulator ends deliveries under way and may be done twice."""
    started = asyncio.Event()

    async def hook(_: httpx.Request) -> httpx.Response:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = create_app(webhook_transport=httpx.MockTransport(hook))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ROOT) as api:
        await register(api)
        await api.post("contacts", json={})
        await started.wait()
        assert app.webhooks.inflight == 1
        await app.aclose()
        await app.aclose()
    assert (app.webhooks.inflight, app.webhooks.queued, app.webhooks.deliveries) == (0, 0, 0)
    assert receiver.requests == []

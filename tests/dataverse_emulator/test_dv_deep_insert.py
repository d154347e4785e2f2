"""Rows inside the body of a POST: all of them or none (docs: webapi/create-entity-web-api.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from webhook_kit import register

from conftest import Receiver
from devstack.dataverse import Emulator

IDENTIFIERS = "prefix_patientidentifier_prefix_Patient_contact"
REPRESENTATION = {"Prefer": "return=representation"}


async def counts(api: httpx.AsyncClient) -> list[str]:
    return [(await api.get(f"{name}/$count")).text for name in ("contacts", "accounts", "prefix_patientidentifiers")]


async def test_an_object_is_created_and_looked_up(api: httpx.AsyncClient) -> None:
    """An object under a single-valued navigation property becomes the row that the new one looks up; the root's URI is told."""
    body = {"lastname": "Doe", "parentcustomerid_account": {"name": "Clinic"}}
    answer = await api.post("contacts", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    row = (await api.get(f"{answer.headers['OData-EntityId']}?$expand=parentcustomerid_account($select=name)")).json()
    assert (row["lastname"], row["parentcustomerid_account"]["name"]) == ("Doe", "Clinic")


async def test_an_array_is_created_below(api: httpx.AsyncClient) -> None:
    """The objects of an array look the new row up; the representation shows them where `$expand` asks for them."""
    body = {"lastname": "Doe", IDENTIFIERS: [{"prefix_value": "1"}, {"prefix_value": "2"}]}
    answer = await api.post(
        f"contacts?$select=lastname&$expand={IDENTIFIERS}($select=prefix_value)", json=body, headers=REPRESENTATION
    )
    assert answer.status_code == 201
    assert sorted(each["prefix_value"] for each in answer.json()[IDENTIFIERS]) == ["1", "2"]
    assert await counts(api) == ["1", "0", "2"]


async def test_rows_nest_at_any_level(api: httpx.AsyncClient) -> None:
    """A nested row nests others; the two sides of one relationship come out the same."""
    inner = {"name": "Clinic", "primarycontactid": {"lastname": "Head"}}
    body = {"parentcustomerid_account": inner, IDENTIFIERS: [{"prefix_value": "1"}]}
    assert (await api.post("contacts", json=body)).status_code == 204
    assert await counts(api) == ["2", "1", "1"]
    account = (await api.get("accounts?$expand=primarycontactid($select=lastname)")).json()["value"][0]
    assert account["primarycontactid"]["lastname"] == "Head"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"parentcustomerid_account": {"name": "x" * 161}}, "0x80044331"),
        ({"lastname": "x" * 51, "parentcustomerid_account": {}}, "0x80044331"),
        ({IDENTIFIERS: [{}, {"nothing": 1}]}, "0x80048d19"),
        ({IDENTIFIERS: [{}, 5]}, "0x80048d19"),
        ({IDENTIFIERS: {}}, "0x80048d19"),
        ({IDENTIFIERS: 5}, "0x80048d19"),
        ({"parentcustomerid_account": []}, "0x80048d19"),
        ({"parentcustomerid_Account": {}}, "0x80048d19"),
        ({"parentcustomerid_account": {}, "parentcustomerid_account@odata.bind": "accounts(x)"}, "0x80048d19"),
        ({"parentcustomerid_account": {"@odata.type": "Microsoft.Dynamics.CRM.contact"}}, "0x80048d19"),
    ],
)
async def test_all_or_none(api: httpx.AsyncClient, body: dict[str, Any], code: str) -> None:
    """One bad row, wherever it nests, leaves none."""
    answer = await api.post("contacts", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert await counts(api) == ["0", "0", "0"]


async def test_it_always_creates(api: httpx.AsyncClient) -> None:
    """A nested row whose key is taken is a duplicate, no reference to the row that is there."""
    await api.post("contacts", json={"msemr_azurefhirid": "p1"})
    answer = await api.post("contacts", json={"parentcustomerid_contact": {"msemr_azurefhirid": "p1"}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "0x80060892")
    assert await counts(api) == ["1", "0", "0"]


@pytest.mark.parametrize(("body", "feature"), [({"createdby": {}}, "createdby"), ({"ownerid": {}}, "ownerid")])
async def test_rows_that_cannot_be_chosen(api: httpx.AsyncClient, body: dict[str, Any], feature: str) -> None:
    """Under a property that only the server sets, or that leads to several tables, nested rows are 501."""
    answer = await api.post("contacts", json=body)
    assert answer.status_code == 501
    assert feature in answer.json()["error"]["message"]


async def test_nesting_has_an_end(api: httpx.AsyncClient) -> None:
    """A body that nests too deep is refused, and nothing of it is created."""
    body: dict[str, Any] = {}
    for _ in range(49):
        body = {"parentcustomerid_contact": body}
    assert (await api.post("contacts", json=body)).status_code == 204
    assert (await api.post("contacts", json={"parentcustomerid_contact": body})).status_code == 400
    assert await counts(api) == ["50", "0", "0"]


async def test_each_row_has_its_event(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Every row raises its own Create, with the tag of the request."""
    await register(api)
    await api.post("contacts?tag=deep", json={"parentcustomerid_contact": {"lastname": "inner"}})
    await app.webhooks.idle()
    assert len(receiver.requests) == 2
    assert all(b'{"key":"tag","value":"deep"}' in request.content for request in receiver.requests)

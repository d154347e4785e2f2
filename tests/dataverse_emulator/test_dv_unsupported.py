"""What the emulator does not do it refuses with 501 and the feature's name; it never pretends."""

from __future__ import annotations

import httpx
import pytest

ID = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("method", "path", "feature"),
    [
        ("POST", "contacts/Microsoft.Dynamics.CRM.DeleteMultiple", "the action DeleteMultiple"),
        ("GET", "contacts?savedQuery=x", "the query option savedQuery"),
        ("GET", "contacts?$apply=groupby((lastname))", "the query option $apply"),
        ("GET", "contacts?$search=x", "the query option $search"),
        ("DELETE", f"contacts({ID})?anything=x", "the query option anything"),
        ("POST", "contacts?$filter=lastname eq 'x'", "the query option $filter"),
        ("PUT", f"contacts({ID})/lastname?x=y", "the query option x"),
        ("GET", "WhoAmI?x=y", "the query option x"),
        ("GET", "contacts/$count?$top=1", "the query option $top"),
        ("GET", "contacts?anything=x", "the query option anything"),
        ("GET", "contacts?$expand=createdby($levels=2)", "the query option $levels"),
        ("GET", "contacts?$expand=ownerid($filter=x)", "ownerid"),
        ("GET", "contacts?$expand=slaid", "the table sla"),
        ("GET", "contacts?$orderby=createdby/fullname", "$orderby along navigation properties"),
        ("GET", "contacts?$filter=length(lastname) eq 1", "the function length"),
        ("GET", "contacts?$filter=lastname in ('a')", "the operator in"),
        ("GET", "contacts?$filter=Microsoft.Dynamics.CRM.Today(PropertyName='createdon')", "CRM.Today"),
        ("GET", "contacts?$filter=xs/any(x:x/y eq 1)", "the lambda operator any"),
        ("GET", f"contacts({ID})/Microsoft.Dynamics.CRM.RetrievePrincipalAccess()", "RetrievePrincipalAccess"),
        ("GET", "RetrieveVersion()", "RetrieveVersion"),
        ("POST", "CreateCustomerRelationships", "CreateCustomerRelationships"),
        ("POST", "InsertOptionValue", "InsertOptionValue"),
        ("GET", f"GetThings({'x'}='1')", "the function or action GetThings"),
        ("POST", f"contacts({ID})/msemr_link1/lastname", "below a record"),
        ("GET", "/api/data/v9.1/contacts", "any Web API version but v9.2"),
    ],
)
async def test_features_are_named(api: httpx.AsyncClient, method: str, path: str, feature: str) -> None:
    """Actions, functions, query options and paths that are not emulated are 501 with their name."""
    await api.post("contacts", json={"contactid": ID})
    url = f"http://org{path}" if path.startswith("/") else path
    answer = await api.request(method, url, json={} if method == "POST" else None)
    assert answer.status_code == 501, answer.text
    assert feature in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "header",
    [
        {"MSCRM.SomethingElse": "x"},
        {"MSCRM.SuppressDuplicateDetection": "false"},
        {"Prefer": "respond-async"},
        {"Accept": "application/json;odata.metadata=full"},
    ],
)
async def test_headers_that_would_matter(api: httpx.AsyncClient, header: dict[str, str]) -> None:
    """Headers that would change what a request means are 501, alone and inside a batch."""
    assert (await api.get("contacts", headers=header)).status_code == 501
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
    content = (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"GET contacts HTTP/1.1\r\n{lines}\r\n\r\n--b--\r\n"
    )
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert answer.status_code == 501


@pytest.mark.parametrize(
    "header",
    [
        {"MSCRM.SuppressCallbackRegistrationExpanderJob": "true"},
        {"MSCRM.BypassCustomPluginExecution": "true"},
        {"Prefer": "unknown=1"},
        {"OData-MaxVersion": "4.0", "x-ms-client-request-id": ID},
    ],
)
async def test_headers_without_an_object_here(api: httpx.AsyncClient, header: dict[str, str]) -> None:
    """Headers about flows and plug-ins, which the emulator does not have, and unknown preferences are accepted."""
    assert (await api.get("contacts", headers=header)).status_code == 200


@pytest.mark.parametrize("body", [{"msemr_link1": {}}, {"prefix_patientidentifier_prefix_Patient_contact": []}])
async def test_nested_rows_in_updates(api: httpx.AsyncClient, body: dict[str, object]) -> None:
    """Rows inside rows are for POST alone: in a PATCH and in a bulk action they are 501, and nothing is written."""
    targets = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.contact", **body}]}
    for answer in (
        await api.patch(f"contacts({ID})", json=body),
        await api.post("contacts/Microsoft.Dynamics.CRM.CreateMultiple", json=targets),
    ):
        assert answer.status_code == 501
        assert "nested rows" in answer.json()["error"]["message"]
    assert (await api.get("contacts/$count")).text == "0"


async def test_images_cannot_be_written(api: httpx.AsyncClient) -> None:
    """A column of a type that is not kept is 501 naming column and type."""
    answer = await api.post("msemr_codeableconcepts", json={"entityimage": "x"})
    assert answer.status_code == 501
    assert "type Image ('entityimage')" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "contacts"),
        ("PATCH", "contacts"),
        ("DELETE", "contacts"),
        ("POST", f"contacts({ID})"),
        ("GET", "$batch"),
    ],
)
async def test_other_methods(api: httpx.AsyncClient, method: str, path: str) -> None:
    """A method that a resource does not have is 405."""
    answer = await api.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "0x80060888")


async def test_outside_the_web_api_there_is_nothing(api: httpx.AsyncClient) -> None:
    """A path outside the Web API is 404 as JSON."""
    for path in ("/", "/main.aspx", "/api/data/"):
        answer = await api.get(f"http://org{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "0x80060888"

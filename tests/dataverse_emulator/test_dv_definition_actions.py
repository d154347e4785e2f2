"""Actions about tables: CreateEntities, BulkDelete and RetrieveMetadataChanges (what PowerPlatform-Dataverse-Client 1.1.0 sends and expects)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from definition_kit import CRM, column, made, refusal, table


def complex_table(name: str, *columns: dict[str, Any]) -> dict[str, Any]:
    body = table(name, *columns) | {"@odata.type": f"{CRM}ComplexEntityMetadata"}
    for each in body["Attributes"]:
        each["@odata.type"] = each["@odata.type"].replace(CRM, f"{CRM}Complex")
    return body


async def test_tables_are_made_together_or_not_at_all(api: httpx.AsyncClient) -> None:
    """CreateEntities makes every table, or none when one of them is wrong."""
    good = complex_table("new_Book", column("Integer", "new_Pages"))
    answer = await api.post("CreateEntities", json={"Entities": [good, complex_table("new_Book")]})
    assert refusal(answer) == (400, "0x80047010")
    assert (await api.get("new_books")).status_code == 404
    assert (await api.post("CreateEntities", json={"Entities": [good]})).status_code == 204
    assert (await api.post("new_books", json={"new_pages": 3})).status_code == 204


async def test_the_solution_may_stand_in_the_query(api: httpx.AsyncClient) -> None:
    """SolutionUniqueName is a parameter of CreateEntities."""
    body = {"Entities": [complex_table("new_Book")]}
    assert refusal(await api.post("CreateEntities?SolutionUniqueName=nothing", json=body)) == (400, "0x80040203")
    assert (await api.post("CreateEntities?SolutionUniqueName=Default", json=body)).status_code == 204
    assert [each["componenttype"] for each in (await api.get("solutioncomponents")).json()["value"]] == [1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"Entities": []}, 400),
        ({"Entities": [1]}, 400),
        ({"Entities": [table("new_Book")]}, 400),
        ({"Entities": [complex_table("new_Book")], "More": 1}, 501),
    ],
)
async def test_wrong_calls_of_create_entities(api: httpx.AsyncClient, body: Any, status: int) -> None:
    """CreateEntities takes ComplexEntityMetadata only, at least one."""
    assert (await api.post("CreateEntities", json=body)).status_code == status


def deletion(*ids: str, **more: Any) -> dict[str, Any]:
    condition = {
        "@odata.type": f"{CRM}ConditionExpression",
        "AttributeName": "contactid",
        "Operator": "In",
        "Values": [{"Value": each, "Type": "System.Guid"} for each in ids],
    }
    criteria = {"@odata.type": f"{CRM}FilterExpression", "FilterOperator": "And", "Conditions": [condition]}
    query = {
        "@odata.type": f"{CRM}QueryExpression",
        "EntityName": "contact",
        "ColumnSet": {"@odata.type": f"{CRM}ColumnSet", "AllColumns": False, "Columns": []},
        "Criteria": criteria,
    }
    return {
        "JobName": "Bulk delete",
        "SendEmailNotification": False,
        "ToRecipients": [],
        "CCRecipients": [],
        "RecurrencePattern": "",
        "StartDateTime": "2024-01-01T00:00:00Z",
        "QuerySet": [query],
        **more,
    }


async def test_rows_are_deleted_by_a_job(api: httpx.AsyncClient) -> None:
    """BulkDelete answers with a job, which has removed the named rows that there are, and no others."""
    ids = [(await made(api, "contacts", {"lastname": name})).partition("(")[2][:-1] for name in "abc"]
    unknown = "11111111-2222-3333-4444-555555555555"
    answer = await api.post("BulkDelete", json=deletion(*ids[:2], unknown))
    assert answer.status_code == 200
    job = (await api.get(f"asyncoperations({answer.json()['JobId']})")).json()
    assert (job["name"], job["statecode"], job["statuscode"]) == ("Bulk delete", 3, 30)
    assert [each["contactid"] for each in (await api.get("contacts")).json()["value"]] == ids[2:]


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    body = json.loads(json.dumps(deletion("11111111-2222-3333-4444-555555555555")))
    inner: Any = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return dict(body)


CONDITION: list[Any] = ["QuerySet", 0, "Criteria", "Conditions", 0]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (changed(["RecurrencePattern"], "FREQ=DAILY"), 501),
        (changed(["SendEmailNotification"], value=True), 501),
        (changed(["QuerySet"], []), 501),
        (changed(["QuerySet", 0, "EntityName"], "nothing"), 404),
        (changed(["QuerySet", 0, "EntityName"], "systemuser"), 501),
        (changed(["QuerySet", 0, "Criteria"], None), 501),
        (changed(["QuerySet", 0, "Orders"], []), 501),
        (changed([*CONDITION, "Operator"], "Like"), 501),
        (changed([*CONDITION, "AttributeName"], "lastname"), 501),
        (changed([*CONDITION, "Values"], ["x"]), 400),
        (changed([*CONDITION, "Values"], [{"Value": 1}]), 400),
        (changed(["Nonsense"], 1), 501),
    ],
)
async def test_what_bulk_delete_does_not_do(api: httpx.AsyncClient, body: dict[str, Any], status: int) -> None:
    """Queries by anything but primary keys are 501, unknown tables 404, what is no GUID 400."""
    assert (await api.post("BulkDelete", json=body)).status_code == status


def named(name: str, value: Any = None) -> dict[str, Any]:
    value = value or {"Type": "System.String", "Value": name}
    return {"Conditions": [{"PropertyName": "LogicalName", "ConditionOperator": "Equals", "Value": value}]}


async def changes(api: httpx.AsyncClient, query: Any) -> httpx.Response:
    text = query if isinstance(query, str) else json.dumps(query)
    return await api.get("RetrieveMetadataChanges(Query=@p1)", params={"@p1": text})


async def test_columns_are_told_with_what_is_asked_for(api: httpx.AsyncClient) -> None:
    """RetrieveMetadataChanges gives the named table's columns with those of the properties that each type has."""
    query = {
        "Properties": {"PropertyNames": ["LogicalName", "Attributes"]},
        "Criteria": named("contact"),
        "AttributeQuery": {
            "Properties": {"PropertyNames": ["LogicalName", "MaxLength", "MinValue"]},
            "Criteria": named("lastname"),
        },
    }
    found = (await changes(api, query)).json()["EntityMetadata"]
    assert [each["LogicalName"] for each in found] == ["contact"]
    assert [(each["LogicalName"], each["MaxLength"]) for each in found[0]["Attributes"]] == [("lastname", 50)]
    assert "MinValue" not in found[0]["Attributes"][0]
    whole = (await changes(api, {"Criteria": named("contact")})).json()["EntityMetadata"][0]
    assert len(whole["Attributes"]) > 50
    every = (await changes(api, {"Properties": {"PropertyNames": ["LogicalName"]}})).json()["EntityMetadata"]
    assert {"contact", "systemuser"} <= {each["LogicalName"] for each in every}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("x", 400),
        ([], 400),
        ({"Nonsense": 1}, 501),
        ({"Criteria": {"FilterOperator": "Or", "Conditions": []}}, 501),
        ({"Criteria": {"Conditions": [{"PropertyName": "LogicalName", "ConditionOperator": "NotEquals"}]}}, 501),
        ({"Criteria": named("contact", {"Value": 1})}, 400),
        ({"Properties": {"PropertyNames": [1]}}, 400),
    ],
)
async def test_wrong_metadata_queries(api: httpx.AsyncClient, query: Any, status: int) -> None:
    """A query that cannot be read is 400, one of another kind 501."""
    assert (await changes(api, query)).status_code == status


async def test_the_query_is_an_alias(api: httpx.AsyncClient) -> None:
    """The function takes its query by a parameter alias."""
    assert (await api.get("RetrieveMetadataChanges(Query='x')")).status_code == 400
    assert (await api.get("RetrieveMetadataChanges(Query=@p1)")).status_code == 400
    assert (await api.post("RetrieveMetadataChanges(Query=@p1)", json={})).status_code == 405

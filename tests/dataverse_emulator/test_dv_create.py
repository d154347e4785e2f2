"""Creating rows: what the answer says, who chooses the primary key, what the server fills in.

Docs: webapi/create-entity-web-api.md.
"""

from __future__ import annotations

import re

import httpx

ID = "11111111-2222-3333-4444-555555555555"
ROOT = "http://org/api/data/v9.2/"
REPRESENTATION = {"Prefer": "return=representation"}


async def test_create_answers_204_and_names_the_row(api: httpx.AsyncClient) -> None:
    """A create answers 204 without a body; OData-EntityId names the row by GUID."""
    answer = await api.post("contacts", json={"lastname": "Doe"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert re.fullmatch(re.escape(ROOT) + r"contacts\([0-9a-f-]{36}\)", answer.headers["OData-EntityId"])
    assert answer.headers["OData-Version"] == "4.0"
    row = await api.get(answer.headers["OData-EntityId"])
    assert row.json()["lastname"] == "Doe"


async def test_create_with_representation_answers_201_and_the_row(api: httpx.AsyncClient) -> None:
    """return=representation answers 201 with the row, its ETag and Preference-Applied, without OData-EntityId."""
    answer = await api.post("contacts?$select=lastname", json={"lastname": "Doe"}, headers=REPRESENTATION)
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "return=representation"
    assert "OData-EntityId" not in answer.headers
    body = answer.json()
    assert answer.headers["ETag"] == body["@odata.etag"]
    assert re.fullmatch(r'W/"\d+"', body["@odata.etag"])
    assert body["@odata.context"] == f"{ROOT}$metadata#contacts(lastname)/$entity"
    assert set(body) == {"@odata.context", "@odata.etag", "lastname", "contactid"}


async def test_the_client_may_choose_the_primary_key(api: httpx.AsyncClient) -> None:
    """A primary key in the body is the row's; taken, it is 412 0x80040237."""
    answer = await api.post("contacts", json={"contactid": ID.upper(), "lastname": "Doe"})
    assert answer.headers["OData-EntityId"] == f"{ROOT}contacts({ID})"
    again = await api.post("contacts", json={"contactid": ID, "lastname": "Roe"})
    assert again.status_code == 412
    assert again.json()["error"] == {
        "code": "0x80040237",
        "message": "A record with matching key values already exists.",
    }
    assert (await api.get(f"contacts({ID})")).json()["lastname"] == "Doe"


async def test_the_server_fills_in_its_own_columns(api: httpx.AsyncClient) -> None:
    """Times, people, owner, state and the composed name come from the server; times are whole UTC seconds."""
    me = (await api.get("WhoAmI")).json()
    sent = {"firstname": "Ann", "middlename": "B", "lastname": "Doe", "fullname": "ignored", "createdon": None}
    row = (await api.post("contacts", json=sent, headers=REPRESENTATION)).json()
    assert row["fullname"] == "Ann B Doe"
    assert (row["statecode"], row["statuscode"]) == (0, 1)
    for column in ("_createdby_value", "_modifiedby_value", "_ownerid_value", "_owninguser_value"):
        assert row[column] == me["UserId"], column
    assert row["_owningbusinessunit_value"] == me["BusinessUnitId"]
    assert row["createdon"] == row["modifiedon"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["createdon"])
    assert f'W/"{row["versionnumber"]}"' == row["@odata.etag"]


async def test_the_composed_name_follows_its_parts(api: httpx.AsyncClient) -> None:
    """An update of one part of the name composes the name again."""
    row = (await api.post("contacts", json={"firstname": "Ann", "lastname": "Doe"}, headers=REPRESENTATION)).json()
    url = f"contacts({row['contactid']})"
    await api.patch(url, json={"lastname": "Roe"})
    assert (await api.get(url)).json()["fullname"] == "Ann Roe"


async def test_an_organization_owned_row_belongs_to_the_organization(api: httpx.AsyncClient) -> None:
    """A table owned by the organization has no owner column; its rows name the organization."""
    sent = {"msemr_name": "English", "msemr_code": "en"}
    row = (await api.post("msemr_codeableconcepts", json=sent, headers=REPRESENTATION)).json()
    assert row["_organizationid_value"] == (await api.get("WhoAmI")).json()["OrganizationId"]
    assert "_ownerid_value" not in row


async def test_a_team_can_own_a_row(api: httpx.AsyncClient) -> None:
    """The owner may be a team; then no user owns the row."""
    team = (await api.get("teams")).json()["value"][0]["teamid"]
    row = (await api.post("contacts", json={"ownerid@odata.bind": f"/teams({team})"}, headers=REPRESENTATION)).json()
    assert (row["_ownerid_value"], row["_owningteam_value"], row["_owninguser_value"]) == (team, team, None)


async def test_only_what_the_system_requires_is_enforced(api: httpx.AsyncClient) -> None:
    """A column that is merely required by the business may be missing."""
    assert (await api.post("contacts", json={})).status_code == 204


async def test_a_row_is_deleted_once(api: httpx.AsyncClient) -> None:
    """A delete answers 204; after it the row is 404 0x80040217."""
    await api.post("contacts", json={"contactid": ID})
    assert (await api.delete(f"contacts({ID})")).status_code == 204
    for answer in (await api.delete(f"contacts({ID})"), await api.get(f"contacts({ID})")):
        assert answer.status_code == 404
        assert answer.json()["error"] == {
            "code": "0x80040217",
            "message": f"contact With Id = {ID} Does Not Exist",
        }


async def test_deleting_a_row_clears_the_lookups_to_it(api: httpx.AsyncClient) -> None:
    """Rows that look a deleted row up lose the link and keep everything else."""
    await api.post("contacts", json={"contactid": ID})
    child = {"prefix_system": "s", "prefix_Patient@odata.bind": f"/contacts({ID})"}
    made = (await api.post("prefix_patientidentifiers", json=child)).headers["OData-EntityId"]
    await api.delete(f"contacts({ID})")
    row = (await api.get(made)).json()
    assert (row["prefix_system"], row["_prefix_patient_value"]) == ("s", None)

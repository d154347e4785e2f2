"""Lookups: bound by GUID, key or URL, cleared by null, case-sensitive, one of several targets.

Docs: webapi/associate-disassociate-entities-using-web-api.md, webapi/web-api-navigation-properties.md, webapi/multitable-lookup.md.
"""

from __future__ import annotations

import httpx
import pytest

from devstack.dataverse import Emulator

ID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
MISSING = "00000000-0000-0000-0000-00000000dead"
CHILD = "prefix_patientidentifiers(aaaaaaaa-0000-0000-0000-000000000001)"
CONTACT = "contacts(cccccccc-0000-0000-0000-000000000001)"
ANNOTATED = {"Prefer": 'odata.include-annotations="*"'}


@pytest.fixture(autouse=True)
async def parents(api: httpx.AsyncClient) -> None:
    """Make two rows to point at."""
    await api.post("contacts", json={"contactid": ID, "lastname": "Doe", "msemr_azurefhirid": "p1"})
    await api.post("accounts", json={"accountid": OTHER, "name": "Clinic"})


@pytest.mark.parametrize(
    "reference",
    [
        f"/contacts({ID})",
        f"contacts({ID})",
        f"http://org/api/data/v9.2/contacts({ID})",
        f"https://elsewhere.example/api/data/v9.2/contacts({ID})",
        f"/contacts(contactid={ID})",
        f"/contacts({ID.upper()})",
        "/contacts(msemr_azurefhirid='p1')",
        "contacts(msemr_azurefhirid='P1')",
    ],
)
async def test_bind_by_guid_by_key_and_by_url(api: httpx.AsyncClient, reference: str) -> None:
    """A lookup is bound by GUID or alternate key, with or without a slash or the service root before it."""
    assert (await api.patch(CHILD, json={"prefix_Patient@odata.bind": reference})).status_code == 204
    assert (await api.get(CHILD)).json()["_prefix_patient_value"] == ID


@pytest.mark.parametrize("body", [{"prefix_Patient@odata.bind": None}, {"prefix_Patient": None}])
async def test_null_clears(api: httpx.AsyncClient, body: dict[str, None]) -> None:
    """Null, bound or as the property itself, clears a lookup."""
    await api.patch(CHILD, json={"prefix_Patient@odata.bind": f"/contacts({ID})"})
    assert (await api.patch(CHILD, json=body)).status_code == 204
    assert (await api.get(CHILD)).json()["_prefix_patient_value"] is None


async def test_references_can_be_set_and_cleared(api: httpx.AsyncClient) -> None:
    """PUT and DELETE on a lookup's $ref set and clear it."""
    await api.patch(CHILD, json={})
    url = f"{CHILD}/prefix_Patient/$ref"
    assert (await api.put(url, json={"@odata.id": f"contacts({ID})"})).status_code == 204
    assert (await api.get(f"{CHILD}/prefix_Patient")).json()["lastname"] == "Doe"
    assert (await api.delete(url)).status_code == 204
    assert (await api.get(f"{CHILD}/prefix_Patient")).status_code == 204


COLLECTION = "prefix_patientidentifier_prefix_Patient_contact"


@pytest.mark.parametrize("parent", [f"contacts({ID})", "contacts(msemr_azurefhirid='p1')"])
@pytest.mark.parametrize("slash", ["", "/", "http://org/api/data/v9.2/"])
async def test_a_row_is_added_to_a_collection(api: httpx.AsyncClient, parent: str, slash: str) -> None:
    """POST to a collection's $ref lets the row that it names look the parent up: an update of that row."""
    before = (await api.patch(CHILD, json={}, headers={"Prefer": "return=representation"})).headers["ETag"]
    answer = await api.post(f"{parent}/{COLLECTION}/$ref", json={"@odata.id": slash + CHILD})
    assert (answer.status_code, answer.content) == (204, b"")
    row = (await api.get(CHILD)).json()
    assert (row["_prefix_patient_value"], row["@odata.etag"] == before) == (ID, False)


@pytest.mark.parametrize(
    ("request_line", "body", "refusal"),
    [
        (f"POST contacts({MISSING})/{COLLECTION}/$ref", {"@odata.id": CHILD}, (404, "0x80040217")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {"@odata.id": CHILD}, (404, "0x80040217")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {"@odata.id": f"contacts({ID})"}, (400, "0x80048d19")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {"@odata.id": 5}, (400, "0x80048d19")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {}, (400, "0x80048d19")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {"@odata.id": "contacts"}, (400, "0x80060888")),
        (f"POST contacts({ID})/{COLLECTION}/$ref", {"@odata.id": "$1"}, (400, "0x80060888")),
        (f"PUT contacts({ID})/{COLLECTION}/$ref", {"@odata.id": CHILD}, (405, "0x80060888")),
        (f"POST contacts({ID})/parentcustomerid_contact/$ref", {"@odata.id": CHILD}, (405, "0x80060888")),
        (f"PUT contacts({ID})/parentcustomerid_contact/$ref", {}, (400, "0x80048d19")),
    ],
)
async def test_references_that_cannot_be(
    api: httpx.AsyncClient, request_line: str, body: dict[str, object], refusal: tuple[int, str]
) -> None:
    """A $ref request names one row that is there, of the right table, by the method that its property has."""
    answer = await api.request(*request_line.split(), json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == refusal


async def test_a_reference_is_set_by_key(api: httpx.AsyncClient) -> None:
    """PUT to a lookup's $ref names the record by alternate key as well; a key that nothing has is 404 and changes nothing."""
    url = f"{CHILD}/prefix_Patient/$ref"
    await api.patch(CHILD, json={})
    assert (await api.put(url, json={"@odata.id": "contacts(msemr_azurefhirid='p1')"})).status_code == 204
    answer = await api.put(url, json={"@odata.id": "contacts(msemr_azurefhirid='nobody')"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "0x80060891")
    assert (await api.get(CHILD)).json()["_prefix_patient_value"] == ID


async def test_bind_by_a_composite_key(app: Emulator, api: httpx.AsyncClient) -> None:
    """A lookup is bound by all columns of a composite key; by some of them it is 400 with the text of undeclared keys."""
    app.declare_key("contact", "lastname", "msemr_azurefhirid")
    bound = "/contacts(lastname='Doe',msemr_azurefhirid='p1')"
    assert (await api.patch(CHILD, json={"prefix_Patient@odata.bind": bound})).status_code == 204
    assert (await api.get(CHILD)).json()["_prefix_patient_value"] == ID
    answer = await api.patch(CHILD, json={"prefix_Patient@odata.bind": "/contacts(lastname='Doe')"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")
    assert "The key in the request URI is not valid" in answer.json()["error"]["message"]


async def test_a_bound_key_is_resolved_when_it_is_written(api: httpx.AsyncClient) -> None:
    """The lookup keeps the GUID: it stays with the row although the row's key moves on to another."""
    await api.patch(CHILD, json={"prefix_Patient@odata.bind": "/contacts(msemr_azurefhirid='p1')"})
    await api.patch(f"contacts({ID})", json={"msemr_azurefhirid": "p2"})
    await api.post("contacts", json={"msemr_azurefhirid": "p1"})
    assert (await api.get(CHILD)).json()["_prefix_patient_value"] == ID


@pytest.mark.parametrize("name", ["prefix_patient", "PREFIX_PATIENT", "nothing"])
async def test_wrong_case_is_an_undeclared_property(api: httpx.AsyncClient, name: str) -> None:
    """A navigation property in the wrong case is 400 0x80048d19, and nothing is written."""
    answer = await api.post("prefix_patientidentifiers", json={f"{name}@odata.bind": f"/contacts({ID})"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")
    said = f"An undeclared property '{name}' which only has property annotations in the payload but no property value"
    assert said in answer.json()["error"]["message"]
    assert (await api.get("prefix_patientidentifiers/$count")).text == "0"


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        (f"/contacts({MISSING})", "0x80040217", f"contact With Id = {MISSING} Does Not Exist"),
        (
            "/contacts(msemr_azurefhirid='nobody')",
            "0x80060891",
            "A record with the specified key values does not exist in contact entity",
        ),
    ],
)
async def test_binding_to_a_missing_row_fails_the_write(
    api: httpx.AsyncClient, reference: str, code: str, message: str
) -> None:
    """A bind that finds no row is 404, by id or by key, and nothing is written."""
    answer = await api.post("prefix_patientidentifiers", json={"prefix_Patient@odata.bind": reference})
    assert answer.status_code == 404
    assert answer.json()["error"] == {"code": code, "message": message}
    assert (await api.get("prefix_patientidentifiers/$count")).text == "0"


@pytest.mark.parametrize(
    "reference", [f"/accounts({OTHER})", "/contacts", "contacts(", "", "$1", 5, f"/contacts({ID})/lastname"]
)
async def test_a_bind_names_one_row_of_the_right_table(api: httpx.AsyncClient, reference: object) -> None:
    """A bind to another table, to no row or to no text is 400."""
    answer = await api.patch(CHILD, json={"prefix_Patient@odata.bind": reference})
    assert answer.status_code == 400, answer.text


async def test_a_bind_to_an_unknown_set_is_404(api: httpx.AsyncClient) -> None:
    """A bind to an entity set that is not there is 404 naming the segment."""
    answer = await api.patch(CHILD, json={"prefix_Patient@odata.bind": f"/nothings({ID})"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Resource not found for the segment 'nothings'."


async def test_setting_one_target_of_a_polymorphic_lookup_clears_the_other(api: httpx.AsyncClient) -> None:
    """A lookup with two targets has a property for each; the last one set is the one that counts."""
    await api.patch(CONTACT, json={"parentcustomerid_account@odata.bind": f"/accounts({OTHER})"})
    row = (await api.get(f"{CONTACT}?$select=_parentcustomerid_value", headers=ANNOTATED)).json()
    assert row["_parentcustomerid_value"] == OTHER
    assert row["_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    await api.patch(CONTACT, json={"parentcustomerid_contact@odata.bind": f"/contacts({ID})"})
    row = (await api.get(f"{CONTACT}?$select=_parentcustomerid_value", headers=ANNOTATED)).json()
    assert row["_parentcustomerid_value"] == ID
    assert row["_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
    both = f"{CONTACT}?$expand=parentcustomerid_account($select=name),parentcustomerid_contact($select=lastname)"
    expanded = (await api.get(both)).json()
    assert expanded["parentcustomerid_account"] is None
    assert expanded["parentcustomerid_contact"]["lastname"] == "Doe"
    assert (await api.get(f"{CONTACT}/parentcustomerid_account")).status_code == 204


async def test_a_property_is_bound_to_its_own_target_only(api: httpx.AsyncClient) -> None:
    """Each property of a polymorphic lookup takes rows of its own table."""
    body = {"parentcustomerid_account@odata.bind": f"/contacts({ID})"}
    assert (await api.patch(CONTACT, json=body)).status_code == 400


async def test_lookups_read_back_as_values(api: httpx.AsyncClient) -> None:
    """A lookup reads as `_x_value`; annotations add its table, navigation property and name when asked for."""
    await api.patch(CHILD, json={"prefix_Patient@odata.bind": f"/contacts({ID})"})
    url = f"{CHILD}?$select=_prefix_patient_value"
    plain = (await api.get(url)).json()
    assert [name for name in plain if name.startswith("_prefix_patient_value@")] == []
    row = (await api.get(url, headers=ANNOTATED)).json()
    assert row["_prefix_patient_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
    assert row["_prefix_patient_value@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "prefix_Patient"
    assert row["_prefix_patient_value@OData.Community.Display.V1.FormattedValue"] == "Doe"
    some = {"Prefer": 'odata.include-annotations="OData.Community.*"'}
    row = (await api.get(url, headers=some)).json()
    assert row["_prefix_patient_value@OData.Community.Display.V1.FormattedValue"] == "Doe"
    assert "_prefix_patient_value@Microsoft.Dynamics.CRM.lookuplogicalname" not in row


@pytest.mark.parametrize("body", [{"_prefix_patient_value": ID}, {"prefix_Patient": ID}, {"prefix_patient": ID}])
async def test_a_lookup_cannot_be_written_as_a_value(api: httpx.AsyncClient, body: dict[str, str]) -> None:
    """A GUID under `_x_value`, the navigation property or the logical name is 400 0x80048d19."""
    answer = await api.patch(CHILD, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")


async def test_related_rows_are_a_collection_of_the_parent(api: httpx.AsyncClient) -> None:
    """The rows that look a row up can be read below it and expanded."""
    await api.patch(CHILD, json={"prefix_Patient@odata.bind": f"/contacts({ID})", "prefix_value": "1"})
    name = "prefix_patientidentifier_prefix_Patient_contact"
    below = (await api.get(f"contacts({ID})/{name}?$select=prefix_value")).json()["value"]
    assert [row["prefix_value"] for row in below] == ["1"]
    expanded = (await api.get(f"contacts({ID})?$select=lastname&$expand={name}($select=prefix_value)")).json()
    assert [row["prefix_value"] for row in expanded[name]] == ["1"]

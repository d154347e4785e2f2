"""Naming one record in a URL: declared keys only, and no character that the web server refuses.

Docs: use-alternate-key-reference-record.md, define-alternate-keys-entity.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from devstack.dataverse import Emulator, create_app
from devstack.dataverse.app import FACTS

ID = "11111111-2222-3333-4444-555555555555"


async def test_undeclared_columns_are_no_key(api: httpx.AsyncClient) -> None:
    """Columns that are not a declared key are 400 with the text that says so."""
    answer = await api.get("contacts(lastname='Doe')")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "The key in the request URI is not valid for resource 'Microsoft.Dynamics.CRM.contact'. Ensure that the names "
        "and number of key properties match the declared or alternate key properties for the resource "
        "'Microsoft.Dynamics.CRM.contact'."
    )


@pytest.mark.parametrize("character", list("/<>*%&:\\?+#"))
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_forbidden_characters_are_refused(api: httpx.AsyncClient, method: str, character: str) -> None:
    """A key value with a forbidden character is 400, percent-encoded as it may be; no row is made."""
    value = quote(f"a{character}b", safe="")
    answer = await api.request(method, f"contacts(msemr_azurefhirid='{value}')", json={} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")
    assert (await api.get("contacts/$count")).text == "0"


async def test_a_forbidden_character_is_refused_in_a_bulk_action(api: httpx.AsyncClient) -> None:
    """A target that names its record by key has the same forbidden characters."""
    target = {"@odata.type": "Microsoft.Dynamics.CRM.contact", "@odata.id": "contacts(msemr_azurefhirid='urn:x')"}
    answer = await api.post("contacts/Microsoft.Dynamics.CRM.UpsertMultiple", json={"Targets": [target]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")
    assert (await api.get("contacts/$count")).text == "0"


async def test_a_forbidden_character_is_refused_in_a_bind(api: httpx.AsyncClient) -> None:
    """Binding by key has the same forbidden characters."""
    body = {"msemr_link1@odata.bind": "/contacts(msemr_azurefhirid='a:b')"}
    assert (await api.post("contacts", json=body)).status_code == 400


async def test_quotes_are_doubled(api: httpx.AsyncClient) -> None:
    """A quote inside a key value is written twice."""
    assert (await api.patch("contacts(msemr_azurefhirid='O''Neil')", json={})).status_code == 204
    assert (await api.get("contacts(msemr_azurefhirid='O''Neil')")).json()["msemr_azurefhirid"] == "O'Neil"


async def test_parentheses_and_commas_belong_to_the_value(api: httpx.AsyncClient) -> None:
    """Inside quotes parentheses, commas and equals signs are text."""
    url = "contacts(msemr_azurefhirid='a(b),c=d')"
    assert (await api.patch(url, json={})).status_code == 204
    assert (await api.get(url)).json()["msemr_azurefhirid"] == "a(b),c=d"


async def test_all_columns_of_a_composite_key_are_needed(app: Emulator, api: httpx.AsyncClient) -> None:
    """A composite key is named by all of its columns, in any order."""
    app.declare_key("contact", "firstname", "emailaddress1")
    assert (await api.patch("contacts(firstname='Joe',emailaddress1='a@b.c')", json={})).status_code == 204
    row = await api.get("contacts(emailaddress1='a@b.c',firstname='Joe')")
    assert row.json()["firstname"] == "Joe"
    assert (await api.get("contacts(firstname='Joe')")).status_code == 400


async def test_a_lookup_in_a_key_goes_by_its_property(app: Emulator, api: httpx.AsyncClient) -> None:
    """A lookup column of a key is written as `_x_value=<guid>`."""
    app.declare_key("prefix_patientidentifier", "prefix_patient", "prefix_value")
    await api.post("contacts", json={"contactid": ID})
    url = f"prefix_patientidentifiers(_prefix_patient_value={ID},prefix_value='1')"
    assert (await api.patch(url, json={"prefix_system": "s"})).status_code == 204
    assert (await api.get(url)).json()["_prefix_patient_value"] == ID


async def test_numbers_are_bare(app: Emulator, api: httpx.AsyncClient) -> None:
    """A choice in a key is a bare number; a quoted one is 400."""
    app.declare_key("msemr_codeableconcept", "msemr_type", "msemr_code")
    url = "msemr_codeableconcepts(msemr_type=935000012,msemr_code='en')"
    assert (await api.patch(url, json={"msemr_name": "English"})).status_code == 204
    assert (await api.get(url)).json()["msemr_type"] == 935000012
    assert (await api.get("msemr_codeableconcepts(msemr_type='935000012',msemr_code='en')")).status_code == 400


async def test_the_primary_key_of_people_is_called_ownerid(api: httpx.AsyncClient) -> None:
    """A system user is named by `ownerid`, not by `systemuserid`."""
    user = (await api.get("WhoAmI")).json()["UserId"]
    assert (await api.get(f"systemusers(ownerid={user})")).status_code == 200
    assert (await api.get(f"systemusers(systemuserid={user})")).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("contacts()", 400),
        ("contacts(1)", 400),
        ("contacts('x')", 400),
        ("contacts(contactid='x')", 400),
        ("contacts(msemr_azurefhirid='a',msemr_azurefhirid='b')", 400),
        ("contacts(msemr_azurefhirid='a'", 400),
        ("contacts(msemr_azurefhirid='a)", 400),
        ("contacts(msemr_azurefhirid=)", 400),
        (f"contacts({ID})x", 400),
        ("contacts(%ff)", 400),
        ("unknowns", 404),
        ("contacts/unknown", 404),
        ("Contacts", 404),
    ],
)
async def test_what_cannot_be_read_is_a_client_error(api: httpx.AsyncClient, path: str, status: int) -> None:
    """A malformed key or an unknown name is 400 or 404 with code 0x80060888."""
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "0x80060888")


async def test_declared_keys_are_in_the_definitions(api: httpx.AsyncClient) -> None:
    """A key that URLs may use is one that the definitions show."""
    keys = (await api.get("EntityDefinitions(LogicalName='contact')/Keys")).json()["value"]
    assert [(key["LogicalName"], key["KeyAttributes"]) for key in keys] == [("fhirid", ["msemr_azurefhirid"])]


async def test_keys_of_the_facts_file_work(tmp_path: Path) -> None:
    """A key in the facts file is unique and names rows in URLs."""
    facts = json.loads(FACTS.read_text("utf-8"))
    facts["tables"]["contact"]["keys"] = [{"name": "number", "columns": ["governmentid"], "label": "Government"}]
    (tmp_path / "facts.json").write_text(json.dumps(facts), "utf-8")
    async with (
        create_app(metadata=tmp_path / "facts.json") as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://org/api/data/v9.2/") as api,
    ):
        assert (await api.patch("contacts(governmentid='1')", json={})).status_code == 204
        assert (await api.post("contacts", json={"governmentid": "1"})).status_code == 412


async def test_a_key_of_unknown_columns_is_refused(tmp_path: Path) -> None:
    """Facts whose key names an unknown column are refused, naming file, table, key and column."""
    facts = json.loads(FACTS.read_text("utf-8"))
    facts["tables"]["contact"]["keys"] = [{"name": "number", "columns": ["nothing"]}]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts), "utf-8")
    with pytest.raises(ValueError, match=r"facts.json: table contact: .* key number: unknown columns nothing"):
        create_app(metadata=path)

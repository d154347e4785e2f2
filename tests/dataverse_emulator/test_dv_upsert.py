"""PATCH creates or updates, by primary key or by alternate key (docs: use-upsert-insert-update-record.md)."""

from __future__ import annotations

import httpx

from devstack.dataverse import Emulator

ID = "11111111-2222-3333-4444-555555555555"
ROOT = "http://org/api/data/v9.2/"
BY_KEY = "contacts(msemr_azurefhirid='p1')"
REPRESENTATION = {"Prefer": "return=representation"}


async def test_patch_by_id_creates_then_updates(api: httpx.AsyncClient) -> None:
    """A PATCH to an unknown GUID creates the row with it; to a known one it updates; both answer 204."""
    for name in ("Doe", "Roe"):
        answer = await api.patch(f"contacts({ID})", json={"lastname": name})
        assert answer.status_code == 204
        assert answer.headers["OData-EntityId"] == f"{ROOT}contacts({ID})"
        assert (await api.get(f"contacts({ID})")).json()["lastname"] == name


async def test_patch_by_named_primary_key(api: httpx.AsyncClient) -> None:
    """The primary key may be named in the URL."""
    assert (await api.patch(f"contacts(contactid={ID})", json={"lastname": "Doe"})).status_code == 204
    assert (await api.get(f"contacts({ID})")).json()["lastname"] == "Doe"


async def test_patch_by_key_echoes_the_key_not_the_guid(api: httpx.AsyncClient) -> None:
    """An upsert by alternate key answers 204 and repeats the key's URL in OData-EntityId."""
    for _ in range(2):
        answer = await api.patch(BY_KEY, json={"lastname": "Doe"})
        assert answer.status_code == 204
        assert answer.headers["OData-EntityId"] == ROOT + BY_KEY
    assert (await api.get("contacts/$count")).text == "1"


async def test_representation_tells_created_from_updated(api: httpx.AsyncClient) -> None:
    """With return=representation 201 means created and 200 updated; both carry the GUID."""
    url = f"{BY_KEY}?$select=contactid"
    created = await api.patch(url, json={"lastname": "Doe"}, headers=REPRESENTATION)
    updated = await api.patch(url, json={"lastname": "Roe"}, headers=REPRESENTATION)
    assert (created.status_code, updated.status_code) == (201, 200)
    assert {each.headers["Preference-Applied"] for each in (created, updated)} == {"return=representation"}
    assert created.json()["contactid"] == updated.json()["contactid"]
    assert created.json()["@odata.etag"] != updated.json()["@odata.etag"]
    assert updated.headers["ETag"] == updated.json()["@odata.etag"]


async def test_the_key_in_the_url_is_written_on_create(api: httpx.AsyncClient) -> None:
    """A created row has the key values of the URL."""
    await api.patch(BY_KEY, json={"lastname": "Doe"})
    assert (await api.get(BY_KEY)).json()["msemr_azurefhirid"] == "p1"


async def test_on_create_the_body_wins_over_the_url(api: httpx.AsyncClient) -> None:
    """A key column in the body that differs from the URL is what a create writes."""
    await api.patch(BY_KEY, json={"msemr_azurefhirid": "other"})
    rows = (await api.get("contacts?$select=msemr_azurefhirid")).json()["value"]
    assert [row["msemr_azurefhirid"] for row in rows] == ["other"]


async def test_on_update_the_key_columns_of_the_body_are_dropped(api: httpx.AsyncClient) -> None:
    """A key value that found the row cannot be changed through that key."""
    await api.patch(BY_KEY, json={"lastname": "Doe"})
    assert (await api.patch(BY_KEY, json={"msemr_azurefhirid": "other", "lastname": "Roe"})).status_code == 204
    row = (await api.get(BY_KEY)).json()
    assert (row["msemr_azurefhirid"], row["lastname"]) == ("p1", "Roe")


async def test_expand_is_ignored_on_update(api: httpx.AsyncClient) -> None:
    """$select shapes the answer of an update, $expand does not."""
    answer = await api.patch(f"{BY_KEY}?$select=lastname&$expand=createdby", json={}, headers=REPRESENTATION)
    assert answer.status_code == 201
    assert "createdby" not in answer.json()


async def test_an_update_without_columns_changes_nothing(api: httpx.AsyncClient) -> None:
    """An empty body leaves the row and its version as they are."""
    await api.patch(BY_KEY, json={})
    before = (await api.get(BY_KEY)).json()
    assert (await api.patch(BY_KEY, json={})).status_code == 204
    assert (await api.get(BY_KEY)).json() == before


async def test_every_update_has_a_new_version(api: httpx.AsyncClient) -> None:
    """An update that sets the same value still makes a new version."""
    await api.patch(BY_KEY, json={"lastname": "Doe"})
    first = (await api.get(BY_KEY)).headers["ETag"]
    await api.patch(BY_KEY, json={"lastname": "Doe"})
    assert (await api.get(BY_KEY)).headers["ETag"] != first


async def test_the_primary_key_of_a_row_cannot_change(api: httpx.AsyncClient) -> None:
    """A body that names another primary key than the row's is refused with 400."""
    await api.patch(f"contacts({ID})", json={})
    answer = await api.patch(f"contacts({ID})", json={"contactid": ID.replace("1", "9")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80040203")


async def test_single_columns_can_be_written(api: httpx.AsyncClient) -> None:
    """PUT and DELETE on a column set and clear it; GET reads it, 204 for null."""
    await api.patch(f"contacts({ID})", json={"lastname": "Doe"})
    assert (await api.put(f"contacts({ID})/lastname", json={"value": "Roe"})).status_code == 204
    assert (await api.get(f"contacts({ID})/lastname")).json()["value"] == "Roe"
    assert (await api.delete(f"contacts({ID})/lastname")).status_code == 204
    assert (await api.get(f"contacts({ID})/lastname")).status_code == 204


async def test_a_single_column_is_a_write_like_any(api: httpx.AsyncClient) -> None:
    """A single column obeys its limits and the row's version, null clears it, and the body holds `value` alone."""
    before = (await api.patch(f"contacts({ID})", json={"lastname": "Doe"}, headers=REPRESENTATION)).headers["ETag"]
    url = f"contacts({ID})/lastname"
    for body in ({}, {"value": "x", "more": 1}, {"lastname": "x"}, {"value": 5}):
        answer = await api.put(url, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")
    assert (await api.put(url, json={"value": "x" * 51})).json()["error"]["code"] == "0x80044331"
    assert (await api.put(url, json={"value": "Roe"}, headers={"If-Match": before})).status_code == 204
    answer = await api.delete(url, headers={"If-Match": before})
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "0x80060882")
    assert (await api.put(url, json={"value": None})).status_code == 204
    assert (await api.get(f"contacts({ID})")).json()["lastname"] is None


async def test_a_key_in_the_url_obeys_its_column(api: httpx.AsyncClient) -> None:
    """A key value that is too long for its column cannot create a row: 0x80044331."""
    answer = await api.patch(f"contacts(msemr_azurefhirid='{'x' * 39}')", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80044331")
    assert (await api.patch(f"contacts(msemr_azurefhirid='{'x' * 38}')", json={})).status_code == 204


async def test_a_composite_key_is_copied_where_the_body_leaves_it(app: Emulator, api: httpx.AsyncClient) -> None:
    """Each column of a key in the URL is written on create, but for those that the body names; none is changed on update."""
    app.declare_key("contact", "firstname", "emailaddress1")
    url = "contacts(firstname='Ann',emailaddress1='a@b.c')"
    await api.patch(url, json={"firstname": "Anne"})
    row = (await api.get("contacts?$select=firstname,emailaddress1")).json()["value"][0]
    assert (row["firstname"], row["emailaddress1"]) == ("Anne", "a@b.c")
    url = "contacts(firstname='Anne',emailaddress1='a@b.c')"
    assert (
        await api.patch(url, json={"firstname": "x", "emailaddress1": "x@y.z", "lastname": "Doe"})
    ).status_code == 204
    row = (await api.get(url)).json()
    assert (row["firstname"], row["emailaddress1"], row["lastname"]) == ("Anne", "a@b.c", "Doe")

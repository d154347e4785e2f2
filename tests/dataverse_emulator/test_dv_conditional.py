"""Conditional requests: 404 and 412 by code, versions, and the `null` that is no condition.

Docs: webapi/perform-conditional-operations-using-web-api.md.
"""

from __future__ import annotations

import httpx
import pytest

ID = "11111111-2222-3333-4444-555555555555"
URL = f"contacts({ID})"
BY_KEY = "contacts(msemr_azurefhirid='p1')"


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_if_match_any_updates_only(api: httpx.AsyncClient) -> None:
    """If-Match: * on a missing row is 404: 0x80040217 by id, 0x80060891 by key; nothing is created."""
    any_version = {"If-Match": "*"}
    assert told(await api.patch(URL, json={}, headers=any_version)) == (404, "0x80040217")
    by_key = await api.patch(BY_KEY, json={}, headers=any_version)
    assert told(by_key) == (404, "0x80060891")
    assert (
        by_key.json()["error"]["message"] == "A record with the specified key values does not exist in contact entity"
    )
    assert (await api.get("contacts/$count")).text == "0"
    await api.patch(URL, json={})
    assert (await api.patch(URL, json={"lastname": "Doe"}, headers=any_version)).status_code == 204


async def test_if_none_match_any_creates_only(api: httpx.AsyncClient) -> None:
    """If-None-Match: * on a row that is there is 412 0x80040237."""
    none = {"If-None-Match": "*"}
    assert (await api.patch(URL, json={"lastname": "Doe"}, headers=none)).status_code == 204
    assert told(await api.patch(URL, json={"lastname": "Roe"}, headers=none)) == (412, "0x80040237")
    assert (await api.get(URL)).json()["lastname"] == "Doe"
    assert (await api.patch(BY_KEY, json={"lastname": "Doe"}, headers=none)).status_code == 204
    answer = await api.patch(BY_KEY, json={"lastname": "Roe"}, headers=none)
    assert answer.status_code == 412
    assert answer.json()["error"] == {
        "code": "0x80040237",
        "message": "A record with matching key values already exists.",
    }
    assert (await api.get(BY_KEY)).json()["lastname"] == "Doe"


async def test_what_is_not_there_cannot_be_deleted(api: httpx.AsyncClient) -> None:
    """A delete of a missing row is 404, whatever its condition, by id and by key."""
    for headers in ({}, {"If-Match": "*"}, {"If-Match": 'W/"1"'}):
        assert told(await api.delete(URL, headers=headers)) == (404, "0x80040217")
        assert told(await api.delete(BY_KEY, headers=headers)) == (404, "0x80060891")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_stale_version_is_refused(api: httpx.AsyncClient, method: str) -> None:
    """If-Match with another version than the row's is 412 0x80060882; with the row's own it is done."""
    await api.patch(URL, json={"lastname": "Doe"})
    stale = (await api.get(URL)).headers["ETag"]
    await api.patch(URL, json={"lastname": "Roe"})
    fresh = (await api.get(URL)).headers["ETag"]
    body = {"lastname": "Poe"} if method == "PATCH" else None
    answer = await api.request(method, URL, json=body, headers={"If-Match": stale})
    assert answer.status_code == 412
    assert answer.json()["error"] == {
        "code": "0x80060882",
        "message": "The version of the existing record doesn't match the RowVersion property provided.",
    }
    assert (await api.request(method, URL, json=body, headers={"If-Match": fresh})).status_code == 204


async def test_a_version_on_a_missing_row_is_not_found(api: httpx.AsyncClient) -> None:
    """If-Match with a version never creates."""
    assert told(await api.patch(URL, json={}, headers={"If-Match": 'W/"1"'})) == (404, "0x80040217")


async def test_null_is_no_condition(api: httpx.AsyncClient) -> None:
    """The header If-None-Match: null, which defeats caches, changes nothing."""
    for _ in range(2):
        assert (await api.patch(URL, json={}, headers={"If-None-Match": "null"})).status_code == 204
    assert (await api.get(URL, headers={"If-None-Match": "null"})).status_code == 200


async def test_an_unreadable_version_is_refused(api: httpx.AsyncClient) -> None:
    """If-Match that is no ETag is 400."""
    await api.patch(URL, json={})
    assert told(await api.patch(URL, json={}, headers={"If-Match": "abc"}))[0] == 400


async def test_an_unchanged_row_is_304(api: httpx.AsyncClient) -> None:
    """A GET with the row's ETag answers 304, but never with $expand or annotations."""
    await api.patch(URL, json={})
    known = {"If-None-Match": (await api.get(URL)).headers["ETag"]}
    unchanged = await api.get(URL, headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (await api.get(f"{URL}?$expand=createdby", headers=known)).status_code == 200
    annotated = known | {"Prefer": 'odata.include-annotations="*"'}
    assert (await api.get(URL, headers=annotated)).status_code == 200
    await api.patch(URL, json={"lastname": "Doe"})
    assert (await api.get(URL, headers=known)).status_code == 200


async def test_versions_count_only_where_the_table_keeps_them(api: httpx.AsyncClient) -> None:
    """On a table without optimistic concurrency If-Match with a version is 400, and a GET is never 304."""
    user = (await api.get("WhoAmI")).json()["UserId"]
    url = f"systemusers({user})"
    version = (await api.get(url)).headers["ETag"]
    assert told(await api.patch(url, json={}, headers={"If-Match": version})) == (400, "0x8006088d")
    assert (await api.get(url, headers={"If-None-Match": version})).status_code == 200

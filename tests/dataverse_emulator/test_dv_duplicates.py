"""Alternate keys are unique, whatever the case and however many write at once (docs: define-alternate-keys-entity.md)."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from devstack.dataverse import Emulator
from devstack.dataverse.errors import DuplicateRecordEntityKey

URL = "contacts(msemr_azurefhirid='p1')"


async def test_a_duplicate_key_is_refused(api: httpx.AsyncClient) -> None:
    """A second row with the same key values is 412 0x80060892, on create and on update, naming key and columns."""
    await api.post("contacts", json={"msemr_azurefhirid": "p1"})
    other = (await api.post("contacts", json={"msemr_azurefhirid": "p2"})).headers["OData-EntityId"]
    for answer in (
        await api.post("contacts", json={"msemr_azurefhirid": "p1"}),
        await api.patch(other, json={"msemr_azurefhirid": "p1"}),
    ):
        assert answer.status_code == 412
        assert answer.json()["error"] == {
            "code": "0x80060892",
            "message": "Entity Key fhirid violated. A record with the same value for Azure FHIR ID already exists. "
            "A duplicate record cannot be created. Select one or more unique values and try again.",
        }
    assert (await api.get(other)).json()["msemr_azurefhirid"] == "p2"


async def test_keys_ignore_case_and_trailing_blanks(api: httpx.AsyncClient) -> None:
    """Keys compare as SQL does: `ä` is `Ä` and trailing blanks do not count; what was written is kept."""
    await api.post("contacts", json={"msemr_azurefhirid": "Käse"})
    for same in ("KÄSE", "käse  "):
        assert (await api.post("contacts", json={"msemr_azurefhirid": same})).status_code == 412
    row = await api.get("contacts(msemr_azurefhirid='KÄSE')")
    assert row.json()["msemr_azurefhirid"] == "Käse"


async def test_rows_without_a_key_value_are_many(api: httpx.AsyncClient) -> None:
    """Null is no key value: any number of rows may have it."""
    for _ in range(3):
        assert (await api.post("contacts", json={"msemr_azurefhirid": None})).status_code == 204


async def test_one_of_many_concurrent_writers_creates(api: httpx.AsyncClient) -> None:
    """Of many creates with one key at once exactly one makes a row; the others are told 0x80060892."""
    answers = await asyncio.gather(*(api.post("contacts", json={"msemr_azurefhirid": "p1"}) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [204] + [412] * 19
    codes = {answer.json()["error"]["code"] for answer in answers if answer.status_code == 412}
    assert codes == {"0x80060892"}
    assert (await api.get("contacts/$count")).text == "1"


async def test_concurrent_upserts_make_one_row(api: httpx.AsyncClient) -> None:
    """Of many upserts by one key at once the first creates, the others update."""
    wanted = {"Prefer": "return=representation"}
    answers = await asyncio.gather(*(api.patch(URL, json={"lastname": "x"}, headers=wanted) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["contactid"] for answer in answers}) == 1


async def test_a_key_cannot_be_declared_over_duplicates(app: Emulator, api: httpx.AsyncClient) -> None:
    """A key that rows already break cannot be made."""
    for _ in range(2):
        await api.post("contacts", json={"lastname": "Doe"})
    with pytest.raises(DuplicateRecordEntityKey):
        app.declare_key("contact", "lastname")
    keys = (await api.get("EntityDefinitions(LogicalName='contact')/Keys")).json()["value"]
    assert [key["LogicalName"] for key in keys] == ["fhirid"]

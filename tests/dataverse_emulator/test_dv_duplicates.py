"""Alternate keys are unique, whatever the case and however many write at once.

Docs: define-alternate-keys-entity.md.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from devstack.dataverse import Emulator
from devstack.dataverse.errors import DuplicateRecordEntityKey

NAMES = ("firstname", "lastname")
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


async def test_a_composite_key_names_all_its_columns(app: Emulator, api: httpx.AsyncClient) -> None:
    """The refusal names the columns of the key by their labels; rows that differ in one of them may both be."""
    app.declare_key("contact", "firstname", "lastname", name="names")
    for names in (("Ann", "Doe"), ("Ann", "Roe"), ("Ann", None), ("Ann", None)):
        assert (await api.post("contacts", json=dict(zip(NAMES, names, strict=True)))).status_code == 204
    answer = await api.post("contacts", json={"firstname": "ANN", "lastname": "doe"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "0x80060892")
    assert (
        "Entity Key names violated. A record with the same value for First Name, Last Name already exists."
        in (answer.json()["error"]["message"])
    )


@pytest.mark.parametrize("action", ["CreateMultiple", "UpsertMultiple"])
async def test_concurrent_bulk_actions_are_whole(api: httpx.AsyncClient, action: str) -> None:
    """Of many bulk creates that share one key exactly one takes effect, with all its rows; of the others not one row."""
    typed = {"@odata.type": "Microsoft.Dynamics.CRM.contact"}
    bodies = [
        {"Targets": [{**typed, "lastname": str(number)}, {**typed, "msemr_azurefhirid": "p1", "lastname": str(number)}]}
        for number in range(10)
    ]
    url = f"contacts/Microsoft.Dynamics.CRM.{action}"
    answers = await asyncio.gather(*(api.post(url, json=body) for body in bodies))
    assert sorted(answer.is_success for answer in answers) == [False] * 9 + [True]
    assert {answer.json()["error"]["code"] for answer in answers if not answer.is_success} == {"0x80060892"}
    rows = (await api.get("contacts?$select=lastname")).json()["value"]
    winner = next(number for number, answer in enumerate(answers) if answer.is_success)
    assert [row["lastname"] for row in rows] == [str(winner)] * 2


async def test_a_key_is_free_again(api: httpx.AsyncClient) -> None:
    """A key that a row gave up, or that went with its row, may be taken by another."""
    first = (await api.post("contacts", json={"msemr_azurefhirid": "p1"})).headers["OData-EntityId"]
    await api.patch(first, json={"msemr_azurefhirid": None})
    second = (await api.post("contacts", json={"msemr_azurefhirid": "p1"})).headers["OData-EntityId"]
    await api.delete(second)
    assert (await api.post("contacts", json={"msemr_azurefhirid": "p1"})).status_code == 204

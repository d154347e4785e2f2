"""Acting for another user: CallerObjectId and MSCRMCallerID (docs: webapi/impersonate-another-user-web-api.md)."""

from __future__ import annotations

import json

import httpx
import pytest
from webhook_kit import register

from conftest import Receiver
from devstack.dataverse import Emulator

ID = "11111111-2222-3333-4444-555555555555"
NURSE = "33333333-2222-3333-4444-555555555555"
OBJECT = "44444444-2222-3333-4444-555555555555"


@pytest.mark.parametrize("header", [{"CallerObjectId": OBJECT}, {"MSCRMCallerID": NURSE}])
async def test_the_row_is_theirs_and_says_who_did_it(
    app: Emulator, api: httpx.AsyncClient, receiver: Receiver, header: dict[str, str]
) -> None:
    """A row made for a user is created and owned by that user, on behalf shown; the event says both."""
    await api.post("systemusers", json={"systemuserid": NURSE, "azureactivedirectoryobjectid": OBJECT})
    await register(api)
    me = (await api.get("WhoAmI")).json()["UserId"]
    assert (await api.post("contacts", json={"contactid": ID}, headers=header)).status_code == 204
    row = (await api.get(f"contacts({ID})")).json()
    assert (row["_createdby_value"], row["_createdonbehalfby_value"], row["_ownerid_value"]) == (NURSE, me, NURSE)
    await api.patch(f"contacts({ID})", json={"lastname": "x"})
    row = (await api.get(f"contacts({ID})")).json()
    assert (row["_modifiedby_value"], row["_modifiedonbehalfby_value"]) == (me, None)
    await app.webhooks.idle()
    context = json.loads(receiver.requests[0].content)
    assert (context["UserId"], context["InitiatingUserId"]) == (NURSE, me)


async def test_reads_are_made_for_them_too(api: httpx.AsyncClient) -> None:
    """WhoAmI tells the user that it is made for; a read for somebody who is not there is refused."""
    await api.post("systemusers", json={"systemuserid": NURSE})
    assert (await api.get("WhoAmI", headers={"MSCRMCallerID": NURSE})).json()["UserId"] == NURSE
    assert (await api.get("contacts", headers={"MSCRMCallerID": NURSE})).status_code == 200
    assert (await api.get("contacts", headers={"MSCRMCallerID": ID})).status_code == 403


async def test_an_owner_that_is_named_stays(api: httpx.AsyncClient) -> None:
    """A row made for a user and given to another one is the other one's; the maker and who did it are shown."""
    for user in (NURSE, OBJECT):
        await api.post("systemusers", json={"systemuserid": user})
    body = {"contactid": ID, "ownerid@odata.bind": f"/systemusers({OBJECT})"}
    assert (await api.post("contacts", json=body, headers={"MSCRMCallerID": NURSE})).status_code == 204
    await api.patch(f"contacts({ID})", json={"lastname": "x"}, headers={"MSCRMCallerID": OBJECT})
    row = (await api.get(f"contacts({ID})")).json()
    me = (await api.get("WhoAmI")).json()["UserId"]
    assert (row["_ownerid_value"], row["_createdby_value"], row["_createdonbehalfby_value"]) == (OBJECT, NURSE, me)
    assert (row["_modifiedby_value"], row["_modifiedonbehalfby_value"]) == (OBJECT, me)


async def test_a_batchs_header_holds_for_its_parts(api: httpx.AsyncClient) -> None:
    """The header of a batch is that of each of its operations."""
    await api.post("systemusers", json={"systemuserid": NURSE})
    part = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    content = f"{part}PATCH contacts({ID}) HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/mixed; boundary=b", "MSCRMCallerID": NURSE}
    await api.post("$batch", content=content, headers=headers)
    assert (await api.get(f"contacts({ID})")).json()["_createdby_value"] == NURSE


@pytest.mark.parametrize("header", [{"CallerObjectId": OBJECT}, {"MSCRMCallerID": NURSE}, {"MSCRMCallerID": "nobody"}])
async def test_somebody_who_is_not_there(api: httpx.AsyncClient, header: dict[str, str]) -> None:
    """A user that is not there or disabled is 403, and nothing is written."""
    await api.post(
        "systemusers", json={"systemuserid": OBJECT, "azureactivedirectoryobjectid": OBJECT, "isdisabled": True}
    )
    assert (await api.post("contacts", json={}, headers=header)).status_code == 403
    assert (await api.get("contacts/$count")).text == "0"

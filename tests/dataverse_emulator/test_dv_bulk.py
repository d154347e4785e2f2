"""CreateMultiple, UpdateMultiple and UpsertMultiple (docs: bulk-operations.md, webapi/reference/upsertmultiple)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from webhook_kit import ROOT, register

from conftest import Receiver
from devstack.dataverse import Emulator, create_app

TYPE = "Microsoft.Dynamics.CRM.contact"
FIRST, SECOND = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "ab")


async def act(api: httpx.AsyncClient, action: str, *targets: object, query: str = "") -> httpx.Response:
    """Carry out a bulk action on contacts."""
    url = f"contacts/Microsoft.Dynamics.CRM.{action}{query}"
    return await api.post(url, json={"Targets": list(targets)})


def contact(**columns: Any) -> dict[str, Any]:
    return {"@odata.type": TYPE, **columns}


def by_key(value: str, **columns: Any) -> dict[str, Any]:
    return contact(**{"@odata.id": f"contacts(msemr_azurefhirid='{value}')"}, **columns)


async def names(api: httpx.AsyncClient) -> list[str]:
    answer = await api.get("contacts?$select=lastname&$orderby=lastname")
    return [row["lastname"] for row in answer.json()["value"]]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_create_answers_the_ids_in_order(api: httpx.AsyncClient) -> None:
    """CreateMultiple is 200 with the ids in the order of the targets, chosen ones as they were chosen."""
    answer = await act(api, "CreateMultiple", contact(contactid=SECOND), contact(), contact(contactid=FIRST))
    assert answer.status_code == 200
    body = answer.json()
    assert body["@odata.context"] == f"{ROOT}$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
    assert (body["Ids"][0], len(body["Ids"]), body["Ids"][2]) == (SECOND, 3, FIRST)


async def test_update_and_upsert_answer_nothing(api: httpx.AsyncClient) -> None:
    """UpdateMultiple and UpsertMultiple are 204 without a body: no ids, not even of what was created."""
    await act(api, "CreateMultiple", contact(contactid=FIRST, lastname="a"))
    updated = await act(api, "UpdateMultiple", contact(contactid=FIRST, lastname="b"))
    assert (updated.status_code, updated.content) == (204, b"")
    upserted = await act(api, "UpsertMultiple", contact(contactid=FIRST, lastname="c"), by_key("p2", lastname="d"))
    assert (upserted.status_code, upserted.content) == (204, b"")
    assert await names(api) == ["c", "d"]


async def test_one_bad_row_takes_all_back_and_is_not_named(api: httpx.AsyncClient) -> None:
    """One transaction: the error of one row is the answer, it does not say which, and nothing is written."""
    long = "x" * 51
    answer = await act(
        api, "CreateMultiple", contact(lastname="good"), contact(lastname=long), contact(lastname="good")
    )
    assert code(answer) == (400, "0x80044331")
    assert await names(api) == []
    await act(api, "CreateMultiple", contact(contactid=FIRST, lastname="a"))
    answer = await act(api, "UpdateMultiple", contact(contactid=FIRST, lastname="b"), contact(contactid=SECOND))
    assert code(answer) == (404, "0x80040217")
    answer = await act(api, "UpsertMultiple", contact(contactid=FIRST, lastname="b"), contact(gendercode=77))
    assert code(answer) == (400, "0x8004431a")
    assert await names(api) == ["a"]


async def test_a_taken_key_fails_the_call(api: httpx.AsyncClient) -> None:
    """A primary key or an alternate key that is taken fails every row, within the call and against what is there."""
    assert code(await act(api, "CreateMultiple", contact(contactid=FIRST), contact(contactid=FIRST)))[1] == "0x80040237"
    twice = [contact(msemr_azurefhirid="p1"), contact(msemr_azurefhirid="P1 ")]
    assert code(await act(api, "CreateMultiple", *twice)) == (412, "0x80060892")
    assert await names(api) == []


async def test_update_of_one_row_twice_takes_the_first(api: httpx.AsyncClient) -> None:
    """Of two targets for one record the first wins and the other is ignored, silently."""
    await act(api, "CreateMultiple", contact(contactid=FIRST))
    same = [contact(contactid=FIRST, lastname="first"), contact(contactid=FIRST.upper(), lastname="second")]
    assert (await act(api, "UpdateMultiple", *same)).status_code == 204
    assert await names(api) == ["first"]


async def test_upsert_of_one_row_twice_is_an_error(api: httpx.AsyncClient) -> None:
    """Two targets for one record are refused, whichever way they name it, and whether it is there or not."""
    assert (await act(api, "UpsertMultiple", by_key("p1"), by_key("P1"))).status_code == 400
    await act(api, "CreateMultiple", contact(contactid=FIRST, msemr_azurefhirid="p1"))
    assert (await act(api, "UpsertMultiple", by_key("p1"), contact(contactid=FIRST))).status_code == 400
    assert len(await names(api)) == 1


async def test_upsert_by_alternate_key(api: httpx.AsyncClient) -> None:
    """`@odata.id` names the record: it is updated where it is there, and created with the key where it is not."""
    for name in ("made", "changed"):
        assert (await act(api, "UpsertMultiple", by_key("p1", lastname=name))).status_code == 204
    answer = await api.get("contacts(msemr_azurefhirid='p1')?$select=lastname,msemr_azurefhirid")
    assert (answer.json()["lastname"], answer.json()["msemr_azurefhirid"]) == ("changed", "p1")


async def test_a_key_column_in_the_body_too_fails_creates_only(api: httpx.AsyncClient) -> None:
    """A key column beside `@odata.id` is 0x80040216 when the record is created, and dropped when it is updated.

    Reported of the real service (PowerPlatform-DataverseClient-Python, pull request 127).
    """
    both = by_key("p1", msemr_azurefhirid="p1", lastname="x")
    assert code(await act(api, "UpsertMultiple", both)) == (400, "0x80040216")
    await act(api, "UpsertMultiple", by_key("p1"))
    assert (await act(api, "UpsertMultiple", both)).status_code == 204
    assert await names(api) == ["x"]


@pytest.mark.parametrize("action", ["CreateMultiple", "UpdateMultiple", "UpsertMultiple"])
@pytest.mark.parametrize(
    "targets",
    [
        None,
        [],
        ["x"],
        [{"contactid": FIRST}],
        [{"@odata.type": "Microsoft.Dynamics.CRM.account", "contactid": FIRST}],
        [{"@odata.type": TYPE, "contactid": FIRST, "@odata.id": 5}],
        [{"@odata.type": TYPE, "contactid": FIRST, "@odata.id": "accounts(accountid=x)"}],
        [{"@odata.type": TYPE, "@odata.id": f"accounts({FIRST})"}],
        [{"@odata.type": TYPE, "contactid": FIRST, "nosuchcolumn": 1}],
    ],
)
async def test_malformed_targets(api: httpx.AsyncClient, action: str, targets: object) -> None:
    """Targets is a list of objects, each of which names the table's type; anything else is 400."""
    answer = await api.post(f"contacts/Microsoft.Dynamics.CRM.{action}", json={"Targets": targets})
    assert answer.status_code == 400, answer.text
    assert await names(api) == []


async def test_update_names_rows_by_primary_key_only(api: httpx.AsyncClient) -> None:
    """UpdateMultiple takes no alternate key, and a target without a primary key is refused."""
    await act(api, "UpsertMultiple", by_key("p1"))
    for target in (by_key("p1"), contact(lastname="x")):
        assert code(await act(api, "UpdateMultiple", target)) == (400, "0x80048d19")


async def test_lookups_are_bound_as_everywhere(api: httpx.AsyncClient) -> None:
    """A target may bind lookups, by GUID and by alternate key; a miss fails the call."""
    await act(api, "CreateMultiple", contact(contactid=FIRST, msemr_azurefhirid="gp"))
    bind = {"parentcustomerid_contact@odata.bind": "/contacts(msemr_azurefhirid='gp')"}
    await act(api, "CreateMultiple", contact(contactid=SECOND, **bind))
    row = (await api.get(f"contacts({SECOND})?$select=_parentcustomerid_value")).json()
    assert row["_parentcustomerid_value"] == FIRST
    bind = {"parentcustomerid_contact@odata.bind": "/contacts(msemr_azurefhirid='nobody')"}
    assert code(await act(api, "CreateMultiple", contact(**bind))) == (404, "0x80060891")


async def test_each_row_has_its_own_event(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """A Create step is called once a row, with the tag of the query; a call that fails calls nobody."""
    await register(api)
    await act(api, "CreateMultiple", contact(contactid=FIRST), contact(contactid=SECOND), query="?tag=bulk")
    await act(api, "CreateMultiple", contact(), contact(lastname="x" * 51))
    await app.webhooks.idle()
    bodies = [request.content for request in receiver.requests]
    assert sorted(FIRST.encode() in body for body in bodies) == [False, True]
    assert all(b'{"key":"tag","value":"bulk"}' in body for body in bodies)


async def test_steps_on_the_bulk_messages_themselves_are_refused(api: httpx.AsyncClient) -> None:
    """A step on CreateMultiple would be called once a request; the emulator says that it does not do that."""
    with pytest.raises(AssertionError, match="steps on CreateMultiple"):
        await register(api, message="CreateMultiple")


async def test_bulk_actions_in_a_batch(api: httpx.AsyncClient) -> None:
    """A bulk action may be part of a batch, alone and in a change set."""
    body = '{"Targets":[{"@odata.type":"Microsoft.Dynamics.CRM.contact","lastname":"x"}]}'
    request = f"POST contacts/Microsoft.Dynamics.CRM.CreateMultiple HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
    part = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    inner = f"--c\r\n{part}Content-ID: 1\r\n\r\n{request}--c--\r\n"
    content = f"--b\r\n{part}\r\n{request}--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--b--\r\n"
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert answer.text.count("HTTP/1.1 200 OK") == 2
    assert await names(api) == ["x", "x"]


async def test_tables_are_told_apart_by_what_they_support() -> None:
    """The message filters list CreateMultiple and UpdateMultiple of a table, and never UpsertMultiple."""
    app = create_app(no_bulk=("account",))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        found = {}
        for message in ("CreateMultiple", "UpdateMultiple", "UpsertMultiple"):
            url = f"sdkmessagefilters?$select=primaryobjecttypecode&$filter=sdkmessageid/name eq '{message}'"
            found[message] = {row["primaryobjecttypecode"] for row in (await api.get(url)).json()["value"]}
        assert "contact" in found["CreateMultiple"] & found["UpdateMultiple"]
        assert "account" not in found["CreateMultiple"] | found["UpdateMultiple"]
        assert found["UpsertMultiple"] == set()
        target = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
        answer = await api.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", json={"Targets": [target]})
        assert code(answer) == (404, "0x80060888")


async def test_conditions_and_other_methods(api: httpx.AsyncClient) -> None:
    """A bulk action is a POST; conditions on it are not emulated and say so."""
    url = "contacts/Microsoft.Dynamics.CRM.CreateMultiple"
    assert (await api.get(url)).status_code == 405
    answer = await api.post(url, json={"Targets": [contact()]}, headers={"If-Match": 'W/"1"'})
    assert answer.status_code == 501
    answer = await api.post(url, json={"Targets": [contact()]}, headers={"If-None-Match": "null"})
    assert answer.status_code == 200
    byid = contact(**{"@odata.id": f"contacts({FIRST})"})
    assert (await act(api, "UpsertMultiple", byid)).status_code == 501


async def test_an_upsert_is_a_create_or_an_update(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Each row of UpsertMultiple raises Create where it is made and Update where it is there."""
    await act(api, "CreateMultiple", contact(contactid=FIRST))
    await register(api)
    await register(api, message="Update")
    await act(api, "UpsertMultiple", contact(contactid=FIRST, lastname="a"), contact(contactid=SECOND), by_key("p1"))
    await app.webhooks.idle()
    names = sorted(request.headers["x-ms-dynamics-request-name"] for request in receiver.requests)
    assert names == ["Create", "Create", "Update"]


async def test_steps_are_passed_over(app: Emulator, api: httpx.AsyncClient, receiver: Receiver) -> None:
    """The headers that leave custom logic out count for every row of a bulk action."""
    await register(api)
    bypass = {"MSCRM.BypassBusinessLogicExecution": "CustomAsync"}
    url = "contacts/Microsoft.Dynamics.CRM.CreateMultiple"
    assert (await api.post(url, json={"Targets": [contact(), contact()]}, headers=bypass)).status_code == 200
    await app.webhooks.idle()
    assert receiver.requests == []


async def test_a_synchronous_step_that_fails_takes_all_rows_back(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """A synchronous step is called row by row inside the transaction; one refusal and no row is there."""
    await register(api, mode=0)
    receiver.statuses = [200, 500]
    assert code(await act(api, "CreateMultiple", contact(), contact(), contact())) == (400, "0x80040265")
    assert len(receiver.requests) == 2
    assert await names(api) == []


async def test_targets_may_refer_to_their_change_set(api: httpx.AsyncClient) -> None:
    """In a change set a target binds what an earlier request of it created; an error of the action undoes that too."""
    part = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {}\r\n\r\n"
    line = "POST {} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{}\r\n"
    for bind, status in (("$1", 200), ("$7", 400)):
        target = contact(**{"parentcustomerid_contact@odata.bind": bind})
        inner = (
            f"--c\r\n{part.format(1)}{line.format('contacts', json.dumps({'lastname': 'parent'}))}"
            f"--c\r\n{part.format(2)}"
            f"{line.format('contacts/Microsoft.Dynamics.CRM.CreateMultiple', json.dumps({'Targets': [target]}))}--c--\r\n"
        )
        content = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--b--\r\n"
        answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
        assert answer.status_code == status
        bound = (await api.get("contacts?$filter=_parentcustomerid_value ne null")).json()["value"]
        assert (len(bound), (await api.get("contacts/$count")).text) == (1, "2")

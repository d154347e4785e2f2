"""`$batch`: order, change sets, Content-IDs, stopping and going on, and bodies that cannot be read.

Docs: webapi/execute-batch-operations-using-web-api.md.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

ID = "11111111-2222-3333-4444-555555555555"
ROOT = "http://org/api/data/v9.2/"
Reply = tuple[int, dict[str, str], Any]


def part(request: str, body: object = None, *, content_id: str = "", headers: str = "") -> str:
    """Write one request of a batch."""
    identified = f"Content-ID: {content_id}\r\n" if content_id else ""
    if body is None:
        inner = f"{request} HTTP/1.1\r\n{headers}\r\n"
    else:
        content = json.dumps(body)
        inner = f"{request} HTTP/1.1\r\nContent-Type: application/json; type=entry\r\n{headers}\r\n{content}"
    return f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n{identified}\r\n{inner}"


def change_set(*parts: str, name: str = "changeset_1") -> str:
    """Write a change set."""
    inner = "".join(f"--{name}\r\n{each}\r\n" for each in parts)
    return f'Content-Type: multipart/mixed; boundary="{name}"\r\n\r\n{inner}--{name}--\r\n'


def batch(*items: str) -> str:
    """Write a batch."""
    return "".join(f"--batch_1\r\n{each}\r\n" for each in items) + "--batch_1--\r\n"


async def post(api: httpx.AsyncClient, content: str | bytes, **headers: str) -> httpx.Response:
    return await api.post(
        "$batch", content=content, headers={"Content-Type": 'multipart/mixed; boundary="batch_1"', **headers}
    )


def replies(answer: httpx.Response) -> list[Reply | list[Reply]]:
    """Read an answer to a batch: one reply, or the list of a change set's replies, per item."""
    match = re.fullmatch(r"multipart/mixed; boundary=(batchresponse_[0-9a-f-]{36})", answer.headers["Content-Type"])
    assert match is not None, answer.text
    return [_item(content) for content in _contents(answer.text, match[1])]


def _contents(text: str, boundary: str) -> list[str]:
    assert text.endswith(f"--{boundary}--\r\n")
    return [content.removeprefix("\r\n") for content in text.split(f"--{boundary}")[1:-1]]


def _item(content: str) -> Reply | list[Reply]:
    match = re.match(r"Content-Type: multipart/mixed; boundary=(changesetresponse_[0-9a-f-]{36})\r\n\r\n", content)
    if match is None:
        return _reply(content)
    return [_reply(inner) for inner in _contents(content[match.end() :], match[1])]


def _reply(content: str) -> Reply:
    outer, head, body = content.split("\r\n\r\n", 2)
    assert outer.startswith("Content-Type: application/http\r\nContent-Transfer-Encoding: binary")
    line, *lines = head.split("\r\n")
    headers = dict(each.split(": ", 1) for each in [*outer.split("\r\n"), *lines])
    return int(line.split()[1]), headers, json.loads(body) if body.strip() else None


async def count(api: httpx.AsyncClient, entity_set: str = "contacts") -> int:
    return int((await api.get(f"{entity_set}/$count")).text)


async def test_replies_come_in_the_order_of_requests(api: httpx.AsyncClient) -> None:
    """Requests run one after the other, each seeing what those before it did; replies have the same order."""
    answer = await post(
        api,
        batch(
            part("POST /api/data/v9.2/contacts", {"contactid": ID, "lastname": "Doe"}),
            part(f"GET contacts({ID})?$select=lastname"),
            part(f"PATCH {ROOT}contacts({ID})", {"lastname": "Roe"}),
            part(f"GET contacts({ID})?$select=lastname"),
            part(f"DELETE contacts({ID})"),
        ),
    )
    assert answer.status_code == 200
    found = replies(answer)
    assert [reply[0] for reply in found] == [204, 200, 204, 200, 204]
    created = found[0]
    assert isinstance(created, tuple)
    assert created[1]["Location"] == created[1]["OData-EntityId"] == f"{ROOT}contacts({ID})"
    assert [found[1][2]["lastname"], found[3][2]["lastname"]] == ["Doe", "Roe"]


async def test_a_change_set_is_done_together(api: httpx.AsyncClient) -> None:
    """All requests of a change set take effect; each reply carries its Content-ID."""
    content = batch(
        change_set(
            part("POST contacts", {"lastname": "Doe"}, content_id="a"),
            part("POST accounts", {"name": "Clinic"}, content_id="b"),
        )
    )
    (found,) = replies(await post(api, content))
    assert isinstance(found, list)
    assert [(status, headers["Content-ID"]) for status, headers, _ in found] == [(204, "a"), (204, "b")]


async def test_a_change_set_fails_together(api: httpx.AsyncClient) -> None:
    """One bad request undoes its change set; the reply is that one error, and nothing after it is done."""
    content = batch(
        part("POST contacts", {"lastname": "before"}),
        change_set(
            part("POST contacts", {"lastname": "gone"}, content_id="1"),
            part("POST contacts", {"nothing": 1}, content_id="2"),
            part("POST contacts", {"lastname": "never"}, content_id="3"),
        ),
        part("POST contacts", {"lastname": "after"}),
    )
    answer = await post(api, content)
    assert answer.status_code == 400
    found = replies(answer)
    assert len(found) == 2
    assert isinstance(found[1], list)
    ((status, headers, body),) = found[1]
    assert (status, headers["Content-ID"], body["error"]["code"]) == (400, "2", "0x80048d19")
    assert headers["REQ_ID"]
    rows = (await api.get("contacts?$select=lastname")).json()["value"]
    assert [row["lastname"] for row in rows] == ["before"]


async def test_going_on_after_errors(api: httpx.AsyncClient) -> None:
    """With odata.continue-on-error the outer status is 200 and every item has its own."""
    content = batch(
        part(f"GET contacts({ID})"),
        change_set(
            part("POST contacts", {"lastname": "gone"}, content_id="1"),
            part(f"PATCH contacts({ID})", {}, content_id="2", headers="If-Match: *\r\n"),
        ),
        change_set(part("POST contacts", {"lastname": "kept"}, content_id="1"), name="changeset_2"),
    )
    answer = await post(api, content, Prefer="odata.continue-on-error")
    assert answer.status_code == 200
    first, second, third = replies(answer)
    assert isinstance(second, list)
    assert isinstance(third, list)
    assert (first[0], second[0][0], third[0][0]) == (404, 404, 204)
    rows = (await api.get("contacts?$select=lastname")).json()["value"]
    assert [row["lastname"] for row in rows] == ["kept"]


async def test_stopping_at_the_first_error(api: httpx.AsyncClient) -> None:
    """Without the preference the first failure ends the batch and lends it its status."""
    content = batch(part(f"GET contacts({ID})"), part("POST contacts", {"lastname": "never"}))
    answer = await post(api, content)
    assert answer.status_code == 404
    ((status, headers, body),) = replies(answer)  # type: ignore[misc]
    assert (status, body["error"]["code"]) == (404, "0x80040217")
    assert headers["REQ_ID"]
    assert await count(api) == 0


async def test_content_ids_stand_for_created_rows(api: httpx.AsyncClient) -> None:
    """`$n` means the row created earlier in the change set, in a bind, in a URL and below it."""
    content = batch(
        change_set(
            part("POST contacts", {"contactid": ID}, content_id="1"),
            part("POST accounts", {"name": "Clinic"}, content_id="2"),
            part(
                "POST prefix_patientidentifiers",
                {"prefix_value": "v", "prefix_Patient@odata.bind": "$1"},
                content_id="3",
            ),
            part("PATCH $1", {"lastname": "Doe", "parentcustomerid_account@odata.bind": "$2"}, content_id="4"),
            part("PUT $1/firstname", {"value": "Ann"}, content_id="5"),
            part("PUT $2/primarycontactid/$ref", {"@odata.id": "$1"}, content_id="6"),
        )
    )
    (found,) = replies(await post(api, content))
    assert isinstance(found, list)
    assert [status for status, _, _ in found] == [204] * 6
    row = (await api.get(f"contacts({ID})")).json()
    assert row["fullname"] == "Ann Doe"
    child = (await api.get("prefix_patientidentifiers")).json()["value"][0]
    assert child["_prefix_patient_value"] == ID
    account = (await api.get("accounts")).json()["value"][0]
    assert account["_primarycontactid_value"] == ID
    assert account["accountid"] == row["_parentcustomerid_value"]


async def test_a_content_id_stands_for_a_row_named_by_key(api: httpx.AsyncClient) -> None:
    """The URI of a row upserted by alternate key can be referred to as well."""
    content = batch(
        change_set(
            part("PATCH contacts(msemr_azurefhirid='p1')", {"lastname": "Doe"}, content_id="1"),
            part("POST prefix_patientidentifiers", {"prefix_Patient@odata.bind": "$1"}, content_id="2"),
        )
    )
    assert (await post(api, content)).status_code == 200
    child = (await api.get("prefix_patientidentifiers?$expand=prefix_Patient")).json()["value"][0]
    assert child["prefix_Patient"]["lastname"] == "Doe"


@pytest.mark.parametrize(
    "second",
    [
        part("POST prefix_patientidentifiers", {"prefix_Patient@odata.bind": "$1"}, content_id="2"),
        part("PATCH $1", {}, content_id="2"),
    ],
)
async def test_a_content_id_must_come_first(api: httpx.AsyncClient, second: str) -> None:
    """A reference to a request that has not run, or to another change set, is 400 with the text that says so."""
    first = part("POST contacts", {"lastname": "Doe"}, content_id="1")
    for content in (
        batch(change_set(second, first)),
        batch(change_set(first), change_set(second, name="changeset_2")),
    ):
        answer = await post(api, content)
        assert answer.status_code == 400
        failed = replies(answer)[-1]
        assert isinstance(failed, list)
        assert failed[0][2]["error"]["message"] == "Content-ID Reference: '$1' does not exist in the batch context."


async def test_conditions_and_preferences_are_each_parts_own(api: httpx.AsyncClient) -> None:
    """Headers of a part count for that part."""
    content = batch(
        part("POST contacts?$select=lastname", {"lastname": "Doe"}, headers="Prefer: return=representation\r\n"),
        part("POST contacts", {"lastname": "Roe"}),
    )
    first, second = replies(await post(api, content))
    assert (first[0], first[2]["lastname"]) == (201, "Doe")  # type: ignore[index]
    assert (second[0], second[2]) == (204, None)


async def test_content_lengths_are_accepted(api: httpx.AsyncClient) -> None:
    """A part may say how long its body is, and need not."""
    body = {"lastname": "Doe"}
    length = len(json.dumps(body))
    content = batch(part("POST contacts", body, headers=f"Content-Length: {length}\r\n"))
    assert (await post(api, content)).status_code == 200
    assert (await api.get("contacts?$select=lastname")).json()["value"][0]["lastname"] == "Doe"


async def test_bare_line_ends_are_accepted(api: httpx.AsyncClient) -> None:
    """Lines may end without a carriage return."""
    content = batch(part("POST contacts", {"lastname": "Doe"})).replace("\r\n", "\n")
    assert (await post(api, content)).status_code == 200


async def test_a_change_set_needs_content_ids(api: httpx.AsyncClient) -> None:
    """A request of a change set without Content-ID is 400 0x80060888; nothing of the batch is done."""
    content = batch(part("POST contacts", {}), change_set(part("POST contacts", {})))
    answer = await post(api, content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")
    assert "Content-ID" in answer.json()["error"]["message"]
    assert await count(api) == 0


GOOD = batch(part("POST contacts", {"lastname": "Doe"}))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "--batch_1--\r\n",
        "nothing",
        GOOD.replace("--batch_1--", ""),
        GOOD.replace("--batch_1\r\n", "--batch_2\r\n"),
        GOOD.replace("application/http", "text/plain"),
        GOOD.replace("Content-Transfer-Encoding: binary", "Content-Transfer-Encoding: base64"),
        GOOD.replace("POST contacts HTTP/1.1", "POST"),
        GOOD.replace("POST contacts", "BREW contacts"),
        GOOD.replace("POST contacts HTTP/1.1", "POST  HTTP/1.1"),
        GOOD.replace("Content-Type: application/http", "no header"),
        GOOD.replace("application/json; type=entry", "application/json\r\nContent-Length: many"),
        batch(change_set(part("GET contacts", content_id="1"))),
        batch(change_set(part("POST contacts", {}, content_id="1"), part("POST contacts", {}, content_id="1"))),
        batch(change_set(change_set(part("POST contacts", {}, content_id="1"), name="changeset_2"))),
        batch("Content-Type: multipart/mixed\r\n\r\nx"),
        batch(part(f"GET contacts?$filter=lastname+eq+'{'x' * 70000}'")),
        batch(*[part("GET contacts")] * 1001),
    ],
)
async def test_what_cannot_be_read_is_answered_with_json(api: httpx.AsyncClient, content: str) -> None:
    """A batch that is malformed or too large is 400 with a plain JSON error; nothing of it is done."""
    answer = await post(api, content)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["error"]["code"] == "0x80060888"
    assert await count(api) == 0


@pytest.mark.parametrize("kind", ["application/json", "multipart/mixed", "multipart/form-data; boundary=batch_1"])
async def test_a_batch_is_multipart_mixed(api: httpx.AsyncClient, kind: str) -> None:
    """Any other content type, or none with a boundary, is 400."""
    answer = await api.post("$batch", content=GOOD, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")


async def test_a_boundary_may_be_bare(api: httpx.AsyncClient) -> None:
    """The boundary stands in quotes or not, of the batch and of a change set."""
    content = batch(change_set(part("POST contacts", {}, content_id="1")).replace('"', "", 2))
    answer = await post(api, content, **{"Content-Type": "multipart/mixed; boundary=batch_1"})
    assert [reply[0][0] for reply in replies(answer)] == [204]  # type: ignore[index]


async def test_what_ran_before_the_failure_stands(api: httpx.AsyncClient) -> None:
    """The batch is no transaction: what came before the first failure is done and told, what follows is neither."""
    content = batch(part("POST contacts", {}), part("POST contacts", {"nothing": 1}), part("POST contacts", {}))
    answer = await post(api, content)
    assert (answer.status_code, [reply[0] for reply in replies(answer)]) == (400, [204, 400])
    assert await count(api) == 1


async def test_a_thousand_requests_are_enough(api: httpx.AsyncClient) -> None:
    """A batch may hold 1,000 requests."""
    answer = await post(api, batch(*[part("GET accounts/$count")] * 1000))
    assert len(replies(answer)) == 1000


@pytest.mark.parametrize("url", ["$batch", "/api/data/v9.2/$batch", f"{ROOT}$batch"])
async def test_batches_do_not_nest(api: httpx.AsyncClient, url: str) -> None:
    """A batch inside a batch is 400."""
    answer = await post(api, batch(part(f"POST {url}", {})))
    assert answer.status_code == 400
    (reply,) = replies(answer)
    assert reply[2]["error"]["message"] == "A batch cannot hold another batch."  # type: ignore[index]


async def test_a_long_filter_fits_in_a_batch_only(api: httpx.AsyncClient) -> None:
    """A URL of more than 32 KB is 414 outside a batch and fine inside."""
    ids = ",".join(f"'{'x' * 300}{number}'" for number in range(150))
    url = f"contacts?$filter=Microsoft.Dynamics.CRM.In(PropertyName='msemr_azurefhirid',PropertyValues=[{ids}])"
    assert (await api.get(url)).status_code == 414
    assert (await post(api, batch(part(f"GET {url}")))).status_code == 200


async def test_six_hundred_operations_are_quick(api: httpx.AsyncClient) -> None:
    """Two hundred change sets of three requests each all take effect."""
    sets = [
        change_set(
            part("POST contacts", {"lastname": str(number), "msemr_azurefhirid": f"p{number}"}, content_id="1"),
            part("POST prefix_patientidentifiers", {"prefix_Patient@odata.bind": "$1"}, content_id="2"),
            part("POST prefix_patientidentifiers", {"prefix_Patient@odata.bind": "$1"}, content_id="3"),
            name=f"changeset_{number}",
        )
        for number in range(200)
    ]
    assert (await post(api, batch(*sets))).status_code == 200
    assert (await count(api), await count(api, "prefix_patientidentifiers")) == (200, 400)


async def test_a_url_may_have_blanks(api: httpx.AsyncClient) -> None:
    """A part's URL may hold blanks as they are, as Microsoft's own SDK writes its filters."""
    await api.post("contacts", json={"lastname": "de la Cruz"})
    answer = await post(api, batch(part("GET contacts?$select=lastname&$filter=lastname eq 'de la Cruz'")))
    assert answer.status_code == 200
    assert '"lastname":"de la Cruz"' in answer.text

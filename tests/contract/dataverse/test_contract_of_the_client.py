"""What the relay's client takes for granted of Dataverse, on the emulator or, where `DATAVERSE_URL` names one, on an org."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from conftest import Place
from relay.dataverse import quoting
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.bulk import create_multiple
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseError, DataverseMissing, DataverseRace, DataverseRefusal

TEXTS = [
    "O'Brian",
    "''",
    'say "hi"',
    "a, b (c)",
    "50%27 off & more + #1?",
    "ünï©ødé 漢字 🙂",
    "x' or 'a' eq 'a",
    "[a-z]%_",
]


def create(place: Place, guid: str, **columns: Any) -> Request:
    """Return a create by a chosen key; columns are named without the table's name."""
    body = {place.key: guid, **{f"{place.name}_{name}": value for name, value in columns.items()}}
    return Request("POST", quoting.tagged(place.entity_set, "contract"), body)


def update(place: Place, guid: str, etag: str, **columns: Any) -> Request:
    body = {f"{place.name}_{name}": value for name, value in columns.items()}
    url = quoting.tagged(quoting.record(place.entity_set, guid), "contract")
    return Request("PATCH", url, body, {"If-Match": etag})


async def read(org: DataverseClient, place: Place, guid: str) -> dict[str, Any]:
    return dict(await org.get(quoting.record(place.entity_set, guid)))


async def count(org: DataverseClient, place: Place, *guids: str) -> int:
    url = quoting.query(place.entity_set, select=(place.key,), filter=quoting.in_filter(place.key, guids))
    return len((await org.get(url))["value"])


async def test_a_chosen_key_is_the_rows_key(org: DataverseClient, place: Place) -> None:
    """A create answers 204 and names the row by the key that was chosen; the same again is DuplicateRecord."""
    guid = str(uuid4())
    answer = await org.send(create(place, guid, name="first"))
    assert (answer.status, guid in answer.headers["OData-EntityId"].lower()) == (204, True)
    with pytest.raises(DataverseRace) as lost:
        await org.send(create(place, guid, name="second"))
    assert (lost.value.name, lost.value.status) == ("DuplicateRecord", 412)
    assert (await read(org, place, guid))[f"{place.name}_name"] == "first"


async def test_an_alternate_key_is_unique(org: DataverseClient, place: Place) -> None:
    """Two rows with one value in the key's column are DuplicateRecordEntityKey, however it is spelled; empty ones are not."""
    code = uuid4().hex
    await org.send(create(place, str(uuid4()), code=code))
    with pytest.raises(DataverseRace) as lost:
        await org.send(create(place, str(uuid4()), code=code.upper()))
    assert lost.value.name == "DuplicateRecordEntityKey"
    for _ in range(2):
        await org.send(create(place, str(uuid4())))


async def test_an_update_is_guarded_by_the_etag(org: DataverseClient, place: Place) -> None:
    """An update with the row's ETag changes it, one with an older ETag is ConcurrencyVersionMismatch and changes nothing."""
    guid = str(uuid4())
    await org.send(create(place, guid, name="a"))
    etag = (await read(org, place, guid))["@odata.etag"]
    await org.send(update(place, guid, etag, name="b"))
    with pytest.raises(DataverseRace) as lost:
        await org.send(update(place, guid, etag, name="c"))
    assert lost.value.name == "ConcurrencyVersionMismatch"
    assert (await read(org, place, guid))[f"{place.name}_name"] == "b"


async def test_an_update_never_creates(org: DataverseClient, place: Place) -> None:
    """If-Match `*` on a row that is not there is ObjectDoesNotExist."""
    guid = str(uuid4())
    with pytest.raises(DataverseMissing) as missing:
        await org.send(update(place, guid, "*", name="a"))
    assert missing.value.name == "ObjectDoesNotExist"
    assert await count(org, place, guid) == 0


async def test_refusals_name_the_column_and_the_request(org: DataverseClient, place: Place) -> None:
    """A text that is too long names its column, an unknown column is a payload error; both carry a request id."""
    with pytest.raises(DataverseRefusal) as long:
        await org.send(create(place, str(uuid4()), name="x" * 51))
    assert (long.value.name, long.value.column) == ("StringTooLong", f"{place.name}_name")
    with pytest.raises(DataverseRefusal) as unknown:
        await org.send(create(place, str(uuid4()), nosuchcolumn=1))
    assert unknown.value.name == "PayloadError"
    assert long.value.request_id
    assert unknown.value.request_id


async def test_lookups_are_bound_by_guid(org: DataverseClient, place: Place) -> None:
    """A bind by GUID sets the lookup; one to a row that is not there fails the write as missing."""
    parent, child = str(uuid4()), str(uuid4())
    bind = f"{place.parent}@odata.bind"
    await org.send(create(place, parent))
    request = create(place, child)
    body = {**(request.body or {}), bind: quoting.bind(place.entity_set, parent)}
    await org.send(Request("POST", request.url, body))
    assert (await read(org, place, child))[f"_{place.parent}_value"] == parent
    body = {place.key: str(uuid4()), bind: quoting.bind(place.entity_set, uuid4())}
    with pytest.raises(DataverseMissing):
        await org.send(Request("POST", request.url, body))


@pytest.mark.parametrize("text", TEXTS)
async def test_any_text_is_found_by_itself(org: DataverseClient, place: Place, text: str) -> None:
    """A value comes back as it was written and is found by a filter of it, alone and among others."""
    guid = str(uuid4())
    await org.send(create(place, guid, name=text))
    assert (await read(org, place, guid))[f"{place.name}_name"] == text
    mine = quoting.in_filter(place.key, [guid])
    for condition in (
        quoting.equals(f"{place.name}_name", text),
        quoting.in_filter(f"{place.name}_name", [text, "no"]),
    ):
        url = quoting.query(place.entity_set, select=(place.key,), filter=quoting.both(mine, condition))
        assert [row[place.key] for row in (await org.get(url))["value"]] == [guid]


async def test_a_batch_keeps_order_and_fails_by_change_set(org: DataverseClient, place: Place) -> None:
    """Of three change sets the middle one fails alone and whole; a read after them sees what they did."""
    guids = [str(uuid4()) for _ in range(4)]
    sets = [
        ChangeSet((create(place, guids[0]),)),
        ChangeSet((create(place, guids[1]), create(place, guids[2], name="x" * 51))),
        ChangeSet((create(place, guids[3]),)),
    ]
    url = quoting.query(place.entity_set, select=(place.key,), filter=quoting.in_filter(place.key, guids))
    *written, found = await org.batch([*sets, Request("GET", url)])
    assert [each[-1].error and each[-1].error.name for each in written] == [None, "StringTooLong", None]
    assert sorted(row[place.key] for row in found[0].body["value"]) == sorted([guids[0], guids[3]])


async def test_a_batch_that_may_not_go_on_stops(org: DataverseClient, place: Place) -> None:
    """Without continue-on-error what follows the first failure is not reached."""
    first, second = str(uuid4()), str(uuid4())
    items = [create(place, first, name="x" * 51), create(place, second)]
    answers = await org.batch(items, continue_on_error=False)
    assert [each[0].error and each[0].error.kind for each in answers] == ["terminal", "not-reached"]
    assert await count(org, place, second) == 0


async def test_bulk_creates_are_all_or_none(org: DataverseClient, place: Place) -> None:
    """CreateMultiple answers the chosen keys in order; one that is taken fails every row of the call."""
    guids = [str(uuid4()) for _ in range(3)]
    answer = await org.send(
        create_multiple(place.entity_set, place.name, ({place.key: each} for each in guids), "contract")
    )
    assert [each.lower() for each in answer.body["Ids"]] == guids
    fresh = str(uuid4())
    rows = [{place.key: each} for each in (fresh, guids[0])]
    with pytest.raises(DataverseError) as refused:
        await org.send(create_multiple(place.entity_set, place.name, rows, "contract"))
    assert refused.value.kind == "race"
    assert await count(org, place, fresh, *guids) == 3


async def test_tables_tell_whether_they_take_bulk_calls(org: DataverseClient, place: Place) -> None:
    """The probe finds CreateMultiple for a table that has it and nothing for one that is not there."""

    async def get(url: str) -> Any:
        return await org.get(url, metered=False)

    assert await org.bulk_tables.those_of([place.name, "nosuchtable"], get) == {place.name}


async def test_pages_are_followed(org: DataverseClient, place: Place) -> None:
    """A read in pages gives every row once."""
    guids = [str(uuid4()) for _ in range(5)]
    await org.send(create_multiple(place.entity_set, place.name, ({place.key: each} for each in guids), "contract"))
    url = quoting.query(place.entity_set, select=(place.key,), filter=quoting.in_filter(place.key, guids))
    pages = [[row[place.key] for row in page["value"]] async for page in org.pages(url, page_size=2)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(guid for page in pages for guid in page) == sorted(guids)


async def test_rivals_for_one_key_leave_one_row(org: DataverseClient, place: Place) -> None:
    """Of several creates of one key at once exactly one is carried out, and each other one says that it lost a race."""
    guid = str(uuid4())

    async def one() -> str:
        try:
            await org.send(create(place, guid))
        except DataverseError as error:
            return error.kind
        return "done"

    ends = await asyncio.gather(*(one() for _ in range(5)))
    assert sorted(ends) == ["done", "race", "race", "race", "race"]


async def test_the_caller_is_known(org: DataverseClient) -> None:
    """WhoAmI names user, business unit and organization."""
    assert {"UserId", "BusinessUnitId", "OrganizationId"} <= (await org.who_am_i()).keys()

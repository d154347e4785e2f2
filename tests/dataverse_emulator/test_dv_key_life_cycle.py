"""An alternate key asked for over the API becomes usable when its index is made, and not before (docs: define-alternate-keys-entity.md, data-service-errors.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from definition_kit import Clock, column, label, made, refusal, relationship, table

from devstack.dataverse import Emulator, create_app

BOOK = "EntityDefinitions(LogicalName='new_book')"
KEY = {"SchemaName": "new_IsbnKey", "DisplayName": label("ISBN"), "KeyAttributes": ["new_isbn"]}


def client(app: Emulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://org/api/data/v9.2/")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api(clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    async with create_app(wall_clock=clock, key_ms=10_000) as app, client(app) as api:
        await made(api, "EntityDefinitions", table("new_Book", column("String", "new_Isbn", MaxLength=20)))
        yield api


async def status(api: httpx.AsyncClient, name: str = "new_isbnkey") -> str:
    return str((await api.get(f"{BOOK}/Keys(LogicalName='{name}')")).json()["EntityKeyIndexStatus"])


async def test_pending_in_progress_active(api: httpx.AsyncClient, clock: Clock) -> None:
    """The index is pending, then in progress, then active; only then does the key name rows."""
    where = await made(api, f"{BOOK}/Keys", KEY)
    assert (await api.get(where)).json()["SchemaName"] == "new_IsbnKey"
    assert await status(api) == "Pending"
    clock.now += 5
    assert await status(api) == "InProgress"
    refused = await api.patch("new_books(new_isbn='1')", json={})
    assert refusal(refused) == (400, "0x80060888")
    assert "not valid for resource" in refused.json()["error"]["message"]
    clock.now += 5
    assert await status(api) == "Active"
    assert (await api.patch("new_books(new_isbn='1')", json={"new_name": "Emma"})).status_code == 204
    assert refusal(await api.post("new_books", json={"new_isbn": "1"})) == (412, "0x80060892")


async def test_a_key_is_active_even_if_nobody_looks(api: httpx.AsyncClient, clock: Clock) -> None:
    """What comes first after the delay meets the key as it is then."""
    await made(api, f"{BOOK}/Keys", KEY)
    clock.now += 10
    assert (await api.patch("new_books(new_isbn='1')", json={})).status_code == 204


async def test_rows_that_break_a_key_make_it_fail(api: httpx.AsyncClient, clock: Clock) -> None:
    """A key that rows violate fails; once they are mended it can be reactivated."""
    for _ in range(2):
        await api.post("new_books", json={"new_isbn": "1", "new_name": "x"})
    await made(api, f"{BOOK}/Keys", KEY)
    again = {"EntityLogicalName": "new_book", "EntityKeyLogicalName": "new_isbnkey"}
    assert refusal(await api.post("ReactivateEntityKey", json=again)) == (400, "0x80040203")
    clock.now += 10
    assert await status(api) == "Failed"
    assert (await api.patch("new_books(new_isbn='1')", json={})).status_code == 400
    row = (await api.get("new_books?$top=1")).json()["value"][0]["new_bookid"]
    await api.patch(f"new_books({row})", json={"new_isbn": "2"})
    assert await status(api) == "Failed"
    assert (await api.post("ReactivateEntityKey", json=again)).status_code == 204
    assert await status(api) == "Pending"
    clock.now += 10
    assert await status(api) == "Active"
    assert (await api.get("new_books(new_isbn='2')")).json()["new_bookid"] == row


async def test_rows_without_values_break_no_key(api: httpx.AsyncClient, clock: Clock) -> None:
    """Rows whose key columns are empty are not covered by the key."""
    for _ in range(2):
        await api.post("new_books", json={"new_name": "x"})
    await made(api, f"{BOOK}/Keys", KEY)
    clock.now += 10
    assert await status(api) == "Active"
    assert (await api.post("new_books", json={})).status_code == 204


async def test_a_key_is_removed(api: httpx.AsyncClient, clock: Clock) -> None:
    """A key that is removed keeps rows apart no more, and its column may go after it."""
    where = await made(api, f"{BOOK}/Keys", KEY)
    clock.now += 10
    await api.post("new_books", json={"new_isbn": "1"})
    assert refusal(await api.delete(f"{BOOK}/Attributes(LogicalName='new_isbn')")) == (400, "0x8004F01F")
    assert (await api.delete(where)).status_code == 204
    assert (await api.post("new_books", json={"new_isbn": "1"})).status_code == 204
    assert (await api.get(where)).status_code == 404
    assert (await api.delete(f"{BOOK}/Attributes(LogicalName='new_isbn')")).status_code == 204


async def test_a_key_of_several_columns_with_a_lookup(api: httpx.AsyncClient, clock: Clock) -> None:
    """A key may have a lookup, a number, a date and a choice among its columns."""
    await made(api, "RelationshipDefinitions", relationship("new_sequel", "new_book", "new_book", "new_BeforeId"))
    options = {"IsGlobal": False, "Options": [{"Value": 1, "Label": label("A")}]}
    await made(api, f"{BOOK}/Attributes", column("Integer", "new_Volume"))
    await made(api, f"{BOOK}/Attributes", column("Decimal", "new_Price"))
    await made(api, f"{BOOK}/Attributes", column("DateTime", "new_Day", DateTimeBehavior={"Value": "DateOnly"}))
    await made(api, f"{BOOK}/Attributes", column("Picklist", "new_Kind", OptionSet=options))
    names = ["new_beforeid", "new_volume", "new_price", "new_day", "new_kind"]
    await made(api, f"{BOOK}/Keys", {"SchemaName": "new_Wide", "KeyAttributes": names})
    clock.now += 10
    first = (await api.post("new_books", json={})).headers["odata-entityid"].partition("(")[2][:-1]
    url = f"new_books(_new_beforeid_value={first},new_volume=2,new_price=1.5,new_day=2024-01-31,new_kind=1)"
    assert (await api.patch(url, json={"new_name": "second"})).status_code == 204
    assert (await api.get(url)).json()["new_name"] == "second"


async def test_a_restart_goes_on_with_the_index(tmp_path: Path, clock: Clock) -> None:
    """A key that was pending when the emulator stopped is active when its time has come."""
    where = str(tmp_path / "org.db")
    async with create_app(database=where, wall_clock=clock, key_ms=10_000) as app, client(app) as api:
        await made(api, "EntityDefinitions", table("new_Book", column("String", "new_Isbn", MaxLength=20)))
        await made(api, f"{BOOK}/Keys", KEY)
    clock.now += 4
    async with create_app(database=where, wall_clock=clock, key_ms=10_000) as app, client(app) as api:
        assert await status(api) == "Pending"
        clock.now += 6
        assert await status(api) == "Active"
    async with create_app(database=where, wall_clock=clock, key_ms=10_000) as app, client(app) as api:
        assert (await api.patch("new_books(new_isbn='1')", json={})).status_code == 204
        snapshot = (await api.get("http://org/_emulator/snapshot")).json()
        await api.post("http://org/_emulator/reset")
        await api.put("http://org/_emulator/snapshot", json=snapshot)
        assert refusal(await api.post("new_books", json={"new_isbn": "1"})) == (412, "0x80060892")


async def test_a_table_has_ten_keys(api: httpx.AsyncClient) -> None:
    """The eleventh key of a table is refused."""
    for number in range(11):
        await made(api, f"{BOOK}/Attributes", column("Integer", f"new_N{number}"))
    for number in range(10):
        await made(api, f"{BOOK}/Keys", {"SchemaName": f"new_K{number}", "KeyAttributes": [f"new_n{number}"]})
    answer = await api.post(f"{BOOK}/Keys", json={"SchemaName": "new_K10", "KeyAttributes": ["new_n10"]})
    assert refusal(answer) == (400, "0x80040203")


async def test_a_key_has_sixteen_columns(api: httpx.AsyncClient) -> None:
    """A key of seventeen columns is refused, one of sixteen is made."""
    for number in range(17):
        await made(api, f"{BOOK}/Attributes", column("Integer", f"new_N{number}"))
    names = [f"new_n{number}" for number in range(17)]
    answer = await api.post(f"{BOOK}/Keys", json={"SchemaName": "new_Wide", "KeyAttributes": names})
    assert refusal(answer) == (400, "0x80040203")
    await made(api, f"{BOOK}/Keys", {"SchemaName": "new_Wide", "KeyAttributes": names[:16]})


@pytest.mark.parametrize(("length", "fits"), [(450, True), (451, False)])
async def test_a_key_has_nine_hundred_bytes(api: httpx.AsyncClient, length: int, *, fits: bool) -> None:
    """A character of a text counts two bytes: 450 are the most."""
    await made(api, f"{BOOK}/Attributes", column("String", "new_Long", MaxLength=length))
    answer = await api.post(f"{BOOK}/Keys", json={"SchemaName": "new_LongKey", "KeyAttributes": ["new_long"]})
    assert answer.status_code == (204 if fits else 400)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"SchemaName": "new_IsbnKey", "KeyAttributes": ["new_name"]}, (400, "0x80060893")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["new_isbn"]}, (400, "0x80060894")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["nothing"]}, (404, "0x80060888")),
        ({"SchemaName": "new_Other", "KeyAttributes": []}, (400, "0x80040203")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["new_name", "new_name"]}, (400, "0x80040203")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["statecode"]}, (400, "0x80040203")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["createdon"]}, (400, "0x80040203")),
        ({"SchemaName": "new_Other", "KeyAttributes": [1]}, (400, "0x80048d19")),
        ({"SchemaName": "new_Other", "KeyAttributes": "new_name"}, (400, "0x80048d19")),
        ({"SchemaName": "other", "KeyAttributes": ["new_name"]}, (400, "0x80040203")),
        ({"SchemaName": "new_Other", "KeyAttributes": ["new_name"], "Nonsense": 1}, (501, "0x80040800")),
    ],
)
async def test_wrong_keys(api: httpx.AsyncClient, body: dict[str, Any], expected: tuple[int, str]) -> None:
    """A key that is there already, or of columns that cannot be in one, is refused."""
    await made(api, f"{BOOK}/Keys", KEY)
    assert refusal(await api.post(f"{BOOK}/Keys", json=body)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"EntityLogicalName": "nothing", "EntityKeyLogicalName": "x"}, 404),
        ({"EntityLogicalName": "new_book", "EntityKeyLogicalName": "x"}, 404),
        ({"EntityLogicalName": "new_book"}, 400),
        ([], 400),
    ],
)
async def test_wrong_reactivations(api: httpx.AsyncClient, body: Any, expected: int) -> None:
    """Reactivating needs a table and a key that are there."""
    assert (await api.post("ReactivateEntityKey", json=body)).status_code == expected

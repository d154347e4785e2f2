"""SQL: one SELECT of one table; what is not read is refused (PowerPlatform-Dataverse-Client 1.1.0, which no page describes)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from devstack.dataverse import Emulator

ID = "11111111-2222-3333-4444-55555555555{}"


@pytest.fixture(autouse=True)
async def rows(api: httpx.AsyncClient) -> None:
    for number, name in enumerate(["Alder", "O'Neil", "Cedar", None]):
        body: dict[str, Any] = {"contactid": ID.format(number), "numberofchildren": number, "donotemail": number == 1}
        await api.post("contacts", json=body | ({"lastname": name} if name else {}))


async def select(api: httpx.AsyncClient, statement: str) -> httpx.Response:
    return await api.get("contacts", params={"sql": statement})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("lastname = 'alder'", [0]),
        ("lastname <> 'alder'", [1, 2]),
        ("lastname != 'O''Neil'", [0, 2]),
        ("numberofchildren > 1", [2, 3]),
        ("numberofchildren >= 1 AND numberofchildren <= 2", [1, 2]),
        ("numberofchildren < 1 OR (numberofchildren = 3)", [0, 3]),
        ("NOT numberofchildren = 1 AND NOT (lastname IS NULL)", [0, 2]),
        ("lastname LIKE '%r'", [0, 2]),
        ("lastname NOT LIKE '%r'", [1, 3]),
        ("numberofchildren IN (1, 3)", [1, 3]),
        ("numberofchildren NOT IN (1, 3)", [0, 2]),
        ("lastname IS NULL", [3]),
        ("lastname IS NOT NULL", [0, 1, 2]),
        ("c.donotemail = 1", [1]),
        ("contact.contactid = '" + ID.format(2) + "'", [2]),
    ],
)
async def test_conditions(api: httpx.AsyncClient, where: str, expected: list[int]) -> None:
    """Each comparison finds its rows; what is empty is neither equal nor unequal, as in SQL."""
    text = f"SELECT numberofchildren FROM contact c WHERE {where} ORDER BY numberofchildren"  # noqa: S608 - to the reader
    found = await select(api, text)
    assert found.status_code == 200, found.text
    assert [row["numberofchildren"] for row in found.json()["value"]] == expected


async def test_columns_have_their_names_or_aliases(api: httpx.AsyncClient) -> None:
    """A column is called as it is, or as AS says; values are of their types."""
    found = await select(
        api, "select top 1 LastName as Surname, donotemail, contactid from Contact as x order by x.lastname desc"
    )
    assert found.json()["value"] == [{"Surname": "O'Neil", "donotemail": True, "contactid": ID.format(1)}]


async def test_rows_are_counted(api: httpx.AsyncClient) -> None:
    """COUNT(*) is one row with the number."""
    assert (await select(api, "SELECT COUNT(*) FROM contact")).json()["value"] == [{"count": 4}]
    counted = await select(api, "SELECT COUNT(*) AS n FROM contact WHERE lastname IS NULL")
    assert counted.json()["value"] == [{"n": 1}]


async def test_pages(app: Emulator, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a page holds come by a link."""
    monkeypatch.setattr("devstack.dataverse.sql.PAGE", 3)
    assert app.metadata.tables
    first = (await select(api, "SELECT numberofchildren FROM contact ORDER BY numberofchildren")).json()
    assert len(first["value"]) == 3
    last = (await api.get(first["@odata.nextLink"])).json()
    assert ([row["numberofchildren"] for row in last["value"]], "@odata.nextLink" in last) == ([3], False)
    top = (await select(api, "SELECT TOP 3 numberofchildren FROM contact")).json()
    assert (len(top["value"]), "@odata.nextLink" in top) == (3, False)


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("", 400),
        ("DELETE FROM contact", 400),
        ("SELECT lastname", 400),
        ("SELECT * FROM contact", 400),
        ("SELECT lastname FROM account", 400),
        ("SELECT nothing FROM contact", 400),
        ("SELECT a.b.c FROM contact", 400),
        ("SELECT y.lastname FROM contact x", 400),
        ("SELECT lastname. FROM contact", 400),
        ("SELECT lastname AS 'x' FROM contact", 400),
        ("SELECT TOP x lastname FROM contact", 400),
        ("SELECT lastname FROM contact WHERE", 400),
        ("SELECT lastname FROM contact WHERE lastname", 400),
        ("SELECT lastname FROM contact WHERE lastname NOT = 'x'", 400),
        ("SELECT lastname FROM contact WHERE lastname = other", 400),
        ("SELECT lastname FROM contact WHERE numberofchildren = 'many'", 400),
        ("SELECT lastname FROM contact WHERE numberofchildren LIKE '1'", 400),
        ("SELECT lastname FROM contact WHERE " + "(" * 60, 400),
        ("SELECT lastname FROM contact ORDER lastname", 400),
        ("SELECT lastname FROM contact ; SELECT 1", 400),
        ("SELECT lastname, COUNT(*) FROM contact", 501),
        ("SELECT COUNT(lastname) FROM contact", 501),
        ("SELECT COUNT(DISTINCT lastname) FROM contact", 501),
        ("SELECT MAX(numberofchildren) FROM contact", 501),
        ("SELECT DISTINCT lastname FROM contact", 501),
        ("SELECT lastname FROM contact GROUP BY lastname", 501),
        ("SELECT lastname FROM contact JOIN account ON 1 = 1", 501),
        ("SELECT lastname FROM contact WHERE numberofchildren BETWEEN 1 AND 2", 501),
        ("SELECT lastname FROM contact ORDER BY lastname OFFSET 1", 501),
    ],
)
async def test_what_is_not_read(api: httpx.AsyncClient, statement: str, status: int) -> None:
    """SQL that is wrong is 400, a part of SQL that is not emulated 501."""
    assert (await select(api, statement)).status_code == status


async def test_nothing_stands_beside_it(api: httpx.AsyncClient) -> None:
    """Query options beside sql are refused, and so is a token that nobody wrote."""
    assert (await api.get("contacts?sql=x&$top=1")).status_code == 501
    assert (await api.get("contacts?sql=SELECT lastname FROM contact&$skiptoken=x")).status_code == 400

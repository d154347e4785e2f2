"""Change tracking with deltas, deletions and tokens that expire (docs: use-change-tracking-synchronize-data-external-systems.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from devstack.dataverse import Emulator, create_app

ROOT = "http://org/api/data/v9.2/"
FIRST, SECOND, THIRD = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "abc")
TRACK = {"Prefer": "odata.track-changes"}


async def rows(api: httpx.AsyncClient, url: str, **headers: str) -> dict[str, Any]:
    answer = await api.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def begin(api: httpx.AsyncClient, *ids: str) -> str:
    """Make rows and read the set with tracking; returns the delta link."""
    for each in ids:
        await api.post("contacts", json={"contactid": each, "lastname": each[0]})
    answer = await api.get("contacts?$select=lastname", headers=TRACK)
    assert answer.headers["Preference-Applied"] == "odata.track-changes"
    assert [row["lastname"] for row in answer.json()["value"]] == [each[0] for each in ids]
    return str(answer.json()["@odata.deltaLink"])


async def test_a_delta_holds_what_changed_then_what_went(api: httpx.AsyncClient) -> None:
    """Following the link gives changed and new rows with the columns chosen, then deletions, then the next link."""
    link = await begin(api, FIRST, SECOND)
    await api.patch(f"contacts({SECOND})", json={"lastname": "changed"})
    await api.post("contacts", json={"contactid": THIRD, "lastname": "new"})
    await api.delete(f"contacts({FIRST})")
    delta = await rows(api, link)
    changed, gone = delta["value"][:2], delta["value"][2:]
    assert [(row["contactid"], row["lastname"], "firstname" in row) for row in changed] == [
        (SECOND, "changed", False),
        (THIRD, "new", False),
    ]
    assert gone == [{"@odata.context": f"{ROOT}$metadata#contacts/$deletedEntity", "id": FIRST, "reason": "deleted"}]
    assert (await rows(api, delta["@odata.deltaLink"]))["value"] == []


async def test_a_row_that_came_back_is_changed_and_not_deleted(api: httpx.AsyncClient) -> None:
    """A row deleted and made again under its id is a change."""
    link = await begin(api, FIRST)
    await api.delete(f"contacts({FIRST})")
    await api.post("contacts", json={"contactid": FIRST, "lastname": "again"})
    assert [row.get("lastname") for row in (await rows(api, link))["value"]] == ["again"]


async def test_changes_can_be_counted(api: httpx.AsyncClient) -> None:
    """`$count` with a delta token is the number of changes, deletions too."""
    link = await begin(api, FIRST, SECOND)
    token = link.partition("$deltatoken=")[2]
    await api.delete(f"contacts({FIRST})")
    await api.patch(f"contacts({SECOND})", json={"lastname": "x"})
    assert (await api.get(f"contacts/$count?$deltatoken={token}")).text == "2"


async def test_pages_of_a_tracked_read(api: httpx.AsyncClient) -> None:
    """Pages are linked by next links; the last one has the delta link, which leaves out nothing that changed meanwhile."""
    await begin(api, FIRST, SECOND, THIRD)
    page = await rows(api, "contacts?$select=lastname", Prefer="odata.track-changes,odata.maxpagesize=2")
    assert ([row["contactid"] for row in page["value"]], "@odata.deltaLink" in page) == ([FIRST, SECOND], False)
    await api.patch(f"contacts({FIRST})", json={"lastname": "meanwhile"})
    page = await rows(api, page["@odata.nextLink"], Prefer="odata.track-changes,odata.maxpagesize=2")
    assert [row["contactid"] for row in page["value"]] == [THIRD]
    delta = await rows(api, page["@odata.deltaLink"])
    assert [row["lastname"] for row in delta["value"]] == ["meanwhile"]
    await api.patch(f"contacts({SECOND})", json={"lastname": "x"})
    page = await rows(api, page["@odata.deltaLink"], Prefer="odata.maxpagesize=1")
    second = await rows(api, page["@odata.nextLink"], Prefer="odata.maxpagesize=1")
    assert [row["contactid"] for row in page["value"] + second["value"]] == [FIRST, SECOND]


async def test_tokens_expire(app: Emulator, api: httpx.AsyncClient) -> None:
    """A token older than seven days is refused: the caller reads everything anew."""
    link = await begin(api, FIRST)
    app._service.tracking._clock = lambda: 10e9
    answer = await api.get(link)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80044352")


@pytest.mark.parametrize("option", ["$filter=lastname eq 'x'", "$orderby=lastname", "$expand=createdby", "$top=1"])
async def test_options_that_do_not_go_together(api: httpx.AsyncClient, option: str) -> None:
    """Filters, orders, expands and `$top` are refused beside change tracking."""
    answer = await api.get(f"contacts?{option}", headers=TRACK)
    assert answer.status_code == 400
    assert option.partition("=")[0] in answer.json()["error"]["message"]


@pytest.mark.parametrize("token", ["x", "1", "1!2!3", "1!-2", "99999999999999999999!1", ""])
async def test_tokens_of_others(api: httpx.AsyncClient, token: str) -> None:
    """A token that this service did not write is 400."""
    assert (await api.get(f"contacts?$deltatoken={token}")).status_code == 400


async def test_only_tables_with_tracking() -> None:
    """A table whose facts switch tracking off refuses it; its definition says so."""
    app = create_app()
    app.metadata.tables["account"].change_tracking = False
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        assert (await api.get("accounts", headers=TRACK)).status_code == 400
        url = "EntityDefinitions(LogicalName='{}')?$select=ChangeTrackingEnabled"
        told = [(await rows(api, url.format(name)))["ChangeTrackingEnabled"] for name in ("account", "contact")]
        assert told == [False, True]


async def test_a_reset_forgets_deletions(api: httpx.AsyncClient) -> None:
    """What is replaced as a whole has no history."""
    link = await begin(api, FIRST)
    await api.delete(f"contacts({FIRST})")
    await api.post("http://org/_emulator/reset")
    assert (await rows(api, link))["value"] == []

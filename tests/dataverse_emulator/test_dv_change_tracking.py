"""Change tracking with deltas, deletions and tokens that expire (docs: use-change-tracking-synchronize-data-external-systems.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from webhook_kit import ROOT, register

from devstack.dataverse import create_app

FIRST, SECOND, THIRD = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "abc")
TRACK = {"Prefer": "odata.track-changes"}


async def rows(api: httpx.AsyncClient, url: str, **headers: str) -> dict[str, Any]:
    answer = await api.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def expired(answer: httpx.Response) -> bool:
    return answer.status_code == 400 and answer.json()["error"]["code"] == "0x80044352"


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


@pytest.mark.parametrize(("options", "days"), [({}, 7), ({"delta_days": 1.5}, 1.5)])
async def test_tokens_expire(options: dict[str, Any], days: float) -> None:
    """A token older than seven days, or what is said instead, is refused: the caller reads everything anew."""
    now = 1e9
    app = create_app(wall_clock=lambda: now, **options)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        link = await begin(api, FIRST)
        now += days * 86400
        assert (await api.get(link)).status_code == 200
        now += 1
        for url in (link, link.replace("contacts?", "contacts/$count?").replace("$select=lastname&", "")):
            assert expired(await api.get(url))


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


async def test_a_later_page_needs_no_preference(api: httpx.AsyncClient) -> None:
    """A next link says all by itself: its page is a tracked one whether or not the preference is sent again."""
    await begin(api, FIRST, SECOND)
    page = await rows(api, "contacts?$select=lastname", Prefer="odata.track-changes,odata.maxpagesize=1")
    page = await rows(api, page["@odata.nextLink"])
    assert ([row["contactid"] for row in page["value"]], "@odata.deltaLink" in page) == ([SECOND], True)


async def test_deletions_come_with_the_last_page(api: httpx.AsyncClient) -> None:
    """The pages of a delta hold changed rows first; deletions and the delta link are on the last."""
    link = await begin(api, FIRST, SECOND, THIRD)
    await api.delete(f"contacts({FIRST})")
    for each in (SECOND, THIRD):
        await api.patch(f"contacts({each})", json={"lastname": "x"})
    page = await rows(api, link, Prefer="odata.maxpagesize=1")
    last = await rows(api, page["@odata.nextLink"], Prefer="odata.maxpagesize=1")
    assert [row.get("reason", row.get("contactid")) for row in page["value"]] == [SECOND]
    assert [row.get("reason", row.get("contactid")) for row in last["value"]] == [THIRD, "deleted"]
    assert (await rows(api, last["@odata.deltaLink"]))["value"] == []


async def test_a_failed_write_is_no_change(api: httpx.AsyncClient) -> None:
    """What was taken back, a deletion too, never happened."""
    link = await begin(api, FIRST)
    part = (
        "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {}\r\n\r\n{}\r\n\r\n"
    )
    parts = part.format(1, f"DELETE contacts({FIRST}) HTTP/1.1") + part.format(2, f"DELETE contacts({SECOND}) HTTP/1.1")
    content = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
    answer = await api.post("$batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert answer.status_code == 404
    assert (await rows(api, link))["value"] == []


@pytest.mark.parametrize("way", ["reset", "restore"])
async def test_what_is_replaced_as_a_whole_has_no_history(api: httpx.AsyncClient, way: str) -> None:
    """After a reset or restore a link from before is refused: which rows went with it is not known. A new one works."""
    link = await begin(api, FIRST)
    snapshot = (await api.get("http://org/_emulator/snapshot")).json()
    await api.delete(f"contacts({FIRST})")
    if way == "reset":
        await api.post("http://org/_emulator/reset")
        link_after = await begin(api)
    else:
        await api.put("http://org/_emulator/snapshot", json=snapshot)
        link_after = (await rows(api, "contacts?$select=lastname", **TRACK))["@odata.deltaLink"]
    assert expired(await api.get(link))
    assert (await rows(api, link_after))["value"] == []


async def test_links_survive_a_restart(tmp_path: Path) -> None:
    """A link is good in the next process on the same file, also for what happens right after a deletion."""
    file = str(tmp_path / "org.sqlite")
    app = create_app(database=file)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        first = await begin(api, FIRST)
        await api.delete(f"contacts({FIRST})")
        second = (await rows(api, first))["@odata.deltaLink"]
    app = create_app(database=file)
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await api.post("contacts", json={"contactid": SECOND, "lastname": "x"})
        assert [row.get("contactid") for row in (await rows(api, second))["value"]] == [SECOND]
        assert len((await rows(api, first))["value"]) == 2


async def test_a_transaction_that_was_open_is_not_missed() -> None:
    """A row that a synchronous step held back while a link was made is in the next delta, although its version is older."""
    links: list[str] = []

    async def step(_: httpx.Request) -> httpx.Response:
        await api.post("accounts", json={"name": "meanwhile"})
        links.append((await rows(api, "contacts?$select=lastname", **TRACK))["@odata.deltaLink"])
        return httpx.Response(200)

    app = create_app(webhook_transport=httpx.MockTransport(step))
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        await register(api, mode=0)
        await api.post("contacts", json={"contactid": FIRST, "lastname": "held"})
        assert [row["lastname"] for row in (await rows(api, links[0]))["value"]] == ["held"]

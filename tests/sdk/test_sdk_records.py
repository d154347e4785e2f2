"""The official Python SDK writes and reads rows, one and many, by id and by alternate key (PowerPlatform-Dataverse-Client 1.1.0)."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.upsert import UpsertItem

pytest_plugins = ["sdk_kit"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def table(client: AsyncDataverseClient) -> None:
    number = {"type": "string", "max_length": 50}
    await client.tables.create("new_Ticket", {"new_Number": number, "new_Count": "int", "new_Open": "bool"})
    await client.tables.create_alternate_key("new_Ticket", "new_TicketKey", ["new_number"])


def paths(calls: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what was asked for, without the root and what is after a key."""
    return [
        (each["method"], each["path"].removeprefix("/api/data/v9.2/").split("(")[0].split("?")[0]) for each in calls
    ]


async def test_one_row(client: AsyncDataverseClient) -> None:
    """A row is created, read, changed and deleted; one that is gone is told as none."""
    row = await client.records.create("new_Ticket", {"new_Name": "one", "new_Count": 1})
    await client.records.update("new_Ticket", row, {"new_Count": 2})
    read = await client.records.retrieve("new_Ticket", row, select=["new_name", "new_count"])
    assert read is not None
    assert (read["new_name"], read["new_count"]) == ("one", 2)
    await client.records.delete("new_Ticket", row)
    assert await client.records.retrieve("new_Ticket", row) is None
    with pytest.raises(HttpError) as refused:
        await client.records.update("new_Ticket", row, {"new_Count": 3})
    assert refused.value.status_code == 404


async def test_many_rows(client: AsyncDataverseClient, calls: list[dict[str, Any]]) -> None:
    """Lists go by CreateMultiple, UpdateMultiple and BulkDelete, one call each."""
    rows = await client.records.create("new_Ticket", [{"new_Name": f"many {n}"} for n in range(3)])
    assert len(set(rows)) == 3
    await client.records.update("new_Ticket", rows, {"new_Count": 7})
    await client.records.update("new_Ticket", rows[:2], [{"new_Open": True}, {"new_Open": False}])
    read = await client.records.list("new_Ticket", filter="startswith(new_name,'many')", orderby=["new_name"])
    assert [(each["new_count"], each["new_open"]) for each in read] == [(7, True), (7, False), (7, False)]
    job = await client.records.delete("new_Ticket", rows)
    assert await client.records.retrieve("asyncoperation", str(job))
    assert not await client.records.list("new_Ticket", filter="startswith(new_name,'many')")
    crm = "new_tickets/Microsoft.Dynamics.CRM."
    asked = [each for each in paths(calls) if each[0] == "POST"]
    assert asked == [
        ("POST", f"{crm}CreateMultiple"),
        ("POST", f"{crm}UpdateMultiple"),
        ("POST", f"{crm}UpdateMultiple"),
        ("POST", "BulkDelete"),
    ]


async def test_a_bad_row_undoes_all(client: AsyncDataverseClient) -> None:
    """One wrong row of a list leaves none of it."""
    with pytest.raises(HttpError) as refused:
        await client.records.create("new_Ticket", [{"new_Name": "half"}, {"new_Name": "half", "new_Count": 2**40}])
    assert refused.value.status_code == 400
    assert not await client.records.list("new_Ticket", filter="new_name eq 'half'")


async def test_upserts(client: AsyncDataverseClient, calls: list[dict[str, Any]]) -> None:
    """One upsert is a PATCH by key, several are UpsertMultiple; both create and update."""
    one = UpsertItem({"new_number": "A'1"}, {"new_Name": "first"})
    await client.records.upsert("new_Ticket", [one])
    await client.records.upsert("new_Ticket", [UpsertItem({"new_number": "A'1"}, {"new_Count": 5})])
    two = {"alternate_key": {"new_number": "A2"}, "record": {"new_Name": "second"}}
    await client.records.upsert("new_Ticket", [UpsertItem({"new_number": "A'1"}, {"new_Open": True}), two])
    read = await client.records.list("new_Ticket", filter="startswith(new_number,'A')", orderby=["new_number"])
    kept = [(each["new_number"], each["new_name"], each["new_count"], each["new_open"]) for each in read]
    assert kept == [("A'1", "first", 5, True), ("A2", "second", None, False)]
    asked = [each for each in paths(calls) if each[0] in ("PATCH", "POST")]
    bulk = ("POST", "new_tickets/Microsoft.Dynamics.CRM.UpsertMultiple")
    assert asked == [("PATCH", "new_tickets"), ("PATCH", "new_tickets"), bulk]


async def test_the_same_row_twice_is_refused(client: AsyncDataverseClient) -> None:
    """UpsertMultiple does not take the same row twice."""
    twice = [UpsertItem({"new_number": "B"}, {"new_Count": n}) for n in (1, 2)]
    with pytest.raises(HttpError) as refused:
        await client.records.upsert("new_Ticket", twice)
    assert refused.value.status_code == 400


async def test_errors_carry_codes(client: AsyncDataverseClient) -> None:
    """The SDK reads status, code and request id out of an error answer."""
    await client.records.create("new_Ticket", {"new_Number": "C"})
    with pytest.raises(HttpError) as refused:
        await client.records.create("new_Ticket", {"new_Number": "c"})
    details = refused.value.details
    assert (refused.value.status_code, details["service_error_code"]) == (412, "0x80060892")
    assert details["service_request_id"]


async def test_data_frames(client: AsyncDataverseClient) -> None:
    """Rows go in and out as data frames."""
    import pandas as pd

    rows = await client.dataframe.create("new_Ticket", pd.DataFrame([{"new_name": "frame 1"}, {"new_name": "frame 2"}]))
    assert len(rows) == 2
    await client.dataframe.update(
        "new_Ticket", pd.DataFrame({"new_ticketid": rows, "new_count": [1, 2]}), id_column="new_ticketid"
    )
    read = (await client.records.list("new_Ticket", filter="startswith(new_name,'frame')")).to_dataframe()
    assert sorted(read["new_count"]) == [1, 2]


async def test_throttling_is_told(emulator: tuple[Any, str], client: AsyncDataverseClient) -> None:
    """A 429 is told as transient, with the wait that it asks for."""
    from devstack.control import Fault

    fault = Fault(
        method="POST",
        path="new_tickets",
        status=429,
        headers={"Retry-After": "3"},
        body={"error": {"code": "0x80072322"}},
    )
    emulator[0].faults.append(fault)
    with pytest.raises(HttpError) as refused:
        await client.records.create("new_Ticket", {"new_Name": "x"})
    assert (refused.value.status_code, refused.value.is_transient) == (429, True)
    assert refused.value.details["retry_after"] == 3

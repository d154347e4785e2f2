"""The official Python SDK sends batches: rows, tables, change sets, and on after errors (PowerPlatform-Dataverse-Client 1.1.0)."""

from __future__ import annotations

import pytest
import pytest_asyncio
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient

pytest_plugins = ["sdk_kit"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def tables(client: AsyncDataverseClient) -> None:
    await client.tables.create("new_Head", {})
    await client.tables.create("new_Line", {"new_Units": "int"})
    await client.tables.create_lookup_field("new_Line", "new_HeadId", "new_head")


async def test_rows(client: AsyncDataverseClient) -> None:
    """One batch creates, bulk creates, updates, lists and deletes."""
    first = await client.records.create("new_Line", {"new_Name": "first", "new_Units": 1})
    batch = client.batch.new()
    batch.records.create("new_Line", {"new_Name": "second"})
    batch.records.create("new_Line", [{"new_Name": "third"}, {"new_Name": "fourth"}])
    batch.records.update("new_Line", first, {"new_Units": 2})
    batch.records.retrieve("new_Line", first, select=["new_units"])
    batch.records.list("new_Line", select=["new_name"], filter="new_units eq 2")
    batch.query.sql("SELECT new_name FROM new_line WHERE new_units = 2")
    batch.records.delete("new_Line", first)
    result = await batch.execute()
    assert [each.status_code for each in result.responses] == [204, 200, 204, 200, 200, 200, 204]
    assert not result.has_errors
    bulk, row, listed = (result.responses[n].data or {} for n in (1, 3, 4))
    assert (len(bulk["Ids"]), row["new_units"], len(listed["value"])) == (2, 2, 1)
    assert len(result.entity_ids) == 2


async def test_change_sets(client: AsyncDataverseClient) -> None:
    """A change set takes effect as a whole; what it creates can be named in it."""
    batch = client.batch.new()
    async with batch.changeset() as changes:
        head = changes.records.create("new_Head", {"new_Name": "head"})
        line = changes.records.create("new_Line", {"new_Name": "line", "new_HeadId@odata.bind": head})
        changes.records.update("new_Line", line, {"new_Units": 9})
    result = await batch.execute()
    assert [each.status_code for each in result.responses] == [204, 204, 204]
    (kept,) = await client.records.list("new_Line", filter="new_units eq 9", expand=["new_HeadId"])
    assert kept["new_HeadId"]["new_name"] == "head"
    batch = client.batch.new()
    async with batch.changeset() as changes:
        changes.records.create("new_Line", {"new_Name": "undone"})
        changes.records.create("new_Line", {"new_Name": "wrong", "new_Units": "many"})
    assert (await batch.execute()).has_errors
    assert not await client.records.list("new_Line", filter="new_name eq 'undone'")


@pytest.mark.parametrize(("go_on", "expected"), [(False, [204, 400]), (True, [204, 400, 204])])
async def test_on_after_errors(client: AsyncDataverseClient, go_on: bool, expected: list[int]) -> None:
    """A batch ends at its first error, or goes on when it is told to."""
    batch = client.batch.new()
    batch.records.create("new_Line", {"new_Name": "a"})
    batch.records.create("new_Line", {"new_Units": "many"})
    batch.records.create("new_Line", {"new_Name": "b"})
    result = await batch.execute(continue_on_error=go_on)
    assert [each.status_code for each in result.responses] == expected
    assert result.failed[0].error_code == "0x80048d19"


async def test_definitions(client: AsyncDataverseClient) -> None:
    """Tables, columns, relationships and lookups are made, read and removed in batches."""
    batch = client.batch.new()
    batch.tables.create("new_Lot", {"new_Size": "int"})
    batch.tables.get("new_Lot")
    batch.tables.create_lookup_field("new_Lot", "new_HeadId", "new_head")
    batch.tables.get_relationship("new_head_new_lot_new_HeadId")
    made = await batch.execute()
    assert [each.status_code for each in made.responses] == [204, 200, 204, 200]
    relationship = (made.responses[3].data or {})["value"][0]["MetadataId"]
    batch = client.batch.new()
    batch.tables.add_columns("new_Lot", {"new_Depth": "int", "new_Mark": "string"})
    batch.tables.remove_columns("new_Lot", "new_Size")
    batch.tables.delete_relationship(relationship)
    batch.tables.list(filter="SchemaName eq 'new_Lot'")
    changed = await batch.execute()
    assert [each.status_code for each in changed.responses] == [204, 204, 204, 204, 200]
    names = {each["LogicalName"] for each in await client.tables.list_columns("new_Lot", select=["LogicalName"])}
    assert {"new_depth", "new_mark"} <= names
    assert not {"new_size", "new_headid"} & names
    batch = client.batch.new()
    batch.tables.delete("new_Lot")
    assert [each.status_code for each in (await batch.execute()).responses] == [204]

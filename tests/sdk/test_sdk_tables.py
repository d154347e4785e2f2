"""The official Python SDK makes, reads, changes and removes tables, columns, relationships and alternate keys (PowerPlatform-Dataverse-Client 1.1.0)."""

from __future__ import annotations

from enum import IntEnum

import pytest
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError, MetadataError
from PowerPlatform.Dataverse.models.labels import Label, LocalizedLabel
from PowerPlatform.Dataverse.models.relationship import (
    CascadeConfiguration,
    LookupAttributeMetadata,
    ManyToManyRelationshipMetadata,
    OneToManyRelationshipMetadata,
)

pytest_plugins = ["sdk_kit"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Kind(IntEnum):
    """A choice as the SDK takes it."""

    NOVEL = 727000000
    POEM = 727000001


def text(words: str) -> Label:
    return Label(localized_labels=[LocalizedLabel(label=words, language_code=1033)])


COLUMNS = {
    "new_Title": "string",
    "new_Plot": "memo",
    "new_Pages": {"type": "int", "min_value": 1, "max_value": 5000},
    "new_Price": "decimal",
    "new_Score": "float",
    "new_Lent": "bool",
    "new_Due": "datetime",
    "new_Kind": Kind,
}


async def test_tables(client: AsyncDataverseClient) -> None:
    """A table with a column of every kind is made, found, listed, and removed with its rows."""
    made = await client.tables.create("new_Book", COLUMNS, display_name="Book")
    assert made.logical_name == "new_book"
    assert made.entity_set_name == "new_books"
    assert made.primary_name_attribute == "new_name"
    assert sorted(made.columns_created or []) == sorted(COLUMNS)
    found = await client.tables.get("new_book")
    assert found is not None
    assert (found.schema_name, found.metadata_id) == ("new_Book", made.metadata_id)
    listed = await client.tables.list(filter="SchemaName eq 'new_Book'", select=["SchemaName", "EntitySetName"])
    assert [each["EntitySetName"] for each in listed] == ["new_books"]
    assert len(await client.tables.list()) > 90
    with pytest.raises(MetadataError, match="already exists"):
        await client.tables.create("new_Book", {})
    row = {"new_Title": "Emma", "new_Kind": "Poem", "new_Pages": 3, "new_Due": "2024-05-06T00:00:00Z"}
    book = await client.records.create("new_Book", row)
    kept = await client.records.retrieve("new_Book", book, select=["new_Title", "new_Kind", "new_Lent", "new_Pages"])
    assert (kept["new_title"], kept["new_kind"], kept["new_lent"], kept["new_pages"]) == ("Emma", 727000001, False, 3)
    await client.tables.delete("new_Book")
    assert await client.tables.get("new_Book") is None
    with pytest.raises(MetadataError):
        await client.tables.delete("new_Book")


async def test_columns(client: AsyncDataverseClient) -> None:
    """Columns are added, read in both ways, changed and removed."""
    await client.tables.create("new_Shelf", {})
    added = await client.tables.add_columns("new_Shelf", {"new_Width": "int", "new_Note": "memo", "new_Kind": Kind})
    assert added == ["new_Width", "new_Note", "new_Kind"]
    listed = await client.tables.list_columns("new_Shelf", filter="AttributeType eq 'Memo'", select=["LogicalName"])
    assert [each["LogicalName"] for each in listed] == ["new_note"]
    typed = await client.tables.list_columns("new_Shelf", typed=True)
    assert {each["LogicalName"]: each for each in typed}["new_width"]["MaxValue"] == 2147483647
    limits = {"min_value": 0, "max_value": 300, "display_name": "Width in cm"}
    await client.tables.update_column("new_Shelf", "new_Width", limits)
    width = await client.tables.get_column("new_Shelf", "new_Width", typed=True)
    assert width is not None
    assert (width["MinValue"], width["MaxValue"]) == (0, 300)
    assert width["DisplayName"]["UserLocalizedLabel"]["Label"] == "Width in cm"
    plain = await client.tables.get_column("new_Shelf", "new_Note")
    assert plain is not None
    assert plain["MaxLength"] == 4000
    assert await client.tables.get_column("new_Shelf", "new_Nothing") is None
    names = {each["name"]: each for each in await client.query.sql_columns("new_Shelf")}
    assert names["new_shelfid"]["is_pk"] is True
    assert names["new_name"]["is_name"] is True
    assert await client.tables.remove_columns("new_Shelf", ["new_Width", "new_Kind"]) == ["new_Width", "new_Kind"]
    assert await client.tables.get_column("new_Shelf", "new_Width") is None
    with pytest.raises(MetadataError):
        await client.tables.remove_columns("new_Shelf", "new_Width")
    await client.tables.delete("new_Shelf")


async def test_relationships(client: AsyncDataverseClient) -> None:
    """One-to-many relationships and lookup fields are made, found, listed, used and removed."""
    await client.tables.create("new_Author", {})
    await client.tables.create("new_Work", {})
    made = await client.tables.create_one_to_many_relationship(
        LookupAttributeMetadata(schema_name="new_AuthorId", display_name=text("Author")),
        OneToManyRelationshipMetadata(
            schema_name="new_author_works",
            referenced_entity="new_author",
            referencing_entity="new_work",
            referenced_attribute="new_authorid",
            cascade_configuration=CascadeConfiguration(delete="Cascade"),
        ),
    )
    found = await client.tables.get_relationship("new_author_works")
    assert found is not None
    assert found.relationship_id == made.relationship_id
    lookup = await client.tables.create_lookup_field("new_Work", "new_SponsorId", "account", display_name="Sponsor")
    assert lookup.relationship_id
    kind = "RelationshipType eq Microsoft.Dynamics.CRM.RelationshipType'OneToManyRelationship'"
    assert len(await client.tables.list_relationships(filter=kind, select=["SchemaName"])) > 100
    names = {each["SchemaName"] for each in await client.tables.list_table_relationships("new_Work")}
    assert {"new_author_works", "account_new_work_new_SponsorId"} <= names
    expands = {each["nav_property"]: each for each in await client.query.odata_expands("new_Work")}
    assert expands["new_AuthorId"]["target_entity_set"] == "new_authors"
    author = await client.records.create("new_Author", {"new_Name": "Austen"})
    work = await client.records.create(
        "new_Work", {"new_Name": "Emma", "new_AuthorId@odata.bind": f"/new_authors({author})"}
    )
    read = await client.records.retrieve("new_Work", work, select=["new_name"], expand=["new_AuthorId"])
    assert read["new_AuthorId"]["new_name"] == "Austen"
    await client.records.delete("new_Author", author)
    assert await client.records.retrieve("new_Work", work) is None
    for each in (made, lookup):
        await client.tables.delete_relationship(str(each.relationship_id))
    assert await client.tables.get_relationship("new_author_works") is None
    await client.tables.delete("new_Work")
    await client.tables.delete("new_Author")


async def test_many_to_many_relationships_are_not_emulated(client: AsyncDataverseClient) -> None:
    """Many-to-many relationships are refused with 501 by name."""
    with pytest.raises(HttpError, match="many-to-many relationships") as refused:
        await client.tables.create_many_to_many_relationship(
            ManyToManyRelationshipMetadata("new_account_contact", "account", "contact")
        )
    assert refused.value.status_code == 501


async def test_alternate_keys(client: AsyncDataverseClient) -> None:
    """Keys are made, listed, used and removed."""
    await client.tables.create("new_Ticket", {"new_Number": {"type": "string", "max_length": 50}, "new_Part": "int"})
    made = await client.tables.create_alternate_key("new_Ticket", "new_TicketKey", ["new_number", "new_part"])
    (found,) = await client.tables.get_alternate_keys("new_Ticket")
    assert (found.schema_name, found.key_attributes, found.status) == (
        "new_TicketKey",
        ["new_number", "new_part"],
        "Active",
    )
    assert found.metadata_id == made.metadata_id
    with pytest.raises(HttpError) as refused:
        await client.tables.create_alternate_key("new_Ticket", "new_TicketKey", ["new_part"])
    assert refused.value.details["service_error_code"] == "0x80060893"
    await client.tables.delete_alternate_key("new_Ticket", made.metadata_id)
    assert await client.tables.get_alternate_keys("new_Ticket") == []
    await client.tables.delete("new_Ticket")


async def test_files_are_not_emulated(client: AsyncDataverseClient) -> None:
    """File columns are refused with 501 by name."""
    with pytest.raises(HttpError, match="columns of type File") as refused:
        await client.tables.add_columns("account", {"new_Scan": "file"})
    assert refused.value.status_code == 501


async def test_solutions(client: AsyncDataverseClient) -> None:
    """A table is made inside a solution; a solution that is not there is refused."""
    await client.tables.create("new_Part", {}, solution="Default")
    found = await client.tables.get("new_Part")
    assert found is not None
    parts = await client.records.list("solutioncomponent", filter=f"objectid eq {found.metadata_id}")
    assert len(parts) == 1
    with pytest.raises(HttpError):
        await client.tables.create("new_Other", {}, solution="nothing")
    await client.tables.delete("new_Part")

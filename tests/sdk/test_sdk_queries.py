"""The official Python SDK queries: lists, pages, the query builder, FetchXML and SQL (PowerPlatform-Dataverse-Client 1.1.0)."""

from __future__ import annotations

import pytest
import pytest_asyncio
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.filters import col
from PowerPlatform.Dataverse.models.query_builder import ExpandOption

pytest_plugins = ["sdk_kit"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def rows(client: AsyncDataverseClient) -> None:
    await client.tables.create("new_Shop", {"new_City": "string"})
    await client.tables.create("new_Sale", {"new_Units": "int", "new_Note": "string", "new_Paid": "bool"})
    await client.tables.create_lookup_field("new_Sale", "new_ShopId", "new_shop")
    shops = await client.records.create("new_Shop", [{"new_Name": "East", "new_City": "Oslo"}, {"new_Name": "West"}])
    bind = [{"new_ShopId@odata.bind": f"/new_shops({shops[n % 2]})"} if n < 4 else {} for n in range(6)]
    notes = [{} if n == 5 else {"new_Note": f"note {n}%"} for n in range(6)]
    made = [{"new_Name": f"sale {n}", "new_Units": n, "new_Paid": n > 2} | notes[n] | bind[n] for n in range(6)]
    await client.records.create("new_Sale", made)


async def test_lists(client: AsyncDataverseClient) -> None:
    """A list takes columns, filter, order, top, count and annotations."""
    read = await client.records.list(
        "new_Sale", select=["new_Name", "new_Units"], filter="new_units ge 2", orderby=["new_Units desc"], top=2
    )
    assert [each["new_units"] for each in read] == [5, 4]
    shown = await client.records.list("new_Sale", select=["new_paid"], top=1, include_annotations="*")
    assert "new_paid@OData.Community.Display.V1.FormattedValue" in shown[0].to_dict()


async def test_pages(client: AsyncDataverseClient) -> None:
    """Pages follow each other by their links."""
    pages = [
        [row["new_units"] for row in page]
        async for page in client.records.list_pages(
            "new_Sale", select=["new_units"], orderby=["new_units"], page_size=4
        )
    ]
    assert pages == [[0, 1, 2, 3], [4, 5]]


async def test_the_query_builder(client: AsyncDataverseClient) -> None:
    """Conditions of the builder are filters that the emulator reads."""
    some = (col("new_units") > 0) & (col("new_note").contains("note")) & ~(col("new_units") == 3)
    found = await client.query.builder("new_Sale").select("new_units").where(some).order_by("new_units").execute()
    assert [row["new_units"] for row in found] == [1, 2, 4]
    among = await client.query.builder("new_Sale").select("new_units").where(col("new_units").in_([1, 5])).execute()
    assert sorted(row["new_units"] for row in among) == [1, 5]
    empty = await client.query.builder("new_Sale").select("new_units").where(col("new_note").is_null()).execute()
    assert [row["new_units"] for row in empty] == [5]
    between = client.query.builder("new_Sale").select("new_units").where(col("new_units").between(1, 2))
    assert len(await between.execute()) == 2
    shop = ExpandOption("new_ShopId").select("new_name")
    joined = client.query.builder("new_Sale").select("new_units").expand(shop).order_by("new_units").page_size(2)
    pages = [
        [row["new_ShopId"] and row["new_ShopId"]["new_name"] for row in page] async for page in joined.execute_pages()
    ]
    assert pages == [["East", "West"], ["East", "West"], [None, None]]


FETCH = """
<fetch>
  <entity name="new_sale">
    <attribute name="new_units" />
    <order attribute="new_units" descending="true" />
    <filter type="and">
      <condition attribute="new_units" operator="ge" value="1" />
      <filter type="or">
        <condition attribute="new_note" operator="like" value="note%" />
        <condition attribute="new_note" operator="null" />
      </filter>
    </filter>
    <link-entity name="new_shop" from="new_shopid" to="new_shopid" alias="shop" link-type="{kind}">
      <attribute name="new_name" />
    </link-entity>
  </entity>
</fetch>
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [(3, "West"), (2, "East"), (1, "West")]),
        ("outer", [(5, None), (4, None), (3, "West"), (2, "East"), (1, "West")]),
    ],
)
async def test_fetch_xml(client: AsyncDataverseClient, kind: str, expected: list[tuple[int, str | None]]) -> None:
    """FetchXML filters, orders and links; columns of linked tables carry the alias."""
    found = await client.query.fetchxml(FETCH.format(kind=kind)).execute()
    assert [(row["new_units"], row.get("shop.new_name")) for row in found] == expected


async def test_pages_of_fetch_xml(client: AsyncDataverseClient) -> None:
    """Pages of FetchXML follow each other by paging cookies."""
    xml = FETCH.format(kind="outer").replace("<fetch>", '<fetch count="2">')
    pages = [[row["new_units"] for row in page] async for page in client.query.fetchxml(xml).execute_pages()]
    assert pages == [[5, 4], [3, 2], [1]]


async def test_fetch_xml_without_aggregates(client: AsyncDataverseClient) -> None:
    """Aggregates of FetchXML are refused with 501 by name."""
    with pytest.raises(HttpError, match="aggregate") as refused:
        await client.query.fetchxml(FETCH.format(kind="inner").replace("<fetch>", '<fetch aggregate="true">')).execute()
    assert refused.value.status_code == 501


async def test_sql(client: AsyncDataverseClient) -> None:
    """A SELECT of one table has TOP, aliases, conditions and an order."""
    found = await client.query.sql(
        "SELECT TOP 3 s.new_name, s.new_units AS units FROM new_sale AS s "
        "WHERE (s.new_units > 0 AND s.new_note LIKE 'note%') OR s.new_note IS NULL ORDER BY s.new_units DESC"
    )
    assert [(row["new_name"], row["units"]) for row in found] == [("sale 5", 5), ("sale 4", 4), ("sale 3", 3)]
    counted = await client.query.sql("SELECT COUNT(*) AS n FROM new_sale WHERE new_units IN (1, 2) AND new_paid <> 1")
    assert [row["n"] for row in counted] == [2]
    frame = await client.dataframe.sql("SELECT new_units FROM new_sale WHERE new_name = 'sale 1'")
    assert list(frame["new_units"]) == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT s.new_name FROM new_sale s JOIN new_shop p ON s.new_shopid = p.new_shopid",
        "SELECT SUM(new_units) FROM new_sale",
        "SELECT new_paid, COUNT(*) FROM new_sale GROUP BY new_paid",
    ],
)
async def test_sql_that_is_not_emulated(client: AsyncDataverseClient, statement: str) -> None:
    """Joins, groups and aggregates of SQL are refused with 501 by name."""
    with pytest.raises(HttpError, match="in SQL") as refused:
        await client.query.sql(statement)
    assert refused.value.status_code == 501

"""FetchXML: columns, conditions, orders, links and pages; what is not read is refused (docs: fetchxml/overview.md, PowerPlatform-Dataverse-Client 1.1.0)."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

ID = "11111111-2222-3333-4444-55555555555{}"


@pytest.fixture(autouse=True)
async def rows(api: httpx.AsyncClient) -> None:
    await api.post("accounts", json={"accountid": ID.format(9), "name": "Clinic"})
    for number, name in enumerate(["Alder", "Birch", "Cedar", None]):
        body: dict[str, Any] = {"contactid": ID.format(number), "numberofchildren": number}
        if name:
            body |= {"lastname": name, "parentcustomerid_account@odata.bind": f"/accounts({ID.format(9)})"}
        await api.post("contacts", json=body | {"gendercode": 1 + number % 2, "donotemail": number == 1})


async def fetch(api: httpx.AsyncClient, inner: str, attributes: str = "", **headers: str) -> httpx.Response:
    xml = f'<fetch {attributes}><entity name="contact"><attribute name="lastname" />{inner}</entity></fetch>'
    return await api.get("contacts", params={"fetchXml": xml}, headers=headers)


async def names(api: httpx.AsyncClient, inner: str) -> list[Any]:
    answer = await fetch(api, f'{inner}<order attribute="numberofchildren" />')
    assert answer.status_code == 200, answer.text
    return [row["lastname"] for row in answer.json()["value"]]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('attribute="lastname" operator="eq" value="birch"', ["Birch"]),
        ('attribute="lastname" operator="ne" value="Birch"', ["Alder", "Cedar", None]),
        ('attribute="numberofchildren" operator="neq" value="1"', ["Alder", "Cedar", None]),
        ('attribute="numberofchildren" operator="gt" value="1"', ["Cedar", None]),
        ('attribute="numberofchildren" operator="ge" value="1"', ["Birch", "Cedar", None]),
        ('attribute="numberofchildren" operator="lt" value="1"', ["Alder"]),
        ('attribute="numberofchildren" operator="le" value="1"', ["Alder", "Birch"]),
        ('attribute="gendercode" operator="eq" value="2"', ["Birch", None]),
        ('attribute="donotemail" operator="eq" value="1"', ["Birch"]),
        ('attribute="lastname" operator="like" value="%r"', ["Alder", "Cedar"]),
        ('attribute="lastname" operator="not-like" value="%r"', ["Birch", None]),
        ('attribute="lastname" operator="begins-with" value="b"', ["Birch"]),
        ('attribute="lastname" operator="not-begin-with" value="b"', ["Alder", "Cedar", None]),
        ('attribute="lastname" operator="ends-with" value="ch"', ["Birch"]),
        ('attribute="lastname" operator="not-end-with" value="ch"', ["Alder", "Cedar", None]),
        ('attribute="lastname" operator="null"', [None]),
        ('attribute="lastname" operator="not-null"', ["Alder", "Birch", "Cedar"]),
        (f'attribute="parentcustomerid" operator="eq" value="{ID.format(9)}"', ["Alder", "Birch", "Cedar"]),
    ],
)
async def test_conditions(api: httpx.AsyncClient, condition: str, expected: list[Any]) -> None:
    """Each operator finds its rows; texts compare as SQL does, and what is empty is not equal to anything."""
    assert await names(api, f"<filter><condition {condition} /></filter>") == expected


@pytest.mark.parametrize(("operator", "expected"), [("in", ["Alder", "Cedar"]), ("not-in", ["Birch", None])])
async def test_several_values(api: httpx.AsyncClient, operator: str, expected: list[Any]) -> None:
    """`in` and `not-in` have a value element for each value."""
    values = "<value>alder</value><value>cedar</value>"
    inner = f'<filter><condition attribute="lastname" operator="{operator}">{values}</condition></filter>'
    assert await names(api, inner) == expected


async def test_filters_nest(api: httpx.AsyncClient) -> None:
    """Filters are and or or, one in another; an empty one holds."""
    low = '<condition attribute="numberofchildren" operator="eq" value="0" />'
    high = '<filter><condition attribute="numberofchildren" operator="gt" value="1" /><filter /></filter>'
    assert await names(api, f'<filter type="or">{low}{high}</filter>') == ["Alder", "Cedar", None]


async def test_columns_look_as_in_other_reads(api: httpx.AsyncClient) -> None:
    """All columns may be asked for; lookups and annotations are those of any read, secrets are never there."""
    answer = await fetch(api, "<all-attributes />", 'top="1"', Prefer='odata.include-annotations="*"')
    row = answer.json()["value"][0]
    assert row["contactid"]
    assert {"_parentcustomerid_value", "gendercode@OData.Community.Display.V1.FormattedValue"} <= row.keys()
    hooks = {"fetchXml": '<fetch><entity name="serviceendpoint"><attribute name="authvalue" /></entity></fetch>'}
    assert (await api.get("serviceendpoints", params=hooks)).json()["error"]["code"] == "0x80041103"


async def test_links(api: httpx.AsyncClient) -> None:
    """An inner link keeps rows that have a partner; an outer one keeps all, and its filter is part of the link."""
    link = '<link-entity name="account" from="accountid" to="parentcustomerid" {}><attribute name="name" />{}</link-entity>'
    inner = (await fetch(api, link.format('alias="a"', ""))).json()["value"]
    assert [row["a.name"] for row in inner] == ["Clinic"] * 3
    other = '<filter><condition attribute="name" operator="eq" value="nothing" /></filter>'
    assert (await fetch(api, link.format("", other))).json()["value"] == []
    outer = (await fetch(api, link.format('link-type="outer" alias="a"', other))).json()["value"]
    assert [row.get("a.name") for row in outer] == [None] * 4
    back = (
        '<link-entity name="account" from="accountid" to="parentcustomerid" alias="a">'
        '<link-entity name="contact" from="parentcustomerid" to="accountid" alias="c"><attribute name="lastname" />'
        '<filter><condition attribute="lastname" operator="eq" value="Cedar" /></filter></link-entity></link-entity>'
    )
    assert [row["c.lastname"] for row in (await fetch(api, back)).json()["value"]] == ["Cedar"] * 3


async def test_pages(api: httpx.AsyncClient) -> None:
    """A page has the cookie of the next one, the last page has none; the cookie of another page is refused."""
    order = '<order attribute="numberofchildren" descending="true" />'
    first = (await fetch(api, order, 'count="3"')).json()
    assert first["@Microsoft.Dynamics.CRM.morerecords"] is True
    cookie = ET.fromstring(first["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"])  # noqa: S314 - our own answer
    assert (cookie.get("pagenumber"), len(first["value"])) == ("2", 3)
    last = (await fetch(api, order, 'count="3" page="2"')).json()
    assert last["@Microsoft.Dynamics.CRM.morerecords"] is False
    assert [row["lastname"] for row in last["value"]] == ["Alder"]
    wrong = "paging-cookie='&lt;cookie page=&quot;7&quot; /&gt;'"
    assert (await fetch(api, order, f'count="3" page="2" {wrong}')).status_code == 400
    assert (await fetch(api, order, 'count="3" page="2" paging-cookie="x"')).status_code == 400


async def test_top(api: httpx.AsyncClient) -> None:
    """Top is the number of rows, without pages."""
    answer = (await fetch(api, "", 'top="2"')).json()
    assert (len(answer["value"]), answer["@Microsoft.Dynamics.CRM.morerecords"]) == (2, False)


NAME = '<attribute name="lastname" />'


@pytest.mark.parametrize(
    ("xml", "status"),
    [
        ("<fetch", 400),
        ("<!DOCTYPE x><fetch />", 400),
        ("<other />", 400),
        ("<fetch />", 400),
        ('<fetch><entity name="account" /></fetch>', 400),
        ('<fetch><entity name="contact" /></fetch>', 501),
        (f'<fetch aggregate="true"><entity name="contact">{NAME}</entity></fetch>', 501),
        (f'<fetch distinct="true"><entity name="contact">{NAME}</entity></fetch>', 501),
        (f'<fetch top="x"><entity name="contact">{NAME}</entity></fetch>', 400),
        (f'<fetch top="1" count="1"><entity name="contact">{NAME}</entity></fetch>', 400),
        ('<fetch><entity name="contact"><attribute name="nothing" /></entity></fetch>', 400),
        ('<fetch><entity name="contact"><attribute name="lastname" groupby="true" /></entity></fetch>', 501),
        (f'<fetch><entity name="contact">{NAME}<other /></entity></fetch>', 501),
        (f'<fetch><entity name="contact">{NAME}<filter type="xor" /></entity></fetch>', 400),
        (f'<fetch><entity name="contact">{NAME}<filter><other /></filter></entity></fetch>', 501),
        (f'<fetch><entity name="contact">{NAME}<link-entity name="nothing" /></entity></fetch>', 400),
    ],
)
async def test_what_is_not_read(api: httpx.AsyncClient, xml: str, status: int) -> None:
    """XML that is wrong is 400, a part of FetchXML that is not emulated 501."""
    assert (await api.get("contacts", params={"fetchXml": xml})).status_code == status


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('attribute="createdon" operator="last-x-days" value="3"', 501),
        ('attribute="lastname" operator="eq" value="x" entityname="a"', 501),
        ('attribute="lastname" operator="eq"', 400),
        ('attribute="numberofchildren" operator="eq" value="many"', 400),
        ('attribute="numberofchildren" operator="like" value="1%"', 400),
        ('attribute="donotemail" operator="gt" value="1"', 400),
        ('operator="eq" value="x"', 400),
    ],
)
async def test_conditions_that_are_not_read(api: httpx.AsyncClient, condition: str, status: int) -> None:
    """A condition that makes no sense is 400, an operator that is not emulated 501."""
    assert (await fetch(api, f"<filter><condition {condition} /></filter>")).status_code == status


@pytest.mark.parametrize(
    ("link", "status"),
    [
        ('from="accountid" to="parentcustomerid" link-type="exists"', 501),
        ('from="accountid" to="parentcustomerid" alias="a b"', 400),
        ('from="nothing" to="parentcustomerid"', 400),
        ('from="accountid" to="parentcustomerid" other="x"', 501),
    ],
)
async def test_links_that_are_not_read(api: httpx.AsyncClient, link: str, status: int) -> None:
    """A link that leads nowhere is 400, one of another kind 501."""
    assert (await fetch(api, f'<link-entity name="account" {link} />')).status_code == status
    order = (
        '<link-entity name="account" from="accountid" to="parentcustomerid"><order attribute="name" /></link-entity>'
    )
    assert (await fetch(api, order)).status_code == 501
    many = '<link-entity name="account" from="accountid" to="parentcustomerid" />' * 11
    assert (await fetch(api, many)).status_code == 400


async def test_nothing_stands_beside_it(api: httpx.AsyncClient) -> None:
    """Query options beside fetchXml are refused."""
    assert (await api.get("contacts?fetchXml=<fetch/>&$top=1")).status_code == 501

"""Publishers, solutions with their components, and main forms whose changes are seen when they are published (docs: webapi/create-update-entity-definitions-using-web-api.md, reference of systemform, solution, publisher)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from definition_kit import column, made, name_column, refusal, relationship, table

BOOK = "EntityDefinitions(LogicalName='abc_book')"
PUBLISHER = {
    "uniquename": "abcpublisher",
    "friendlyname": "ABC",
    "customizationprefix": "abc",
    "customizationoptionvalueprefix": 72700,
}


@pytest.fixture
async def solution(api: httpx.AsyncClient) -> str:
    publisher = await made(api, "publishers", PUBLISHER)
    body = {
        "uniquename": "abcsolution",
        "friendlyname": "ABC",
        "version": "1.0.0.0",
        "publisherid@odata.bind": publisher,
    }
    await made(api, "solutions", body)
    return "abcsolution"


def book() -> dict[str, Any]:
    return table("abc_Book", Attributes=[name_column("abc_Name")])


async def components(api: httpx.AsyncClient, solution: str) -> list[tuple[int, str]]:
    url = f"solutioncomponents?$filter=solutionid/uniquename eq '{solution}'&$select=componenttype,objectid"
    return [(each["componenttype"], each["objectid"]) for each in (await api.get(url)).json()["value"]]


async def test_a_solution_has_its_publisher(api: httpx.AsyncClient, solution: str) -> None:
    """A solution is a row that names its publisher; it is unmanaged and has a time of installation."""
    url = f"solutions?$filter=uniquename eq '{solution}'&$expand=publisherid($select=customizationprefix)"
    found = (await api.get(url)).json()["value"]
    assert [each["publisherid"]["customizationprefix"] for each in found] == ["abc"]
    assert found[0]["ismanaged"] is False
    assert found[0]["installedon"]


async def test_every_organization_has_a_default_solution(api: httpx.AsyncClient) -> None:
    """The default solution and its publisher are there from the start."""
    found = (await api.get("solutions?$expand=publisherid")).json()["value"]
    assert [(each["uniquename"], each["publisherid"]["customizationprefix"]) for each in found] == [("Default", "new")]


async def test_what_is_made_for_a_solution_is_its_component(api: httpx.AsyncClient, solution: str) -> None:
    """The header adds a table, a column, a relationship, a key, a form and an endpoint to the solution, each once."""
    headers = {"MSCRM.SolutionUniqueName": solution}
    urls = [
        await made(api, "EntityDefinitions", book(), **headers),
        await made(api, f"{BOOK}/Attributes", column("String", "abc_Isbn", MaxLength=20), **headers),
        await made(
            api, "RelationshipDefinitions", relationship("abc_next", "abc_book", "abc_book", "abc_NextId"), **headers
        ),
        await made(api, f"{BOOK}/Keys", {"SchemaName": "abc_Key", "KeyAttributes": ["abc_isbn"]}, **headers),
    ]
    hook = {"name": "h", "url": "https://x.example", "contract": 8, "authtype": 4, "authvalue": "k"}
    urls.append(await made(api, "serviceendpoints", hook, **headers))
    form = (await api.get("systemforms?$filter=objecttypecode eq 'abc_book'")).json()["value"][0]
    url = f"systemforms({form['formid']})"
    for _ in range(2):
        assert (await api.patch(url, json={"formxml": "<form/>"}, headers=headers)).status_code == 204
    await made(api, "contacts", {"lastname": "x"}, **headers)
    urls.append(url)
    ids = [each.rpartition("(")[2][:-1] for each in urls]
    assert sorted(await components(api, solution)) == sorted(zip((1, 2, 10, 14, 95, 60), ids, strict=True))
    for where in (urls[3], urls[2], urls[1], urls[0]):
        assert (await api.delete(where)).status_code == 204
    assert {kind for kind, _ in await components(api, solution)} == {95, 60}


async def test_names_begin_with_the_publishers_prefix(api: httpx.AsyncClient, solution: str) -> None:
    """What is made for a solution has its publisher's prefix, columns too."""
    headers = {"MSCRM.SolutionUniqueName": solution}
    for body in (table("new_Book"), table("abc_Book")):
        answer = await api.post("EntityDefinitions", json=body, headers=headers)
        assert refusal(answer) == (400, "0x80040203")
        assert "'abc_'" in answer.json()["error"]["message"]
    await made(api, "EntityDefinitions", book(), **headers)


async def test_an_unknown_solution_is_refused(api: httpx.AsyncClient) -> None:
    """A header that names no solution is an error, for definitions and for rows."""
    headers = {"MSCRM.SolutionUniqueName": "nothing"}
    assert refusal(await api.post("EntityDefinitions", json=book(), headers=headers)) == (400, "0x80040203")
    assert refusal(await api.post("contacts", json={}, headers=headers)) == (400, "0x80040203")
    assert (await api.get("contacts/$count")).text == "0"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("publishers", PUBLISHER | {"uniquename": "ABCpublisher"}, 412),
        ("publishers", PUBLISHER | {"uniquename": "other", "customizationprefix": "9x"}, 400),
        ("publishers", PUBLISHER | {"uniquename": "other", "customizationprefix": None}, 400),
        ("publishers", PUBLISHER | {"uniquename": "other", "customizationoptionvalueprefix": 9}, 400),
        ("solutions", {"uniquename": "other", "friendlyname": "x", "version": "1"}, 400),
        ("systemforms", {"name": "x"}, 400),
        ("solutioncomponents", {"componenttype": 1}, 400),
    ],
)
@pytest.mark.usefixtures("solution")
async def test_rows_that_are_wrong(api: httpx.AsyncClient, path: str, body: dict[str, Any], status: int) -> None:
    """Unique names are unique, what is needed must be there, components are not written by hand."""
    assert (await api.post(path, json=body)).status_code == status


async def test_a_form_is_seen_when_it_is_published(api: httpx.AsyncClient) -> None:
    """A changed form is unpublished: RetrieveUnpublishedMultiple shows it, others see it once it is published."""
    where = "$filter=objecttypecode eq 'contact' and type eq 2&$select=formid,name,formxml"
    form = (await api.get(f"systemforms?{where}")).json()["value"][0]
    assert (form["name"], "<form>" in form["formxml"]) == ("Information", True)
    changed = form["formxml"].replace("General", "Particulars")
    await api.patch(f"systemforms({form['formid']})", json={"formxml": changed})
    unpublished = f"systemforms/Microsoft.Dynamics.CRM.RetrieveUnpublishedMultiple()?{where}"
    assert (await api.get(f"systemforms?{where}")).json()["value"][0]["formxml"] == form["formxml"]
    assert (await api.get(unpublished)).json()["value"][0]["formxml"] == changed
    publish = {"ParameterXml": "<importexportxml><entities><entity>account</entity></entities></importexportxml>"}
    assert (await api.post("PublishXml", json=publish)).status_code == 204
    assert (await api.get(f"systemforms?{where}")).json()["value"][0]["formxml"] == form["formxml"]
    publish = {"ParameterXml": publish["ParameterXml"].replace("account", "contact")}
    assert (await api.post("PublishXml", json=publish)).status_code == 204
    assert (await api.get(f"systemforms?{where}")).json()["value"][0]["formxml"] == changed


async def test_everything_is_published_at_once(api: httpx.AsyncClient) -> None:
    """PublishAllXml publishes the forms of every table."""
    for name in ("contact", "account"):
        form = (await api.get(f"systemforms?$filter=objecttypecode eq '{name}'")).json()["value"][0]["formid"]
        await api.patch(f"systemforms({form})", json={"formxml": "<form/>"})
    assert (await api.post("PublishAllXml")).status_code == 204
    for name in ("contact", "account"):
        found = (await api.get(f"systemforms?$filter=objecttypecode eq '{name}'")).json()["value"]
        assert [each["formxml"] for each in found] == ["<form/>"]


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("<importexportxml>", "0x80048426", 400),
        ("<other/>", "0x80048425", 400),
        ("<importexportxml><other/></importexportxml>", "0x80048425", 400),
        ("<importexportxml><entities><other/></entities></importexportxml>", "0x80048425", 400),
        (
            "<importexportxml><entities><entity>nothing</entity></entities></importexportxml>",
            "0x80060888",
            404,
        ),
        (None, "0x80040203", 400),
        (1, "0x80048d19", 400),
    ],
)
async def test_what_cannot_be_published(api: httpx.AsyncClient, text: Any, code: str, status: int) -> None:
    """ParameterXml is well-formed, of the known elements, and names tables that are there."""
    assert refusal(await api.post("PublishXml", json={"ParameterXml": text})) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "systemforms/Microsoft.Dynamics.CRM.RetrieveUnpublishedMultiple()", 405),
        ("GET", "systemforms/Microsoft.Dynamics.CRM.RetrieveUnpublishedMultiple()/x", 404),
        ("GET", "contacts/Microsoft.Dynamics.CRM.RetrieveUnpublishedMultiple()", 501),
        ("GET", "PublishAllXml", 405),
        ("POST", "PublishAllXml/x", 400),
        ("POST", "PublishAllXml?x=y", 501),
    ],
)
async def test_how_publishing_is_called(api: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Actions are posted, functions are got, nothing follows their names."""
    assert (await api.request(method, path, json={})).status_code == status

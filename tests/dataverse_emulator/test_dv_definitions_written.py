"""Tables and columns made, changed and removed over the API are there at once, and stay (docs: webapi/create-update-entity-definitions-using-web-api.md, webapi/create-update-column-definitions-using-web-api.md, data-service-errors.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from definition_kit import CRM, column, label, made, name_column, refusal, table

from devstack.dataverse import Emulator, create_app

BOOK = "EntityDefinitions(LogicalName='new_book')"


def client(app: Emulator) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://org/api/data/v9.2/")


@pytest.fixture
async def book(api: httpx.AsyncClient) -> str:
    return await made(api, "EntityDefinitions", table("new_Book"))


async def test_a_table_is_made_with_its_primary_name(api: httpx.AsyncClient, book: str) -> None:
    """The answer carries the definition's id, by which, and by whose name, it is read."""
    by_id = (await api.get(book)).json()
    by_name = (await api.get(f"{BOOK}?$select=LogicalName,SchemaName,EntitySetName,PrimaryIdAttribute")).json()
    assert by_id["LogicalName"] == by_name["LogicalName"] == "new_book"
    assert (by_name["SchemaName"], by_name["EntitySetName"]) == ("new_Book", "new_books")
    assert (by_id["PrimaryIdAttribute"], by_id["PrimaryNameAttribute"]) == ("new_bookid", "new_name")
    assert by_id["HasNotes"] is True
    assert by_id["Description"]["UserLocalizedLabel"]["Label"] == "made by a test"
    assert by_id["DisplayCollectionName"]["LocalizedLabels"][0]["Label"] == "new_Books"


@pytest.mark.usefixtures("book")
async def test_rows_of_a_new_table_are_like_any_others(api: httpx.AsyncClient) -> None:
    """A table that was just made has the standard columns: owner, states, who and when, a version."""
    answer = await api.post("new_books", json={"new_name": "Emma"}, headers={"Prefer": "return=representation"})
    row = answer.json()
    assert answer.status_code == 201
    assert (row["statecode"], row["statuscode"], row["new_name"]) == (0, 1, "Emma")
    me = (await api.get("WhoAmI")).json()["UserId"]
    assert row["_ownerid_value"] == row["_createdby_value"] == row["_owninguser_value"] == me
    assert row["createdon"] == row["modifiedon"]
    assert row["@odata.etag"] == f'W/"{row["versionnumber"]}"'
    found = (await api.get("new_books?$filter=new_name eq 'emma' and statecode eq 0")).json()["value"]
    assert [each["new_bookid"] for each in found] == [row["new_bookid"]]


async def test_a_table_of_the_organization_has_no_owner(api: httpx.AsyncClient) -> None:
    """OrganizationOwned tables have no owner columns."""
    await made(api, "EntityDefinitions", table("new_Genre", OwnershipType="OrganizationOwned"))
    names = {
        each["LogicalName"] for each in (await api.get(f"{BOOK.replace('book', 'genre')}/Attributes")).json()["value"]
    }
    assert "organizationid" in names
    assert not {"ownerid", "owninguser"} & names
    assert (await api.post("new_genres", json={"new_name": "Novel"})).status_code == 204


@pytest.mark.parametrize(
    ("schema_name", "entity_set"),
    [
        ("new_Category", "new_categories"),
        ("new_Bus", "new_buses"),
        ("new_Box", "new_boxes"),
        ("new_Branch", "new_branches"),
        ("new_Day", "new_days"),
        ("new_Products", "new_productses"),
    ],
)
async def test_entity_sets_are_plurals(api: httpx.AsyncClient, schema_name: str, entity_set: str) -> None:
    """The entity set's name is the plural of the logical name."""
    await made(api, "EntityDefinitions", table(schema_name))
    assert (await api.get(entity_set)).status_code == 200


@pytest.mark.usefixtures("book")
async def test_a_new_table_can_be_hooked_and_shown(api: httpx.AsyncClient) -> None:
    """Steps can be registered on a new table, and it has its main form."""
    found = await api.get("sdkmessagefilters?$filter=primaryobjecttypecode eq 'new_book'&$expand=sdkmessageid")
    assert {each["sdkmessageid"]["name"] for each in found.json()["value"]} >= {
        "Create",
        "Update",
        "Delete",
        "CreateMultiple",
    }
    forms = (await api.get("systemforms?$filter=objecttypecode eq 'new_book' and type eq 2")).json()["value"]
    assert [form["name"] for form in forms] == ["Information"]


COLUMNS: list[tuple[dict[str, Any], Any, Any]] = [
    (column("String", "new_Title", MaxLength=10), "a title", "much too long"),
    (column("Memo", "new_Plot", MaxLength=20), "boy meets girl", "x" * 21),
    (column("Integer", "new_Pages", MinValue=1, MaxValue=5000), 300, 0),
    (column("BigInt", "new_Views"), 2**40, "many"),
    (column("Decimal", "new_Weight", MinValue=0, MaxValue=100.5, Precision=3), 1.25, 101),
    (column("Double", "new_Score", MinValue=-1.5, MaxValue=10), 9.5, -2),
    (column("Money", "new_Price", MinValue=0), 12.5, -1),
    (column("Boolean", "new_Lent"), True, "yes"),
    (column("DateTime", "new_Read", Format="DateAndTime"), "2024-05-06T07:08:09Z", "yesterday"),
    (column("DateTime", "new_Due", DateTimeBehavior={"Value": "DateOnly"}, Format="DateOnly"), "2024-05-06", "x"),
    (
        column(
            "Picklist",
            "new_Kind",
            OptionSet={
                "@odata.type": f"{CRM}OptionSetMetadata",
                "IsGlobal": False,
                "Options": [
                    {"Value": 727000000, "Label": label("Novel")},
                    {"Value": 727000001, "Label": label("Poem")},
                ],
            },
        ),
        727000001,
        3,
    ),
]


@pytest.mark.parametrize(("body", "good", "bad"), COLUMNS, ids=[each[0]["SchemaName"] for each in COLUMNS])
@pytest.mark.usefixtures("book")
async def test_columns_of_every_type(api: httpx.AsyncClient, body: dict[str, Any], good: Any, bad: Any) -> None:
    """A column that was just made keeps its values and refuses others; its definition is told back."""
    name = body["SchemaName"].lower()
    assert (await api.post("new_books", json={name: good})).status_code == 400
    where = await made(api, f"{BOOK}/Attributes", body)
    kind = body["@odata.type"].removeprefix(CRM)
    told = (
        (await api.get(f"{BOOK}/Attributes(LogicalName='{name}')/{CRM}{kind}?$expand=OptionSet")).json()
        if ("OptionSet" in body)
        else (await api.get(where)).json()
    )
    assert told["SchemaName"] == body["SchemaName"]
    assert told["IsCustomAttribute"] is True
    for limit in ("MaxLength", "MinValue", "MaxValue", "Precision", "Format"):
        if limit in body:
            assert told[limit] == body[limit]
    answer = await api.post("new_books", json={name: good}, headers={"Prefer": "return=representation"})
    assert answer.json()[name] == good
    assert (await api.post("new_books", json={name: bad})).status_code == 400
    assert (await api.delete(f"{BOOK}/Attributes(LogicalName='{name}')")).status_code == 204
    assert (await api.get(f"new_books?$select={name}")).status_code == 400


@pytest.mark.usefixtures("book")
async def test_a_column_made_again_is_empty(api: httpx.AsyncClient) -> None:
    """Removing a column removes its values; one of the same name, of another type, begins without any."""
    await made(api, f"{BOOK}/Attributes", column("String", "new_Code"))
    await api.post("new_books", json={"new_name": "x", "new_code": "twelve"})
    await api.get("new_books?$filter=new_code eq 'twelve'")
    assert (await api.delete(f"{BOOK}/Attributes(LogicalName='new_code')")).status_code == 204
    await made(api, f"{BOOK}/Attributes", column("Integer", "new_Code"))
    assert (await api.get("new_books?$select=new_code")).json()["value"][0]["new_code"] is None


async def test_the_shipped_tables_take_columns_too(api: httpx.AsyncClient) -> None:
    """A column may be added to a table that was there; only what was added can be removed."""
    contact = "EntityDefinitions(LogicalName='contact')"
    await made(api, f"{contact}/Attributes", column("String", "new_FhirId", MaxLength=64))
    assert (await api.post("contacts", json={"lastname": "x", "new_fhirid": "a" * 64})).status_code == 204
    assert refusal(await api.delete(f"{contact}/Attributes(LogicalName='lastname')")) == (400, "0x80047009")
    assert refusal(await api.delete(contact)) == (400, "0x80047008")
    assert (await api.delete(f"{contact}/Attributes(LogicalName='new_fhirid')")).status_code == 204


@pytest.mark.usefixtures("book")
async def test_defaults(api: httpx.AsyncClient) -> None:
    """A yes/no column is no, and a choice its default, where a create says nothing."""
    options = {"IsGlobal": False, "Options": [{"Value": 1, "Label": label("A")}, {"Value": 2, "Label": label("B")}]}
    await made(api, f"{BOOK}/Attributes", column("Boolean", "new_Lent"))
    await made(api, f"{BOOK}/Attributes", column("Boolean", "new_Own", DefaultValue=True))
    await made(api, f"{BOOK}/Attributes", column("Picklist", "new_Kind", OptionSet=options, DefaultFormValue=2))
    await api.post("new_books", json={"new_name": "x"})
    row = (await api.get("new_books?$select=new_lent,new_own,new_kind")).json()["value"][0]
    assert (row["new_lent"], row["new_own"], row["new_kind"]) == (False, True, 2)


@pytest.mark.usefixtures("book")
async def test_labels_of_yes_and_no(api: httpx.AsyncClient) -> None:
    """The labels of a yes/no column are shown as formatted values."""
    options = {"TrueOption": {"Value": 1, "Label": label("Lent")}, "FalseOption": {"Value": 0, "Label": label("Here")}}
    await made(api, f"{BOOK}/Attributes", column("Boolean", "new_Lent", OptionSet=options))
    await api.post("new_books", json={"new_lent": True})
    shown = await api.get("new_books?$select=new_lent", headers={"Prefer": 'odata.include-annotations="*"'})
    assert shown.json()["value"][0]["new_lent@OData.Community.Display.V1.FormattedValue"] == "Lent"
    told = (await api.get(f"{BOOK}/Attributes(LogicalName='new_lent')?$expand=OptionSet")).json()
    assert told["OptionSet"]["TrueOption"]["Label"]["UserLocalizedLabel"]["Label"] == "Lent"


@pytest.mark.usefixtures("book")
async def test_options_without_values_get_the_next_ones(api: httpx.AsyncClient) -> None:
    """An option that has no value gets the publisher's next one."""
    options = {"IsGlobal": False, "Options": [{"Label": label("A")}, {"Label": label("B")}]}
    await made(api, f"{BOOK}/Attributes", column("Picklist", "new_Kind", OptionSet=options))
    told = (await api.get(f"{BOOK}/Attributes(LogicalName='new_kind')?$expand=OptionSet")).json()
    assert [each["Value"] for each in told["OptionSet"]["Options"]] == [100000000, 100000001]


@pytest.mark.usefixtures("book")
async def test_a_date_that_only_looks_like_one_has_a_time(api: httpx.AsyncClient) -> None:
    """Format DateOnly is what people see; only the behavior DateOnly takes the time away."""
    await made(api, f"{BOOK}/Attributes", column("DateTime", "new_Due", Format="DateOnly"))
    told = (await api.get(f"{BOOK}/Attributes(LogicalName='new_due')")).json()
    assert (told["Format"], told["DateTimeBehavior"]) == ("DateOnly", {"Value": "UserLocal"})
    assert (await api.post("new_books", json={"new_due": "2024-05-06T00:00:00Z"})).status_code == 204


async def test_a_definition_is_put_whole(api: httpx.AsyncClient, book: str) -> None:
    """PUT of what GET gave, with other labels and flags, changes these and nothing else."""
    document = (await api.get(book)).json()
    document["DisplayName"] = label("Volume")
    document["ChangeTrackingEnabled"] = True
    document["IsAuditEnabled"] = {"Value": True, "CanBeChanged": True}
    answer = await api.put(book, json=document, headers={"MSCRM.MergeLabels": "true", "Consistency": "Strong"})
    assert answer.status_code == 204, answer.text
    told = (await api.get(book)).json()
    assert told["DisplayName"]["UserLocalizedLabel"]["Label"] == "Volume"
    assert told["DisplayCollectionName"]["UserLocalizedLabel"]["Label"] == "new_Books"
    assert (told["ChangeTrackingEnabled"], told["IsAuditEnabled"]["Value"]) == (True, True)
    document["ChangeTrackingEnabled"] = False
    assert refusal(await api.put(book, json=document)) == (400, "0x80040203")
    assert refusal(await api.put(book, json=document | {"SchemaName": "new_Other"})) == (400, "0x80040203")


@pytest.mark.usefixtures("book")
async def test_a_column_is_put_whole(api: httpx.AsyncClient) -> None:
    """PUT of a column changes labels, level and limits; type, names and options stay."""
    options = {"IsGlobal": False, "Options": [{"Value": 1, "Label": label("A")}]}
    where = await made(api, f"{BOOK}/Attributes", column("String", "new_Title", MaxLength=10))
    kind = await made(api, f"{BOOK}/Attributes", column("Picklist", "new_Kind", OptionSet=options))
    document = (await api.get(where)).json() | {"MaxLength": 20, "RequiredLevel": {"Value": "Recommended"}}
    document |= {"DisplayName": label("Heading"), "Description": label("what it is called")}
    assert (await api.put(where, json=document)).status_code == 204
    told = (await api.get(where)).json()
    assert (told["MaxLength"], told["RequiredLevel"]["Value"]) == (20, "Recommended")
    assert told["DisplayName"]["UserLocalizedLabel"]["Label"] == "Heading"
    assert (await api.post("new_books", json={"new_title": "x" * 20})).status_code == 204
    other = document | {"@odata.type": f"{CRM}MemoAttributeMetadata"}
    assert refusal(await api.put(where, json=other)) == (400, "0x80040203")
    assert refusal(await api.put(where, json=document | {"LogicalName": "new_other"})) == (400, "0x80040203")
    assert (await api.put(kind, json=(await api.get(kind)).json())).status_code == 204
    more = {"Options": [*options["Options"], {"Value": 2, "Label": label("B")}]}
    changed = column("Picklist", "new_Kind", OptionSet=more)
    assert (await api.put(kind, json=changed)).status_code == 501
    day = await made(api, f"{BOOK}/Attributes", column("DateTime", "new_Day"))
    whole = column("DateTime", "new_Day", DateTimeBehavior={"Value": "DateOnly"})
    assert (await api.put(day, json=whole)).status_code == 501


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (table("new_Book"), 400, "0x80047010"),
        (table("new_Other", EntitySetName="new_books"), 400, "0x80047010"),
        (table("Book"), 400, "0x80040203"),
        (table("new-Book"), 400, "0x80040203"),
        (table("sqlite_Book"), 400, "0x80040203"),
        (table("new_Other", *(column("BigInt", f"new_C{n}") for n in range(1000))), 501, "0x80040800"),
        (table("new_Other", DisplayName=None), 400, "0x80040203"),
        (table("new_Other", Attributes=[]), 400, "0x80040203"),
        (table("new_Other", Attributes=[column("Integer", "new_Name", IsPrimaryName=True)]), 400, "0x80040203"),
        (table("new_Other", name_column("new_Second")), 400, "0x8004701E"),
        (table("new_Other", column("Memo", "new_NAME")), 400, "0x80040203"),
        (table("new_Other", OwnershipType="Nobody"), 400, "0x80048d19"),
        (table("new_Other", EntitySetName="a b"), 400, "0x80048d19"),
        (table("new_Other", HasNotes="yes"), 400, "0x80048d19"),
        (table("new_Other", Attributes="x"), 400, "0x80048d19"),
        (table("new_Other", Attributes=[1]), 400, "0x80048d19"),
        (table("new_Other", DisplayName={"LocalizedLabels": [{"Label": 1}]}), 400, "0x80048d19"),
        (table("new_Other", IsActivity=True), 501, "0x80040800"),
        (table("new_Other", TableType="Elastic"), 501, "0x80040800"),
        (table("new_Other", DataProviderId="x"), 501, "0x80040800"),
        (table("new_Other", Whatever=1), 501, "0x80040800"),
        ({}, 400, "0x80040203"),
    ],
)
@pytest.mark.usefixtures("book")
async def test_wrong_tables(api: httpx.AsyncClient, body: dict[str, Any], status: int, code: str) -> None:
    """A table that is wrong, or not emulated, is refused and not made."""
    assert refusal(await api.post("EntityDefinitions", json=body)) == (status, code)
    assert (await api.get("EntityDefinitions(LogicalName='new_other')")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (column("String", "new_Name"), 400, "0x80047013"),
        (column("String", "new_Title", MaxLength=5000), 400, "0x80048d19"),
        (column("String", "new_Title", FormatName={"Value": "Roman"}), 400, "0x80048d19"),
        (column("Integer", "new_Title", MinValue=2, MaxValue=1), 400, "0x80048d19"),
        (column("Integer", "new_Title", MinValue=1.5), 400, "0x80048d19"),
        (column("Decimal", "new_Title", MaxValue=1e30), 400, "0x80048d19"),
        (column("Decimal", "new_Title", Precision=11), 400, "0x80048d19"),
        (column("Picklist", "new_Title"), 400, "0x80040203"),
        (column("Picklist", "new_Title", OptionSet={"Options": [{"Value": 1}, {"Value": 1}]}), 400, "0x80048d19"),
        (column("Picklist", "new_Title", OptionSet={"Options": []}, DefaultFormValue=3), 400, "0x80048d19"),
        (column("Picklist", "new_Title", OptionSet={"IsGlobal": True}), 501, "0x80040800"),
        (column("Boolean", "new_Title", DefaultValue="x"), 400, "0x80048d19"),
        (column("Lookup", "new_Title"), 400, "0x80040203"),
        (column("MultiSelectPicklist", "new_Title"), 501, "0x80040800"),
        (column("File", "new_Title"), 501, "0x80040800"),
        (column("Image", "new_Title"), 501, "0x80040800"),
        (column("DateTime", "new_Title", DateTimeBehavior={"Value": "TimeZoneIndependent"}), 501, "0x80040800"),
        (column("String", "new_Title", MaxLength=10.5), 400, "0x80048d19"),
        (column("String", "new_Title", AutoNumberFormat="A-{SEQNUM:4}"), 501, "0x80040800"),
        (column("String", "new_Title", IsSecured=True), 501, "0x80040800"),
        (column("String", "new_Title", Nonsense=1), 501, "0x80040800"),
        ({"@odata.type": "x", "SchemaName": "new_Title"}, 400, "0x80048d19"),
        ({"SchemaName": "new_Title"}, 400, "0x80048d19"),
    ],
)
@pytest.mark.usefixtures("book")
async def test_wrong_columns(api: httpx.AsyncClient, body: dict[str, Any], status: int, code: str) -> None:
    """A column that is wrong, or of a type that is not emulated, is refused and not made."""
    assert refusal(await api.post(f"{BOOK}/Attributes", json=body)) == (status, code)
    assert (await api.get(f"{BOOK}/Attributes(LogicalName='new_title')")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PATCH", BOOK, 405),
        ("POST", BOOK, 405),
        ("PATCH", "EntityDefinitions", 405),
        ("PUT", f"{BOOK}/Attributes", 405),
        ("POST", f"{BOOK}/Attributes(LogicalName='new_name')", 405),
        ("PUT", f"{BOOK}/Keys", 405),
        ("POST", f"{BOOK}/Nothing", 404),
        ("DELETE", f"{BOOK}/Attributes(LogicalName='new_name')/{CRM}StringAttributeMetadata/x", 404),
        ("DELETE", f"{BOOK}/Attributes(LogicalName='nothing')", 404),
        ("DELETE", "EntityDefinitions(LogicalName='nothing')", 404),
        ("POST", f"{BOOK}/Attributes?$select=x", 501),
        ("POST", "GlobalOptionSetDefinitions", 501),
    ],
)
@pytest.mark.usefixtures("book")
async def test_paths_that_lead_nowhere(api: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Methods that a definition does not have are 405, names that are not there 404, the rest 501."""
    assert (await api.request(method, path, json={})).status_code == status


async def test_a_table_is_removed_with_its_rows(api: httpx.AsyncClient, book: str) -> None:
    """A table that is removed takes its rows, messages and forms along, and may be made again."""
    await api.post("new_books", json={"new_name": "x"})
    assert (await api.delete(book, headers={"If-Match": "*"})).status_code == 204
    assert (await api.get("new_books")).status_code == 404
    assert (await api.get(book)).status_code == 404
    for kept in ("sdkmessagefilters?$filter=primaryobjecttypecode", "systemforms?$filter=objecttypecode"):
        assert (await api.get(f"{kept} eq 'new_book'")).json()["value"] == []
    await made(api, "EntityDefinitions", table("new_Book"))
    assert (await api.get("new_books/$count")).text == "0"


async def test_a_table_with_a_step_stays(api: httpx.AsyncClient, book: str) -> None:
    """A table that a step is registered on cannot be removed."""
    filters = (await api.get("sdkmessagefilters?$filter=primaryobjecttypecode eq 'new_book'")).json()["value"]
    hook = {"name": "h", "url": "https://x.example", "contract": 8, "authtype": 4, "authvalue": "k"}
    endpoint = (await api.post("serviceendpoints", json=hook)).headers["odata-entityid"].partition("(")[2][:-1]
    step = {
        "name": "s",
        "mode": 1,
        "stage": 40,
        "sdkmessageid@odata.bind": f"/sdkmessages({filters[0]['_sdkmessageid_value']})",
        "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({filters[0]['sdkmessagefilterid']})",
        "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({endpoint})",
    }
    assert (await api.post("sdkmessageprocessingsteps", json=step)).status_code == 204
    assert refusal(await api.delete(book)) == (400, "0x8004F01F")
    assert (await api.get("new_books")).status_code == 200


async def test_definitions_are_part_of_a_change_set(api: httpx.AsyncClient) -> None:
    """A change set that fails leaves no definition behind."""
    part = (
        "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {}\r\n\r\n"
        "POST {} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{}\r\n"
    )
    body = httpx.Request("POST", "http://x", json=table("new_Book")).content.decode()
    wrong = part.format(2, "new_books", '{"nothing": 1}')
    inner = f"{part.format(1, 'EntityDefinitions', body)}{wrong}--c--"
    text = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    assert (await api.post("$batch", content=text, headers=headers)).status_code == 400
    assert (await api.get("new_books")).status_code == 404
    assert (await api.get(BOOK)).status_code == 404
    await made(api, "EntityDefinitions", table("new_Book"))


async def test_a_restart_knows_the_definitions(tmp_path: Path) -> None:
    """Tables and columns that were made are in the database file, like rows."""
    where = str(tmp_path / "org.db")
    async with create_app(database=where) as app, client(app) as api:
        await made(api, "EntityDefinitions", table("new_Book", column("Decimal", "new_Price", MinValue=0.5)))
        await made(api, "EntityDefinitions(LogicalName='contact')/Attributes", column("String", "new_X"))
        await api.post("new_books", json={"new_name": "Emma", "new_price": 2.5})
        before = (await api.get(f"{BOOK}?$expand=Attributes,Keys")).json()
    async with create_app(database=where) as app, client(app) as api:
        assert (await api.get(f"{BOOK}?$expand=Attributes,Keys")).json() == before
        assert (await api.get("new_books?$select=new_price")).json()["value"][0]["new_price"] == 2.5
        assert (await api.post("contacts", json={"new_x": "y"})).status_code == 204


@pytest.mark.usefixtures("book")
async def test_snapshots_hold_definitions_and_reset_forgets_them(api: httpx.AsyncClient) -> None:
    """Reset takes definitions back to the beginning; a snapshot brings them again, with their rows."""
    await made(api, "EntityDefinitions(LogicalName='contact')/Attributes", column("String", "new_X"))
    await api.post("new_books", json={"new_name": "Emma"})
    await api.post("contacts", json={"new_x": "y"})
    kept = (await api.get("http://org/_emulator/snapshot")).json()
    assert (await api.post("http://org/_emulator/reset")).status_code == 204
    assert (await api.get("new_books")).status_code == 404
    assert (await api.get("contacts?$select=new_x")).status_code == 400
    assert (await api.get("sdkmessagefilters?$filter=primaryobjecttypecode eq 'new_book'")).json()["value"] == []
    assert (await api.put("http://org/_emulator/snapshot", json=kept)).status_code == 204
    assert [each["new_name"] for each in (await api.get("new_books")).json()["value"]] == ["Emma"]
    assert (await api.get("contacts?$select=new_x")).json()["value"][0]["new_x"] == "y"
    assert (await api.get("http://org/_emulator/snapshot")).json() == kept


@pytest.mark.parametrize(
    "definitions",
    [
        1,
        {"new_book": 1},
        {"new_book": {}},
        {"New Book": {"columns": {}}},
        {"contact": {"columns": {}, "schemaName": "x", "displayName": "x", "entitySet": "x", "primaryId": "x"}},
    ],
)
async def test_wrong_definitions_in_a_snapshot(api: httpx.AsyncClient, definitions: Any) -> None:
    """A snapshot whose definitions are wrong is refused, and what was there stays."""
    answer = await api.put("http://org/_emulator/snapshot", json={"tables": {}, "definitions": definitions})
    assert (answer.status_code, "definitions" in answer.text) == (400, True)
    assert (await api.get("systemusers/$count")).text == "1"

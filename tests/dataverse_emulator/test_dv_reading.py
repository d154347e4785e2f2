"""Reading rows: $select, $filter, $expand, $orderby, $top, $count and pages (docs: webapi/compose-http-requests-handle-errors.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

ID = "11111111-2222-3333-4444-55555555555{}"
ACCOUNT = "99999999-2222-3333-4444-555555555555"
ROOT = "http://org/api/data/v9.2/"
PEOPLE: list[dict[str, Any]] = [
    {"firstname": "Ann", "lastname": "Doe", "birthdate": "1990-05-01", "gendercode": 2, "annualincome": 100.5},
    {"firstname": "Bob", "lastname": "doe", "birthdate": "1980-05-01", "gendercode": 1, "annualincome": 9},
    {"firstname": "Cyd", "lastname": "O'Neil", "donotemail": True, "numberofchildren": 3},
    {"firstname": "Dée", "lastname": "100%_[a]", "msemr_azurefhirlastupdatedon": "2024-01-01T10:00:00Z"},
    {"firstname": "Eve", "lastname": None, "nickname": "Eve"},
]


@pytest.fixture(autouse=True)
async def people(api: httpx.AsyncClient) -> None:
    """Make five people; Ann and Bob belong to an account, Cyd to Ann."""
    await api.post("accounts", json={"accountid": ACCOUNT, "name": "Clinic"})
    for number, person in enumerate(PEOPLE):
        assert (await api.post("contacts", json={"contactid": ID.format(number)} | person)).status_code == 204
    for number in (0, 1):
        bind = {"parentcustomerid_account@odata.bind": f"/accounts({ACCOUNT})"}
        await api.patch(f"contacts({ID.format(number)})", json=bind)
    await api.patch(
        f"contacts({ID.format(2)})", json={"parentcustomerid_contact@odata.bind": f"/contacts({ID.format(0)})"}
    )


async def names(api: httpx.AsyncClient, text: str, **more: str) -> str:
    """Return the initials of the rows that a filter finds."""
    answer = await api.get(
        "contacts", params={"$filter": text, "$select": "firstname", "$orderby": "firstname", **more}
    )
    assert answer.status_code == 200, answer.text
    return "".join(row["firstname"][0] for row in answer.json()["value"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lastname eq 'DOE'", "AB"),
        ("lastname eq 'O''Neil'", "C"),
        ("'doe' eq lastname", "AB"),
        ("firstname eq 'DÉE'", "D"),
        ("lastname eq null", "E"),
        ("null ne lastname", "ABCD"),
        ("lastname ne 'doe'", "CDE"),
        ("not (lastname eq 'doe')", "CDE"),
        ("not contains(lastname,'o')", "DE"),
        ("gendercode eq 1 or gendercode eq 2", "AB"),
        ("gendercode eq 1 or lastname eq 'doe' and firstname eq 'Ann'", "AB"),
        ("(gendercode eq 1 or lastname eq 'doe') and firstname eq 'Ann'", "A"),
        ("annualincome gt 9.5", "A"),
        ("annualincome ge 9", "AB"),
        ("annualincome lt 100.5", "B"),
        ("annualincome le 100.50", "AB"),
        ("numberofchildren eq 3", "C"),
        ("donotemail eq true", "C"),
        ("birthdate lt 1985-01-01", "B"),
        ("birthdate eq 1990-05-01", "A"),
        ("msemr_azurefhirlastupdatedon eq 2024-01-01T11:00:00+01:00", "D"),
        ("msemr_azurefhirlastupdatedon gt 2023-12-31", "D"),
        ("msemr_azurefhirlastupdatedon lt 2024-01-01T10:00:00.5Z", ""),
        (f"contactid eq {ID.format(1)}", "B"),
        (f"_parentcustomerid_value eq {ACCOUNT}", "AB"),
        ("contains(lastname,'OE')", "AB"),
        ("startswith(lastname,'o')", "C"),
        ("endswith(lastname,'NEIL')", "C"),
        ("contains(lastname,'%25')", "ABCD"),
        ("startswith(lastname,'d_e')", "AB"),
        ("startswith(lastname,'[a-d]')", "AB"),
        ("startswith(lastname,'[^a-d]')", "CD"),
        ("startswith(lastname,'100[%25][_][[]')", "D"),
        ("nickname eq firstname", "E"),
        ("parentcustomerid_account/name eq 'clinic'", "AB"),
        ("parentcustomerid_account/name ne 'clinic'", "CDE"),
        ("parentcustomerid_account/name eq null", "CDE"),
        ("parentcustomerid_account/name ne null", "AB"),
        ("parentcustomerid_contact/firstname eq 'ann'", "C"),
        ("parentcustomerid_contact/parentcustomerid_account/name eq 'clinic'", "C"),
        ("contains(parentcustomerid_account/name,'lin')", "AB"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['DOE','x'])", "AB"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=[\"O'Neil\", 'x'])", "C"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=['1','3'])", "B"),
        (f"Microsoft.Dynamics.CRM.In(PropertyName='contactid',PropertyValues=['{ID.format(1)}'])", "B"),
        (f"Microsoft.Dynamics.CRM.In(PropertyName='parentcustomerid',PropertyValues=['{ACCOUNT}'])", "AB"),
        ("Microsoft.Dynamics.CRM.NotIn(PropertyName='firstname',PropertyValues=['ann','bob'])", "CDE"),
        ("firstname eq 'Ann' and Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['doe'])", "A"),
    ],
)
async def test_filters(api: httpx.AsyncClient, text: str, found: str) -> None:
    """Texts ignore case, `ne` and `not` include rows without a value, functions take SQL's wildcards."""
    assert await names(api, text.replace("%25", "%")) == found


async def test_parameter_aliases(api: httpx.AsyncClient) -> None:
    """A literal, a property name or an array may stand in a query option of its own."""
    function = "Microsoft.Dynamics.CRM.In(PropertyName=@p1,PropertyValues=@p2)"
    more = {"@p1": "'lastname'", "@p2": '["O\'Neil","doe"]'}
    assert await names(api, function, **more) == "ABC"
    assert await names(api, "lastname eq @name", **{"@name": "'doe'"}) == "AB"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nothing eq 1", "0x80060888"),
        ("LastName eq 'x'", "0x80060888"),
        ("parentcustomerid eq 'x'", "0x80060888"),
        ("nothing/name eq 'x'", "0x80060888"),
        ("parentcustomerid_account eq null", "0x80060888"),
        ("lastname eq 5", "0x80060888"),
        ("gendercode eq '1'", "0x80060888"),
        ("gendercode eq 1.5", "0x80060888"),
        ("contactid eq 'x'", "0x80060888"),
        (f"contactid gt {ID.format(0)}", "0x80060888"),
        ("birthdate eq 1990-05-01T00:00:00Z", "0x80060888"),
        ("birthdate eq 1990-02-30", "0x80060888"),
        ("donotemail eq 1", "0x80060888"),
        ("lastname eq", "0x80060888"),
        ("lastname eq 'x", "0x80060888"),
        ("lastname eq 'x' and", "0x80060888"),
        ("(lastname eq 'x'", "0x80060888"),
        ("lastname eq 'x')", "0x80060888"),
        ("lastname", "0x80060888"),
        ("", "0x80060888"),
        ("contains(gendercode,'1')", "0x80060888"),
        ("lastname eq @nothing", "0x80060888"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['O''Neil'])", "0x80060888"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=['x'])", "0x80060888"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=[1])", "0x80060888"),
        (f"Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['{'x' * 851}'])", "0x80060888"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='_parentcustomerid_value',PropertyValues=['x'])", "0x80041103"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='parentcustomerid_account/name',PropertyValues=['x'])", "0x80041103"),
        ("parentcustomerid_account/Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['x'])", "0x80060888"),
        (" or ".join(["gendercode eq 1"] * 501), "0x8004430c"),
        ("masterid/" * 1000 + "lastname eq 'x'", "0x80060888"),
        ("(" * 100 + "gendercode eq 1" + ")" * 100, "0x80060888"),
    ],
)
async def test_bad_filters_are_client_errors(api: httpx.AsyncClient, text: str, code: str) -> None:
    """Unknown names, wrong types, bad syntax and more than 500 conditions are 400 with their codes."""
    answer = await api.get("contacts", params={"$filter": text})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text


async def test_five_hundred_conditions_are_enough(api: httpx.AsyncClient) -> None:
    """A filter may hold 500 conditions."""
    assert await names(api, " or ".join(["gendercode eq 1"] * 500)) == "B"


async def test_a_quote_inside_in_values_needs_double_quotes(api: httpx.AsyncClient) -> None:
    """A doubled quote does not work in the array of a query function; the error says what the array lacks."""
    text = "Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['O''Neil'])"
    answer = await api.get("contacts", params={"$filter": text})
    assert answer.json()["error"]["message"].startswith("Invalid JSON. A comma character ',' was expected")


async def test_select_keeps_the_primary_key(api: httpx.AsyncClient) -> None:
    """A row has the selected columns, its ETag and its primary key; without $select every column, null or not."""
    rows = (await api.get("contacts?$select=firstname,_parentcustomerid_value")).json()["value"]
    assert set(rows[0]) == {"@odata.etag", "firstname", "_parentcustomerid_value", "contactid"}
    whole = (await api.get(f"contacts({ID.format(4)})")).json()
    assert whole["lastname"] is None
    assert len(whole) > 150


@pytest.mark.parametrize("name", ["nothing", "parentcustomerid", "parentcustomerid_account", "FirstName", ""])
async def test_unknown_columns_cannot_be_selected(api: httpx.AsyncClient, name: str) -> None:
    """A lookup is selected as `_x_value`; other names are 400 0x80060888."""
    answer = await api.get(f"contacts?$select=firstname,{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")


async def test_expanded_rows_have_their_own_query(api: httpx.AsyncClient) -> None:
    """$expand takes $select, $filter, $orderby, $top and $expand of its own, in both directions."""
    name = "contact_parentcustomerid_account_account"
    options = "$select=firstname;$filter=lastname eq 'doe';$orderby=firstname desc;$top=1"
    account = (await api.get(f"accounts({ACCOUNT})?$select=name&$expand={name}({options})")).json()
    assert [row["firstname"] for row in account[name]] == ["Bob"]
    nested = "parentcustomerid_contact($select=firstname;$expand=parentcustomerid_account($select=name))"
    row = (await api.get(f"contacts({ID.format(2)})?$select=firstname&$expand={nested}")).json()
    assert row["parentcustomerid_contact"]["parentcustomerid_account"]["name"] == "Clinic"
    assert row["@odata.context"].endswith(
        "#contacts(firstname,parentcustomerid_contact(firstname,parentcustomerid_account(name)))/$entity"
    )


async def test_order_and_top(api: httpx.AsyncClient) -> None:
    """$orderby sorts as SQL does, nulls first; $top limits and has no next page."""
    answer = (await api.get("contacts?$select=lastname&$orderby=lastname desc,firstname&$top=3")).json()
    assert [row["lastname"] for row in answer["value"]] == ["O'Neil", "Doe", "doe"]
    assert "@odata.nextLink" not in answer
    answer = (await api.get("contacts?$select=lastname&$orderby=lastname&$top=1")).json()
    assert answer["value"][0]["lastname"] is None


async def test_count(api: httpx.AsyncClient) -> None:
    """$count=true adds the number of all matches; /$count is that number as text."""
    answer = (await api.get("contacts?$select=lastname&$top=1&$count=true&$filter=gendercode ne null")).json()
    assert (answer["@odata.count"], len(answer["value"])) == (2, 1)
    assert (await api.get("contacts/$count?$filter=gendercode eq 1")).text == "1"


@pytest.mark.parametrize("order", ["", "&$orderby=firstname desc"])
async def test_pages(api: httpx.AsyncClient, order: str) -> None:
    """odata.maxpagesize cuts pages; @odata.nextLink leads through all rows once and keeps the other options."""
    prefer = {"Prefer": "odata.maxpagesize=2"}
    url, seen, sizes = f"contacts?$select=firstname{order}", [], []
    while url:
        answer = await api.get(url, headers=prefer)
        assert answer.headers["Preference-Applied"] == "odata.maxpagesize=2"
        page = answer.json()
        assert set(page["value"][0]) == {"@odata.etag", "firstname", "contactid"}
        seen += [row["firstname"][0] for row in page["value"]]
        sizes.append(len(page["value"]))
        url = page.get("@odata.nextLink", "")
        assert url.startswith(ROOT) or not url
    assert "".join(seen) == ("EDCBA" if order else "ABCDE")
    assert sizes == [2, 2, 1]


async def test_rows_deleted_between_pages_do_not_hide_others(api: httpx.AsyncClient) -> None:
    """The next page starts after the last row seen, even when rows before it are gone."""
    prefer = {"Prefer": "odata.maxpagesize=2"}
    page = (await api.get("contacts?$select=firstname", headers=prefer)).json()
    await api.delete(f"contacts({ID.format(0)})")
    rest = (await api.get(page["@odata.nextLink"])).json()
    assert [row["firstname"][0] for row in rest["value"]] == ["C", "D", "E"]


async def test_formatted_values(api: httpx.AsyncClient) -> None:
    """Annotations show choices, yes/no, dates and money as people see them; nulls have none."""
    headers = {"Prefer": 'odata.include-annotations="OData.Community.Display.V1.FormattedValue"'}
    answer = await api.get(f"contacts({ID.format(0)})", headers=headers)
    row = answer.json()
    suffix = "@OData.Community.Display.V1.FormattedValue"
    assert answer.headers["Preference-Applied"].startswith("odata.include-annotations=")
    assert row[f"gendercode{suffix}"] == "Female"
    assert row[f"birthdate{suffix}"] == "5/1/1990"
    assert row[f"annualincome{suffix}"] == "$100.50"
    assert row[f"statuscode{suffix}"] == "Active"
    assert f"donotemail{suffix}" not in row


async def test_expands_nest_to_a_limit(api: httpx.AsyncClient) -> None:
    """Expands inside expands beyond the limit are 400."""
    for depth, status in ((15, 200), (16, 400), (1000, 400)):
        nested = "$expand=masterid(" * depth
        answer = await api.get(f"contacts?{nested[:-1]}{')' * (depth - 1)}")
        assert answer.status_code == status, depth


@pytest.mark.parametrize(
    "options", ["$top=-1", "$top=x", "$count=yes", "$orderby=lastname up", "$orderby=", "$skip=1", "$top=1&$top=2"]
)
async def test_bad_options_are_client_errors(api: httpx.AsyncClient, options: str) -> None:
    """Malformed query options, and $skip, are 400 0x80060888."""
    answer = await api.get(f"contacts?{options}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")


async def test_the_service_document_lists_the_sets(api: httpx.AsyncClient) -> None:
    """The service root names every entity set."""
    sets = (await api.get("")).json()["value"]
    assert {"contacts", "serviceendpoints"} <= {each["name"] for each in sets}

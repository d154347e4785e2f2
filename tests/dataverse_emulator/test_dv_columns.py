"""Every value is checked against its column: type, length, options, range, state.

Docs: webapi/compose-http-requests-handle-errors.md.
"""

from __future__ import annotations

import json

import httpx
import pytest

ID = "11111111-2222-3333-4444-555555555555"


async def refused(api: httpx.AsyncClient, entity_set: str, body: object) -> tuple[int, str, str]:
    """Post a body that must be refused; returns status, code and message, after a look that no row was made."""
    content = body if isinstance(body, str) else json.dumps(body)
    answer = await api.post(entity_set, content=content, headers={"Content-Type": "application/json"})
    assert (await api.get(f"{entity_set}/$count")).text == "0"
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


async def kept(api: httpx.AsyncClient, entity_set: str, body: dict[str, object]) -> dict[str, object]:
    answer = await api.post(entity_set, json=body, headers={"Prefer": "return=representation"})
    assert answer.status_code == 201, answer.text
    document: dict[str, object] = answer.json()
    return document


async def test_an_unknown_column_is_refused(api: httpx.AsyncClient) -> None:
    """A property that the table does not have is 400 0x80048d19; names are case-sensitive."""
    for name in ("nothing", "LastName"):
        status, code, message = await refused(api, "contacts", {name: "x"})
        assert (status, code) == (400, "0x80048d19")
        assert message.startswith("Error identified in Payload provided by the user for Entity :'contacts', ")
        assert f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.contact'." in message


@pytest.mark.parametrize(
    ("column", "value", "edm"),
    [
        ("lastname", 5, "Edm.String"),
        ("lastname", ["x"], "Edm.String"),
        ("numberofchildren", "5", "Edm.Int32"),
        ("numberofchildren", 5.5, "Edm.Int32"),
        ("numberofchildren", 2**40, "Edm.Int32"),
        ("numberofchildren", True, "Edm.Int32"),
        ("gendercode", "1", "Edm.Int32"),
        ("donotemail", "true", "Edm.Boolean"),
        ("donotemail", 1, "Edm.Boolean"),
        ("annualincome", "12.5", "Edm.Decimal"),
        ("birthdate", "2000-01-31T00:00:00Z", "Edm.Date"),
        ("birthdate", "2000-02-30", "Edm.Date"),
        ("birthdate", "20000131", "Edm.Date"),
        ("msemr_azurefhirlastupdatedon", "2000-01-31", "Edm.DateTimeOffset"),
        ("msemr_azurefhirlastupdatedon", "2000-01-31T10:00:00", "Edm.DateTimeOffset"),
        ("contactid", "x", "Edm.Guid"),
    ],
)
async def test_a_wrong_type_is_refused(api: httpx.AsyncClient, column: str, value: object, edm: str) -> None:
    """A JSON value of the wrong type is 400 0x80048d19 naming the expected type."""
    status, code, message = await refused(api, "contacts", {column: value})
    assert (status, code) == (400, "0x80048d19")
    assert f"to the expected type '{edm}'" in message


async def test_a_text_that_is_too_long_is_refused(api: httpx.AsyncClient) -> None:
    """A text longer than its column is 400 0x80044331 with column, table and length; exactly as long is kept."""
    status, code, message = await refused(api, "contacts", {"firstname": "x" * 51})
    assert (status, code) == (400, "0x80044331")
    assert message == (
        "A validation error occurred.  The length of the 'firstname' attribute of the 'contact' entity exceeded the "
        "maximum allowed length of '50'."
    )
    assert (await kept(api, "contacts", {"firstname": "x" * 50}))["firstname"] == "x" * 50


async def test_length_counts_as_sql_counts(api: httpx.AsyncClient) -> None:
    """A character outside the basic plane counts twice."""
    assert (await refused(api, "contacts", {"firstname": "😀" * 26}))[1] == "0x80044331"
    assert (await kept(api, "contacts", {"firstname": "😀" * 25}))["firstname"] == "😀" * 25


@pytest.mark.parametrize("character", ["\\u0000", "\\u0001", "\\ud800", "\\uffff"])
async def test_characters_outside_xml_are_refused(api: httpx.AsyncClient, character: str) -> None:
    """A character that XML cannot carry is 400 0x80040278."""
    assert (await refused(api, "contacts", f'{{"lastname": "a{character}"}}'))[:2] == (400, "0x80040278")


async def test_an_empty_text_is_null(api: httpx.AsyncClient) -> None:
    """An empty text is kept as null."""
    assert (await kept(api, "contacts", {"lastname": ""}))["lastname"] is None


async def test_an_option_out_of_range_is_refused(api: httpx.AsyncClient) -> None:
    """A choice that the column does not have is 400 0x8004431a."""
    status, code, message = await refused(api, "contacts", {"gendercode": 99})
    assert (status, code) == (400, "0x8004431a")
    assert "'gendercode'" in message
    assert "99" in message


@pytest.mark.parametrize(
    ("entity_set", "column", "value", "code"),
    [
        ("contacts", "numberofchildren", -1, "0x8004432f"),
        ("contacts", "annualincome", -0.01, "0x80044330"),
        ("contacts", "annualincome", 1e15, "0x80044330"),
        ("msemr_encounters", "msemr_encounterlength", 1e12, "0x80044330"),
    ],
)
async def test_a_number_out_of_range_is_refused(
    api: httpx.AsyncClient, entity_set: str, column: str, value: float, code: str
) -> None:
    """A whole number out of range is 0x8004432f, another number 0x80044330."""
    assert (await refused(api, entity_set, {column: value}))[:2] == (400, code)


async def test_decimals_keep_their_digits(api: httpx.AsyncClient) -> None:
    """Decimals are exact to ten places and money to four, as text on the wire would be."""
    body = '{"msemr_encounterlength": 12345678901.0123456789}'
    made = await api.post("msemr_encounters", content=body, headers={"Content-Type": "application/json"})
    text = (await api.get(made.headers["OData-EntityId"])).text
    assert '"msemr_encounterlength":12345678901.0123456789' in text
    made = await api.post("contacts", json={"annualincome": 1.00006})
    assert '"annualincome":1.0001' in (await api.get(made.headers["OData-EntityId"])).text


async def test_times_are_cut_to_seconds_in_utc(api: httpx.AsyncClient) -> None:
    """A time with a zone and a fraction reads back in UTC without the fraction; a date stays a date."""
    row = await kept(
        api,
        "contacts",
        {"msemr_azurefhirlastupdatedon": "2024-05-06T01:02:03.987+02:00", "birthdate": "2000-01-31"},
    )
    assert row["msemr_azurefhirlastupdatedon"] == "2024-05-05T23:02:03Z"
    assert row["birthdate"] == "2000-01-31"


async def test_dates_before_1753_are_refused(api: httpx.AsyncClient) -> None:
    """SQL keeps no date before 1753."""
    assert (await refused(api, "contacts", {"birthdate": "1752-12-31"}))[:2] == (400, "0x80040239")
    assert (await kept(api, "contacts", {"birthdate": "1753-01-01"}))["birthdate"] == "1753-01-01"


async def test_state_and_status_belong_together(api: httpx.AsyncClient) -> None:
    """A status reason of another state is 400 0x80048408; a state alone brings its own first reason."""
    row = await kept(api, "msemr_encounters", {"statecode": 0, "statuscode": 935000002})
    url = f"msemr_encounters({row['msemr_encounterid']})"
    answer = await api.patch(url, json={"statuscode": 935000004})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048408")
    assert (await api.patch(url, json={"statecode": 1})).status_code == 204
    row = (await api.get(url)).json()
    assert (row["statecode"], row["statuscode"]) == (1, 2)
    assert (await api.patch(url, json={"statecode": 1, "statuscode": 935000004})).status_code == 204
    assert (await api.get(url)).json()["statuscode"] == 935000004


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', '{"lastname": NaN}', "[" * 100000, "\xff"])
async def test_a_body_that_is_no_json_object_is_refused(api: httpx.AsyncClient, body: str) -> None:
    """Anything but a JSON object is 400 0x80048d19."""
    assert (await refused(api, "contacts", body))[:2] == (400, "0x80048d19")


async def test_control_information_is_accepted(api: httpx.AsyncClient) -> None:
    """The table's own @odata.type and other annotations may stand in a body; another type is refused."""
    body = {"@odata.type": "#Microsoft.Dynamics.CRM.contact", "@odata.etag": "x", "lastname@odata.type": "String"}
    await kept(api, "contacts", body)
    answer = await api.post("contacts", json={"@odata.type": "Microsoft.Dynamics.CRM.account"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")


async def test_columns_the_server_owns_are_dropped(api: httpx.AsyncClient) -> None:
    """Values for the server's own columns are dropped without an error."""
    row = await kept(api, "contacts", {"createdon": "2001-01-01T00:00:00Z", "versionnumber": 1, "fullname": "x"})
    assert row["createdon"] != "2001-01-01T00:00:00Z"
    assert row["versionnumber"] != 1
    assert row["fullname"] is None


async def test_the_creation_date_can_be_overridden(api: httpx.AsyncClient) -> None:
    """`overriddencreatedon` sets the creation date of a migrated row."""
    row = await kept(api, "contacts", {"overriddencreatedon": "2001-01-01"})
    assert row["createdon"] == "2001-01-01T00:00:00Z"

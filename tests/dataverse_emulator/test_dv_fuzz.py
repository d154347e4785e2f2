"""No input makes the emulator fail: whatever is sent, the answer is a success, a client error or 501."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.dataverse import Emulator, create_app
from devstack.dataverse.bulk import NAMESPACE
from devstack.dataverse.wire import Answer, Call

ID = "11111111-2222-3333-4444-555555555555"
IDENTIFIERS = "prefix_patientidentifier_prefix_Patient_contact"
ROOT = "http://org/api/data/v9.2/"
PIECES = [
    *("lastname", "gendercode", "birthdate", "annualincome", "contactid", "_parentcustomerid_value", "createdon"),
    *("parentcustomerid_account/name", "parentcustomerid_contact/parentcustomerid_account/name", "ownerid", "@p"),
    *(" eq ", " ne ", " gt ", " le ", " and ", " or ", "not ", "(", ")", ",", "=", "/", " ", "null", "true"),
    *(
        "'x'",
        "'",
        "''",
        "5",
        "-5.5",
        "1e400",
        "1e-9",
        "2020-01-31",
        "2020-01-31T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
    ),
    *(ID, "contains(", "startswith(lastname,'[')", "endswith(lastname,'[z-a]')", "[", "]", '"', "\\", "\\ud800", "%"),
    *("Microsoft.Dynamics.CRM.In(PropertyName='lastname',PropertyValues=['a','b'])", "any(", "$it", "😀", "\x00"),
    *(
        "Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=[",
        "msemr_azurefhirid='a'",
        "contacts",
        "$1",
    ),
]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
COLUMNS = st.sampled_from(
    [
        *("lastname", "gendercode", "birthdate", "annualincome", "contactid", "statecode", "statuscode", "donotemail"),
        *(
            "numberofchildren",
            "createdon",
            "processid",
            "parentcustomerid_account@odata.bind",
            "createdby",
            "@odata.type",
        ),
        *(
            "msemr_azurefhirlastupdatedon",
            "exchangerate",
            "ownerid@odata.bind",
            "_ownerid_value",
            "overriddencreatedon",
        ),
    ]
)
brief = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
few = settings(quick, max_examples=60)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    app = create_app()
    app.declare_key("contact", "msemr_azurefhirid")
    yield app
    asyncio.run(app.aclose())


def fine(answer: Answer) -> None:
    assert answer.status < 500 or answer.status == 501, answer.body
    if answer.status >= 400:
        assert json.loads(answer.body)["error"]["message"]


def send(app: Emulator, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
    call = Call(method, "", {name.replace("_", "-"): value for name, value in headers.items()}, body, ROOT)
    return at_once(app._route(call, f"/api/data/v9.2/{target}"))


def at_once(answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Run what waits for nobody, without a loop."""
    with pytest.raises(StopIteration) as done:
        answer.send(None)
    return done.value.value


@quick
@given(
    text=TEXT,
    option=st.sampled_from(["$filter", "$select", "$expand", "$orderby", "$top", "$skiptoken", "$deltatoken", "tag"]),
)
def test_query_options(emulator: Emulator, text: str, option: str) -> None:
    """Any text as any query option gets an answer."""
    fine(send(emulator, "GET", f"contacts?{option}={quote(text.encode('utf-8', 'replace'))}"))


@quick
@given(text=TEXT, method=st.sampled_from(["GET", "PATCH", "DELETE"]))
def test_keys(emulator: Emulator, text: str, method: str) -> None:
    """Any text as a key or a path gets an answer."""
    encoded = quote(text.encode("utf-8", "replace"))
    for target in (f"contacts({encoded})", encoded, f"contacts({ID})/{encoded}", f"EntityDefinitions({encoded})"):
        fine(send(emulator, method, target, b"{}"))


@quick
@given(target=st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")))
def test_raw_urls(emulator: Emulator, target: str) -> None:
    """Any bytes as a URL get an answer."""
    fine(send(emulator, "GET", target))


@quick
@given(body=st.dictionaries(COLUMNS | TEXT, JSON, max_size=5))
def test_bodies(emulator: Emulator, body: dict[str, object]) -> None:
    """Any JSON as a body gets an answer."""
    content = json.dumps(body).encode()
    fine(send(emulator, "POST", "contacts", content, prefer="return=representation"))
    fine(send(emulator, "PATCH", f"contacts({ID})", content))
    fine(send(emulator, "POST", "serviceendpoints", content))
    fine(send(emulator, "GET", "contacts?$top=3", prefer='odata.include-annotations="*"'))


@few
@given(
    targets=JSON | st.lists(st.dictionaries(COLUMNS | st.sampled_from(["@odata.id", "@odata.type"]), JSON, max_size=4)),
    action=st.sampled_from(["CreateMultiple", "UpdateMultiple", "UpsertMultiple", "NothingMultiple"]),
    typed=st.booleans(),
)
def test_bulk_bodies(emulator: Emulator, targets: object, action: str, *, typed: bool) -> None:
    """Any JSON as the Targets of a bulk action gets an answer."""
    if typed and isinstance(targets, list):
        targets = [
            {"@odata.type": "Microsoft.Dynamics.CRM.contact", "contactid": ID, **each}
            if isinstance(each, dict)
            else each
            for each in targets
        ]
    url = f"contacts/Microsoft.Dynamics.CRM.{action}"
    fine(send(emulator, "POST", url, json.dumps({"Targets": targets}).encode()))
    fine(send(emulator, "POST", url, json.dumps(targets).encode()))


KEYED = (
    TEXT.map(lambda text: f"contacts(msemr_azurefhirid='{text}')") | TEXT.map(lambda text: f"contacts({text})") | TEXT
)


@few
@given(references=st.lists(KEYED, max_size=3), action=st.sampled_from(["CreateMultiple", "UpsertMultiple"]))
def test_bulk_references(emulator: Emulator, references: list[str], action: str) -> None:
    """Any text as what a target of a bulk action, a bind or a `$ref` names gets an answer."""
    typed = {"@odata.type": "Microsoft.Dynamics.CRM.contact"}
    targets = [{**typed, "@odata.id": each, "msemr_link1@odata.bind": each} for each in references]
    fine(send(emulator, "POST", f"contacts/{NAMESPACE}{action}", json.dumps({"Targets": targets}).encode()))
    for each in references:
        content = json.dumps({"@odata.id": each}).encode()
        fine(send(emulator, "PUT", f"contacts({ID})/msemr_link1/$ref", content))
        fine(send(emulator, "POST", f"contacts({ID})/{IDENTIFIERS}/$ref", content))


@few
@given(
    body=st.recursive(
        JSON,
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["msemr_link1", "parentcustomerid_account", "ownerid", "createdby", "lastname", IDENTIFIERS]
            ),
            inner | st.lists(inner, max_size=2),
            max_size=3,
        ),
        max_leaves=8,
    )
)
def test_nested_bodies(emulator: Emulator, body: object) -> None:
    """Any JSON, however it nests rows, gets an answer."""
    fine(send(emulator, "POST", "contacts", json.dumps(body).encode()))
    fine(send(emulator, "PATCH", f"contacts({ID})", json.dumps(body).encode()))


TOKEN = st.lists(
    st.sampled_from(["!", "0", "1", "9999999999", "-", " ", ID, ID.upper(), "999999999999999999"])
    | st.text(max_size=2),
    max_size=6,
).map("".join)


@few
@given(token=TOKEN, page=TOKEN)
def test_delta_tokens(emulator: Emulator, token: str, page: str) -> None:
    """Any text as a delta token, as a page's token, or as both gets an answer."""
    delta, skip = (quote(each.encode("utf-8", "replace")) for each in (token, page))
    fine(send(emulator, "GET", f"contacts?$deltatoken={delta}"))
    fine(send(emulator, "GET", f"contacts/$count?$deltatoken={delta}"))
    fine(send(emulator, "GET", f"contacts?$select=lastname&$deltatoken={delta}&$skiptoken={skip}"))
    fine(send(emulator, "GET", f"contacts?$skiptoken={skip}", prefer="odata.track-changes,odata.maxpagesize=1"))


TERM = st.sampled_from(
    [
        *(
            "lastname",
            "gendercode",
            "birthdate",
            "annualincome",
            "contactid",
            "_ownerid_value",
            "createdon",
            "donotemail",
        ),
        *("parentcustomerid_account/name", "ownerid/x", "'x'", "''''", "5", "-5.5", "1e3", "null", "true", ID),
        *("2020-01-31", "2020-01-31T00:00:00Z", "@p"),
    ]
)
FILTER = st.recursive(
    st.builds("{} {} {}".format, TERM, st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le", "has"]), TERM)
    | st.builds("{}({},{})".format, st.sampled_from(["contains", "startswith", "endswith"]), TERM, TERM),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("not {}".format, inner)
        | st.builds("not({})".format, inner)
    ),
    max_leaves=6,
)


@few
@given(where=FILTER)
def test_filters(emulator: Emulator, where: str) -> None:
    """Any filter that is built as filters are gets an answer, and means the same in parentheses."""
    answered = send(emulator, "GET", f"contacts/$count?@p=5&$filter={quote(where)}")
    fine(answered)
    same = send(emulator, "GET", f"contacts/$count?@p=5&$filter={quote(f'({where})')}")
    assert (same.status, same.body if same.status == 200 else b"") == (
        answered.status,
        answered.body if answered.status == 200 else b"",
    )


@few
@given(text=st.text(min_size=1, max_size=20))
def test_texts_come_back(emulator: Emulator, text: str) -> None:
    """A text that is taken, as a key or in a body, is found again by that key and by a filter; others are client errors."""
    literal = quote("'" + text.replace("'", "''") + "'", safe="")
    made = send(emulator, "PATCH", f"contacts(msemr_azurefhirid={literal})", json.dumps({"lastname": text}).encode())
    fine(made)
    if made.status != 204:
        return
    found = send(emulator, "GET", f"contacts(msemr_azurefhirid={literal})?$select=lastname")
    assert json.loads(found.body)["lastname"] == text
    rows = send(emulator, "GET", f"contacts?$select=lastname&$filter=lastname%20eq%20{literal}")
    assert text in [row["lastname"] for row in json.loads(rows.body)["value"]]
    assert send(emulator, "DELETE", f"contacts(msemr_azurefhirid={literal})").status == 204


@quick
@given(name=st.sampled_from(["if-match", "if-none-match", "prefer", "accept", "mscrm.x"]), value=TEXT)
def test_headers(emulator: Emulator, name: str, value: str) -> None:
    """Any text as a header gets an answer."""
    call = Call("PATCH", "", {name: value}, b"{}", ROOT)
    fine(at_once(emulator._route(call, f"/api/data/v9.2/contacts({ID})")))


LINES = st.lists(
    st.sampled_from(
        [
            *(
                "--b",
                "--b--",
                "--c",
                "--c--",
                "",
                "Content-Type: application/http",
                "Content-Transfer-Encoding: binary",
            ),
            *("Content-Type: multipart/mixed; boundary=c", "Content-ID: 1", "Content-Length: 5", "Content-Length: x"),
            *("POST contacts HTTP/1.1", "GET contacts HTTP/1.1", "PATCH $1 HTTP/1.1", "GET $batch HTTP/1.1", "{}", "{"),
            *(
                "Prefer: respond-async",
                "If-Match: x",
                '{"lastname": "x"}',
                ": x",
                "GET http://[ HTTP/1.1",
                "GET / HTTP/1.1",
            ),
        ]
    )
    | TEXT,
    max_size=24,
)


@quick
@given(lines=LINES, end=st.sampled_from(["\r\n", "\n"]), go_on=st.booleans())
def test_batches(emulator: Emulator, lines: list[str], end: str, *, go_on: bool) -> None:
    """Any lines as a batch get an answer: multipart, or JSON when they cannot be read."""
    part = ["Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
    for content in (end.join(lines), end.join(["--b", *part, *lines, "--b--"])):
        answered = send(
            emulator,
            "POST",
            "$batch",
            content.encode("utf-8", "replace"),
            content_type="multipart/mixed; boundary=b",
            prefer="odata.continue-on-error" if go_on else "",
        )
        assert answered.status < 500 or answered.status == 501
        assert b"HTTP/1.1 500" not in answered.body


@quick
@given(document=JSON | st.fixed_dictionaries({"tables": st.dictionaries(st.just("contact"), JSON)}))
def test_snapshots(emulator: Emulator, document: object) -> None:
    """Anything as a snapshot is restored or refused with ValueError, which the control side answers with 400."""
    try:
        emulator.store.restore(document)
    except ValueError:
        pass
    finally:
        emulator.store.reset()


NAMES = st.sampled_from(
    [
        *("SchemaName", "DisplayName", "Attributes", "OwnershipType", "HasNotes", "EntitySetName", "@odata.type"),
        *("MaxLength", "MinValue", "MaxValue", "Precision", "Format", "FormatName", "DateTimeBehavior", "OptionSet"),
        *("RequiredLevel", "IsPrimaryName", "DefaultValue", "DefaultFormValue", "KeyAttributes", "Lookup", "Entities"),
        *("ReferencedEntity", "ReferencingEntity", "CascadeConfiguration", "LocalizedLabels", "Label", "Value"),
        *("Options", "TrueOption", "IsGlobal", "ReferencingEntityNavigationPropertyName", "ParameterXml", "QuerySet"),
        *("Criteria", "Conditions", "Values", "EntityName", "AttributeQuery", "Properties", "PropertyNames"),
    ]
)
VALUES = st.sampled_from(
    [
        *("new_Book", "new_Name", "new_book", "contact", "lastname", "new_\ud800", "Microsoft.Dynamics.CRM."),
        *(
            f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata"
            for kind in ("String", "Integer", "Picklist", "Lookup", "Xml")
        ),
        *("Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata", "<importexportxml/>", "DateOnly", "Cascade"),
        *(1, 0, -1, 2**70, 1e300, 0.5, True, None),
    ]
)
DEFINITION = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXT, inner, max_size=5),
    max_leaves=12,
)
WHERE = st.sampled_from(
    [
        *("EntityDefinitions", "RelationshipDefinitions", "CreateEntities", "PublishXml", "BulkDelete"),
        *("ReactivateEntityKey", "EntityDefinitions(LogicalName='contact')"),
        "EntityDefinitions(LogicalName='contact')/Attributes",
        "EntityDefinitions(LogicalName='contact')/Attributes(LogicalName='lastname')",
        "EntityDefinitions(LogicalName='contact')/Keys",
    ]
)
LABEL = {"LocalizedLabels": [{"Label": "x", "LanguageCode": 1033}]}


@brief
@given(where=WHERE, method=st.sampled_from(["POST", "PUT"]), body=st.dictionaries(NAMES, DEFINITION, max_size=6))
def test_definitions(emulator: Emulator, where: str, method: str, body: dict[str, object]) -> None:
    """Any JSON as a definition gets an answer, also where the rest of it is right."""
    fine(send(emulator, method, where, json.dumps(body).encode()))
    kind = "OneToManyRelationshipMetadata" if where.startswith("Rel") else "StringAttributeMetadata"
    right = {"SchemaName": "new_X", "DisplayName": LABEL, "@odata.type": f"Microsoft.Dynamics.CRM.{kind}"}
    fine(send(emulator, method, where, json.dumps(right | body).encode()))
    fine(send(emulator, "GET", "EntityDefinitions(LogicalName='contact')?$expand=Attributes"))


@brief
@given(document=st.fixed_dictionaries({"tables": st.just({}), "definitions": DEFINITION | st.dictionaries(TEXT, JSON)}))
def test_definitions_in_snapshots(emulator: Emulator, document: object) -> None:
    """Anything as definitions of a snapshot is restored or refused with ValueError."""
    try:
        emulator.store.restore(document)
    except ValueError:
        pass
    finally:
        emulator.store.reset()


WORDS = st.lists(
    st.sampled_from(
        [
            *(
                "SELECT ",
                "TOP ",
                "3 ",
                "FROM ",
                "contact ",
                "WHERE ",
                "lastname ",
                "gendercode ",
                "createdon ",
                "= ",
                "<> ",
            ),
            *(
                "'x' ",
                "'2020-01-01' ",
                "IN (",
                ") ",
                "1",
                ", ",
                "AND ",
                "OR ",
                "NOT ",
                "IS NULL ",
                "LIKE ",
                "COUNT(*) ",
                ".",
            ),
            *("ORDER BY ", "AS ", "\x00", "(", "'"),
        ]
    )
    | TEXT,
    max_size=14,
).map("".join)
ELEMENTS = st.lists(
    st.sampled_from(
        [
            *(
                '<attribute name="lastname"/>',
                '<attribute name="x"/>',
                "<all-attributes/>",
                '<order attribute="createdon"/>',
            ),
            *("<filter>", "</filter>", '<filter type="or">', "</link-entity>", "<value>1</value>", "&lt;", "<x/>"),
            '<link-entity name="account" from="accountid" to="parentcustomerid" alias="a">',
            *(
                f'<condition attribute="{column}" operator="{operator}" value="{value}"/>'
                for column, operator, value in (
                    ("lastname", "like", "[z-a]"),
                    ("createdon", "gt", "2020"),
                    ("annualincome", "eq", "1e400"),
                    ("contactid", "in", "x"),
                )
            ),
        ]
    ),
    max_size=8,
).map("".join)


@brief
@given(words=WORDS, elements=ELEMENTS, attributes=st.sampled_from(["", 'top="1"', 'count="2" page="2"', 'page="0"']))
def test_statements(emulator: Emulator, words: str, elements: str, attributes: str) -> None:
    """Any words as SQL, and any elements as FetchXML, get an answer."""
    for option, text in (
        ("sql", words),
        ("sql", f"SELECT lastname FROM contact WHERE {words}"),  # noqa: S608 - goes to the reader under test
        ("fetchXml", words),
        (
            "fetchXml",
            f'<fetch {attributes}><entity name="contact"><attribute name="lastname"/>{elements}</entity></fetch>',
        ),
    ):
        fine(send(emulator, "GET", f"contacts?{option}={quote(text.encode('utf-8', 'replace'))}"))

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_kit import OURS, Surface, surface

from devstack.control import Fault

HOSTILE = [
    "'",
    "''",
    '"',
    "O'Brien",
    "' or 1 eq 1",
    "') or (1 eq 1",
    "') or statecode eq 0 or ('",
    "x' and contains(fullname,'a",
    "%27 or 1 eq 1",
    "%2527",
    "a%00b",
    "a+b&$filter=1 eq 1&c",
    "?$top=1#x",
    "a/b\\c",
    "\\",
    "\\u0027",
    "\r\n\r\nDELETE /contacts",
    "\r\n--batch_1--\r\n",
    "--batch_",
    "--changeset_1--",
    "a\r\nIf-Match: *\r\nb",
    "\n",
    "\t",
    "{0}${jndi:x}{{7*7}}",
    "<script>&amp;",
    "[1,2]",
    '["a","b"]',
    "a,b",
    "null",
    "true",
    "00000000-0000-0000-0000-000000000000",
    "é",
    "e\u0301",
    "ẞß",
    "\u202etxt.exe",
    "\u200b",
    "\ufeffx",
    "شارع",
    "\U0001f9d1\u200d\U0001f4bb",
    "x",
    "X",
    "x ",
    " x",
    "@odata.bind",
    "a" * 1024,
    "=cmd|' /C calc'!A0",
]
NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What Dataverse stores in no column, and answers with an error of its own."""

VICTIM = {"lastname": "Victim", "msemr_azurefhirid": "victim", "msemr_contacttype": 935000000}


def patient(number: int, value: str) -> dict[str, Any]:
    """Return a patient that holds a value wherever it fits."""
    return {
        "resourceType": "Patient",
        "id": f"h{number}",
        "identifier": [{"system": value, "value": f"by system {number}"}, {"system": "urn:v", "value": value}],
        "name": [{"family": value[:25], "given": ["x", value[:25]]}],
        "text": {"div": value},
        "photo": [{"title": value, "url": value}],
        value or "empty": value,
    }


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    """Return a transaction of these resources, which the FHIR server need not know."""
    entries = [{"resource": each, "request": {"method": "POST", "url": each["resourceType"]}} for each in resources]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


async def victim(it: Surface) -> dict[str, Any]:
    """Make a row that nobody in these tests means, and return all that Dataverse has about it."""
    answer = await it.org.post("/contacts", json=VICTIM)
    guid = answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")
    row = {"prefix_system": "urn:v", "prefix_value": "of the victim", "prefix_Patient@odata.bind": f"/contacts({guid})"}
    assert (await it.org.post("/prefix_patientidentifiers", json=row)).is_success
    it.forget_calls()
    return {"guid": guid, "rows": of_victim(it, guid)}


def of_victim(it: Surface, guid: str) -> list[dict[str, Any]]:
    """Return the victim's rows as they are now, versions included."""
    return [row for row in it.rows() if guid in (row.get("contactid"), row.get("prefix_patient"))]


def check_calls(it: Surface) -> None:
    """Assert that only the expected requests were made: values never become part of a path."""
    ids = r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}"
    guid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    expected = re.compile(
        rf"POST /api/data/v9\.2/\$batch|POST /|GET /metadata|GET /{ids}|PUT /{ids}|GET /api/data/v9\.2/\w+\({guid}\)\?.*"
        r"|GET /api/data/v9\.2/sdkmessagefilters\?[\w$=&()%',.-]*|POST /api/data/v9\.2/\w+/[\w.]+Multiple\?tag=[\w-]*"
    )
    assert [call for call in it.calls() if not expected.fullmatch(call)] == []


async def carried(it: Surface, values: Sequence[str]) -> None:
    """Post a patient for each value, twice, and assert that the rows hold exactly these values."""
    mark = await victim(it)
    document = bundle(*(patient(number, value) for number, value in enumerate(values)))
    bad = {number for number, value in enumerate(values) if NO_XML.search(value)}
    for result in ("created", "unchanged"):
        outcome = (await it.post(document)).json()
        for number, each in enumerate(outcome["entries"]):
            assert each["result"] == ("failed" if number in bad else result), (values[number], each)
            codes = [issue["code"] for issue in each["issues"] if issue["severity"] == "error"]
            assert codes == (["dataverse-0x80040278"] if number in bad else [])
    check_calls(it)
    for number, value in enumerate(values):
        if number in bad:
            assert all(row["msemr_azurefhirid"] != f"h{number}" for row in it.rows("contact"))
            continue
        (row,) = [row for row in it.rows("contact") if row["msemr_azurefhirid"] == f"h{number}"]
        assert (row["lastname"] or "", row["middlename"] or "") == (value[:25], value[:25])
        children = [row2 for row2 in it.rows("prefix_patientidentifier") if row2["prefix_patient"] == row["contactid"]]
        pairs = {(child["prefix_system"] or "", child["prefix_value"]) for child in children}
        expected = {(value, f"by system {number}"), (f"{OURS}patient.id", row["contactid"])}
        assert pairs == expected | ({("urn:v", value)} if value else set())
        assert len(children) == len(pairs)
    assert len(it.rows("contact")) == len(values) - len(bad) + 1
    assert of_victim(it, mark["guid"]) == mark["rows"]


async def referred(it: Surface, values: Sequence[str]) -> None:
    """Refer to each patient by its identifier, and assert that the reference means that patient or none."""
    guids = {row["msemr_azurefhirid"]: row["contactid"] for row in it.rows("contact")}
    visits = [
        {
            "resourceType": "Encounter",
            "id": f"{how}{number}",
            "status": "finished",
            "class": {"code": "AMB"},
            "type": [{"text": value}],
            "priority": {"coding": [{"code": value[:20], "display": value}]},
            "subject": subject,
        }
        for number, value in enumerate(values)
        for how, subject in (
            ("logical", {"type": "Patient", "identifier": {"system": "urn:v", "value": value}}),
            ("token", {"reference": f"Patient?identifier=urn:v|{value}"}),
            ("text", {"reference": f"Patient/{value}"}),
            ("url", {"reference": value}),
        )
    ]
    outcome = (await it.post(bundle(*visits))).json()
    check_calls(it)
    results = {each["resource"].partition("/")[2]: each for each in outcome["entries"]}
    rows = {row["msemr_azurefhirid"]: row for row in it.rows("msemr_encounter")}
    for name, each in results.items():
        how, number = re.fullmatch(r"([a-z]+)(\d+)", name).groups()  # type: ignore[union-attr]  # made above
        codes = {issue["code"] for issue in each["issues"]}
        if each["result"] == "failed":
            assert codes & {"unresolved-reference", "invalid-element", "too-long"} or NO_XML.search(
                values[int(number)]
            ), each
            assert name not in rows
            continue
        meant = rows[name]["msemr_encounterpatientidentifier"]
        assert meant in ((None,) if how in ("text", "url") else (None, guids[f"h{number}"]))
        assert meant or "unresolvable-reference" in codes
    for number, value in enumerate(values):
        if (
            value and not re.search(r"[\x00-\x1f\x7f]", value) and not NO_XML.search(value)
        ):  # a logical reference can hold any other text
            assert rows[f"logical{number}"]["msemr_encounterpatientidentifier"] == guids[f"h{number}"], value
    concepts = {row["msemr_code"] for row in it.rows("msemr_codeableconcept")}
    assert concepts <= {value[:20] for value in values}


async def test_the_known_tricks_are_just_text(tmp_path: Path) -> None:
    """Quotes, batch boundaries, encoded and bidirectional text come out of the rows as they went in, and touch no other."""
    async with surface(tmp_path, webhook=False) as it:
        await carried(it, HOSTILE)
        await referred(it, HOSTILE)


TEXT = st.text(
    st.one_of(
        st.sampled_from(list("'\"\\%$&=+#?/,;:()[]{}<>|@- \r\n\t\u00a0\u0301\u202e\ufeff\U0001f600")),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8, unique=True))
async def test_any_text_is_just_text(values: list[str]) -> None:
    """For any text: the rows hold exactly it, a second time nothing changes, and references by it mean its own patient."""
    with tempfile.TemporaryDirectory() as folder:
        async with surface(Path(folder), webhook=False) as it:
            await carried(it, values)
            await referred(it, values)


ILLEGAL_IDS = [value for value in HOSTILE if not re.fullmatch(r"[A-Za-z0-9.-]{1,64}", value)] + [
    ".",
    "..",
    "x" * 65,
    "",
    "x\n",
]


async def test_an_id_that_is_none_is_refused_unread(tmp_path: Path) -> None:
    """Ids become parts of URLs and keys, so one that FHIR does not allow, and `.` and `..`, fails without a call."""
    async with surface(tmp_path, webhook=False) as it:
        resources = [{"resourceType": "Patient", "id": value} for value in ILLEGAL_IDS]
        answer = await it.post(
            {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": r} for r in resources]}
        )
        assert answer.status_code == 422
        assert [[issue["code"] for issue in each["issues"]] for each in answer.json()["entries"]] == [
            ["invalid-id"] for _ in ILLEGAL_IDS
        ]
        assert it.calls() == []


async def test_a_row_that_claims_an_illegal_id_reaches_no_url(tmp_path: Path) -> None:
    """A user can type anything into the id column: an event of such a row is a dead letter, not a request."""
    async with surface(tmp_path) as it:
        for value in ("..", ".", "a/b", "../metadata", "x?y", "x#y", "%2e%2e", "a b", "metadata/x"):
            row = {"lastname": "Typed", "msemr_azurefhirid": value, "msemr_contacttype": 935000000}
            assert (await it.org.post("/contacts", json=row)).is_success
        await it.settle()
        assert it.fhir.calls == []
        assert {each["code"] for each in await it.relay.dead_letters.list()} == {"invalid-id"}


async def test_ids_that_differ_in_case_alone_are_two_patients(tmp_path: Path) -> None:
    """SQL ignores case and trailing blanks, FHIR does not: neither row is taken for the other's."""
    async with surface(tmp_path, webhook=False) as it:
        two = [{"resourceType": "Patient", "id": each, "name": [{"family": each}]} for each in ("abc", "ABC")]
        await it.post(bundle(two[0]))
        assert (await it.post(bundle(*two))).status_code == 200
        found = {row["msemr_azurefhirid"]: row["lastname"] for row in it.rows("contact")}
        assert found == {"abc": "abc", "ABC": "ABC"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"name": [{"family": "x\u0000y"}]}, "invalid-element"),
        ({"identifier": [{"system": "urn:v", "value": "x\u0000y"}]}, "invalid-element"),
        ({"identifier": [{"system": "x\u0000", "value": "1"}]}, "invalid-element"),
        ({"name": [{"family": "x" * 51}]}, "too-long"),
        ({"name": [{"family": "x" * 65_536}]}, "too-long"),
        ({"name": [{"family": "\U0001f600" * 26}]}, "too-long"),
        ({"identifier": [{"system": "urn:v", "value": "x" * 65_536}]}, "too-long"),
        ({"identifier": [{"system": "'" * 1025, "value": "1"}]}, "too-long"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_what_a_column_cannot_hold_fails_by_code(tmp_path: Path, changed: dict[str, Any], code: str) -> None:
    """Nothing is cut or cleaned in silence: the entry fails with a code, and nothing of it is written."""
    async with surface(tmp_path, webhook=False) as it:
        answer = await it.post(bundle({"resourceType": "Patient", "id": "p1"} | changed))
        assert answer.status_code == 422
        assert code in [
            issue["code"] for issue in answer.json()["entries"][0]["issues"] if issue["severity"] == "error"
        ]
        assert it.calls() == []
        assert it.rows() == []


@pytest.mark.parametrize("version", ['1"\r\nIf-Match: *\r\nX: "', "\U0001f600", "*", '"', "", " 1", "x" * 65, "1\n"])
async def test_a_version_is_no_way_into_a_header(tmp_path: Path, version: str) -> None:
    """With trusted bodies `meta.versionId` guards the PUT: one that is no version is not used, the server is asked."""
    async with surface(tmp_path, webhook=False, trust_sent_bodies="true") as it:
        resource = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Alder"}]}
        await it.put(resource)
        answer = await it.post(bundle(resource | {"meta": {"versionId": version}}))
        assert answer.status_code == 200, answer.text
        assert it.calls()[-2:] == ["GET /Patient/p1", "PUT /Patient/p1"]
        read = await it.read("Patient", "p1")
        assert (read["meta"]["versionId"], [each["system"] for each in read["identifier"]]) == (
            "2",
            [f"{OURS}patient.id"],
        )


URLS = [
    "https://evil.example/Patient/h0",
    "//evil.example/Patient/h0",
    "http://fhir@evil.example/Patient/h0",
    "http://fhir:80@evil.example/Patient/h0",
    "file:///etc/passwd",
    "http://169.254.169.254/metadata/identity",
    "http://fhir.evil.example/Patient/h0",
    "http://fhir/../Patient/h0",
    "Patient/../Practitioner/h0",
    "Patient/h0/../h1",
    "Patient/h0?x=y",
    "Patient/h0#x",
    "Patient/h0\r\nHost: evil.example",
    "javascript:Patient/h0",
    "/Patient/h0",
]


async def test_no_url_of_a_payload_is_ever_followed(tmp_path: Path) -> None:
    """References, fullUrls and next links are data: no host of theirs is called, and none means a row."""
    async with surface(tmp_path, webhook=False) as it:
        await it.post(bundle({"resourceType": "Patient", "id": "h0"}))
        it.forget_calls()
        document = bundle(
            *(
                {"resourceType": "Encounter", "id": f"e{number}", "status": "finished", "subject": {"reference": url}}
                for number, url in enumerate(URLS)
            )
        )
        for entry, url in zip(document["entry"], URLS, strict=True):
            entry["fullUrl"] = f"{url}-it"
        document["link"] = [{"relation": "next", "url": "https://evil.example/next"}]
        outcome = (await it.post(json.dumps(document).encode())).json()
        assert {each["result"] for each in outcome["entries"]} == {"created"}
        assert {row["msemr_encounterpatientidentifier"] for row in it.rows("msemr_encounter")} == {None}
        check_calls(it)
        assert "evil" not in str(it.calls())


@pytest.mark.parametrize(
    "body", [{"resourceType": "Patient", "id": "p2"}, {"resourceType": "Group", "id": "p1"}, [], "x"], ids=str
)
async def test_a_server_that_answers_with_another_resource_is_not_believed(tmp_path: Path, body: Any) -> None:
    """A read must be of what was asked for: anything else is tried again later, and never put back."""
    async with surface(tmp_path, webhook=False) as it:
        resource = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Alder"}]}
        await it.put(resource)
        headers = {"ETag": 'W/"1"'}
        it.fhir.faults.append(
            Fault(method="GET", path="^/Patient/p1", status=200, headers=headers, body=json.dumps(body))
        )
        (entry,) = (await it.post(bundle(resource))).json()["entries"]
        assert (entry["result"], entry["writeback"]) == ("created", "queued")
        assert [call for call in it.calls() if call.startswith("PUT")] == []
        await it.settle()
        assert (await it.read("Patient", "p1"))["identifier"][0]["value"] == entry["row"]["id"]

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msind_kit import (
    CONTEXT,
    CREATED,
    ERROR,
    EXPANDED,
    RESULT,
    SUCCESS,
    UPDATED,
    bundle,
    call,
    on_maps,
    results,
    upsert,
)
from surface_kit import Flaky, Surface, surface

from devstack.control import Fault

ALDER = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "1"}],
    "name": [{"use": "official", "family": "Alder"}],
}
DOCTOR = {"resourceType": "Practitioner", "id": "d1", "name": [{"use": "official", "family": "Birch"}]}
VISIT = {
    "resourceType": "Encounter",
    "id": "e1",
    "status": "finished",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/p1"},
}
ALWAYS = 0
API = "msind_UpsertBundle"


def check_shape(body: Mapping[str, Any]) -> None:
    """Assert every member of an answer, its place and its type."""
    assert list(body) == ["@odata.context", "msind_Status", "msind_StatusDetail", "msind_Results"]
    assert body["@odata.context"] == f"{CONTEXT}msind_UpsertBundleResponse"
    assert type(body["msind_Status"]) is bool
    assert isinstance(body["msind_StatusDetail"], str)
    for each in body["msind_Results"]:
        assert list(each) == RESULT
        assert each["msind_requestactionperformed"] in (CREATED, UPDATED, EXPANDED, None)
        assert isinstance(each["msind_requeststatusdetail"], str)
    assert body["msind_Status"] is all(each["msind_requeststatus"] == SUCCESS for each in body["msind_Results"])


def told(body: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return type, table, action and status of each result."""
    names = ("msind_fhirresourcetype", "msind_resultingrecordtype", RESULT[4], RESULT[5])
    return [tuple(each[name] for name in names) for each in body["msind_Results"]]


async def test_each_record_has_a_result(tmp_path: Path) -> None:
    """First the resource's own row, then one result for each row of its expansions under the resource's id and GUID."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        answer = await upsert(it, bundle(ALDER), tag="first-load")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["odata-version"] == "4.0"
        body = answer.json()
        check_shape(body)
        (contact,) = it.rows("contact")
        expanded = {
            "msind_fhirresourceid": "p1",
            "msind_fhirresourcetype": "Patient",
            "msind_resultingrecordid": contact["contactid"],
            "msind_resultingrecordtype": "prefix_patientidentifier",
            "msind_requestactionperformed": EXPANDED,
            "msind_requeststatus": SUCCESS,
            "msind_requeststatusdetail": "The record was created successfully.",
        }
        root = expanded | {"msind_resultingrecordtype": "contact", "msind_requestactionperformed": CREATED}
        assert body["msind_Results"] == [root, expanded, expanded]  # the record number and the Dynamics identifier
        assert body["msind_StatusDetail"] == "The bundle was processed successfully."
        identifiers = (await it.read("Patient", "p1"))["identifier"]
        assert contact["contactid"] in {each["value"] for each in identifiers}


SENT = [
    ("batch", "PUT"),
    ("batch", "POST"),
    ("batch-response", ""),
    ("transaction", "PUT"),
    ("transaction-response", ""),
    ("collection", "PUT"),
]


@pytest.mark.parametrize(("kind", "method"), SENT, ids=[f"{kind}-{method}" for kind, method in SENT])
async def test_the_way_a_bundle_is_made_does_not_matter(tmp_path: Path, kind: str, method: str) -> None:
    """Types and methods that Microsoft takes, and those that it refuses, end in the same records."""
    async with surface(tmp_path, webhook=False) as it:
        answer = await upsert(it, bundle(VISIT, ALDER, kind=kind, method=method))
        assert answer.json()["msind_Status"] is True, answer.text
        assert [each for each in told(answer.json()) if each[2] != EXPANDED] == [
            ("Encounter", "msemr_encounter", CREATED, SUCCESS),
            ("Patient", "contact", CREATED, SUCCESS),
        ]


async def test_a_record_that_is_there_is_updated(tmp_path: Path) -> None:
    """Sent again, changed or not, the same records are `updated`; what did not have to change says so in its detail."""
    async with surface(tmp_path, webhook=False) as it:
        await it.put(ALDER, DOCTOR)
        first = await results(it, ALDER, DOCTOR)
        second = await results(it, ALDER | {"gender": "female"}, DOCTOR)
        assert [each["msind_resultingrecordid"] for each in first] == [
            each["msind_resultingrecordid"] for each in second
        ]
        roots = [each for each in second if each[RESULT[4]] != EXPANDED]
        assert [each[RESULT[4]] for each in roots] == [UPDATED, UPDATED]
        assert [each["msind_requeststatusdetail"] for each in roots] == [
            "The record was updated successfully.",
            "The record is up to date: nothing had to change.",
        ]


async def test_one_bad_record_makes_the_status_false_and_stops_no_other(tmp_path: Path) -> None:
    """HTTP 200 all the same; the result says what is wrong, and nothing of that resource was written."""
    lost = VISIT | {"subject": {"reference": "Patient/nobody"}}
    async with surface(tmp_path, webhook=False) as it:
        answer = await upsert(it, bundle(ALDER, lost))
        assert answer.status_code == 200
        body = answer.json()
        check_shape(body)
        assert body["msind_Status"] is False
        assert body["msind_StatusDetail"] == (
            "Warning: There were records that encountered errors. Inspect the individual records error details."
        )
        bad = body["msind_Results"][-1]
        assert bad["msind_requeststatusdetail"].startswith("Error: ")
        assert "(unresolved-reference at " in bad["msind_requeststatusdetail"]
        assert bad | {"msind_requeststatusdetail": ""} == {
            "msind_fhirresourceid": "e1",
            "msind_fhirresourcetype": "Encounter",
            "msind_resultingrecordid": None,
            "msind_resultingrecordtype": "msemr_encounter",
            "msind_requestactionperformed": None,
            "msind_requeststatus": ERROR,
            "msind_requeststatusdetail": "",
        }
        assert len(it.rows("contact")) == 1
        assert it.rows("msemr_encounter") == []


async def test_a_map_that_is_missing_or_disabled_is_an_error(tmp_path: Path) -> None:
    """The resource is not written and the detail says what to do; enabled and sent again, it is."""
    off = {"encounter.yaml": {"": "\ndisabled: true\n"}}
    unmapped = {"resourceType": "Provenance", "id": "v1", "target": []}
    async with on_maps(tmp_path / "off", off) as it:
        body = (await upsert(it, bundle(ALDER, VISIT, unmapped))).json()
        check_shape(body)
        assert body["msind_Status"] is False
        visit, other = body["msind_Results"][-2:]
        assert visit["msind_requeststatusdetail"] == (
            "Error: The entity map for Encounter is disabled. Enable the map, then resubmit the bundle to re-process."
        )
        assert other["msind_requeststatusdetail"] == (
            "Error: There is no entity map for Provenance. Add the map, then resubmit the bundle to re-process."
        )
        assert told(body)[-2:] == [
            ("Encounter", "msemr_encounter", None, ERROR),
            ("Provenance", None, None, ERROR),
        ]
    async with surface(tmp_path / "on", webhook=False) as it:
        await results(it, ALDER, VISIT)


async def test_a_disabled_expansion_fails_while_its_root_is_written(tmp_path: Path) -> None:
    """As with Microsoft, the root is created and has status error, and the expansion has a result of its own."""
    off = {"patient.yaml": {"  link:\n    table:": "  link:\n    disabled: true\n    table:"}}
    linked = ALDER | {"link": [{"other": {"reference": "Patient/p2"}, "type": "seealso"}]}
    async with on_maps(tmp_path, off) as it:
        await it.put(linked)
        body = (await upsert(it, bundle(linked))).json()
        check_shape(body)
        root, *_, failed = body["msind_Results"]
        created, error = root["msind_requeststatusdetail"].split("\r\n")
        assert created == "The record was created successfully."
        assert error.startswith("Error: The expansion for this resource failed")
        assert told(body)[0] == ("Patient", "contact", CREATED, ERROR)
        assert told(body)[-1] == ("Patient", "msemr_contactlink", EXPANDED, ERROR)
        assert failed["msind_resultingrecordid"] == root["msind_resultingrecordid"] is not None
        assert "Enable the map, then resubmit the bundle to re-process." in failed["msind_requeststatusdetail"]
        assert len(it.rows("contact")) == 1


GOOD = json.dumps(bundle(ALDER))
REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (b"", "truncated"),
    "not JSON": (b"msind_JSON=x", "not-json"),
    "no object": ([GOOD], "invalid-parameter"),
    "no parameter": ({}, "missing-parameter"),
    "null": ({"msind_JSON": None}, "missing-parameter"),
    "a bundle that is no text": ({"msind_JSON": bundle(ALDER)}, "invalid-parameter"),
    "a tag that is no text": ({"msind_JSON": GOOD, "msind_BundleTag": 7}, "invalid-parameter"),
    "a parameter that there is not": ({"msind_JSON": GOOD, "msind_Bundletag": "x"}, "unknown-parameter"),
    "a parameter twice": (b'{"msind_JSON":"","msind_JSON":""}', "duplicate-member"),
    "a text that is not JSON": ({"msind_JSON": "<Bundle/>"}, "not-json"),
    "a text that is empty": ({"msind_JSON": ""}, "truncated"),
    "a text that is cut": ({"msind_JSON": GOOD[:-9]}, "truncated"),
    "a text that is not FHIR": ({"msind_JSON": '{"hello": "world"}'}, "not-fhir"),
    "an unknown type of bundle": ({"msind_JSON": '{"resourceType":"Bundle","type":"x"}'}, "unknown-bundle-type"),
    "a number that is none": ({"msind_JSON": '{"resourceType":"Bundle","x":NaN}'}, "not-a-number"),
    "half of a pair": ({"msind_JSON": '{"resourceType":"Bundle","x":"\\ud800"}'}, "surrogate"),
    "too deep": ({"msind_JSON": "[" * 10_000}, "too-deep"),
    "too many entries": ({"msind_JSON": json.dumps(bundle(ALDER, DOCTOR, VISIT))}, "too-many-entries"),
    "too large": (b" " * 5000, "too-large"),
    "a text too long": (
        {"msind_JSON": json.dumps(bundle(ALDER | {"text": {"div": "x" * 2001}}))},
        "string-too-long",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_taken_is_400_with_an_odata_error(tmp_path: Path, name: str) -> None:
    """Code and message in the shape that every custom API has for them; nothing is kept, asked or written."""
    body, code = REFUSED[name]
    limits = {"max_entries": "2", "max_string": "2000"} | ({"max_body_bytes": "4000"} if name == "too large" else {})
    async with surface(tmp_path, webhook=False, settings=limits) as it:
        answer = await call(it, API, body)
        assert answer.status_code == 400, answer.text
        assert (list(answer.json()), list(answer.json()["error"])) == (["error"], ["code", "message"])
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]
        await it.settle()
        assert it.calls() == []
        assert await it.kept() == []


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Encoding": "br"}, {"Content-Type": "application/json; charset=x"}],
)
async def test_headers_that_are_not_understood_are_400_too(tmp_path: Path, headers: dict[str, str]) -> None:
    """One status for all that is to be corrected by the caller."""
    async with surface(tmp_path, webhook=False) as it:
        answer = await call(it, API, {"msind_JSON": GOOD}, **headers)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])


async def test_what_odata_clients_add_is_passed_over(tmp_path: Path) -> None:
    """Annotations, null for an optional parameter, and OData's parameters of the content type."""
    sent = {"@odata.type": "#x", "msind_JSON@odata.type": "#String", "msind_JSON": GOOD, "msind_BundleTag": None}
    kind = "application/json; odata.metadata=minimal; charset=utf-8"
    async with surface(tmp_path, webhook=False) as it:
        answer = await call(it, API, sent, **{"Content-Type": kind})
        assert answer.json()["msind_Status"] is True, answer.text


async def test_the_caller_waits_however_large_the_bundle_is(tmp_path: Path) -> None:
    """RELAY_ASYNC_OVER_BYTES puts other routes off; here the answer has the results, the size in one text or not."""
    photo = ALDER | {"photo": [{"data": "A" * 300_000}] * 4}
    async with surface(tmp_path, webhook=False, async_over_bytes="100") as it:
        await results(it, photo)
        assert len(it.rows("contact")) == 1


async def test_dataverse_away_is_503_and_goes_on_by_itself(tmp_path: Path) -> None:
    """The caller is told to send it again; sent again or not, nothing is lost and nothing doubled."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        it.dataverse.faults.append(Fault(path="/api/data/", times=ALWAYS))
        answer = await upsert(it, bundle(ALDER))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not-finished"
        assert int(answer.headers["Retry-After"]) > 0
        assert (await it.http.get(answer.headers["Content-Location"])).status_code == 202
        it.dataverse.faults.clear()
        again = await upsert(it, bundle(ALDER))
        assert (again.status_code, again.json()["msind_Status"]) == (200, True)
        await it.settle(within=timedelta(days=1))
        assert [each["result"] for each in (await it.outcome(answer))["entries"]] == ["unchanged"]
        assert len(it.rows("contact")) == 1


async def test_without_a_store_nothing_is_done(tmp_path: Path) -> None:
    """503 with Retry-After in the shape of OData; neither side hears of the bundle."""
    async with surface(tmp_path, wrap=lambda store: Flaky(store, at=-1)) as it:
        answer = await upsert(it, bundle(ALDER))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store-unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert "Content-Location" not in answer.headers
        assert str(tmp_path) not in answer.text
        assert it.calls() == []


async def test_a_bundle_that_fails_as_a_whole_says_why(tmp_path: Path) -> None:
    """A right that is missing is no error of any record: there are no results, and the status detail names the code."""
    refused = {"error": {"code": "0x80040220", "message": "lacks prvCreateContact"}}
    async with surface(tmp_path) as it:
        it.dataverse.faults.append(Fault(path=r"\$batch", status=403, body=refused))
        answer = await upsert(it, bundle(ALDER))
        body = answer.json()
        check_shape(body | {"msind_Status": True})
        assert (answer.status_code, body["msind_Status"], body["msind_Results"]) == (200, False, [])
        assert body["msind_StatusDetail"].startswith("Error: ")
        assert "0x80040220" in body["msind_StatusDetail"]
        assert "prvCreateContact" not in answer.text


async def test_the_fhir_server_away_is_not_the_callers_business(tmp_path: Path) -> None:
    """The records are written and the status is true; the Dynamics identifier follows by itself, and the detail says so."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        it.fhir.faults.append(Fault(times=ALWAYS))
        (root, *_) = await results(it, ALDER)
        assert "still to be written" in root["msind_requeststatusdetail"]
        it.fhir.faults.clear()
        await it.settle()
        assert root["msind_resultingrecordid"] in str(await it.read("Patient", "p1"))


async def test_a_resource_that_is_not_on_the_fhir_server_is_no_failure(tmp_path: Path) -> None:
    """Microsoft's API wants no FHIR server and does not read the method: the records are written, the status is true."""
    async with surface(tmp_path, webhook=False) as it:
        root, *_ = await results(it, ALDER)
        created, told_of = root["msind_requeststatusdetail"].split("\r\n")
        assert created == "The record was created successfully."
        assert told_of.startswith("Information: ")


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_without_a_key_nothing_is_told(tmp_path: Path, key: str) -> None:
    """Both functions need a key of their own, as the host checks it."""
    keys = {"msind_upsert_bundle": ["one"], "msind_retrieve_bundle": ["two"]}
    async with surface(tmp_path, webhook=False, keys=keys) as it:
        for name in ("msind_UpsertBundle", "msind_RetrieveBundle"):
            assert (await call(it, name, {}, **{"x-functions-key": key})).status_code == 401
        assert (await call(it, API, {}, **{"x-functions-key": "one"})).status_code == 400
        assert (await call(it, API, {}, **{"x-functions-key": "two"})).status_code == 401


HARMLESS = ["first-load", "2026-06-01T10:00:00", "x" * 100, "a.b_c:d"]
DOUBTFUL = ["Jane Alder", "x" * 101, "a\nb", "", "ünder", "a/b", "kanari@example.org"]


async def test_a_tag_is_logged_only_if_it_is_harmless(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tag marks the bundle in the log beside its id; a text that could be anything is taken and kept nowhere."""
    caplog.set_level(logging.INFO)
    async with surface(tmp_path, webhook=False) as it:
        for tag in [*HARMLESS, *DOUBTFUL]:
            caplog.clear()
            before = set(await it.kept())
            assert (await upsert(it, bundle(ALDER), tag)).json()["msind_Status"] is True
            (kept,) = set(await it.kept()) - before
            job = kept.removeprefix("relay-outcomes/").removesuffix(".json")
            lines = [each.getMessage() for each in caplog.records if "tag" in each.getMessage()]
            assert lines == ([f"bundle {job} was sent with the tag {tag} and answered 200"] if tag in HARMLESS else [])
            if tag in DOUBTFUL and tag:
                assert tag not in caplog.text
                assert tag.encode() not in _files(it)


def _files(it: Surface) -> bytes:
    return b"".join(each.read_bytes() for each in it.store.folder.rglob("*") if each.is_file())

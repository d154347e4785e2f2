from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from surface_kit import BUNDLES, Surface, surface

PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Alder"}]}
DEEP = 10_000


class Case(NamedTuple):
    """A body, how it is sent, and the answer: status and code of the refusal."""

    body: bytes | Callable[[], bytes]
    status: int
    code: str
    headers: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}


def file(name: str) -> bytes:
    """Read one of the small inputs."""
    return (BUNDLES / f"{name}.json").read_bytes()


def patient(**more: Any) -> bytes:
    """Write a patient."""
    return json.dumps(PATIENT | more).encode()


def bundle(*resources: Mapping[str, Any], method: str = "PUT") -> bytes:
    """Write a transaction of these resources."""
    entries = [
        {"resource": each, "request": {"method": method, "url": f"{each['resourceType']}/{each['id']}"}}
        for each in resources
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


REFUSED = {
    "nothing": Case(b"", 400, "truncated"),
    "only blanks": Case(b" \r\n", 400, "truncated"),
    "not JSON": Case(b"<Patient xmlns='http://hl7.org/fhir'/>", 400, "not-json"),
    "JSON but no object": Case(b'"Patient"', 400, "not-fhir"),
    "a list": Case(file("not_a_resource"), 400, "not-fhir"),
    "JSON but not FHIR": Case(b'{"hello": "world"}', 400, "not-fhir"),
    "a type that is no type": Case(b'{"resourceType": "patient/../x", "id": "1"}', 400, "not-fhir"),
    "no type of bundle": Case(b'{"resourceType": "Bundle"}', 400, "unknown-bundle-type"),
    "an unknown type of bundle": Case(file("unknown_bundle_type"), 400, "unknown-bundle-type"),
    "entry is no array": Case(file("entry_not_an_array"), 400, "not-fhir"),
    "cut off": Case(file("truncated"), 400, "truncated"),
    "a comma too many": Case(file("trailing_comma"), 400, "not-json"),
    "two documents": Case(file("trailing_garbage"), 400, "not-json"),
    "a member twice": Case(file("duplicate_member"), 400, "duplicate-member"),
    "NaN": Case(file("nan"), 400, "not-a-number"),
    "-Infinity": Case(file("infinity"), 400, "not-a-number"),
    "a number that fills memory": Case(file("number_that_fills_memory"), 400, "number-out-of-range"),
    "a number of 5000 digits": Case(
        b'{"resourceType":"Patient","id":"p1","x":%s}' % (b"9" * 5000), 400, "number-out-of-range"
    ),
    "half of a surrogate pair": Case(file("lone_surrogate"), 400, "surrogate"),
    "Latin-1": Case(file("latin_1"), 400, "encoding"),
    "UTF-16": Case(patient().decode().encode("utf-16"), 400, "encoding"),
    "10,000 arrays deep": Case(b'{"resourceType":"Patient","x":' + b"[" * DEEP + b"]" * DEEP + b"}", 400, "too-deep"),
    "10,000 objects deep": Case(b'{"x":' * DEEP + b"1" + b"}" * DEEP, 400, "too-deep"),
    "10,000 deep and never closed": Case(b'{"x":[' * DEEP, 400, "too-deep"),
    "one level too deep": Case(b'{"resourceType":"Patient","x":[[[]]]}', 400, "too-deep", settings={"max_depth": "3"}),
    "a string too long": Case(patient(x="x" * 101), 400, "string-too-long", settings={"max_string": "100"}),
    "a body too large": Case(patient(), 413, "too-large", settings={"max_body_bytes": "60"}),
    "too many entries": Case(
        bundle(PATIENT, PATIENT | {"id": "p2"}), 413, "too-many-entries", settings={"max_entries": "1"}
    ),
    "gzip that is none": Case(patient(), 400, "encoding", {"Content-Encoding": "gzip"}),
    "gzip cut off": Case(gzip.compress(patient())[:-9], 400, "truncated", {"Content-Encoding": "gzip"}),
    "gzip cut off, not announced": Case(gzip.compress(patient())[:-9], 400, "truncated"),
    "gzip damaged": Case(
        lambda: gzip.compress(patient())[:-8] + b"\xff" * 8, 400, "encoding", {"Content-Encoding": "gzip"}
    ),
    "a gzip bomb": Case(
        lambda: gzip.compress(b'{"x":"' + b"0" * 50_000_000 + b'"}'), 413, "ratio", {"Content-Encoding": "gzip"}
    ),
    "gzip beyond the size": Case(
        lambda: gzip.compress(b" " * 3000 + patient()),
        413,
        "too-large",
        {"Content-Encoding": "gzip"},
        {"max_body_bytes": "2000"},
    ),
    "brotli": Case(patient(), 415, "encoding", {"Content-Encoding": "br"}),
    "XML": Case(b"<Patient/>", 415, "wrong-type", {"Content-Type": "application/fhir+xml"}),
    "a form": Case(b"a=b", 415, "wrong-type", {"Content-Type": "application/x-www-form-urlencoded"}),
    "multipart": Case(b"--x", 415, "wrong-type", {"Content-Type": "multipart/mixed; boundary=x"}),
    "a charset": Case(patient(), 415, "encoding", {"Content-Type": "application/json; charset=utf-16"}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_taken_is_refused_whole(tmp_path: Path, name: str) -> None:
    """A refusal has the stated status and an OperationOutcome with the stated code; nothing is kept, asked or written."""
    case = REFUSED[name]
    body = case.body if isinstance(case.body, bytes) else case.body()
    async with surface(tmp_path, webhook=False, settings=case.settings) as it:
        before = it.snapshot()
        answer = await it.post(body, **case.headers)
        assert answer.status_code == case.status, answer.text
        issue = outcome_issue(answer)
        assert issue["details"]["text"] == case.code
        assert issue["severity"] == "error"
        assert issue["diagnostics"]
        await nothing_happened(it, before)


async def nothing_happened(it: Surface, before: Mapping[str, Any]) -> None:
    """Neither side was asked anything or changed, and the relay keeps nothing."""
    await it.settle()
    assert it.calls() == []
    assert it.snapshot() == before
    assert await it.kept() == []


def outcome_issue(answer: httpx.Response) -> dict[str, Any]:
    """Return the one issue of an OperationOutcome."""
    assert answer.headers["content-type"] == "application/fhir+json"
    document = answer.json()
    assert document["resourceType"] == "OperationOutcome"
    (issue,) = document["issue"]
    assert set(issue) == {"severity", "code", "details", "diagnostics"}
    return dict(issue)


Verdicts = list[tuple[str, str]]

# What becomes of each entry: its result, and the code that says why unless it was created.
CARRIED: dict[str, tuple[bytes, int, Verdicts]] = {
    "an empty bundle": (file("empty"), 200, []),
    "a byte order mark": (file("byte_order_mark"), 200, [("created", "")]),
    "gzip, not announced": (gzip.compress(patient()), 200, [("created", "")]),
    "a surrogate pair": (file("surrogate_pair"), 200, [("created", "")]),
    "one id twice": (
        file("duplicate_ids"),
        207,
        [("failed", "duplicate-id"), ("created", ""), ("failed", "duplicate-id")],
    ),
    "one id twice and nothing else": (file("true_is_not_one"), 422, [("failed", "duplicate-id")] * 2),
    "one resource twice": (file("identical_twice"), 200, [("created", ""), ("skipped", "same-as-entry-0")]),
    "entry null": (file("null_entry"), 207, [("failed", "not-a-resource"), ("created", "")]),
    "no resource": (file("no_resource"), 422, [("failed", "not-a-resource")] * 4),
    "a part of a resource": (file("subsetted"), 207, [("failed", "subsetted"), ("created", "")]),
    "a bundle of parts": (file("subsetted_bundle"), 422, [("failed", "subsetted")]),
    "no id": (file("no_id"), 422, [("failed", "no-id")]),
    "illegal ids": (file("invalid_id"), 422, [("failed", "invalid-id")] * 5),
    "an id too long for its column": (file("id_of_64_characters"), 422, [("failed", "id-too-long")]),
    "DELETE": (file("delete_entry"), 207, [("skipped", "unknown-on-server"), ("failed", "unsupported")]),
    "PATCH": (file("patch_entry"), 422, [("failed", "unsupported")]),
    "GET and HEAD": (file("get_entries"), 200, [("skipped", "read")] * 2),
    "an unknown method": (file("unknown_method"), 422, [("failed", "invalid-element")] * 3),
    "a URL of another resource": (file("put_url_disagrees"), 422, [("failed", "invalid-element")] * 3),
    "a bundle in a bundle": (file("nested_bundle"), 422, [("failed", "unsupported")]),
    "a message": (file("message"), 200, [("skipped", "no-map"), ("created", "")]),
    "types without a map": (
        bundle({"resourceType": "Immunization", "id": "i"}, {"resourceType": "Provenance", "id": "v", "target": []}),
        200,
        [("skipped", "no-map")] * 2,
    ),
    "a type that FHIR does not have": (bundle({"resourceType": "Parcel", "id": "x"}), 200, [("skipped", "no-map")]),
    "a reference to nothing": (file("missing_reference"), 422, [("failed", "unresolved-reference")]),
    "a reference to nothing beside others": (
        bundle(
            PATIENT,
            {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}}
            | {"subject": {"reference": "Patient/nobody"}},
            {"resourceType": "CarePlan", "id": "c", "status": "active", "intent": "plan"}
            | {"title": "t", "subject": {"reference": "Patient/p1"}, "encounter": {"reference": "Encounter/e"}},
        ),
        207,
        [("created", ""), ("failed", "unresolved-reference"), ("failed", "unresolved-reference")],
    ),
    "elements of the wrong kind": (
        bundle(PATIENT | {"name": "Alder"}, PATIENT | {"id": "p2", "birthDate": 1980}, PATIENT | {"id": "p3"}),
        207,
        [("failed", "invalid-element"), ("failed", "invalid-element"), ("created", "")],
    ),
}


@pytest.mark.parametrize("name", CARRIED)
async def test_one_bad_entry_is_that_entrys_problem(tmp_path: Path, name: str) -> None:
    """200 when nothing failed, 207 when some did, 422 when all did; a failed or skipped entry leaves no row."""
    body, status, verdicts = CARRIED[name]
    async with surface(tmp_path, webhook=False) as it:
        answer = await it.post(body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        outcome = answer.json()
        assert outcome["status"] == {200: "succeeded", 207: "partial", 422: "failed"}[status]
        assert [verdict(each) for each in outcome["entries"]] == verdicts
        created = {each["resource"].partition("/")[2] for each in outcome["entries"] if each["result"] == "created"}
        assert {row["msemr_azurefhirid"] for row in it.rows("contact", "msemr_encounter", "msemr_careplan")} == created
        assert len(it.rows()) == outcome["receipt"]["rows"]["created"]
        await it.settle()
        assert await it.kept() == [f"relay-outcomes/{outcome['id']}.json"]  # the payload and its message are gone
        assert it.fhir.store.log == []
        asked = {"unresolved-reference", "unknown-on-server"}  # what takes a look at either side
        if not created and not any(code in asked for _, code in verdicts):
            assert it.calls() == []


def verdict(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return an entry's result, and the code that says why unless it was created."""
    severity = {"failed": "error", "skipped": "information"}.get(entry["result"])
    codes = [issue["code"] for issue in entry["issues"] if issue["severity"] == severity]
    return entry["result"], codes[0] if codes else ""


async def test_an_unknown_route_and_a_wrong_method_are_404(tmp_path: Path) -> None:
    """There is nothing beside the published routes."""
    async with surface(tmp_path, webhook=False) as it:
        answers = [
            await it.http.get("/api/bundle"),
            await it.http.put("/api/bundle/x"),
            await it.http.post("/api/bundles", content=b"{}"),
            await it.http.get("/bundle/x"),
        ]
        assert [each.status_code for each in answers] == [404] * 4

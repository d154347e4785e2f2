from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from relay.inbound.msind import CREATED, ERROR, EXPANDED, SUCCESS, UPDATED, WARNING, read_parameters, render_upsert
from relay.mapping.load import MapSet, load_maps
from relay.settings import Settings

MAPS = Path(__file__).resolve().parents[2] / "maps"
GUID = "bb47f155-bc28-5094-96ed-9bd4661bf89c"
CHILD = "e978a2ce-364c-5ea5-9e39-26359c4e305e"


@functools.cache
def maps() -> MapSet:
    return load_maps(MAPS)


def entry(result: str, *issues: tuple[str, str], row: bool = True, **more: Any) -> dict[str, Any]:
    """Return an entry of an outcome; an issue is its severity and its code."""
    told = [{"severity": severity, "code": code, "message": "why", "at": ""} for severity, code in issues]
    return {
        "index": 0,
        "resource": "Patient/p1",
        "result": result,
        "row": {"table": "contact", "id": GUID} if row else None,
        "children": [],
        "writeback": "none",
        "issues": told,
        **more,
    }


def outcome(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the outcome of entries."""
    return {"id": "e" * 32, "status": "succeeded", "tag": "relay-e", "entries": list(entries), "receipt": {}, **more}


LINK = {"message": "why", "at": "identifier"}
ROOTS: dict[str, tuple[dict[str, Any], int | None, int]] = {
    "created": (entry("created"), CREATED, SUCCESS),
    "updated": (entry("updated"), UPDATED, SUCCESS),
    "unchanged": (entry("unchanged"), UPDATED, SUCCESS),
    "an information": (entry("created", ("information", "truncated")), CREATED, SUCCESS),
    "a warning": (entry("created", ("warning", "required")), CREATED, WARNING),
    "a disabled expansion": (entry("updated", ("warning", "expansion-disabled")), UPDATED, ERROR),
    "failed": (entry("failed", ("error", "ambiguous-match"), row=False), None, ERROR),
    "failed after its row was written": (entry("failed", ("error", "dataverse-0x80040203")), None, ERROR),
    "parked": (entry("parked", ("information", "unresolved-reference"), row=False), None, WARNING),
    "older than the row": (entry("skipped", ("information", "stale")), UPDATED, SUCCESS),
    "older than another entry": (entry("skipped", ("information", "older-version"), row=False), None, SUCCESS),
    "the same as another entry": (entry("skipped", ("information", "same-as-entry-0"), row=False), None, SUCCESS),
    "a map that makes no rows": (entry("skipped", ("information", "create-never"), row=False), None, SUCCESS),
    "no map": (entry("skipped", ("information", "no-map"), row=False), None, ERROR),
    "a disabled map": (entry("skipped", ("warning", "map-disabled"), row=False), None, ERROR),
    "an answer without a resource": (entry("skipped", ("information", "no-resource"), row=False), None, WARNING),
    "refused by the FHIR server": (entry("skipped", ("information", "not-successful"), row=False), None, WARNING),
    "a write-back that waits": (
        entry("created", writeback="queued", issues=[{"severity": "warning", "code": "fhir-503", **LINK}]),
        CREATED,
        SUCCESS,
    ),
    "a write-back that failed": (
        entry("created", writeback="failed", issues=[{"severity": "error", "code": "identifier-conflict", **LINK}]),
        CREATED,
        WARNING,
    ),
    "not on the FHIR server": (
        entry("created", writeback="failed", issues=[{"severity": "error", "code": "gone", **LINK}]),
        CREATED,
        SUCCESS,
    ),
    "an identifier that is wrong itself": (
        entry("failed", row=False, issues=[{"severity": "error", "code": "identifier-conflict", **LINK}]),
        None,
        ERROR,
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_became_of_a_resource_has_an_action_and_a_status(name: str) -> None:
    """An action only where there is a row to show; the whole is true only if every status is success."""
    given, action, status = ROOTS[name]
    body = render_upsert(outcome(given), maps())
    (root,) = [each for each in body["msind_Results"] if each["msind_requestactionperformed"] != EXPANDED]
    assert (root["msind_requestactionperformed"], root["msind_requeststatus"]) == (action, status)
    assert root["msind_resultingrecordid"] == (GUID if given["row"] else None)
    assert root["msind_resultingrecordtype"] == "contact"
    assert body["msind_Status"] is (status == SUCCESS)
    lines = root["msind_requeststatusdetail"].split("\r\n")
    assert all(lines)
    assert any(line.startswith("Error: ") for line in lines) or status != ERROR
    assert any(line.startswith("Warning: ") for line in lines) or status != WARNING or given["result"] != "created"


@pytest.mark.parametrize("why", ["read", "outcome", "subscription-status"])
def test_an_entry_that_holds_no_resource_to_write_has_no_result(why: str) -> None:
    """Reads and the server's remarks are not what anybody asked to be written."""
    body = render_upsert(outcome(entry("skipped", ("information", why), row=False)), maps())
    assert (body["msind_Status"], body["msind_Results"]) == (True, [])


@pytest.mark.parametrize("result", ["created", "updated", "unchanged", "deactivated", "deleted"])
def test_a_child_row_is_an_expanded_entity_of_its_root(result: str) -> None:
    """It has the root's FHIR id, type and GUID, and its own table."""
    child = {"table": "msemr_contactlink", "id": CHILD, "result": result}
    root, expanded = render_upsert(outcome(entry("created", children=[child])), maps())["msind_Results"]
    changed = {name for name in root if root[name] != expanded[name]} - {"msind_requeststatusdetail"}
    assert changed == {"msind_resultingrecordtype", "msind_requestactionperformed"}
    assert expanded["msind_resultingrecordtype"] == "msemr_contactlink"
    assert expanded["msind_requestactionperformed"] == EXPANDED


def test_results_stand_in_the_order_of_the_entries() -> None:
    """Each root is followed by the rows of its expansions."""
    child = {"table": "msemr_contactlink", "id": CHILD, "result": "created"}
    entries = [entry("created", resource=f"Patient/p{number}", children=[child]) for number in (2, 1)]
    found = render_upsert(outcome(*entries), maps())["msind_Results"]
    assert [each["msind_fhirresourceid"] for each in found] == ["p2", "p2", "p1", "p1"]


@pytest.mark.parametrize(("resource", "kind", "fhir_id"), [("Patient", "Patient", None), ("", None, None)])
def test_what_an_entry_does_not_name_is_null(resource: str, kind: str | None, fhir_id: str | None) -> None:
    """A resource without an id, or an entry without a resource, still has a result that says what is wrong."""
    given = entry("failed", ("error", "no-id"), row=False, resource=resource)
    (found,) = render_upsert(outcome(given), maps())["msind_Results"]
    assert (found["msind_fhirresourcetype"], found["msind_fhirresourceid"]) == (kind, fhir_id)
    assert found["msind_requeststatus"] == ERROR


def test_a_bundle_without_entries_succeeds() -> None:
    """There was nothing to do, and it is done."""
    body = render_upsert(outcome(), maps())
    assert body == {
        "msind_Status": True,
        "msind_StatusDetail": "The bundle was processed successfully.",
        "msind_Results": [],
    }


def test_a_bundle_given_up_as_a_whole_has_its_reason_in_the_status_detail() -> None:
    """No entry is to blame, so no result says it."""
    issue = {"severity": "error", "code": "0x80040220", "message": "Dataverse answered 403", "at": ""}
    body = render_upsert(outcome(issues=[issue]), maps())
    assert body["msind_Status"] is False
    assert body["msind_StatusDetail"] == "Error: Dataverse answered 403 (0x80040220)"


def test_several_items_under_a_disabled_expansion_are_one_result(tmp_path: Path) -> None:
    """An expansion of an expansion is found by the elements that lead to it, whichever items they are of."""
    for each in MAPS.iterdir():
        text = each.read_text(encoding="utf-8")
        if each.name == "careteam.yaml":
            text = text.replace("  participant-role:\n", "  participant-role:\n    disabled: true\n")
        (tmp_path / each.name).write_text(text, encoding="utf-8")
    places = ["participant[0].role", "participant[12].role"]
    issues = [{"severity": "warning", "code": "expansion-disabled", "message": "off", "at": at} for at in places]
    given = entry("created", resource="CareTeam/c1", issues=issues)
    root, failed = render_upsert(outcome(given), load_maps(tmp_path))["msind_Results"]
    assert (root["msind_requeststatus"], failed["msind_requeststatus"]) == (ERROR, ERROR)
    assert failed["msind_resultingrecordtype"] == "msemr_careteamparticipantrole"


def test_a_parameter_may_be_longer_than_any_text_of_a_bundle() -> None:
    """A bundle is one text here: its length is limited as that of a body, not as that of a text."""
    limits = Settings(max_string=10, max_body_bytes=1000)
    body = b'{"msind_JSON":"' + b"x" * 500 + b'"}'
    assert read_parameters(body, "", "", limits, required="msind_JSON") == {"msind_JSON": "x" * 500}

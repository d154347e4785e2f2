from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

from surface_kit import surface

ALDER = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "1"}],
    "name": [{"family": "Alder"}],
}
BIRCH = {"resourceType": "Patient", "id": "p2", "name": [{"family": "Birch"}], "birthDate": "1980"}
LOST = {"resourceType": "Encounter", "id": "e1", "status": "finished", "subject": {"reference": "Patient/nobody"}}
OTHER = {"resourceType": "Immunization", "id": "i1"}
ENTRY = ["index", "resource", "result", "row", "children", "writeback", "issues"]
ISSUE = ["severity", "code", "message", "at"]
RECEIPT = ["calls", "rows", "waits_ms", "deliveries", "reference_calls"]


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    """Return a collection of these resources."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
            for each in resources
        ],
    }


def check_shape(outcome: dict[str, Any]) -> None:
    """Assert every key, its place in the order, and its type."""
    assert list(outcome) == ["id", "status", "tag", "entries", "receipt"]
    assert re.fullmatch(r"[0-9a-f]{32}", outcome["id"])
    assert outcome["tag"] == f"relay-{outcome['id']}"
    assert outcome["status"] in ("succeeded", "partial", "failed")
    for index, entry in enumerate(outcome["entries"]):
        assert list(entry) == ENTRY
        assert entry["index"] == index
        assert re.fullmatch(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}", entry["resource"])
        assert entry["result"] in ("created", "updated", "unchanged", "skipped", "parked", "failed")
        assert entry["writeback"] in ("written", "present", "queued", "none", "failed")
        if entry["row"] is not None:
            assert list(entry["row"]) == ["table", "id"]
            check_row(entry["row"])
        for child in entry["children"]:
            assert list(child) == ["table", "id", "result"]
            check_row(child)
            assert child["result"] in ("created", "updated", "unchanged", "deactivated", "deleted")
        for issue in entry["issues"]:
            assert list(issue) == ISSUE
            assert issue["severity"] in ("error", "warning", "information")
            assert re.fullmatch(r"[a-z0-9-]+", issue["code"])
            assert all(isinstance(issue[name], str) for name in ISSUE)
    receipt = outcome["receipt"]
    assert list(receipt) == RECEIPT
    assert list(receipt["calls"]) == ["dataverse", "fhir"]
    assert list(receipt["rows"]) == ["created", "updated"]
    numbers = [*receipt["calls"].values(), *receipt["rows"].values(), *list(receipt.values())[2:]]
    assert all(type(number) is int and number >= 0 for number in numbers)


def check_row(row: dict[str, Any]) -> None:
    """Assert that a row is named by its table's logical name and a GUID in lower case."""
    assert re.fullmatch(r"[a-z0-9_]+", row["table"])
    assert row["id"] == str(UUID(row["id"]))


async def test_every_kind_of_entry_has_the_published_shape(tmp_path: Path) -> None:
    """Keys, their order and types are those that callers rely on, for created, failed, skipped and unchanged alike."""
    async with surface(tmp_path) as it:
        await it.put(ALDER, BIRCH)
        first = (await it.post(bundle(ALDER, BIRCH, LOST, OTHER))).json()
        check_shape(first)
        assert first["status"] == "partial"
        alder, birch, lost, other = first["entries"]
        guid = alder["row"]["id"]
        assert alder | {"children": []} == {
            "index": 0,
            "resource": "Patient/p1",
            "result": "created",
            "row": {"table": "contact", "id": guid},
            "children": [],
            "writeback": "written",
            "issues": [],
        }
        assert [(each["table"], each["result"]) for each in alder["children"]] == [
            ("prefix_patientidentifier", "created"),
            ("prefix_patientidentifier", "created"),
        ]
        assert [(each["severity"], each["code"]) for each in birch["issues"]] == [("information", "partial-date")]
        assert lost == {
            "index": 2,
            "resource": "Encounter/e1",
            "result": "failed",
            "row": None,
            "children": [],
            "writeback": "none",
            "issues": [
                {
                    "severity": "error",
                    "code": "unresolved-reference",
                    "message": lost["issues"][0]["message"],
                    "at": "msemr_encounterpatientidentifier",
                }
            ],
        }
        assert other == {
            "index": 3,
            "resource": "Immunization/i1",
            "result": "skipped",
            "row": None,
            "children": [],
            "writeback": "none",
            "issues": [
                {
                    "severity": "information",
                    "code": "no-map",
                    "message": "no map speaks for this resource type",
                    "at": "",
                }
            ],
        }
        assert first["receipt"] == {
            "calls": {"dataverse": 2, "fhir": 2},
            "rows": {"created": 5, "updated": 0},
            "waits_ms": 0,
            "deliveries": 0,
            "reference_calls": 6,
        }
        again = (await it.post(bundle(await it.read("Patient", "p1"), BIRCH))).json()
        check_shape(again)
        assert [(each["result"], each["writeback"]) for each in again["entries"]] == [
            ("unchanged", "present"),
            ("unchanged", "present"),
        ]
        assert {child["result"] for each in again["entries"] for child in each["children"]} == {"unchanged"}
        assert again["receipt"]["rows"] == {"created": 0, "updated": 0}


async def test_an_update_says_so_for_the_row_and_its_children(tmp_path: Path) -> None:
    """A changed resource is `updated`, a vanished identifier's row `deactivated`."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        await it.post(bundle(ALDER))
        corrected = ALDER | {"identifier": [{"system": "urn:mrn", "value": "2"}], "name": [{"family": "Aldersen"}]}
        outcome = (await it.post(bundle(corrected))).json()
        check_shape(outcome)
        (entry,) = outcome["entries"]
        assert entry["result"] == "updated"
        assert sorted(child["result"] for child in entry["children"]) == ["created", "deactivated", "unchanged"]


async def test_the_receipt_counts_the_requests_that_the_servers_had(tmp_path: Path) -> None:
    """`calls` is what the servers saw from the relay for this bundle, no more and no less."""
    async with surface(tmp_path, webhook=False) as it:
        await it.put(ALDER, BIRCH)
        it.forget_calls()
        receipt = (await it.post(bundle(ALDER, BIRCH))).json()["receipt"]
        assert receipt["calls"] == {"dataverse": len(it.dataverse.calls), "fhir": len(it.fhir.calls)}


async def test_deliveries_count_up_as_events_come_in(tmp_path: Path) -> None:
    """`deliveries` is 0 in the answer and, asked again, the number of events that the bundle's writes brought back."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        outcome = (await it.post(bundle(ALDER))).json()
        assert outcome["receipt"]["deliveries"] == 0
        await it.settle()
        again = (await it.http.get(f"/api/bundle/{outcome['id']}")).json()
        check_shape(again)
        assert again["receipt"]["deliveries"] == len(it.events) == 3  # the contact and its two identifier rows
        outcome["receipt"]["deliveries"] = 3
        assert again == outcome


async def test_an_event_that_comes_twice_is_one_delivery(tmp_path: Path) -> None:
    """Dataverse repeats a delivery whose answer it did not get; the count is of events."""
    async with surface(tmp_path) as it:
        await it.put(ALDER)
        outcome = (await it.post(bundle(ALDER))).json()
        await it.settle()
        for event in list(it.events):
            assert (await it.http.post("/api/dataverse/event", content=event)).status_code == 202
        await it.settle()
        again = (await it.http.get(f"/api/bundle/{outcome['id']}")).json()
        assert again["receipt"]["deliveries"] == 3


async def test_a_bundle_that_failed_as_a_whole_says_why_in_issues(tmp_path: Path) -> None:
    """Nothing of it could be carried out: no entries, and `issues` beside them names the reason."""
    async with surface(tmp_path) as it:
        refused = {"error": {"code": "0x80040220", "message": "lacks prvCreateContact"}}
        it.dataverse.faults.append(_forbidden(refused))
        answer = await it.post(bundle(ALDER))
        assert answer.status_code == 422
        outcome = answer.json()
        assert list(outcome) == ["id", "status", "tag", "entries", "receipt", "issues"]
        assert (outcome["status"], outcome["entries"]) == ("failed", [])
        (issue,) = outcome["issues"]
        assert (list(issue), issue["severity"], issue["code"]) == (ISSUE, "error", "0x80040220")
        assert "prvCreateContact" not in answer.text
        assert [each["code"] for each in await it.relay.dead_letters.list()] == ["0x80040220"]


def _forbidden(body: dict[str, Any]) -> Any:
    from devstack.control import Fault

    return Fault(path=r"\$batch", status=403, body=body)

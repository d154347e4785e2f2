"""POST, PUT and DELETE /fhir-hook: what a FHIR server's Subscription sends becomes rows, and identifiers go back."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from surface_kit import FHIR_JSON, OURS, Flaky, Surface, surface

from support.samples import encounter, organization, patient

NOTIFICATIONS = Path(__file__).parents[1] / "intake" / "notifications"
ENCOUNTER = "551683b3-1477-41d1-b58e-32fe8b0047b0"
PATIENT = "1599eb66-431a-447c-a3de-6897fe9ae9a1"


def subscription(kind: str, **channel: Any) -> dict[str, Any]:
    """Return the Subscription that the docs show, for one resource type."""
    payload = {"type": "rest-hook", "endpoint": "http://relay/api/fhir-hook", "payload": "application/fhir+json"}
    return {
        "resourceType": "Subscription",
        "id": kind.lower(),
        "status": "requested",
        "reason": "rows in Dynamics 365",
        "criteria": f"{kind}?",
        "channel": {**payload, **channel},
    }


def notification(name: str) -> bytes:
    """Return a named notification with the embedded server's base in it."""
    text = (NOTIFICATIONS / f"{name}.json").read_text(encoding="utf-8")
    return text.replace("https://example.org/fhir", "http://fhir").encode()


async def identifiers(it: Surface, kind: str, fhir_id: str) -> list[str]:
    """Return the Dynamics identifiers of a resource."""
    resource = await it.read(kind, fhir_id)
    return [each["value"] for each in resource["identifier"] if each["system"].startswith(OURS)]


@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_a_subscription_keeps_both_in_step(tmp_path: Path, writeback: str) -> None:
    """What is put on the server has a row and its GUID, in whatever order it comes; then silence, and nothing by hand."""
    async with surface(tmp_path, writeback=writeback) as it:
        await it.put(*(subscription(kind) for kind in ("Patient", "Encounter", "Organization")))
        sent = [encounter(), patient(managingOrganization={"reference": "Organization/o1"}), organization()]
        await it.put(*sent)
        await it.settle()
        for each in sent:
            (guid,) = await identifiers(it, each["resourceType"], each["id"])
            row = next(row for row in it.rows() if row.get("msemr_azurefhirid") == each["id"])
            assert guid in row.values()
        assert await it.relay.dead_letters.list() == []
        held = len(it.fhir.store.log)
        it.forget_calls()
        await it.put(patient(managingOrganization={"reference": "Organization/o1"}, gender="male"))
        await it.settle()
        assert [row["gendercode"] for row in it.rows("contact")] == [1]
        # the PUT above lost the GUID: the change brings it back, and the change that this makes is an echo
        assert len(await identifiers(it, "Patient", "p1")) == 1
        assert len(it.fhir.store.log) == held + 2


async def test_an_echo_costs_one_call(tmp_path: Path) -> None:
    """The notification that our own PUT causes is one locate, and no further call to anybody."""
    async with surface(tmp_path) as it:
        await it.put(subscription("Patient"), patient())
        await it.settle()
        dataverse = [each["path"] for each in it.dataverse.calls]
        assert len(dataverse) == 3  # locate, write; then the echo's locate
        asked = [each["method"] for each in it.fhir.calls if each["path"] != "/metadata"]  # once per process
        assert asked == ["GET", "PUT"]
        (guid,) = await identifiers(it, "Patient", "p1")
        it.forget_calls()
        echo = await it.read("Patient", "p1")
        it.forget_calls()
        assert (await it.http.put("/api/fhir-hook/Patient/p1", json=echo)).status_code == 202
        await it.settle()
        assert len(it.calls()) == 1
        assert await identifiers(it, "Patient", "p1") == [guid]


async def test_the_answer_says_where_the_outcome_is(tmp_path: Path) -> None:
    """202 with Content-Location once the change is kept, before anything is done with it."""
    async with surface(tmp_path) as it:
        await it.put(patient())
        answer = await it.http.put("/api/fhir-hook/Patient/p1", json=patient())
        assert (answer.status_code, answer.content) == (202, b"")
        assert it.calls() == []
        await it.settle()
        outcome = await it.outcome(answer)
        assert [(each["resource"], each["result"]) for each in outcome["entries"]] == [("Patient/p1", "created")]


@pytest.mark.parametrize("name", ["r4_handshake", "r4b_handshake", "r5_handshake", "r4_heartbeat", "r4_error"])
async def test_handshake_and_heartbeat_are_answered(tmp_path: Path, name: str) -> None:
    """200, and nothing is kept of what tells of no change."""
    async with surface(tmp_path) as it:
        answer = await it.http.post("/api/fhir-hook", content=notification(name), headers=FHIR_JSON)
        assert answer.status_code == 200
        assert await it.kept() == []


@pytest.mark.parametrize("name", ["r5_handshake", "r4_id_only", "hapi_payload_search", "r4_empty"])
async def test_a_bundle_is_answered_with_a_bundle(tmp_path: Path, name: str) -> None:
    """HAPI sends notifications as a transaction and takes no other answer; a resource alone is answered with nothing."""
    async with surface(tmp_path) as it:
        answer = await it.http.post("/api/fhir-hook", content=notification(name), headers=FHIR_JSON)
        assert answer.status_code == (200 if "handshake" in name else 202)
        assert answer.headers["Content-Type"] == "application/fhir+json"
        assert answer.json() == {"resourceType": "Bundle", "type": "transaction-response"}


@pytest.mark.parametrize("name", ["r4_id_only", "r5_id_only", "r4_full_resource", "r5_full_resource"])
async def test_topic_based_notifications(tmp_path: Path, name: str) -> None:
    """With ids alone the resource is read; with the whole of it, it is not; the Encounter has its row and GUID either way."""
    async with surface(tmp_path) as it:
        await it.put(patient(PATIENT), encounter(ENCOUNTER, f"Patient/{PATIENT}"))
        await it.http.put(f"/api/fhir-hook/Patient/{PATIENT}", json=patient(PATIENT))
        await it.settle()
        it.forget_calls()
        answer = await it.http.post("/api/fhir-hook", content=notification(name), headers=FHIR_JSON)
        assert answer.status_code == 202
        await it.settle()
        outcome = await it.outcome(answer)
        assert [each["writeback"] for each in outcome["entries"]] == ["written"]
        assert len(await identifiers(it, "Encounter", ENCOUNTER)) == 1


async def test_a_type_without_a_map_is_answered_at_once(tmp_path: Path) -> None:
    """200, for nothing is kept: the server is not to send it again."""
    async with surface(tmp_path) as it:
        body = {"resourceType": "Subscription", "id": "s1"}
        answer = await it.http.put("/api/fhir-hook/Subscription/s1", json=body)
        assert answer.status_code == 200
        assert await it.kept() == []


@pytest.mark.parametrize(
    ("request_line", "body", "refusal"),
    [
        ("PUT /Patient/p2", json.dumps(patient()).encode(), (400, "bad-path")),
        ("PUT /Patient/p1", b"{", (400, "truncated")),
        ("PUT /Patient/p1", b"", (400, "no-body")),
        ("POST ", notification("r5_another_server"), (400, "foreign-reference")),
        ("DELETE ", b"", (400, "bad-path")),
        ("PUT /Patient/p1", b" " * 2000, (400, "no-body")),
        ("PUT /Patient/p1", b"[" * 101, (400, "too-deep")),
        ("PUT /Patient/p1", json.dumps(patient("x" * 3000)).encode(), (413, "too-large")),
    ],
)
async def test_refusals(tmp_path: Path, request_line: str, body: bytes, refusal: tuple[int, str]) -> None:
    """What cannot be taken is refused with an OperationOutcome by the same codes as a bundle, and nothing is kept."""
    method, _, path = request_line.partition(" ")
    async with surface(tmp_path, max_body_bytes="2500") as it:
        answer = await it.http.request(method, f"/api/fhir-hook{path}", content=body, headers=FHIR_JSON)
        assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == refusal
        assert await it.kept() == []


async def test_gzip_is_taken(tmp_path: Path) -> None:
    """A compressed body is inflated within the limits of a bundle."""
    async with surface(tmp_path) as it:
        body = gzip.compress(json.dumps(patient()).encode())
        headers = {**FHIR_JSON, "Content-Encoding": "gzip"}
        answer = await it.http.put("/api/fhir-hook/Patient/p1", content=body, headers=headers)
        assert answer.status_code == 202


async def test_what_cannot_be_kept_is_sent_again(tmp_path: Path) -> None:
    """503 with Retry-After when the store takes nothing, and none of it is done."""
    async with surface(tmp_path, wrap=lambda store: Flaky(store, at=-1)) as it:
        answer = await it.http.put("/api/fhir-hook/Patient/p1", json=patient())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert answer.json()["issue"][0]["details"]["text"] == "store-unavailable"


async def test_a_large_body_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too much is in work a large notification is to be sent again; a small one is kept all the same."""
    monkeypatch.setattr("relay.inbound.hook.PATIENCE", 0.0)
    monkeypatch.setattr("relay.inbound.hook.SMALL", 2000)
    async with surface(tmp_path, work_bytes="3000") as it:
        gate = it.relay._gate
        large = patient(text={"status": "generated", "div": "x" * 2500})
        assert await gate.enter(3000, within=0)
        answer = await it.http.put("/api/fhir-hook/Patient/p1", json=large)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert (await it.http.put("/api/fhir-hook/Patient/p1", json=patient())).status_code == 202
        gate.leave(3000)
        assert (await it.http.put("/api/fhir-hook/Patient/p1", json=large)).status_code == 202


async def test_keys_are_checked(tmp_path: Path) -> None:
    """A Subscription's channel header carries the function's key; without it nothing is taken."""
    async with surface(tmp_path, keys={"fhir_hook": ["k1"], "dataverse_event": ["k2"]}) as it:
        await it.put(subscription("Patient", header=["x-functions-key: k1"]), patient())
        assert (await it.http.put("/api/fhir-hook/Patient/p1", json=patient())).status_code == 401
        await it.settle(within=timedelta(minutes=5))
        assert len(await identifiers(it, "Patient", "p1")) == 1

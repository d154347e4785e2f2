from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from surface_kit import OURS, Flaky, Surface, surface

from devstack.control import Fault
from relay.store.local import LocalStore

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "1"}],
    "name": [{"family": "Alder"}],
}
BUNDLE = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/p1"}}],
}
STORE_CALLS = [
    *("put_blob", "send", "put_row", "get_row", "put_row"),
    *("get_blob", "put_blob", "put_blob", "delete_blob", "cancel"),
]
ALWAYS = 0


def linked(resource: dict[str, Any]) -> bool:
    """Tell whether a resource carries a Dynamics identifier."""
    return any(each.get("system", "").startswith(OURS) for each in resource["identifier"])


async def accepted(it: Surface, **headers: str) -> Any:
    """Post the bundle, see it accepted and not done, and return the answer."""
    answer = await it.post(BUNDLE, **headers)
    assert (answer.status_code, answer.content) == (202, b"")
    running = await it.http.get(answer.headers["Content-Location"])
    assert (running.status_code, running.content) == (202, b"")
    return answer


async def test_a_bundle_is_carried_out_before_the_answer(tmp_path: Path) -> None:
    """200 comes with the outcome, both sides are written by then, and the outcome can be asked for again."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        answer = await it.post(BUNDLE)
        assert answer.status_code == 200
        assert "Content-Location" not in answer.headers
        assert linked(await it.read("Patient", "p1"))
        assert len(it.rows("contact")) == 1
        again = await it.http.get(f"/api/bundle/{answer.json()['id']}")
        assert (again.status_code, again.json()["entries"]) == (200, answer.json()["entries"])


@pytest.mark.parametrize("prefer", ["respond-async", "return=minimal, Respond-Async", "respond-async; wait=10"])
async def test_who_prefers_not_to_wait_is_told_where_the_outcome_will_be(tmp_path: Path, prefer: str) -> None:
    """`Prefer: respond-async` answers 202 before any work; Content-Location answers 202, and 200 once it is done."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        answer = await accepted(it, Prefer=prefer)
        assert it.calls() == []
        await it.settle()
        outcome = await it.outcome(answer)
        assert [each["result"] for each in outcome["entries"]] == ["created"]
        assert linked(await it.read("Patient", "p1"))
        assert await it.kept() == [f"relay-outcomes/{outcome['id']}.json"]


async def test_a_large_body_is_worked_on_afterwards(tmp_path: Path) -> None:
    """A body above RELAY_ASYNC_OVER_BYTES is answered 202; one of exactly that size is not."""
    size = len(json.dumps(BUNDLE).encode())
    async with surface(tmp_path / "one", async_over_bytes=str(size - 1)) as it:
        answer = await accepted(it)
        await it.settle()
        assert (await it.outcome(answer))["status"] == "succeeded"
    async with surface(tmp_path / "two", async_over_bytes=str(size)) as it:
        assert (await it.post(BUNDLE)).status_code == 200


async def test_bad_input_is_refused_at_once_even_to_those_who_do_not_wait(tmp_path: Path) -> None:
    """A 202 is a promise to carry out: what can be seen to be wrong is refused before it."""
    async with surface(tmp_path) as it:
        answer = await it.post(b'{"hello": 1}', Prefer="respond-async")
        assert answer.status_code == 400
        assert await it.kept() == []


async def test_dataverse_down_means_later(tmp_path: Path) -> None:
    """With Dataverse away the bundle is accepted (202) and done once it is back; nothing is lost or doubled."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        it.dataverse.faults.append(Fault(path="/api/data/", times=ALWAYS))
        answer = await accepted(it)
        await it.settle(within=timedelta(minutes=30))
        assert (await it.http.get(answer.headers["Content-Location"])).status_code == 202
        it.dataverse.faults.clear()
        await it.settle(within=timedelta(days=1))
        assert (await it.outcome(answer))["entries"][0]["result"] == "created"
        assert len(it.rows("contact")) == 1
        assert linked(await it.read("Patient", "p1"))


async def test_dataverse_gone_for_good_ends_in_an_outcome_and_a_dead_letter(tmp_path: Path) -> None:
    """After RELAY_RETRY_FOR the promise of a 202 ends in a failed outcome that says why, and in a dead letter."""
    async with surface(tmp_path, retry_for="2h") as it:
        it.dataverse.faults.append(Fault(path="/api/data/", times=ALWAYS))
        answer = await accepted(it)
        await it.settle(within=timedelta(hours=4))
        outcome = await it.outcome(answer)
        assert (outcome["status"], outcome["entries"]) == ("failed", [])
        (issue,) = outcome["issues"]
        assert issue["severity"] == "error"
        assert [each["code"] for each in await it.relay.dead_letters.list()] == [issue["code"]]
        assert await it.kept() == [f"relay-outcomes/{outcome['id']}.json"]


async def test_the_fhir_server_down_delays_the_write_back_alone(tmp_path: Path) -> None:
    """With the FHIR server away the rows are written, the answer is 200 with write-back `queued`, and it follows."""
    async with surface(tmp_path) as it:
        await it.put(PATIENT)
        it.fhir.faults.append(Fault(times=ALWAYS))
        answer = await it.post(BUNDLE)
        assert answer.status_code == 200
        (entry,) = answer.json()["entries"]
        assert (entry["result"], entry["writeback"]) == ("created", "queued")
        it.fhir.faults.clear()
        await it.settle()
        assert linked(await it.read("Patient", "p1"))


async def test_an_unknown_job_is_404(tmp_path: Path) -> None:
    """Ids that nobody was given, malformed ones and expired ones are all unknown, with an OperationOutcome."""
    async with surface(tmp_path) as it:
        known = (await it.post(BUNDLE)).json()["id"]
        ids = ["0" * 32, "x", known.upper() + "x", known[:-1], "..%2f" + known, "%00", "a" * 3000, known + "%0A"]
        for each in ids:
            answer = await it.http.get(f"/api/bundle/{each}")
            assert answer.status_code == 404, each
            assert answer.json()["resourceType"] == "OperationOutcome"
        it.clock.advance(timedelta(days=31))
        await it.relay.sweep()
        assert (await it.http.get(f"/api/bundle/{known}")).status_code == 404


async def test_without_a_store_nothing_is_accepted(tmp_path: Path) -> None:
    """A store that is down is 503 with Retry-After and an OperationOutcome; neither side hears of the bundle."""
    async with surface(tmp_path, wrap=lambda store: Flaky(store, at=-1)) as it:
        answers = [
            await it.post(BUNDLE),
            await it.post(BUNDLE, Prefer="respond-async"),
            await it.http.get(f"/api/bundle/{'0' * 32}"),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            (issue,) = answer.json()["issue"]
            assert (issue["code"], issue["details"]["text"]) == ("transient", "store-unavailable")
            assert str(tmp_path) not in answer.text
        assert it.calls() == []
        assert await it.kept() == []


_undisturbed: list[dict[str, Any]] = []


async def undisturbed(folder: Path) -> dict[str, Any]:
    """Return what both databases hold when nothing fails."""
    if not _undisturbed:
        async with surface(folder) as it:
            await it.put(PATIENT)
            assert (await it.post(BUNDLE)).status_code == 200
            await it.settle()
            _undisturbed.append(it.snapshot())
    return _undisturbed[0]


@pytest.mark.parametrize("late", [False, True], ids=["not-done", "answer-lost"])
@pytest.mark.parametrize("at", range(len(STORE_CALLS)), ids=lambda at: f"{at}-{STORE_CALLS[at]}")
async def test_a_store_that_fails_midway_leaves_nothing_half_done(tmp_path: Path, at: int, late: bool) -> None:
    """Whichever call of the store fails: 503 and nothing written, or the promise is kept without being sent again."""
    flaky: list[Flaky] = []

    def wrap(store: LocalStore) -> Flaky:
        flaky.append(Flaky(store, at=at, late=late))
        return flaky[0]

    whole = await undisturbed(tmp_path / "whole")
    async with surface(tmp_path / "flaky", wrap=wrap, webhook=False) as it:
        await it.put(PATIENT)
        answer = await it.post(BUNDLE)
        assert flaky[0].names[: at + 1] == STORE_CALLS[: at + 1]
        if answer.status_code == 503:
            assert at < 2
            assert it.calls() == []
            await it.settle()
            if not (late and at == 1):  # a message whose answer was lost may be there, but it finds no payload
                assert it.calls() == []
            if not (late and at == 0):  # a payload whose answer was lost cannot be known of; retention finds it
                assert await it.kept() == []
            answer = await it.post(BUNDLE)
        assert answer.status_code == (202 if 1 < at < 8 else 200)
        await it.settle()
        assert it.snapshot() == whole
        if answer.status_code == 202:
            assert (await it.outcome(answer))["status"] == "succeeded"
        it.clock.advance(timedelta(days=60))
        await it.relay.sweep()
        assert await it.kept() == []

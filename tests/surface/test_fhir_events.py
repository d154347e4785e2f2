"""Event Grid drives the main job: events of Azure Health Data Services, through the platform's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from surface_kit import OURS, Flaky, Surface, surface

from support.samples import encounter, patient

URL = "/runtime/webhooks/EventGrid?functionName=fhir_event"
KIND = "Microsoft.HealthcareApis.FhirResource"


def event(
    address: str, version: int, word: str = "Updated", *, account: str = "fhir", cloud: bool = False
) -> dict[str, Any]:
    """Return an event as the service publishes it, in either envelope."""
    kind, fhir_id = address.split("/")
    data = {
        "resourceType": kind,
        "resourceFhirAccount": account,
        "resourceFhirId": fhir_id,
        "resourceVersionId": version,
    }
    subject, id_ = f"{account}/{address}", f"{address}-{version}"
    topic = "/subscriptions/s/resourceGroups/g/providers/Microsoft.HealthcareApis/workspaces/w"
    time = "2026-06-01T12:00:00.0000000Z"
    if cloud:
        said = {"specversion": "1.0", "id": id_, "source": topic, "type": KIND + word, "dataschema": "#1"}
        return {**said, "subject": subject, "time": time, "data": data}
    said = {"id": id_, "topic": topic, "eventType": KIND + word, "dataVersion": "1", "metadataVersion": "1"}
    return {**said, "subject": subject, "eventTime": time, "data": data}


async def deliver(it: Surface, *events: dict[str, Any]) -> None:
    assert (await it.http.post(URL, json=list(events))).status_code == 202


@pytest.mark.parametrize("cloud", [False, True])
@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_events_keep_both_in_step(tmp_path: Path, *, cloud: bool, writeback: str) -> None:
    """Rows are made and GUIDs go back, whatever came first; the echo of the write-back makes no new version."""
    async with surface(tmp_path, writeback=writeback) as it:
        await it.put(patient(identifiers=1), encounter())
        await deliver(
            it, event("Encounter/e1", 1, "Created", cloud=cloud), event("Patient/p1", 1, "Created", cloud=cloud)
        )
        await it.settle()
        for kind, fhir_id in (("Patient", "p1"), ("Encounter", "e1")):
            systems = [each["system"] for each in (await it.read(kind, fhir_id))["identifier"]]
            assert systems.count(f"{OURS}{kind.lower()}.id") == 1
        assert await it.relay.dead_letters.list() == []
        held = len(it.fhir.store.log)
        await deliver(it, event("Patient/p1", 2, cloud=cloud), event("Encounter/e1", 2, cloud=cloud))  # the echo
        await it.settle()
        assert len(it.fhir.store.log) == held


async def test_twice_and_in_disorder_ends_as_once_and_in_order(tmp_path: Path) -> None:
    """Versions come back to front and each event twice: the row has what the server has."""
    async with surface(tmp_path) as it:
        for gender in ("male", "female", "male", "female"):
            await it.put(patient(identifiers=0, gender=gender))
        events = [event("Patient/p1", number) for number in (4, 2, 4, 3, 1, 2)]
        await deliver(it, *events)
        await it.settle()
        await deliver(it, event("Patient/p1", 1, "Created"))
        await it.settle()
        (row,) = it.rows("contact")
        assert row["gendercode"] == 2
        assert await it.relay.dead_letters.list() == []


async def test_another_account_and_a_broken_event_ask_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are taken off Event Grid's hands, logged, and nothing is kept."""
    async with surface(tmp_path) as it:
        broken = event("Patient/p1", 1)
        broken["data"] = {"resourceFhirAccount": "fhir"}
        await deliver(it, event("Patient/p1", 1, account="other"), broken, event("Basic/b1", 1))
        await it.settle()
        assert it.calls() == []
        assert await it.kept() == []
        assert "another FHIR service" in caplog.text
        assert "an event was refused: not-an-event" in caplog.text


async def test_an_event_that_cannot_be_kept_is_delivered_again(tmp_path: Path) -> None:
    """The function fails, so that Event Grid sends it again; nothing is half kept."""
    flaky: list[Flaky] = []

    def wrap(store: Any) -> Flaky:
        flaky.append(Flaky(store))
        return flaky[0]

    async with surface(tmp_path, wrap=wrap) as it:
        await it.put(patient())
        assert (await it.http.get("/api/ready")).status_code == 200
        flaky[0].at = -1
        assert (await it.http.post(URL, json=[event("Patient/p1", 1)])).status_code == 500
        flaky[0].at = None
        await deliver(it, event("Patient/p1", 1))
        await it.settle()
        assert len(it.rows("contact")) == 1


async def test_a_deletion_takes_the_row_out_of_use_unless_it_comes_late(tmp_path: Path) -> None:
    """Deleted, the row is retired; an event of a deletion after which the resource came back finds it there."""
    async with surface(tmp_path) as it:
        await it.put(patient("p1"), patient("p2"))
        await deliver(it, event("Patient/p1", 1, "Created"), event("Patient/p2", 1, "Created"))
        await it.settle()
        for name in ("p1", "p2"):
            assert (await it.server.delete(f"/Patient/{name}")).is_success
        await it.put(patient("p2", gender="male"))
        await deliver(it, event("Patient/p2", 4, "Created"))
        await it.settle()
        await deliver(it, event("Patient/p1", 3, "Deleted"), event("Patient/p2", 3, "Deleted"))
        await it.settle()
        states = {row["msemr_azurefhirid"]: (row["statecode"], row["gendercode"]) for row in it.rows("contact")}
        assert states == {"p1": (1, 2), "p2": (0, 1)}
        assert await it.relay.dead_letters.list() == []

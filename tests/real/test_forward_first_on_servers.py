"""RELAY_FORWARD on FHIR servers that nobody here wrote: new resources get ids, rows and GUIDs; nothing is made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from real_kit import guids, real

from devstack.control import Fault
from support.samples import bundle, encounter, organization, patient, practitioner
from support.synthea import smallest_record

pytestmark = pytest.mark.real


@pytest.fixture(params=["hapi_url", "medplum_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def new(resource: dict[str, Any], full_url: str = "", **request: str) -> dict[str, Any]:
    without = {name: value for name, value in resource.items() if name != "id"}
    entry = {"resource": without, "request": {"method": "POST", "url": resource["resourceType"], **request}}
    return {"fullUrl": full_url, **entry} if full_url else entry


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_new_and_known_resources(tmp_path: Path, url: str, kind: str) -> None:
    """One call more than without: created, found by condition and put ones end with rows and GUIDs, tied to each other."""
    mark = f"f{uuid4().hex[:7]}"
    person, clinic = f"urn:uuid:{uuid4()}", f"urn:uuid:{uuid4()}"
    async with real(tmp_path, url, forward="true") as it:
        assert (await it.put(organization(f"{mark}-o"))).is_success
        it.calls()
        condition = f"identifier=https://site.example/org|org-{mark}-o"
        seen = encounter(subject=person, serviceProvider={"reference": clinic})
        sent = {
            "resourceType": "Bundle",
            "type": kind,
            "entry": [
                new(seen),
                new(patient(mark), person),
                new(organization(f"{mark}-o"), clinic, ifNoneExist=condition),
                *bundle(practitioner(f"{mark}-d"))["entry"],
            ],
        }
        outcome = await it.send(sent)
        assert [each["result"] for each in outcome["entries"]] == ["created"] * 4, outcome
        assert [each["writeback"] for each in outcome["entries"]] == ["written"] * 4
        visit, who, where, doctor = [await it.read(each["resource"]) for each in outcome["entries"]]
        assert (where["id"], doctor["id"]) == (f"{mark}-o", f"{mark}-d")
        assert visit["subject"]["reference"] == f"Patient/{who['id']}"
        assert visit["serviceProvider"]["reference"] == f"Organization/{where['id']}"
        row = await it.row("msemr_encounters", visit["id"])
        contact = await it.row("contacts", who["id"])
        assert row["_msemr_encounterpatientidentifier_value"] == contact["contactid"]
        assert guids(who) == (contact["contactid"],)
        versions = [each["meta"]["versionId"] for each in (where, doctor)]
        again = await it.send({**sent, "entry": sent["entry"][2:]})
        assert {each["result"] for each in again["entries"]} <= {"unchanged", "updated"}
        held = [await it.read(f"Organization/{mark}-o"), await it.read(f"Practitioner/{mark}-d")]
        assert held[0]["meta"]["versionId"] == versions[0], "found again, and not changed"
        assert guids(held[1]), "a PUT without it, and its write-back"


async def test_one_refused(tmp_path: Path, url: str) -> None:
    """What the server refuses fails with the server's codes; in a batch the other is done."""
    mark = f"g{uuid4().hex[:7]}"
    async with real(tmp_path, url, forward="true") as it:
        sent = bundle(patient(f"{mark}-a"), patient(f"{mark}-b"))
        assert (await it.put(patient(f"{mark}-b"))).is_success
        sent["entry"][1]["request"]["ifMatch"] = 'W/"99"'
        answer = await it.relay.post("/api/bundle", json=sent)
        assert answer.status_code == 207, answer.text
        first, second = answer.json()["entries"]
        assert (first["result"], second["result"]) == ("created", "failed")
        assert second["issues"][0]["code"] in ("fhir-409", "fhir-412")


async def test_a_whole_record(tmp_path: Path, url: str) -> None:
    """A synthetic record with conditional references goes through the server's own transaction, and each resource gets its row."""
    *informed, record = smallest_record()
    async with real(tmp_path, url, forward="true", async_over_bytes="99999999") as it:
        for each in informed:
            await it.send(json.loads(each))
        it.calls()
        outcome = await it.send(json.loads(record))
        assert {each["result"] for each in outcome["entries"]} <= {"created", "skipped"}, outcome
        assert outcome["receipt"]["calls"]["fhir"] == len(it.calls()) == 3
        (address,) = [each["resource"] for each in outcome["entries"] if each["resource"].startswith("Patient/")]
        assert guids(await it.read(address))


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_an_answer_is_lost(tmp_path: Path, url: str, kind: str) -> None:
    """What the server did though its answer was lost is found there, and made only once."""
    mark = f"l{uuid4().hex[:7]}"
    async with real(tmp_path, url, forward="true", retry_first="0.1s") as it:
        sent = {
            "resourceType": "Bundle",
            "type": kind,
            "entry": [new(patient(mark)), *bundle(practitioner(f"{mark}-d"))["entry"]],
        }
        it.door.faults.append(Fault(method="POST", effect="lose"))
        answer = await it.relay.post("/api/bundle", json=sent)
        assert answer.status_code == 202, answer.text
        assert await it.stack.settle()
        outcome = (await it.relay.get(answer.headers["Content-Location"])).json()
        assert [each["result"] for each in outcome["entries"]] == ["created"] * 2, outcome
        found = await it.fhir.get(f"Patient?identifier=https://site.example/0%7C{mark}-0")
        assert len(found.json()["entry"]) == 1
        history = await it.fhir.get(f"Practitioner/{mark}-d/_history")
        assert len(history.json()["entry"]) == 2, "put once, and its write-back"

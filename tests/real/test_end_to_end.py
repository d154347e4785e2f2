"""The main job on FHIR servers that nobody here wrote: rows in Dataverse, GUIDs in their resources, then silence."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from real_kit import Real, guids, real, sample

from support.samples import bundle, patient

pytestmark = pytest.mark.real

SETS = {
    "Organization": "accounts",
    "Practitioner": "contacts",
    "Patient": "contacts",
    "Encounter": "msemr_encounters",
    "CarePlan": "msemr_careplans",
}
KEYS = {
    "accounts": "accountid",
    "contacts": "contactid",
    "msemr_encounters": "msemr_encounterid",
    "msemr_careplans": "msemr_careplanid",
}


@pytest.fixture(params=["hapi_url", "medplum_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def addresses(sent: dict[str, Any]) -> list[str]:
    return [f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in sent["entry"]]


async def versions(it: Real, named: list[str]) -> list[str]:
    return [(await it.read(each))["meta"]["versionId"] for each in named]


@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_guids_come_back_and_the_same_again_changes_nothing(tmp_path: Path, url: str, writeback: str) -> None:
    """Each resource gets its row's GUID by the fewest calls; sent again, and as the server has it now, nothing is written."""
    sent = sample(f"e{uuid4().hex[:7]}")
    named = addresses(sent)
    async with real(tmp_path, url, writeback=writeback) as it:
        loaded = await it.fhir.post("", json=sent)
        assert loaded.status_code == 200, loaded.text
        outcome = await it.send(sent)
        assert [each["result"] for each in outcome["entries"]] == ["created"] * len(named)
        calls = it.calls()
        if writeback == "inline":
            assert [each["writeback"] for each in outcome["entries"]] == ["written"] * len(named)
            path = "/" + url.split("/", 3)[3]
            assert calls == [f"POST {path}"] * 2
        for each in named:
            resource = await it.read(each)
            kind = resource["resourceType"]
            row = await it.row(SETS[kind], resource["id"])
            assert guids(resource) == (row[KEYS[SETS[kind]]],)
        held = await versions(it, named)
        again = await it.send(sent)
        assert {each["result"] for each in again["entries"]} == {"unchanged"}
        bodies = bundle(*[await it.read(each) for each in named])
        as_held = await it.send(bodies)
        assert {each["result"] for each in as_held["entries"]} == {"unchanged"}
        assert await versions(it, named) == held


async def test_an_older_version_after_a_newer_one(tmp_path: Path, url: str) -> None:
    """What the server had before comes late: it is skipped, and the row stays as the newer version made it.

    On HAPI both are of one second, and their numbers tell; versions without order are told apart by their times alone,
    which Dataverse keeps to the second.
    """
    fhir_id = f"old-{uuid4().hex[:8]}"
    async with real(tmp_path, url) as it:
        await it.put({**patient(fhir_id), "gender": "female"})
        older = newer = await it.read(f"Patient/{fhir_id}")
        ordered = older["meta"]["versionId"].isdigit()
        while newer is older or (not ordered and second(newer) == second(older)):
            await it.put({**patient(fhir_id), "gender": "male"})
            newer = await it.read(f"Patient/{fhir_id}")
        await it.send(bundle(newer))
        late = await it.send(bundle(older))
        assert [each["result"] for each in late["entries"]] == ["skipped"]
        assert (await it.row("contacts", fhir_id))["gendercode"] == 1


def second(resource: dict[str, Any]) -> str:
    return str(resource["meta"]["lastUpdated"])[:19]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_foreign_writer_loses_nothing(tmp_path: Path, url: str, seed: int) -> None:
    """Somebody edits the same resources at random meanwhile: every edit stands, and each resource has its one GUID."""
    dice = random.Random(seed)  # noqa: S311 - the same edits every time
    prefix = f"w{uuid4().hex[:7]}"
    sent = [patient(f"{prefix}-{number}") for number in range(8)]
    edits: dict[str, list[str]] = {each["id"]: [] for each in sent}

    async with real(tmp_path, url) as it:

        async def edit(number: int) -> None:
            """Read, add a phone number, put under If-Match; again until nobody came between."""
            fhir_id = dice.choice(sent)["id"]
            while True:
                resource = await it.read(f"Patient/{fhir_id}")
                entry = {"system": "phone", "value": f"555-{number:04}"}
                resource["telecom"] = [*resource.get("telecom", []), entry]
                answer = await it.put(resource, if_match=f'W/"{resource["meta"]["versionId"]}"')
                if answer.is_success:
                    edits[fhir_id].append(entry["value"])
                    return
                assert answer.status_code in (409, 412), answer.text

        async def foreign() -> None:
            for number in range(60):
                await edit(number)
                await asyncio.sleep(dice.random() * 0.01)

        for each in sent:
            assert (await it.put(each)).is_success
        writer = asyncio.create_task(foreign())
        outcome = await it.send(bundle(*sent))
        assert [each["result"] for each in outcome["entries"]] == ["created"] * len(sent)
        await writer
        assert await it.stack.settle()
        for each in sent:
            resource = await it.read(f"Patient/{each['id']}")
            values = [entry["value"] for entry in resource["telecom"]]
            assert [value for value in values if value in edits[each["id"]]] == edits[each["id"]]
            row = await it.row("contacts", each["id"])
            assert guids(resource) == (row["contactid"],)
    assert sum(map(len, edits.values())) == 60

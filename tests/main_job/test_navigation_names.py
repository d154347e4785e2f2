"""The facts may assume a navigation name that the org does not have: the org is asked once, and the bundle goes through."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devstack.control import Fault
from support.samples import bundle, codes, encounter, patient, results
from support.state import state
from support.world import ROOT, World, world
from support.writes import both_paths

# the children of a patient are located through their parent, and a row is written with what it points to
WRONG = {
    "read": {("prefix_patientidentifier", "prefix_patient"): {"contact": "prefix_patient_contact"}},
    "written": {("msemr_encounter", "msemr_encounterpatientidentifier"): {"contact": "msemr_Patient"}},
}


def maps(folder: Path, wrong: Mapping[tuple[str, str], Mapping[str, str]]) -> Path:
    """Return the shipped maps of what is sent, with facts that have these names."""
    made = folder / "maps"
    made.mkdir()
    for name in ("patient.yaml", "encounter.yaml"):
        shutil.copy(ROOT / "maps" / name, made / name)
    facts = json.loads((ROOT / "maps" / "metadata.json").read_text())
    for (table, column), names in wrong.items():
        known = facts["tables"][table]["columns"][column]["navigation"]
        assert known.keys() == names.keys()
        assert known != names
        known.update(names)
    (made / "metadata.json").write_text(json.dumps(facts))
    return made


def asked(it: World) -> list[str]:
    return [call["path"] for call in it.dataverse.calls if "EntityDefinitions" in call["path"]]


SENT = [patient(), encounter(), patient("p2"), encounter("e2", "Patient/p2")]


@both_paths
@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_names_are_put_right(tmp_path: Path, write: dict[str, Any], wrong: str) -> None:
    """A name that the org refuses is read from it, once per table and process; the rows are those of the right name."""
    ends = []
    for folder, facts in (("right", {}), ("wrong", WRONG[wrong])):
        (tmp_path / folder).mkdir()
        async with world(tmp_path / folder, maps=maps(tmp_path / folder, facts), **write) as it:
            await it.put(*SENT)
            reply = await it.post(bundle(*SENT))
            assert reply.body is not None
            assert reply.status == 200
            assert set(results(reply.body).values()) == {"created"}
            assert reply.body["receipt"]["rows"] == {"created": 14, "updated": 0}
            (row,) = await it.rows("contacts", "msemr_azurefhirid eq 'p1'")
            assert await it.relay.written.find("contact", row["contactid"], "lastname")
            await it.settle()
            assert await it.dead() == []
            assert len(asked(it)) == len(set(asked(it)))
            assert bool(asked(it)) == (folder == "wrong")
            it.forget_calls()
            reply = await it.post(bundle(*SENT))
            assert reply.body is not None
            assert set(results(reply.body).values()) == {"unchanged"}
            assert asked(it) == []
            ends.append(await state(it))
    assert ends[0] == ends[1]


@both_paths
@pytest.mark.parametrize("wrong", WRONG)
async def test_two_bundles_that_meet_a_wrong_name_at_once(tmp_path: Path, write: dict[str, Any], wrong: str) -> None:
    """Whichever of them learns the right names first, the other one goes through with them as well."""
    async with world(tmp_path, maps=maps(tmp_path, WRONG[wrong]), events=False, **write) as it:
        await it.put(*SENT)
        replies = await asyncio.gather(it.post(bundle(*SENT[:2])), it.post(bundle(*SENT[2:])))
        assert [reply.status for reply in replies] == [200, 200]
        told = [result for reply in replies for result in results(dict(reply.body or {})).values()]
        assert told == ["created"] * 4
        assert await it.dead() == []


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_org_that_does_not_tell(tmp_path: Path, wrong: str) -> None:
    """Where the org's definitions may not be read, the refusal stands: for the resource, or where nothing can be read for the bundle."""
    async with world(tmp_path, maps=maps(tmp_path, WRONG[wrong]), events=False) as it:
        denied = {"error": {"code": "0x80040220", "message": "no"}}
        it.dataverse.faults.append(Fault(path="EntityDefinitions", times=0, status=403, body=denied))
        await it.put(*SENT)
        reply = await it.post(bundle(*SENT))
        assert reply.body is not None
        assert len(asked(it)) == len(set(asked(it))) > 0
        if wrong == "read":
            assert reply.status == 422
            assert reply.body["issues"][0]["code"] == "0x80060888"
            assert len(await it.dead()) == 1
            return
        assert reply.status == 207
        done = {"Patient/p1": "created", "Patient/p2": "created", "Encounter/e1": "failed", "Encounter/e2": "failed"}
        assert results(reply.body) == done
        assert codes(reply.body)["Encounter/e1"] == ["dataverse-0x80048d19"]


async def test_definitions_that_are_away(tmp_path: Path) -> None:
    """While the definitions do not answer, the bundle waits, and is done once they do."""
    async with world(tmp_path, maps=maps(tmp_path, WRONG["written"]), events=False) as it:
        it.dataverse.faults.append(Fault(path="EntityDefinitions", times=6))
        await it.put(*SENT)
        assert (await it.post(bundle(*SENT))).status == 202
        await it.settle()
        assert len(await it.rows("msemr_encounters")) == 2
        assert await it.dead() == []

"""What a lost answer, a store that fails or a rival in between do to a deletion and to a return: nothing that lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.control import Fault
from relay.dataverse.keys import row_key
from support.made_up import PRACTITIONER, maps_folder
from support.merges import (
    GONE,
    IN_USE,
    carried,
    deletion,
    known,
    patient_map,
    remove,
    removed,
    state,
    told,
)
from support.mishaps import Trial, once, writes_rows
from support.samples import bundle, patient
from support.users import saves
from support.world import rival, world

P1 = row_key("fhir", "Patient", "p1")


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_the_answer_to_the_write_is_lost(tmp_path: Path, policy: str) -> None:
    """Sent again at once, the write finds the row as it made it: that was the relay, and it can be brought back."""
    maps = maps_folder(tmp_path, patient_map(f"deletes: {policy}", versions=False), PRACTITIONER)
    async with world(tmp_path, maps=maps, events=False) as it:
        await known(it, patient())
        there = await it.read("Patient", "p1")
        await remove(it, "Patient/p1")
        it.dataverse.faults.append(Fault(path=r"\$batch", after=1, effect="lose"))
        await carried(it, deletion("Patient/p1"))
        assert await state(it) == ({"p1": 1} if policy == "deactivate" else {})
        await it.put(there)
        back = "reactivated" if policy == "deactivate" else ""
        outcome = await carried(it, bundle(there))
        assert told(outcome) == [("updated", [back]) if back else ("created", [])]
        assert await state(it) == {"p1": 0}


async def test_a_tombstone_that_was_left_behind(tmp_path: Path) -> None:
    """The store fails when a row is back: the next try takes the tombstone away, and what a user does then is the user's."""
    async with world(tmp_path, events=False) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        await it.put(patient())
        trial = Trial(first="store.delete_row tombstones", how="unreached").watch(it)
        assert (await it.post(bundle(patient()))).status == 202
        assert trial.struck
        await it.settle()
        assert await state(it) == {"p1": 0}
        await saves(it, "contacts", P1, **GONE)
        outcome = await carried(it, bundle(patient(birthDate="2000-01-01")))
        assert told(outcome) == [("updated", ["row-inactive"])]


async def test_a_user_who_brought_the_row_back_first(tmp_path: Path) -> None:
    """A row that a user put in use before the resource was back is, taken out of use later, the user's doing."""
    async with world(tmp_path, events=False) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        await saves(it, "contacts", P1, **IN_USE)
        await known(it, patient(birthDate="2000-01-01"))
        await saves(it, "contacts", P1, **GONE)
        outcome = await carried(it, bundle(patient(birthDate="2001-01-01")))
        assert told(outcome) == [("updated", ["row-inactive"])]


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_the_resource_is_put_back_meanwhile(tmp_path: Path, policy: str) -> None:
    """Another process carries the resource that is back between read and write: the server is asked again, the row stays."""
    maps = maps_folder(tmp_path, patient_map(f"deletes: {policy}", versions=False), PRACTITIONER)
    async with world(tmp_path, maps=maps, events=False) as it, rival(it, tmp_path) as other:
        await known(it, patient())
        await remove(it, "Patient/p1")
        back = patient(name=[{"family": "Back"}])
        once(it.to_dataverse, writes_rows, lambda: known(other, back))
        outcome = await carried(it, deletion("Patient/p1"))
        assert told(outcome) == [("skipped", ["not-deleted"])]
        assert await state(it) == {"p1": 0}
        assert await it.store.list_rows("tombstones") == []

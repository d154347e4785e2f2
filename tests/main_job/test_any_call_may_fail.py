"""Forwarded, deleted, merged, back: whichever call to the store or a server fails once, all ends as if none had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from relay.errors import StoreUnavailable
from relay.mapping.load import MapSet, load_maps
from support.forwarded import new
from support.made_up import PRACTITIONER, maps_folder
from support.merges import MERGED_INTO, deletion, patient_map, remove, replaced
from support.mishaps import Failure, Kill, Trial
from support.samples import bundle, encounter, patient
from support.state import state
from support.world import World, shipped_maps, world

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """The bundle that the relay gets once p2 was deleted, p3 merged and both told of; what happened since is in it.

    `deletes` is the policy of the maps, the shipped ones if it is empty; `forward` the setting.
    """

    sent: Json
    deletes: str = ""
    forward: bool = False


NEW = "urn:uuid:00000000-0000-4000-8000-000000000001"
CHANGED = patient(name=[{"family": "Changed"}])
ENDS: tuple[Json, ...] = (patient("p2"), patient("p3"), replaced("p4", "p1"))
"""Resources that are back, not replaced any more, and replaced."""

TOLD = {**bundle(CHANGED, *ENDS), "entry": [*bundle(CHANGED, *ENDS)["entry"], *deletion("Patient/p5")["entry"]]}
SENT = [new(encounter(subject=NEW)), {"fullUrl": NEW, **new(patient("p9"))}, *TOLD["entry"]]

CASES = {
    "deactivated": Case(TOLD, "deactivate"),
    "deleted": Case(TOLD, "delete"),
    "transaction": Case({"resourceType": "Bundle", "type": "transaction", "entry": SENT}, forward=True),
    "batch": Case({"resourceType": "Bundle", "type": "batch", "entry": SENT}, forward=True),
}


async def _before(it: World) -> None:
    """Have patients on both sides, one of them deleted and one replaced."""
    there = [patient(f"p{number}") for number in range(1, 6)]
    await it.put(*there)
    assert (await it.post(bundle(*there))).status == 200
    await remove(it, "Patient/p2")
    await it.put(replaced("p3", "p1"))
    told = bundle(replaced("p3", "p1"))
    told["entry"] += deletion("Patient/p2")["entry"]
    assert (await it.post(told)).status == 200
    await it.settle()


async def _run(folder: Path, maps: MapSet, case: Case, trial: Trial, patch: pytest.MonkeyPatch) -> Json:
    """Return what both databases hold in the end, and the tombstones, whatever the trial does to the relay."""
    async with world(folder, events=False) as it:
        it.relay.__dict__["maps"] = maps
        it.fhir.store._clock = it.clock
        await _before(it)
        if not case.forward:
            await it.put(CHANGED, *ENDS)
            await remove(it, "Patient/p5")
        it.relay = it.beside()
        it.relay.settings = it.relay.settings.model_copy(update={"forward": case.forward})
        patch.setattr("relay.inbound.service.uuid4", lambda: UUID(int=7))  # what ids of new resources are made of
        trial.watch(it)
        await _post(it, case.sent)
        for _ in range(8):
            try:
                await it.settle()
                break
            except Kill:
                await it.restart()
            except StoreUnavailable:
                continue
        patch.undo()
        it.relay = it.beside()
        it.to_fhir.before.clear()
        it.to_dataverse.before.clear()
        found = await state(it)
        found["tombstones"] = sorted(
            (row, {name: value for name, value in values.items() if name != "at"})
            for _, row, values in await it.store.list_rows("tombstones")
        )
        found["dead"] = await it.dead()
        found["left"] = [await it.store.length(queue) for queue in ("inbound", "writeback")]
        return found


async def _post(it: World, body: Json) -> None:
    """Send a bundle until it is accepted, as its sender would: an answer that never came is no reason to."""
    for _ in range(3):
        try:
            reply = await it.post(body)
        except Kill:
            await it.restart()
            if await it.store.length("inbound"):
                return
            continue
        if reply.status != 503:
            return


@pytest.mark.parametrize("name", CASES)
async def test_any_call_may_fail(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreached, its answer lost or the relay dead: retries end in the same rows, resources and tombstones."""
    case = CASES[name]
    text = patient_map(f"{MERGED_INTO}deletes: {case.deletes}")
    maps = load_maps(maps_folder(tmp_path, text, PRACTITIONER)) if case.deletes else shipped_maps()
    calm = Trial()
    wanted = await _run(tmp_path / "calm", maps, case, calm, monkeypatch)
    assert (wanted["dead"], wanted["left"]) == ([], [0, 0])
    assert len(wanted["tombstones"]) == 2
    # After the FHIR server has answered, a batch goes the way of a transaction.
    last = len(calm.seen)
    if name == "batch":
        last = max(at for at, what in enumerate(calm.seen) if what == "store.put_blob relay-forwards") + 1
    for at, what in enumerate(calm.seen[:last]):
        for how in _hows(what):
            trial = Trial(at, how=how)
            found = await _run(tmp_path / f"{at}-{how}", maps, case, trial, monkeypatch)
            assert trial.struck
            assert found == wanted, f"{how} {at}: {what}"


def _hows(what: str) -> tuple[Failure, ...]:
    """Return how a call is to fail; a store that was not reached is like one whose answer to the call before was lost."""
    if not what.startswith("store."):
        return "lost", "killed"
    return ("unreached",) if what.startswith(("store.get", "store.list")) else ("unreached", "killed")

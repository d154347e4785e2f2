"""Whatever goes wrong in Dataverse, wherever in the job: the two databases end as if nothing had, and the caller is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devstack.control import OF_EVENTS, Fault
from devstack.dataverse.troubles import TROUBLES
from support.samples import bundle, encounter, organization, patient
from support.state import state
from support.world import World, world

Write = dict[str, Any]

CALLS = {"path": r"\$batch|CreateMultiple"}
EVENTS = {name: each.fault for name, each in TROUBLES.items() if each.fault.get("effect") in OF_EVENTS}
WHOLE = {
    name: CALLS | each.fault for name, each in TROUBLES.items() if not each.fault.get("inside") and name not in EVENTS
}
ALONE = ("lost_response", "bulk_rollback", "no_bulk")
READS = {f"{name} in a read": WHOLE[name] | {"path": "", "inside": True} for name in WHOLE if name not in ALONE}
CHANGES = {name: {**each.fault} for name, each in TROUBLES.items() if each.fault.get("inside")}
CHANGES |= {
    f"{name} in a change": READS[f"{name} in a read"] | {"method": "PATCH"} for name in WHOLE if name not in ALONE
}
FAULTS = WHOLE | READS | CHANGES
IN_BULK: Write = {"write": "auto", "bulk_from": 1, "bulk_rows": 2}
IN_BATCHES: Write = {"write": "fewest-calls"}

CASES = [
    *((name, after, IN_BULK) for name in WHOLE for after in (1, 3)),
    *((name, after, IN_BATCHES) for name in WHOLE if name not in ("bulk_rollback", "no_bulk") for after in (0, 1)),
    *((name, 0, IN_BATCHES) for name in READS),
    *((name, 0, write) for name in CHANGES for write in (IN_BULK, IN_BATCHES)),
]
"""Which fault, after how many calls (or operations of batches), in which way to write."""

SENT = [
    *(encounter(f"e{n}", f"Patient/p{n}", priority={"coding": [{"code": "EM"}]}) for n in range(3)),
    *(patient(f"p{n}") for n in range(5)),
    organization("o1", partOf={"reference": "Organization/o2"}),
    organization("o2", partOf={"reference": "Organization/o1"}),
]


def changed() -> list[dict[str, Any]]:
    """Return the same resources, later: names changed, identifiers come and gone."""
    later = [patient(f"p{n}", identifiers=3 if n % 2 else 1) for n in range(5)]
    for each in later:
        each["name"][0]["family"] += " changed"
    return [*SENT[:3], *later, *SENT[-2:], patient("p9")]


async def job(it: World, *faults: dict[str, Any], twice: bool = False) -> dict[str, Any]:
    """Send the resources, and later their changes, with the faults each time, and return what there is in the end."""
    await it.put(*SENT, patient("p9"))
    struck = not faults
    for sent in (SENT, changed()):
        it.dataverse.faults[:] = [Fault(**fault) for fault in faults]
        reply = await it.post(bundle(*sent))
        assert reply.status in (200, 202)
        for body in it.events[:] if twice else ():
            await it.relay.take_event(body)
        await it.settle()
        done = await it.relay.inbound.status(reply.job)
        assert done.body is not None
        assert (done.status, done.body["status"]) == (200, "succeeded")
        struck |= len(it.dataverse.faults) < len(faults)
    assert struck, "a test without its fault tests nothing"
    assert await it.dead() == []
    assert await it.store.length("inbound") == await it.store.length("writeback") == 0
    return await state(it)


_kept: list[dict[str, Any]] = []


async def undisturbed(folder: Path) -> dict[str, Any]:
    """Return what there is after a job in which nothing goes wrong; done once."""
    if not _kept:
        async with world(folder / "undisturbed", **IN_BATCHES) as it:
            _kept.append(await job(it))
    return _kept[0]


@pytest.mark.parametrize(("name", "after", "write"), CASES)
async def test_a_fault(tmp_path: Path, name: str, after: int, write: Write) -> None:
    """Each fault, struck at the first, second or fourth call, or inside of one: same rows, same resources, no error."""
    wanted = await undisturbed(tmp_path)
    async with world(tmp_path, **write) as it:
        assert await job(it, {**FAULTS[name], "after": after}) == wanted


@pytest.mark.parametrize("write", [IN_BULK, IN_BATCHES], ids=["bulk", "batches"])
@pytest.mark.parametrize("name", EVENTS)
async def test_events_that_go_astray(tmp_path: Path, name: str, write: Write) -> None:
    """Events that are lost, doubled or out of order change nothing of what the relay itself has written back."""
    wanted = await undisturbed(tmp_path)
    async with world(tmp_path, **write) as it:
        assert await job(it, {**EVENTS[name], "times": 3}) == wanted


@pytest.mark.parametrize("write", [IN_BULK, IN_BATCHES], ids=["bulk", "batches"])
@pytest.mark.parametrize("name", [name for name in EVENTS if name != "lost_event"])
async def test_events_that_are_all_there_is(tmp_path: Path, name: str, write: Write) -> None:
    """Where the events alone cause the write-back, they may come twice and in any order."""
    wanted = await undisturbed(tmp_path)
    async with world(tmp_path, writeback="event", **write) as it:
        assert await job(it, {**EVENTS[name], "times": 3}) == wanted


@pytest.mark.parametrize("write", [IN_BULK, IN_BATCHES], ids=["bulk", "batches"])
@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_events_that_come_twice(tmp_path: Path, writeback: str, write: Write) -> None:
    """Every event delivered once more changes nothing."""
    wanted = await undisturbed(tmp_path)
    async with world(tmp_path, writeback=writeback, **write) as it:
        assert await job(it, twice=True) == wanted


@pytest.mark.parametrize("write", [IN_BULK, IN_BATCHES], ids=["bulk", "batches"])
@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_every_fault_in_one_job(tmp_path: Path, writeback: str, write: Write) -> None:
    """All of them, one soon after the other."""
    wanted = await undisturbed(tmp_path)
    async with world(tmp_path, writeback=writeback, **write) as it:
        faults = [{**fault, "after": number} for number, fault in enumerate(FAULTS.values())]
        assert await job(it, *faults) == wanted

"""Whatever goes wrong in Dataverse while a crowd of changes is carried out together, all ends as if each had gone alone and well."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from devstack.control import OF_EVENTS, Fault
from devstack.dataverse.troubles import TROUBLES
from relay.inbound.change import Change
from support.samples import encounter, patient
from support.state import state
from support.world import World, world

TROUBLE = {name: each.fault for name, each in TROUBLES.items() if each.fault.get("effect") not in OF_EVENTS}
IN_BULK = ("bulk_rollback", "no_bulk")
CALLS = {"path": r"\$batch|CreateMultiple"}  # not what is read of tables beside the job

CASES = [
    *((name, after) for name, fault in TROUBLE.items() if not fault.get("inside") for after in (1, 3, 5)),
    *((name, 0) for name, fault in TROUBLE.items() if fault.get("inside")),
]

PUT = [*(encounter(f"e{n}", f"Patient/p{n}") for n in range(3)), *(patient(f"p{n}") for n in range(6))]
LATER = [patient(f"p{n}", identifiers=3 if n % 2 else 1, gender="male") for n in range(6)]


async def job(it: World, *, crowd: bool, fault: dict[str, Any] | None = None) -> dict[str, Any]:
    """Have the server tell of each resource, and later of its change, in a message each; return what there is in the end."""
    struck = False
    for resources in (PUT, LATER):
        await it.put(*resources)
        faults = [Fault(**fault)] if fault else []
        it.dataverse.faults[:] = faults
        for each in resources:
            await it.relay.inbound.changes([Change("test", each["resourceType"], each["id"], None, "update", None)])
        if crowd:
            await it.work_at_once()
        await it.settle()
        struck |= len(it.dataverse.faults) < len(faults)
    assert struck or not fault, "a test without its fault tests nothing"
    assert await it.dead() == []
    assert await it.store.length("inbound") == await it.store.length("writeback") == 0
    return await state(it)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what there is when one goes after the other and nothing goes wrong."""

    async def run() -> dict[str, Any]:
        async with world(tmp_path_factory.mktemp("alone")) as it:
            return await job(it, crowd=False)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "write", [{"bulk_from": 1, "bulk_rows": 2}, {}, {"write": "fewest-calls"}], ids=["bulk", "apart", "one"]
)
async def test_a_crowd(tmp_path: Path, wanted: dict[str, Any], write: dict[str, Any]) -> None:
    """However it is written, a crowd leaves the rows and resources that one after the other leaves."""
    async with world(tmp_path, **write) as it:
        assert await job(it, crowd=True) == wanted


@pytest.mark.parametrize(("name", "after"), CASES)
async def test_a_fault_in_a_crowd(tmp_path: Path, wanted: dict[str, Any], name: str, after: int) -> None:
    """Each fault, struck in the group that goes alone, in that of the crowd, and later: the same, and nobody needs a person."""
    fault = (
        TROUBLE[name] | {"after": after} if TROUBLE[name].get("inside") else CALLS | TROUBLE[name] | {"after": after}
    )
    async with world(tmp_path, bulk_from=1 if name in IN_BULK else 100) as it:
        assert await job(it, crowd=True, fault=fault) == wanted

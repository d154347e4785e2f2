"""However versions, deletions and merges of one resource arrive, the row ends as the resource is on the FHIR server."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.dataverse.keys import row_key
from support.made_up import maps_folder
from support.merges import MERGED_INTO, deletion, patient_map, remove, replaced
from support.samples import bundle, patient
from support.world import World, world

SURVIVOR = row_key("fhir", "Patient", "p2")

steps = st.lists(st.sampled_from(["put", "delete", "merge"]), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    done=steps,
    policy=st.sampled_from(["deactivate", "delete"]),
    write=st.sampled_from(["auto", "fewest-calls"]),
    data=st.data(),
)
def test_the_row_ends_as_the_resource_does(done: list[str], policy: str, write: str, data: st.DataObject) -> None:
    """Told late, twice or out of order: the row is in use if the resource is, has its last values, points to its survivor."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder), done, policy, write, data))


async def _play(folder: Path, done: list[str], policy: str, write: str, data: st.DataObject) -> None:
    maps = maps_folder(folder, patient_map(f"{MERGED_INTO}deletes: {policy}", identifier=False))
    async with world(folder, maps=maps, write=write, fhir_versions="ordered", events=False) as it:
        await it.put(patient("p2"))
        await it.post(bundle(patient("p2")))
        untold: list[dict[str, Any]] = []
        for number, step in enumerate(done):
            untold.append(await _change(it, step, f"Name {number}"))
            for _ in range(data.draw(st.integers(0, 2), label="told now")):
                await it.post(data.draw(st.sampled_from(untold), label="what"))
        for sent in data.draw(st.permutations([*untold, *untold[:2]]), label="told in the end"):
            assert (await it.post(sent)).status == 200
        rows = [row for row in await it.rows("contacts") if row["msemr_azurefhirid"] == "p1"]
        found = [(row["statecode"], row["lastname"], row["_msemr_link1_value"]) for row in rows]
        last = f"Name {len(done) - 1}"
        match done[-1]:
            case "put":
                assert found == [(0, last, None)]
            case "merge":
                assert found == [(1, last, SURVIVOR)]
            case _ if policy == "delete":
                assert found == []
            case _:
                assert [state for state, *_ in found] in ([], [1])


async def _change(it: World, step: str, name: str) -> dict[str, Any]:
    """Change the resource on the FHIR server and return the bundle that tells of it."""
    if step == "delete":
        await remove(it, "Patient/p1")
        return deletion("Patient/p1")
    named = {"name": [{"family": name}]}
    await it.put(replaced("p1", "p2", **named) if step == "merge" else patient("p1", **named))
    return bundle(await it.read("Patient", "p1"))

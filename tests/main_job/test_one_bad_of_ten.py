"""One bad resource of ten fails alone and whole: the nine others are done, and its reason is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.made_up import wider_maps
from support.samples import bundle, codes, encounter, patient, results
from support.world import World, world
from support.writes import both_paths

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

TOO_LONG = "L" * 60
REFUSED = "dataverse-0x80044331"


@pytest.fixture(name="wider_maps")
def _wider_maps(tmp_path: Path) -> Path:
    return wider_maps(tmp_path)


def ten(*bad: int) -> list[dict[str, Any]]:
    """Return ten patients; the bad ones have a last name that Dataverse does not take."""
    sent = [patient(f"p{number}") for number in range(10)]
    for number in bad:
        sent[number]["name"][0]["family"] = TOO_LONG
    return sent


async def in_step(it: World, numbers: set[int]) -> None:
    """Assert that these patients and no others have rows, children and identifiers."""
    await it.settle()
    rows = {each["msemr_azurefhirid"]: each["contactid"] for each in await it.rows("contacts")}
    assert rows.keys() == {f"p{number}" for number in numbers}
    parents = [each["_prefix_patient_value"] for each in await it.rows("prefix_patientidentifiers")]
    assert {guid: parents.count(guid) for guid in rows.values()} == dict.fromkeys(rows.values(), 3)
    assert len(parents) == 3 * len(rows), "no child of a resource that failed"
    assert [it.versions(f"Patient/p{n}") for n in range(10)] == [2 if n in numbers else 1 for n in range(10)]
    assert await it.dead() == []


@both_ways
@both_paths
async def test_one_that_dataverse_refuses(
    tmp_path: Path, wider_maps: Path, writeback: str, write: dict[str, Any]
) -> None:
    """Dataverse refuses one row: none of its children is written, the outcome has Dataverse's code and the column."""
    async with world(tmp_path, writeback=writeback, **write, maps=wider_maps) as it:
        await it.put(*ten(4))
        reply = await it.post(bundle(*ten(4)))
        assert reply.body is not None
        assert reply.status == 207
        assert results(reply.body) == {f"Patient/p{n}": "failed" if n == 4 else "created" for n in range(10)}
        assert codes(reply.body)["Patient/p4"] == [REFUSED]
        entry = reply.body["entries"][4]
        assert (entry["row"], entry["children"], entry["writeback"]) == (None, [], "none")
        assert entry["issues"][-1]["at"] == "lastname"
        assert TOO_LONG not in json.dumps(reply.body)
        await in_step(it, set(range(10)) - {4})


@both_ways
@both_paths
async def test_one_that_mapping_refuses(tmp_path: Path, writeback: str, write: dict[str, Any]) -> None:
    """The map itself cannot take one resource: it fails before anything is written, with its reason."""
    async with world(tmp_path, writeback=writeback, **write) as it:
        await it.put(*ten(4))
        reply = await it.post(bundle(*ten(4)))
        assert reply.body is not None
        assert reply.status == 207
        assert [each["result"] for each in reply.body["entries"]].count("created") == 9
        (code,) = codes(reply.body)["Patient/p4"]
        assert not code.startswith("dataverse-")
        await in_step(it, set(range(10)) - {4})


@both_ways
async def test_child_that_dataverse_refuses(tmp_path: Path, writeback: str) -> None:
    """A refusal of a later operation of a resource takes its row back too: nothing of it is half written."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*ten())
        facts = it.dataverse.metadata.tables["prefix_patientidentifier"].columns["prefix_value"]
        sent = ten()
        sent[4]["identifier"][1]["value"] = "V" * 500
        before = facts.max_length
        object.__setattr__(facts, "max_length", 400)
        try:
            reply = await it.post(bundle(*sent))
        finally:
            object.__setattr__(facts, "max_length", before)
        assert reply.body is not None
        assert (reply.status, codes(reply.body)["Patient/p4"]) == (207, [REFUSED])
        await in_step(it, set(range(10)) - {4})


@both_ways
async def test_all_ten_bad(tmp_path: Path, wider_maps: Path, writeback: str) -> None:
    """When all fail the answer is 422, each with its reason, and neither side has changed."""
    async with world(tmp_path, writeback=writeback, maps=wider_maps) as it:
        await it.put(*ten(*range(10)))
        reply = await it.post(bundle(*ten(*range(10))))
        assert reply.body is not None
        assert (reply.status, reply.body["status"]) == (422, "failed")
        assert codes(reply.body) == {f"Patient/p{number}": [REFUSED] for number in range(10)}
        await in_step(it, set())


@both_ways
async def test_resource_that_refers_to_the_bad_one(tmp_path: Path, wider_maps: Path, writeback: str) -> None:
    """What refers to a refused resource is not written without it: it fails with `unresolved-reference`, the rest is done."""
    async with world(tmp_path, writeback=writeback, maps=wider_maps) as it:
        sent = [*ten(4), encounter("e4", "Patient/p4"), encounter("e5", "Patient/p5")]
        await it.put(*sent)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 207
        assert codes(reply.body)["Encounter/e4"] == ["unresolved-reference"]
        assert results(reply.body)["Encounter/e5"] == "created"
        assert len(await it.rows("msemr_encounters")) == 1
        await in_step(it, set(range(10)) - {4})


@both_ways
async def test_corrected_one_goes_through(tmp_path: Path, wider_maps: Path, writeback: str) -> None:
    """The failed resource, corrected and sent with the others again, is created; the nine are unchanged."""
    async with world(tmp_path, writeback=writeback, maps=wider_maps) as it:
        await it.put(*ten())
        await it.post(bundle(*ten(4)))
        await it.settle()
        reply = await it.post(bundle(*ten()))
        assert reply.body is not None
        assert results(reply.body) == {f"Patient/p{n}": "created" if n == 4 else "unchanged" for n in range(10)}
        await in_step(it, set(range(10)))

"""Resources that point to each other in a circle: rows first, then one more update closes the circle, in one POST."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from relay.inbound.carry import ROUNDS
from support.refusals import closes_a_cycle, holds, refuses
from support.samples import bundle, codes, encounter, patient, results
from support.state import state
from support.world import URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

PARENT = "_msemr_encounterparentencounteridentifier_value"
SYSTEM = URN.format("encounter")
UNFIT = "0x80040203"


def part(fhir_id: str, of: str, **more: Any) -> dict[str, Any]:
    """Return an encounter that is part of another one."""
    return encounter(fhir_id, partOf={"reference": f"Encounter/{of}"}, **more)


async def parents(it: World) -> dict[str, str | None]:
    """Return encounter → encounter that its row points to, by FHIR id."""
    rows = await it.rows("msemr_encounters")
    ids = {each["msemr_encounterid"]: each["msemr_azurefhirid"] for each in rows}
    return {each["msemr_azurefhirid"]: ids.get(each[PARENT]) for each in rows}


async def told(it: World, fhir_id: str) -> bool:
    """Tell whether the resource carries the GUID of its row."""
    rows = await it.rows("msemr_encounters", f"msemr_azurefhirid eq '{fhir_id}'")
    identifiers = (await it.read("Encounter", fhir_id)).get("identifier", [])
    return [each["value"] for each in identifiers if each["system"] == SYSTEM] == [
        each["msemr_encounterid"] for each in rows
    ]


CIRCLES = {
    "itself": {"a": "a"},
    "two": {"a": "b", "b": "a"},
    "three": {"a": "b", "b": "c", "c": "a"},
    "two and one that hangs on them": {"a": "b", "b": "c", "c": "b"},
    "two circles, one on the other": {"a": "b", "b": "a", "c": "d", "d": "c"},
}


@both_ways
@pytest.mark.parametrize("circle", CIRCLES)
async def test_a_circle_is_closed(tmp_path: Path, writeback: str, circle: str) -> None:
    """Every row points where its resource does after one POST, and the same bundle again writes nothing."""
    wanted = CIRCLES[circle]
    async with world(tmp_path, writeback=writeback) as it:
        sent = [part(each, of) for each, of in wanted.items()]
        await it.put(patient(), *(encounter(each) for each in wanted))
        await it.put(*sent)
        before = {each: it.versions(f"Encounter/{each}") for each in wanted}
        reply = await it.post(bundle(*sent, patient()))
        assert reply.body is not None
        assert reply.status == 200
        assert set(results(reply.body).values()) == {"created"}
        assert reply.body["receipt"]["calls"]["dataverse"] == 2
        assert await parents(it) == wanted
        await it.settle()
        assert {each: it.versions(f"Encounter/{each}") - 1 for each in wanted} == before
        assert all([await told(it, each) for each in wanted])
        rows = await it.rows("msemr_encounters")
        reply = await it.post(bundle(*sent, patient()))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"unchanged"}
        assert await it.rows("msemr_encounters") == rows


async def test_order_means_nothing(tmp_path: Path) -> None:
    """A circle sent in any order ends in the same rows."""
    sent = [patient(), part("a", "b"), part("b", "a")]
    ends = []
    for number, order in enumerate(permutations(sent)):
        async with world(tmp_path / str(number), events=False) as it:
            assert (await it.post(bundle(*order))).status == 200
            ends.append(await state(it))
    assert all(end == ends[0] for end in ends)


async def test_only_members_of_a_circle_wait_for_their_reference(tmp_path: Path) -> None:
    """What hangs on a circle is written after it, whole; only one update more is made, for the circle's lowest entry."""
    async with world(tmp_path, events=False) as it:
        struck = refuses(it, closes_a_cycle, 400, UNFIT)
        await it.post(bundle(patient(), part("a", "b"), part("b", "c"), part("c", "b")))
        assert len(struck) == 1
        assert await parents(it) == {"a": "b", "b": None, "c": "b"}


@both_ways
async def test_a_circle_that_cannot_be_closed(tmp_path: Path, writeback: str) -> None:
    """A refused last update is told as that entry's failure; its row is there, and so its GUID is written back."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), encounter("a"), encounter("b"))
        struck = refuses(it, closes_a_cycle, 400, UNFIT)
        reply = await it.post(bundle(patient(), part("a", "b"), part("b", "a")))
        assert reply.body is not None
        assert (reply.status, len(struck)) == (207, 1)
        assert codes(reply.body) == {"Patient/p1": [], "Encounter/a": [f"dataverse-{UNFIT}"], "Encounter/b": []}
        (row,) = await it.rows("msemr_encounters", "msemr_azurefhirid eq 'a'")
        entry = reply.body["entries"][1]
        assert (entry["result"], entry["row"]["id"]) == ("failed", row["msemr_encounterid"])
        assert [each["result"] for each in entry["children"]] == ["created"] * len(entry["children"])
        assert entry["writeback"] == ("written" if writeback == "inline" else "queued")
        await it.settle()
        assert await told(it, "a")
        assert await told(it, "b")
        assert await it.dead() == []


@both_ways
@pytest.mark.parametrize("code", [UNFIT, "0x80060892"])
async def test_a_circle_that_loses_a_member(tmp_path: Path, writeback: str, code: str) -> None:
    """A row that was made before another one of its circle was refused is not lost from sight: its GUID is written back."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), encounter("a"), encounter("b"))
        refuses(it, holds("b"), 400, code)
        reply = await it.post(bundle(patient(), part("a", "b"), part("b", "a")))
        assert reply.body is not None
        assert reply.status == 207
        assert results(reply.body) == {"Patient/p1": "created", "Encounter/a": "failed", "Encounter/b": "failed"}
        (row,) = await it.rows("msemr_encounters")
        assert (row["msemr_azurefhirid"], row[PARENT]) == ("a", None)
        assert reply.body["entries"][1]["row"]["id"] == row["msemr_encounterid"]
        assert reply.body["entries"][2]["row"] is None
        await it.settle()
        assert await told(it, "a")
        assert it.versions("Encounter/b") == 1
        it.relay.dataverse.__dict__.pop("batch")
        reply = await it.post(bundle(patient(), part("a", "b"), part("b", "a")))
        assert reply.status == 200
        assert await parents(it) == {"a": "b", "b": "a"}


@both_ways
async def test_a_circle_whose_end_is_lost_every_round(tmp_path: Path, writeback: str) -> None:
    """A last update that `loses` for ever ends as that entry's failure, at once, and its row is told all the same."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), encounter("a"), encounter("b"))
        struck = refuses(it, closes_a_cycle, 404, "0x80040217")
        reply = await it.post(bundle(patient(), part("a", "b"), part("b", "a")))
        assert reply.body is not None
        assert (reply.status, len(struck)) == (207, ROUNDS)
        assert codes(reply.body) == {"Patient/p1": [], "Encounter/a": ["dataverse-0x80040217"], "Encounter/b": []}
        (row,) = await it.rows("msemr_encounters", "msemr_azurefhirid eq 'a'")
        assert reply.body["entries"][1]["row"]["id"] == row["msemr_encounterid"]
        await it.settle()
        assert await told(it, "a")


async def test_a_member_with_too_many_rows(tmp_path: Path) -> None:
    """A member that is refused before anything is written takes the others with it: no row stands without its reference."""
    many = [{"system": "https://site.example/n", "value": str(number)} for number in range(1001)]
    async with world(tmp_path, events=False) as it:
        await it.put(patient())
        sent = [patient(), part("a", "b"), part("b", "a", identifier=many), part("c", "a")]
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        found = {"Encounter/a": ["unresolved-reference"], "Encounter/b": ["too-many-rows"]}
        assert codes(reply.body) == {"Patient/p1": [], **found, "Encounter/c": ["unresolved-reference"]}
        assert await it.rows("msemr_encounters") == []

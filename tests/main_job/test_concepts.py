"""Codeable concepts: made once, whoever needs them and whoever else makes them, and never taken for another one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.dataverse.keys import concept_keys
from support.mishaps import once, overhear, writes_rows
from support.samples import bundle, encounter, patient, results
from support.users import makes, saves
from support.world import World, shipped_maps, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

CONCEPTS = "msemr_codeableconcepts"
PRIORITY = "_msemr_encounterpriority_value"
TYPES = {
    label: number
    for number, label in shipped_maps().tables["msemr_codeableconcept"].columns["msemr_type"].options.items()
}
PRIORITY_TYPE = TYPES["Priority"]
DUPLICATE = "0x80040237"


def urgent(fhir_id: str = "e1", code: str = "EM", **more: Any) -> dict[str, Any]:
    """Return an encounter with a priority."""
    return encounter(fhir_id, priority={"coding": [{"code": code, "display": f"Display {code}"}]}, **more)


async def priorities(it: World) -> dict[str, str]:
    """Return encounter → code of the concept that its row points to."""
    concepts = {each["msemr_codeableconceptid"]: each["msemr_code"] for each in await it.rows(CONCEPTS)}
    return {each["msemr_azurefhirid"]: concepts[each[PRIORITY]] for each in await it.rows("msemr_encounters")}


async def only_concept(it: World) -> dict[str, Any]:
    """Return the one concept row there is."""
    (row,) = await it.rows(CONCEPTS)
    return row


@both_ways
async def test_several_resources_need_a_new_one(tmp_path: Path, writeback: str) -> None:
    """It is made once, before them, in the same call, under the first derived key."""
    async with world(tmp_path, writeback=writeback) as it:
        asked: list[bytes] = []

        async def note(request: httpx.Request) -> None:
            asked.append(request.content)

        it.to_dataverse.before.append(note)
        reply = await it.post(bundle(patient(), *(urgent(f"e{number}") for number in range(5))))
        assert reply.body is not None
        assert reply.status == 200
        assert reply.body["receipt"]["calls"]["dataverse"] == 2
        assert sum(body.count(b"/msemr_codeableconcepts?tag=") for body in asked) == 1
        row = await only_concept(it)
        assert row["msemr_codeableconceptid"] == next(concept_keys(row["msemr_type"], "EM"))
        assert (row["msemr_type"], row["msemr_code"], row["msemr_name"]) == (PRIORITY_TYPE, "EM", "Display EM")
        assert await priorities(it) == {f"e{number}": "EM" for number in range(5)}
        it.forget_calls()
        again = await it.post(bundle(urgent()))
        assert again.body is not None
        assert results(again.body) == {"Encounter/e1": "unchanged"}
        assert await only_concept(it) == row


@both_ways
async def test_two_bundles_need_a_new_one_at_once(tmp_path: Path, writeback: str) -> None:
    """Two bundles that both found it missing end with one row, both bound to it; the loser is not put off."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.post(bundle(patient()))
        located = asyncio.Barrier(2)

        async def together(request: Any) -> None:
            if writes_rows(request):
                it.to_dataverse.before.clear() if located.n_waiting else None
                await located.wait()

        heard = overhear(it.to_dataverse)
        it.to_dataverse.before.append(together)
        replies = await asyncio.gather(*(it.post(bundle(urgent(each))) for each in ("e1", "e2")))
        assert [each.status for each in replies] == [200, 200]
        assert sum(DUPLICATE in each for each in heard) == 1
        assert (await only_concept(it))["msemr_code"] == "EM"
        assert await priorities(it) == {"e1": "EM", "e2": "EM"}
        await it.settle()
        assert await it.store.length("inbound") == 0


@both_ways
async def test_the_users_own(tmp_path: Path, writeback: str) -> None:
    """A concept that the site has is used as it is; of two alike it is the one of the lower GUID, every time."""
    async with world(tmp_path, writeback=writeback) as it:
        low, high = (f"{digit}2345678-0000-4000-8000-000000000000" for digit in "19")
        for guid in (high, low):
            await makes(it, CONCEPTS, msemr_codeableconceptid=guid, msemr_type=PRIORITY_TYPE, msemr_code="EM")
        before = await it.rows(CONCEPTS)
        assert (await it.post(bundle(patient(), urgent("e1"), urgent("e2")))).status == 200
        assert {each[PRIORITY] for each in await it.rows("msemr_encounters")} == {low}
        assert await it.rows(CONCEPTS) == before


@both_ways
async def test_a_user_makes_it_meanwhile(tmp_path: Path, writeback: str) -> None:
    """Where (type, code) is an alternate key, a user's row made just before ours is found and bound, in the same POST."""
    async with world(tmp_path, writeback=writeback) as it:
        it.dataverse.declare_key("msemr_codeableconcept", "msemr_type", "msemr_code")
        await it.post(bundle(patient()))
        once(
            it.to_dataverse,
            writes_rows,
            lambda: makes(it, CONCEPTS, msemr_type=PRIORITY_TYPE, msemr_code="EM", msemr_name="By hand"),
        )
        assert (await it.post(bundle(urgent()))).status == 200
        assert (await only_concept(it))["msemr_name"] == "By hand"
        assert await priorities(it) == {"e1": "EM"}


@both_ways
@pytest.mark.parametrize(
    "columns", [{"msemr_code": "ROUTINE"}, {"msemr_type": TYPES["Admit Source"]}], ids=["code", "type"]
)
async def test_a_concept_that_a_user_made_another_of(tmp_path: Path, writeback: str, columns: dict[str, Any]) -> None:
    """The row is the user's now: who comes later gets a row under the next key, and is not bound to the wrong code."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.post(bundle(patient(), urgent("e1")))
        first = await only_concept(it)
        await saves(it, CONCEPTS, first["msemr_codeableconceptid"], **columns)
        (edited,) = await it.rows(CONCEPTS)
        reply = await it.post(bundle(urgent("e2")))
        assert reply.status == 200
        rows = {each["msemr_codeableconceptid"]: each for each in await it.rows(CONCEPTS)}
        keys = list(concept_keys(PRIORITY_TYPE, "EM"))
        assert rows.keys() == set(keys[:2])
        assert rows[keys[0]] == edited
        assert (rows[keys[1]]["msemr_type"], rows[keys[1]]["msemr_code"]) == (PRIORITY_TYPE, "EM")
        bound = {each["msemr_azurefhirid"]: each[PRIORITY] for each in await it.rows("msemr_encounters")}
        assert bound == {"e1": keys[0], "e2": keys[1]}, "what nobody sent again keeps what the user said of it"
        reply = await it.post(bundle(urgent("e1"), urgent("e2")))
        assert reply.body is not None
        assert results(reply.body) == {"Encounter/e1": "updated", "Encounter/e2": "unchanged"}
        assert {each[PRIORITY] for each in await it.rows("msemr_encounters")} == {keys[1]}


async def test_every_key_of_a_concept_is_taken(tmp_path: Path) -> None:
    """When users made other concepts of all its rows, the resource that needs it fails and says where."""
    async with world(tmp_path, events=False) as it:
        for number, key in enumerate(concept_keys(PRIORITY_TYPE, "EM")):
            columns = {"msemr_type": PRIORITY_TYPE, "msemr_code": f"OTHER {number}"}
            await makes(it, CONCEPTS, msemr_codeableconceptid=key, **columns)
        reply = await it.post(bundle(patient(), urgent("e1"), encounter("e2")))
        assert reply.body is not None
        assert reply.status == 207
        (issue,) = (each for each in reply.body["entries"][1]["issues"] if each["severity"] == "error")
        assert (issue["code"], issue["at"]) == ("identity-conflict", "msemr_encounterpriority")
        assert [each["msemr_azurefhirid"] for each in await it.rows("msemr_encounters")] == ["e2"]


async def test_a_concept_of_a_refused_resource(tmp_path: Path) -> None:
    """A resource that is not written leaves no concept behind."""
    many = [{"system": "https://site.example/n", "value": str(number)} for number in range(1001)]
    async with world(tmp_path, events=False) as it:
        assert (await it.post(bundle(patient(), urgent(identifier=many)))).status == 207
        assert await it.rows(CONCEPTS) == []

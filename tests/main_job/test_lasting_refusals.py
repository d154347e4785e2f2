"""A refusal that lasts ends with its reason, for that resource alone; only what can pass by itself is tried again later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.inbound.carry import ROUNDS
from support.refusals import creates, holds, refuses
from support.samples import PATIENT, bundle, codes, encounter, patient, results
from support.state import state
from support.users import makes
from support.world import World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

STALE = "0x80060882"
KEY_TAKEN = "0x80060892"
PRIVILEGE = "0x80040220"
DEADLOCK = "0x80040255"

PRIORITY = {"priority": {"coding": [{"code": "EM", "display": "Emergency"}]}}


def at_work(fhir_id: str, phone: str) -> dict[str, Any]:
    """Return a patient with a telephone at work."""
    return patient(fhir_id, telecom=[{"system": "phone", "use": "work", "value": phone}])


async def in_step(it: World, *ids: str) -> None:
    """Assert that these patients have a row and a second version, that no others have, and that nothing waits."""
    await it.settle()
    assert sorted(each["msemr_azurefhirid"] for each in await it.rows("contacts")) == sorted(ids)
    assert [it.versions(f"Patient/{each}") for each in ids] == [2] * len(ids)
    assert await it.store.length("inbound") == 0
    assert await it.dead() == []


@both_ways
async def test_an_alternate_key_of_the_site(tmp_path: Path, writeback: str) -> None:
    """A second patient with a telephone that must be unique fails with that code; the others of the bundle are done."""
    async with world(tmp_path, writeback=writeback) as it:
        it.dataverse.declare_key("contact", "telephone1")
        sent = [at_work("p1", "111"), at_work("p2", "111"), at_work("p3", "333")]
        await it.put(*sent)
        it.forget_calls()
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 207
        assert codes(reply.body) == {"Patient/p1": [], "Patient/p2": [f"dataverse-{KEY_TAKEN}"], "Patient/p3": []}
        entry = reply.body["entries"][1]
        assert (entry["row"], entry["children"], entry["writeback"]) == (None, [], "none")
        assert it.calls()["dataverse"] <= 3 * ROUNDS
        await in_step(it, "p1", "p3")
        assert it.versions("Patient/p2") == 1


@both_ways
async def test_an_alternate_key_violated_by_a_change(tmp_path: Path, writeback: str) -> None:
    """A change that takes another patient's telephone fails in the same way, and the row stays as it was."""
    async with world(tmp_path, writeback=writeback) as it:
        it.dataverse.declare_key("contact", "telephone1")
        await it.put(at_work("p1", "111"), at_work("p2", "222"))
        await it.post(bundle(at_work("p1", "111"), at_work("p2", "222")))
        await it.settle()
        before = await state(it)
        reply = await it.post(bundle(at_work("p1", "111"), at_work("p2", "111")))
        assert reply.body is not None
        assert (reply.status, codes(reply.body)["Patient/p2"]) == (207, [f"dataverse-{KEY_TAKEN}"])
        assert results(reply.body)["Patient/p1"] == "unchanged"
        assert await state(it) == before
        await in_step(it, "p1", "p2")


@both_ways
async def test_what_refers_to_the_refused_one(tmp_path: Path, writeback: str) -> None:
    """An encounter of the refused patient fails with it, and nothing of it is written."""
    async with world(tmp_path, writeback=writeback) as it:
        it.dataverse.declare_key("contact", "telephone1")
        sent = [encounter("e2", "Patient/p2"), at_work("p1", "111"), at_work("p2", "111"), encounter("e1")]
        await it.put(*sent)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 207
        failed = {name for name, result in results(reply.body).items() if result == "failed"}
        assert failed == {"Encounter/e2", "Patient/p2"}
        assert [each["msemr_azurefhirid"] for each in await it.rows("msemr_encounters")] == ["e1"]


@both_ways
@pytest.mark.parametrize("code", ["0x80040237", KEY_TAKEN, "0x80040217"])
async def test_a_race_that_is_lost_every_round(tmp_path: Path, writeback: str, code: str) -> None:
    """What still says `taken` or `missing` after every round is no race: failed with that code, not 202."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), patient("p2"))
        struck = refuses(it, holds("p2"), 412, code)
        reply = await it.post(bundle(patient(), patient("p2")))
        assert reply.body is not None
        assert (reply.status, len(struck)) == (207, ROUNDS)
        assert codes(reply.body) == {"Patient/p1": [], "Patient/p2": [f"dataverse-{code}"]}
        await in_step(it, "p1")


@both_ways
async def test_a_row_that_is_saved_every_round(tmp_path: Path, writeback: str) -> None:
    """Only a row that somebody keeps saving waits: 202, and done once they stop."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), patient("p2"))
        struck = refuses(it, holds("p2"), 412, STALE, times=ROUNDS)
        reply = await it.post(bundle(patient(), patient("p2")))
        assert (reply.status, len(struck)) == (202, ROUNDS)
        assert [each["msemr_azurefhirid"] for each in await it.rows("contacts")] == ["p1"]
        assert it.versions("Patient/p2") == 1, "no GUID is told before its row is there"
        await in_step(it, "p1", "p2")
        done = await it.relay.inbound.status(reply.job)
        assert done.body is not None
        assert results(done.body) == {"Patient/p1": "unchanged", "Patient/p2": "created"}


@both_ways
async def test_a_code_that_nobody_may_create(tmp_path: Path, writeback: str) -> None:
    """A right that is missing on codeable concepts fails the encounter that needs a new one; the others are done."""
    async with world(tmp_path, writeback=writeback) as it:
        sent = [patient(), encounter("e1", **PRIORITY), encounter("e2")]
        await it.put(*sent)
        struck = refuses(it, creates("msemr_codeableconcepts"), 403, PRIVILEGE)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert (reply.status, len(struck)) == (207, 1)
        found = {"Patient/p1": [], "Encounter/e1": [f"dataverse-{PRIVILEGE}"], "Encounter/e2": []}
        assert codes(reply.body) == found
        assert [each["msemr_azurefhirid"] for each in await it.rows("msemr_encounters")] == ["e2"]
        await in_step(it, "p1")
        assert [it.versions(f"Encounter/{each}") for each in ("e1", "e2")] == [1, 2]


@both_ways
async def test_a_code_that_is_busy(tmp_path: Path, writeback: str) -> None:
    """A codeable concept that cannot be made just now makes its encounter wait: 202, and done at the next try."""
    async with world(tmp_path, writeback=writeback) as it:
        sent = [patient(), encounter(**PRIORITY)]
        await it.put(*sent)
        refuses(it, creates("msemr_codeableconcepts"), 400, DEADLOCK, times=1)
        reply = await it.post(bundle(*sent))
        assert reply.status == 202
        assert await it.rows("msemr_encounters") == []
        await in_step(it, "p1")
        (row,) = await it.rows("msemr_encounters")
        (concept,) = await it.rows("msemr_codeableconcepts")
        assert row["_msemr_encounterpriority_value"] == concept["msemr_codeableconceptid"]
        assert it.versions("Encounter/e1") == 2


@both_ways
async def test_a_user_makes_the_row_while_it_is_busy(tmp_path: Path, writeback: str) -> None:
    """A key that was chosen and not written binds nobody: the next try finds the user's row, and that GUID is told."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        refuses(it, holds("p1"), 400, DEADLOCK, times=1)
        assert (await it.post(bundle(patient()))).status == 202
        it.hold_events = True
        guid = await makes(it, "contacts", lastname="By hand", msemr_azurefhirid="p1", msemr_contacttype=PATIENT)
        it.hold_events = False
        await in_step(it, "p1")
        (row,) = await it.rows("contacts")
        assert (row["contactid"], row["lastname"]) == (guid, "Family p1")
        if writeback == "event":
            for body in it.events:
                await it.relay.take_event(body)
            await in_step(it, "p1")
        assert guid in [each["value"] for each in (await it.read("Patient", "p1"))["identifier"]]

"""A resource that was deleted on the FHIR server takes its row out of use, or deletes it, as the map says."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.keys import row_key
from relay.inbound.change import Change
from relay.store.agreed import TABLE as AGREED
from relay.store.tombstones import TABLE
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
    version,
)
from support.mishaps import Kill, Moment, Wire, answering, each_time, once, writes_rows
from support.refusals import refuses
from support.samples import bundle, care_plan, encounter, patient, practitioner, results
from support.users import identifier, makes, saves
from support.world import World, world

NUMBERS = count()
P1 = row_key("fhir", "Patient", "p1")


def maps(folder: Path, policy: str) -> Path:
    """Return a folder of maps in which patients have this policy."""
    return maps_folder(folder, patient_map(policy), PRACTITIONER)


async def only(it: World, entity_set: str = "contacts") -> dict[str, Any]:
    """Return the one row of a table."""
    (row,) = await it.rows(entity_set)
    return row


@pytest.mark.parametrize("writeback", ["inline", "event"])
@pytest.mark.parametrize("write", ["auto", "fewest-calls"])
@pytest.mark.parametrize("kind", ["batch", "transaction", "history"])
async def test_the_row_goes_out_of_use(tmp_path: Path, writeback: str, write: str, kind: str) -> None:
    """The row is deactivated and keeps its identifiers; the deletion is told as such, and nothing goes to FHIR."""
    async with world(tmp_path, writeback=writeback, write=write) as it:
        await known(it, patient())
        await it.settle()
        await remove(it, "Patient/p1")
        it.forget_calls()
        outcome = await carried(it, deletion("Patient/p1", kind=kind))
        (entry,) = outcome["entries"]
        assert told(outcome) == [("updated", ["deactivated"])]
        assert (entry["row"], entry["writeback"]) == ({"table": "contact", "id": P1}, "none")
        assert it.calls() == {"dataverse": 2, "fhir": 1}
        row = await only(it)
        assert {name: row[name] for name in GONE} == GONE
        assert all(each["_prefix_patient_value"] == P1 for each in await it.rows("prefix_patientidentifiers"))
        await it.settle()
        assert it.versions("Patient/p1") == 3  # made, given its GUID, deleted
        assert await it.dead() == []


async def test_the_same_deletion_again_changes_nothing(tmp_path: Path) -> None:
    """Told once more, whether or not there is a row, it is `unchanged`, and no write goes out."""
    async with world(tmp_path) as it:
        await known(it, patient(), practitioner("other"))
        await removed(it, "Patient/p1")
        before = await it.rows("contacts")
        assert told(await carried(it, deletion("Patient/p1"))) == [("unchanged", [])]
        assert await it.rows("contacts") == before
        await it.put(practitioner("d9"))
        assert told(await removed(it, "Practitioner/d9")) == [("unchanged", ["no-row"])]
        assert (await state(it))["other"] == 0


async def test_what_the_server_still_has_is_not_deleted(tmp_path: Path) -> None:
    """Whoever says that a resource is deleted is not believed: the server answers 200, and the row stays."""
    async with world(tmp_path) as it:
        await known(it, patient())
        outcome = await carried(it, deletion("Patient/p1"))
        assert told(outcome) == [("skipped", ["not-deleted"])]
        assert await state(it) == {"p1": 0}


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_what_the_server_never_knew_is_not_deleted(tmp_path: Path, policy: str) -> None:
    """404 is no proof of a deletion: with a row it fails for a person to see, without one there is nothing to do."""
    async with world(tmp_path, maps=maps(tmp_path, f"deletes: {policy}")) as it:
        await carried(it, bundle(patient(), method="POST"))
        outcome = await carried(it, deletion("Patient/p1", "Patient/p2"), 207)
        assert told(outcome) == [("failed", ["unknown-on-server"]), ("skipped", ["unknown-on-server"])]
        assert await state(it) == {"p1": 0}


async def test_a_server_that_refuses_the_read(tmp_path: Path) -> None:
    """A read that is refused fails the entry; one that the server is too busy for puts the bundle off."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await remove(it, "Patient/p1")
        with answering(it.to_fhir, 403):
            assert told(await carried(it, deletion("Patient/p1"), 422)) == [("failed", ["fhir-403"])]
        with answering(it.to_fhir, 503):
            assert (await it.post(deletion("Patient/p1"))).status == 202
        assert await state(it) == {"p1": 0}
        await it.settle()
        assert await state(it) == {"p1": 1}


async def test_a_map_may_ignore_deletions(tmp_path: Path) -> None:
    """With `deletes: ignore` no side is asked, and an unmapped type is passed over as ever."""
    async with world(tmp_path, maps=maps(tmp_path, "deletes: ignore")) as it:
        await known(it, patient())
        await remove(it, "Patient/p1")
        it.forget_calls()
        outcome = await carried(it, deletion("Patient/p1", "Basic/b1"))
        assert told(outcome) == [("skipped", ["delete-ignored"]), ("skipped", ["no-map"])]
        assert it.calls() == {"dataverse": 0, "fhir": 0}


@pytest.mark.parametrize("write", ["auto", "fewest-calls"])
async def test_a_row_may_be_deleted(tmp_path: Path, write: str) -> None:
    """With `deletes: delete` the row goes; what looks it up loses the link, as its table says; again is `unchanged`."""
    async with world(tmp_path, write=write, maps=maps(tmp_path, "deletes: delete")) as it:
        await known(it, patient(), practitioner())
        outcome = await removed(it, "Patient/p1")
        assert told(outcome) == [("updated", ["deleted"])]
        assert await state(it) == {"d1": 0}
        assert {each["_prefix_patient_value"] for each in await it.rows("prefix_patientidentifiers")} == {None}
        assert told(await carried(it, deletion("Patient/p1"))) == [("unchanged", ["no-row"])]


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_a_resource_that_is_back_has_its_row_back(tmp_path: Path, policy: str, writeback: str) -> None:
    """The row is in use again, or made again under the same key, with its identifiers; what is told is not `row-gone`."""
    async with world(tmp_path, writeback=writeback, maps=maps(tmp_path, f"deletes: {policy}")) as it:
        await known(it, patient())
        await it.settle()
        carrying = await it.read("Patient", "p1")
        await removed(it, "Patient/p1")
        await it.put(carrying)
        back = await it.read("Patient", "p1")
        result = ("updated", ["reactivated"]) if policy == "deactivate" else ("created", [])
        assert told(await carried(it, bundle(back))) == [result]
        await it.settle()
        row = await only(it)
        assert row["contactid"] == P1
        assert {name: row[name] for name in IN_USE} == IN_USE
        assert {each["_prefix_patient_value"] for each in await it.rows("prefix_patientidentifiers")} == {P1}
        assert await it.store.list_rows(TABLE) == []
        assert told(await carried(it, bundle(back))) == [("unchanged", [])]


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
@pytest.mark.parametrize("dated", ["older", "last", ""], ids=["older", "last", "undated"])
async def test_a_version_that_comes_late_brings_nothing_back(tmp_path: Path, policy: str, dated: str) -> None:
    """A version from before the deletion is told by its time, the last one by asking the server; without the row it is not `row-gone`."""
    async with world(tmp_path, maps=maps(tmp_path, f"deletes: {policy}")) as it:
        first = version(patient(), 1) if dated else patient()
        await it.put(first)
        await carried(it, bundle(version(patient(gender="male"), 2) if dated == "older" else first))
        carrying = await it.read("Patient", "p1")
        late = {**first, "identifier": carrying["identifier"]}
        await removed(it, "Patient/p1")
        before = await it.rows("contacts")
        it.forget_calls()
        outcome = await carried(it, bundle(late))
        assert told(outcome) == [("skipped", ["stale" if dated == "older" else "resource-deleted"])]
        assert it.calls()["fhir"] == (0 if dated == "older" else 1)
        assert await it.rows("contacts") == before


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_a_server_restored_from_a_backup_has_its_rows_back(tmp_path: Path, policy: str) -> None:
    """A resource that is there again in the very version that the row had is no late one: the server has it."""
    async with world(tmp_path, maps=maps(tmp_path, f"deletes: {policy}")) as it:
        await known(it, patient(gender="male"))
        await it.settle()
        last = await it.read("Patient", "p1")
        await it.put({**last, "gender": "female"})
        last = await it.read("Patient", "p1")
        await carried(it, bundle(last))
        backup = len(it.fhir.store.log)
        await removed(it, "Patient/p1")
        it.fhir.store.undo(backup)
        result = ("updated", ["reactivated"]) if policy == "deactivate" else ("created", [])
        assert told(await carried(it, bundle(last))) == [result]
        row = await only(it)
        assert {name: row[name] for name in IN_USE} == IN_USE


async def test_a_deletion_that_comes_first(tmp_path: Path) -> None:
    """A version that comes after the deletion of a resource that never had a row makes none."""
    async with world(tmp_path) as it:
        await it.put(patient())
        await removed(it, "Patient/p1")
        assert told(await carried(it, bundle(patient()))) == [("skipped", ["resource-deleted"])]
        assert await it.rows("contacts") == []


async def test_what_a_user_took_out_of_use_stays_so(tmp_path: Path) -> None:
    """A row that a user deactivated is kept up to date and stays inactive, deleted and back or not."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await saves(it, "contacts", P1, **GONE)
        renamed = patient(name=[{"use": "official", "family": "Other"}])
        assert told(await carried(it, bundle(renamed))) == [("updated", ["row-inactive"])]
        assert told(await removed(it, "Patient/p1")) == [("unchanged", [])]
        await it.put(patient())
        assert told(await carried(it, bundle(patient()))) == [("updated", ["row-inactive"])]
        assert await state(it) == {"p1": 1}


async def test_without_the_store_nothing_is_brought_back_unasked(tmp_path: Path) -> None:
    """When the store is lost, a row that the relay deactivated counts as a user's: it stays inactive, and that is told."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        for partition, name, _ in await it.store.list_rows(TABLE):
            await it.store.delete_row(TABLE, partition, name)
        await it.put(patient())
        assert told(await carried(it, bundle(patient()))) == [("unchanged", ["row-inactive"])]
        assert await state(it) == {"p1": 1}


async def test_the_state_it_had_comes_back(tmp_path: Path) -> None:
    """A status reason that was there before the deletion is there after the return."""
    async with world(tmp_path) as it:
        await known(it, patient(), encounter())
        key = row_key("fhir", "Encounter", "e1")
        await saves(it, "msemr_encounters", key, statuscode=935000002)
        await removed(it, "Encounter/e1")
        assert (await only(it, "msemr_encounters"))["statuscode"] == 2
        await it.put(encounter())
        await carried(it, bundle(encounter()))
        assert (await only(it, "msemr_encounters"))["statuscode"] == 935000002


async def test_rows_of_others_are_left_alone(tmp_path: Path) -> None:
    """A row with the same FHIR id that the map does not speak for stays; two that it does are for a person."""
    async with world(tmp_path) as it:
        await it.put(patient("x"), practitioner("x"))
        await carried(it, bundle(practitioner("x")))
        assert told(await removed(it, "Patient/x")) == [("unchanged", ["no-row"])]
        assert await state(it) == {"x": 0}
        for _ in range(2):
            await makes(it, "contacts", msemr_contacttype=935000001, msemr_azurefhirid="y", lastname="Y")
        await it.put(practitioner("y"))
        await remove(it, "Practitioner/y")
        outcome = await carried(it, deletion("Practitioner/y"), 422)
        assert told(outcome) == [("failed", ["ambiguous-match"])]


async def test_deletions_come_after_everything_else(tmp_path: Path) -> None:
    """What a bundle deletes may still be referred to in it, in whatever window; then it goes."""
    async with world(tmp_path, window=1) as it:
        await known(it, patient(), encounter(), care_plan())
        await remove(it, "Patient/p1", "Encounter/e1")
        sent = deletion("Patient/p1", "Encounter/e1")
        sent["entry"] += bundle(care_plan(title="New"))["entry"]
        assert results(await carried(it, sent)) == {
            "Patient/p1": "updated",
            "Encounter/e1": "updated",
            "CarePlan/c1": "updated",
        }
        assert (await state(it), await state(it, "msemr_encounters")) == ({"p1": 1}, {"e1": 1})


async def test_a_user_who_saves_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """A save between read and write makes the relay look again; then the row goes out of use all the same."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await remove(it, "Patient/p1")
        once(it.to_dataverse, writes_rows, lambda: saves(it, "contacts", P1, nickname="kept"))
        assert told(await carried(it, deletion("Patient/p1"))) == [("updated", ["deactivated"])]
        row = await only(it)
        assert (row["nickname"], row["statecode"]) == ("kept", 1)


async def test_a_refused_deletion_leaves_a_tombstone_that_is_not_ours(tmp_path: Path) -> None:
    """A row that Dataverse would not take out of use fails; if a user does so later, it stays the user's doing."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await remove(it, "Patient/p1")
        refuses(it, lambda sent: sent.requests[0].method == "PATCH", 403, "0x80040220")
        outcome = await carried(it, deletion("Patient/p1"), 422)
        assert told(outcome) == [("failed", ["dataverse-0x80040220"])]
        (kept,) = [values for _, _, values in await it.store.list_rows(TABLE)]
        assert kept["row"] == "untouched"


async def test_tombstones_go_with_the_retention(tmp_path: Path) -> None:
    """A tombstone is forgotten after `RELAY_RETENTION_DAYS`, but for one of a row that may have to be brought back."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await it.put(practitioner())
        await removed(it, "Patient/p1", "Practitioner/d1")
        assert len(await it.store.list_rows(TABLE)) == 2
        it.clock.advance(timedelta(days=31))
        await it.relay.sweep()
        (kept,) = await it.store.list_rows(TABLE)
        assert (kept[0], kept[2]["row"]) == ("Patient", "deactivated")
        assert "p1" not in str(kept)
        assert P1 not in str(kept)


async def test_many_are_asked_for_at_once(tmp_path: Path) -> None:
    """Fifty late versions cost one read of the FHIR server, and fifty deletions one read and two calls to Dataverse."""
    async with world(tmp_path) as it:
        many = [patient(f"p{number}", identifiers=0) for number in range(50)]
        await known(it, *many)
        addresses = [f"Patient/p{number}" for number in range(50)]
        await remove(it, *addresses)
        it.forget_calls()
        outcome = await carried(it, deletion(*addresses))
        assert set(results(outcome).values()) == {"updated"}
        assert it.calls() == {"dataverse": 2, "fhir": 1}
        it.forget_calls()
        outcome = await carried(it, bundle(*many))
        assert set(results(outcome).values()) == {"skipped"}
        assert it.calls() == {"dataverse": 1, "fhir": 1}


async def test_an_identifier_row_stays_tied(tmp_path: Path) -> None:
    """The identifiers of a row that is out of use stay its own, and active."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        kept = await identifier(it, "p1-0")
        assert (kept["statecode"], kept["_prefix_patient_value"]) == (0, P1)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_dying_anywhere_in_a_deletion(tmp_path: Path, policy: str, moment: Moment) -> None:
    """At whichever request the relay dies, what it left at the start completes it, and the row can be brought back."""
    chosen = maps(tmp_path, f"deletes: {policy}")
    for at in range(3):
        async with world(tmp_path / str(at), maps=chosen) as it:
            await known(it, patient())
            await remove(it, "Patient/p1")
            Wire(at=at, moment=moment).watch(it)
            with pytest.raises(Kill):
                await it.post(deletion("Patient/p1"))
            await it.restart()
            await it.settle()
            assert await state(it) == ({"p1": 1} if policy == "deactivate" else {})
            await it.put(patient())
            await carried(it, bundle(patient()))
            assert await state(it) == {"p1": 0}


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_where_changes_go_both_ways_a_deletion_goes_one(tmp_path: Path, policy: str) -> None:
    """The events of a row that goes out of use, and what users do with it then, cause no write to FHIR; back, they do."""
    text = patient_map(f"deletes: {policy}\nwriteback: [create, update]")
    text = text.replace('family"}', 'family", writeback: true}')
    async with world(tmp_path, maps=maps_folder(tmp_path, text)) as it:
        await known(it, patient())
        await it.settle()
        assert await it.store.list_rows(AGREED) != []
        await removed(it, "Patient/p1")
        if policy == "delete":
            assert await it.store.list_rows(AGREED) == []
        else:
            await saves(it, "contacts", P1, lastname="Corrected")
        await it.settle()
        assert it.versions("Patient/p1") == 3
        assert await it.dead() == []
        await it.put(patient())
        await carried(it, bundle(patient()))
        await it.settle()
        name = "Corrected" if policy == "deactivate" else "Family p1"
        assert (await it.read("Patient", "p1"))["name"][0]["family"] == name
        assert (await only(it))["lastname"] == name
        assert await it.dead() == []


async def test_a_return_that_cannot_be_seen_or_written(tmp_path: Path) -> None:
    """Asked whether the resource is back, the server refuses, or Dataverse does: it fails, and can be tried again."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        await it.put(patient())
        with answering(it.to_fhir, 403):
            assert told(await carried(it, bundle(patient()), 422)) == [("failed", ["fhir-403"])]
        refuses(it, lambda sent: sent.requests[0].method == "PATCH", 403, "0x80040220", times=1)
        assert told(await carried(it, bundle(patient()), 422)) == [("failed", ["dataverse-0x80040220"])]
        assert told(await carried(it, bundle(patient()))) == [("updated", ["reactivated"])]


async def test_a_return_that_keeps_losing_is_put_off(tmp_path: Path) -> None:
    """While users keep saving the row the return waits, and is still known to be the relay's to make."""
    async with world(tmp_path) as it:
        await known(it, patient())
        await removed(it, "Patient/p1")
        await it.put(patient())
        each_time(it.to_dataverse, writes_rows, lambda: saves(it, "contacts", P1, nickname=str(next(NUMBERS))))
        assert (await it.post(bundle(patient()))).status == 202
        it.to_dataverse.before.clear()
        await it.settle()
        assert await state(it) == {"p1": 0}
        assert await it.store.list_rows(TABLE) == []


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_forwarded_deletion(tmp_path: Path, kind: str) -> None:
    """With `RELAY_FORWARD` the FHIR server deletes the resource first, and then its row goes out of use; put again, it is back."""
    async with world(tmp_path, forward=True) as it:
        await carried(it, bundle(patient()))
        for codes in (["deactivated"], []):
            outcome = await carried(it, deletion("Patient/p1", kind=kind))
            assert told(outcome) == [("updated" if codes else "unchanged", codes)]
            assert await it.read("Patient", "p1") == {"status": 410}
        assert told(await carried(it, bundle(patient()))) == [("updated", ["reactivated"])]
        assert await state(it) == {"p1": 0}


async def test_a_deletion_that_a_server_tells_of(tmp_path: Path) -> None:
    """A change without a body whose resource is gone is a deletion, and so is one that says so."""
    async with world(tmp_path) as it:
        await known(it, patient(), practitioner())
        await remove(it, "Patient/p1", "Practitioner/d1")
        gone = Change("hook", "Patient", "p1", None, "unknown", None)
        said = Change("hook", "Practitioner", "d1", "3", "delete", None)
        assert (await it.relay.inbound.changes([gone, said])).status == 202
        await it.settle()
        assert await state(it) == {"p1": 1, "d1": 1}

"""What the relay keeps holds no ids in the open, goes when it is done with, and is gone after the retention time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from devstack.control import Fault
from support.samples import bundle, patient
from support.world import World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

PATIENT_ID = "zq-canary-7"
CONTAINERS = ("relay-payloads", "relay-outcomes", "bundles-outcome", "relay-dead", "relay-written")
TABLES = ("works", "deliveries", "deadletters")


async def blobs(it: World) -> dict[str, int]:
    """Count the blobs of each container."""
    return {name: len(await it.store.list_blobs(name)) for name in CONTAINERS}


async def rows(it: World) -> dict[str, int]:
    """Count the rows of each table."""
    return {name: len(await it.store.list_rows(name)) for name in TABLES}


async def one_conflict(it: World) -> str:
    """Make a dead letter: the resource carries the GUID of another row that is there; returns the row's GUID."""
    await it.put(patient(PATIENT_ID), patient("other"))
    await it.post(bundle(patient("other")))
    await it.settle()
    other = (await it.rows("contacts"))[0]["contactid"]
    stolen = patient(PATIENT_ID)
    stolen["identifier"].append({"system": "urn:oid:org.d365.mc4h.patient.id", "value": other})
    await it.put(stolen)
    await it.post(bundle(patient(PATIENT_ID)))
    await it.settle()
    return str((await it.rows("contacts", f"msemr_azurefhirid eq '{PATIENT_ID}'"))[0]["contactid"])


@both_ways
async def test_dead_letter_holds_code_time_and_hash(tmp_path: Path, writeback: str) -> None:
    """A dead letter tells its reason and its time; what it is about stands in no table but as a keyed hash."""
    async with world(tmp_path, writeback=writeback) as it:
        guid = await one_conflict(it)
        ((kind, name, letter),) = await it.store.list_rows("deadletters")
        assert (kind, letter["code"]) == ("writeback", "identifier-conflict")
        assert letter.keys() == {"code", "subject", "at", "body"}
        assert letter["subject"] == it.relay.pseudonyms("writeback", guid)
        assert abs(it.clock() - datetime.fromisoformat(str(letter["at"]))) < timedelta(hours=1)
        kept = json.dumps([await it.store.list_rows(table) for table in TABLES]) + name
        kept += json.dumps([blob.name for each in CONTAINERS for blob in await it.store.list_blobs(each)])
        for secret in (PATIENT_ID, guid, "Family", "site.example"):
            assert secret not in kept
        body = await it.store.get_blob("relay-dead", str(letter["body"]))
        assert body is not None
        assert guid in body.decode(), "the message itself, for replay, is in a blob"
        assert "Family" not in body.decode(), "but only its ids"


@both_ways
async def test_dead_letter_can_be_handled_again(tmp_path: Path, writeback: str) -> None:
    """The kept message of a write-back is the message: once the reason is gone, handling it does what was left."""
    async with world(tmp_path, writeback=writeback) as it:
        guid = await one_conflict(it)
        (letter,) = await it.relay.dead_letters.list()
        body = await it.store.get_blob("relay-dead", letter["body"])
        assert body is not None
        await it.put(patient(PATIENT_ID))
        assert (await it.relay.writebacks.handle(body.decode())).how == "done"
        identifiers = (await it.read("Patient", PATIENT_ID))["identifier"]
        assert [each["value"] for each in identifiers][-1] == guid


@both_ways
async def test_same_failure_is_one_letter(tmp_path: Path, writeback: str) -> None:
    """However often the same thing fails for the same reason, by bundle or by event, it is one dead letter."""
    async with world(tmp_path, writeback=writeback) as it:
        await one_conflict(it)
        await it.post(bundle(patient(PATIENT_ID)))
        for body in it.events:
            await it.relay.take_event(body)
        await it.settle()
        assert await it.dead() == ["identifier-conflict"]


@both_ways
async def test_payload_goes_with_the_outcome(tmp_path: Path, writeback: str) -> None:
    """A payload is kept until the outcome is final, not longer: for posts, queued posts and dropped files alike."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        await it.post(bundle(patient()))
        assert (await blobs(it))["relay-payloads"] == 0
        assert await it.store.length("inbound") == 0
        await it.post(bundle(patient()), respond_async=True)
        await it.relay.inbound.drop("a.json", json.dumps(bundle(patient())).encode())
        assert (await blobs(it))["relay-payloads"] == 2
        await it.settle()
        kept = {"relay-outcomes": 3, "bundles-outcome": 1, "relay-written": 1}
        assert await blobs(it) == {"relay-payloads": 0, "relay-dead": 0, **kept}


@both_ways
async def test_everything_expires(tmp_path: Path, writeback: str) -> None:
    """After the retention time the sweep deletes outcomes, ledger and letters, tells their number, and not before."""
    async with world(tmp_path, writeback=writeback, retention_days=3) as it:
        await one_conflict(it)
        await it.relay.inbound.drop("a.json", json.dumps(bundle(patient("other"))).encode())
        await it.settle()
        kept = (await blobs(it), await rows(it))
        assert all(count for name, count in kept[0].items() if name != "relay-payloads")
        assert all(kept[1].values())
        it.clock.advance(timedelta(days=2, hours=20))
        assert await it.relay.sweep() == 0
        assert (await blobs(it), await rows(it)) == kept
        it.clock.advance(timedelta(hours=5))
        gone = await it.relay.sweep()
        assert gone == sum(kept[0].values()) + sum(kept[1].values()) - kept[1]["deadletters"], (
            "a letter and its body are one"
        )
        assert not any((await blobs(it)).values())
        assert not any((await rows(it)).values())
        assert await it.relay.sweep() == 0


async def test_payload_of_waiting_work_does_not_expire(tmp_path: Path) -> None:
    """A bundle that still waits for its turn outlives the sweep, however short the retention is."""
    async with world(tmp_path, retention_days=1, retry_for="3d", retry_longest="1d") as it:
        await it.put(patient())
        it.dataverse.faults.append(Fault(times=0))
        reply = await it.post(bundle(patient()))
        assert reply.status == 202
        await it.settle(within=timedelta(days=2))
        assert await it.relay.sweep() == 0
        it.dataverse.faults.clear()
        await it.settle(within=timedelta(days=2))
        assert (await it.relay.inbound.status(reply.job)).status == 200
        assert it.versions("Patient/p1") == 2


async def test_outcome_of_an_expired_job_is_unknown(tmp_path: Path) -> None:
    """An expired outcome is answered 404, as one that never was."""
    async with world(tmp_path) as it:
        reply = await it.post(bundle(patient()))
        assert (await it.relay.inbound.status(reply.job)).status == 200
        it.clock.advance(timedelta(days=31))
        await it.relay.sweep()
        assert (await it.relay.inbound.status(reply.job)).status == 404

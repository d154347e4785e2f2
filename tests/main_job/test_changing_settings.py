"""A setting that changes while work is under way loses none of it: what was left for an event or a retry is still done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from devstack.control import Fault
from relay.app import Relay
from support.samples import bundle, patient
from support.users import saves
from support.world import URN, World, world

SYSTEM = URN.format("patient")


async def restarted(it: World, **settings: Any) -> None:
    """Start the relay anew under other settings, on what it kept."""
    old = it.relay
    it.relay = Relay(old.settings.model_copy(update=settings), store=it.store, seams=old.seams)
    it.relay.__dict__["maps"] = old.maps
    for client in ("dataverse", "fhir"):
        if client in old.__dict__:
            await old.__dict__[client].aclose()


async def deliver(it: World) -> None:
    """Bring the events that were held to the relay, and let it work until nothing is left."""
    it.hold_events = False
    for body in it.events:
        await it.relay.take_event(body)
    await it.settle()


async def linked(it: World, count: int = 1) -> None:
    """Assert that each patient carries the GUID of its row, once, and has one identifier row for it."""
    rows = {each["msemr_azurefhirid"]: each["contactid"] for each in await it.rows("contacts")}
    assert len(rows) == count
    for fhir_id, guid in rows.items():
        identifiers = (await it.read("Patient", fhir_id))["identifier"]
        assert [each["value"] for each in identifiers if each["system"] == SYSTEM] == [guid]
        assert it.versions(f"Patient/{fhir_id}") == 2
    own = await it.rows("prefix_patientidentifiers", f"prefix_system eq '{SYSTEM}'")
    assert sorted(each["prefix_value"] for each in own) == sorted(rows.values())
    assert await it.dead() == []


@pytest.mark.parametrize("when", ["event on its way", "event in the queue"])
async def test_from_event_to_inline(tmp_path: Path, when: str) -> None:
    """Events of rows written under `event` cause their write-back after the switch to `inline` too."""
    async with world(tmp_path, writeback="event") as it:
        it.hold_events = when == "event on its way"
        await it.put(patient(), patient("p2"))
        await it.post(bundle(patient(), patient("p2")))
        await it.dataverse.webhooks.idle()
        assert it.versions("Patient/p1") == 1
        await restarted(it, writeback="inline")
        if it.hold_events:
            await deliver(it)
        else:
            await it.settle()
        await linked(it, 2)


async def test_from_inline_to_event(tmp_path: Path) -> None:
    """A link that waits for the FHIR server and the events of its row end in one write after the switch to `event`."""
    async with world(tmp_path, writeback="inline") as it:
        it.hold_events = True
        await it.put(patient())
        it.fhir.faults.append(Fault(path="Patient/p1"))
        reply = await it.post(bundle(patient()))
        assert reply.body is not None
        assert reply.body["entries"][0]["writeback"] == "queued"
        await it.dataverse.webhooks.idle()
        await restarted(it, writeback="event")
        await deliver(it)
        await linked(it)


@pytest.mark.parametrize("keys", [("", ""), ("one", "another"), ("", "one")], ids=["none", "changed", "given"])
async def test_another_log_key(tmp_path: Path, keys: tuple[str, str]) -> None:
    """A write-back that is open in the ledger stays open for a process whose hashes mean nothing to it."""
    first, second = keys
    async with world(tmp_path, log_key=first) as it:
        it.hold_events = True
        reply = await it.post(bundle(patient(), method="POST"))
        assert reply.body is not None
        assert reply.body["entries"][0]["writeback"] == "none", "the resource is not on the server yet"
        await it.dataverse.webhooks.idle()
        await it.put(patient())
        await restarted(it, log_key=SecretStr(second))
        await deliver(it)
        await linked(it)


async def test_another_log_key_where_all_is_done(tmp_path: Path) -> None:
    """Work that was over before the key changed needs no hashes: its events cost no call."""
    async with world(tmp_path, log_key="one") as it:
        it.hold_events = True
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.dataverse.webhooks.idle()
        await restarted(it, log_key=SecretStr("another"))
        it.forget_calls()
        await deliver(it)
        assert it.calls() == {"dataverse": 0, "fhir": 0}
        await linked(it)


@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_from_plug_in_to_relay(tmp_path: Path, writeback: str) -> None:
    """A site that gives up its plug-in gets the missing identifier rows with the next change, and no second PUT."""
    async with world(tmp_path, writeback=writeback, identifier_rows="plugin") as it:
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.settle()
        assert await it.rows("prefix_patientidentifiers", f"prefix_system eq '{SYSTEM}'") == []
        await restarted(it, identifier_rows="relay", writeback="inline")
        (row,) = await it.rows("contacts")
        await saves(it, "contacts", row["contactid"], firstname="Typo")
        assert (await it.post(bundle(patient()))).status == 200
        await it.settle()
        await linked(it)

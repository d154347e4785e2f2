"""Identifier events: whatever number of them comes, in whatever order, one identifier row and one new version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.mishaps import once, writes_rows
from support.samples import GUID, PATIENT, bundle, patient
from support.state import state
from support.world import API, URN, World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

SYSTEM = URN.format("patient")


async def user_creates(it: World, entity_set: str, **columns: Any) -> str:
    """Create a row, as a user does, and return its GUID; the events it causes are delivered by then."""
    answer = await it.http.post(f"{API}/{entity_set}", json=columns)
    assert answer.is_success, answer.text
    await it.dataverse.webhooks.idle()
    return str(answer.headers["OData-EntityId"]).rpartition("(")[2].rstrip(")").lower()


async def deliver(it: World, bodies: Iterable[bytes]) -> None:
    """Bring events to the relay, as Dataverse does."""
    for body in bodies:
        await it.relay.take_event(body)


async def handled(it: World) -> list[tuple[str, str]]:
    """Handle every visible message, all at the same time, and return how each ended."""
    messages = await it.store.receive("writeback", most=32, visibility=timedelta(minutes=5))
    ends = await asyncio.gather(*(it.relay.writebacks.handle(each.text) for each in messages))
    for each in messages:
        await it.store.delete(each)
    return [(each.how, each.reason) for each in ends]


async def own_identifier_rows(it: World, guid: str) -> list[dict[str, Any]]:
    """Return the identifier rows under our URN that belong to a contact."""
    rows = await it.rows("prefix_patientidentifiers", f"prefix_system eq '{SYSTEM}'")
    return [each for each in rows if each["_prefix_patient_value"] == guid]


async def linked_once(it: World, guid: str) -> None:
    """Assert one identifier row, one new version with the GUID, and nothing for a person to do."""
    (row,) = await own_identifier_rows(it, guid)
    assert (row["prefix_value"], row["statecode"]) == (guid, 0)
    identifiers = (await it.read("Patient", "p1"))["identifier"]
    assert [each["value"] for each in identifiers if each["system"] == SYSTEM] == [guid]
    assert it.versions("Patient/p1") == 2
    assert await it.dead() == []


@both_ways
@pytest.mark.parametrize("how", ["five times", "late", "shuffled"])
async def test_events_in_any_number_and_order(tmp_path: Path, writeback: str, how: str) -> None:
    """One event is as good as five, a late one as a prompt one, and their order means nothing."""
    async with world(tmp_path, writeback=writeback) as it:
        it.hold_events = True
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.dataverse.webhooks.idle()
        guid = (await it.rows("contacts"))[0]["contactid"]
        bodies = list(it.events)
        assert len(bodies) == (4 if writeback == "inline" else 3)
        if how == "five times":
            bodies *= 5
        elif how == "late":
            it.clock.advance(timedelta(days=40))
            await it.relay.sweep()
        else:
            bodies = bodies[1::2][::-1] + bodies[::2][::-1]
        it.hold_events = False
        await deliver(it, bodies)
        await it.settle()
        await linked_once(it, guid)


@both_ways
async def test_events_beside_the_inline_write_back(tmp_path: Path, writeback: str) -> None:
    """Events that arrive while the relay is about to write the resource itself do no second write."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        seen: list[tuple[str, str]] = []

        async def race() -> None:
            await it.dataverse.webhooks.idle()
            seen.extend(await handled(it))

        if writeback == "inline":
            once(it.to_fhir, lambda request: request.method == "PUT", race)
        await it.post(bundle(patient()))
        assert seen == ([("waiting", "inline")] * 4 if writeback == "inline" else [])
        await it.settle()
        await linked_once(it, (await it.rows("contacts"))[0]["contactid"])


@both_ways
async def test_events_handled_at_the_same_time(tmp_path: Path, writeback: str) -> None:
    """Workers that handle ten copies of one event at once make one row and one version."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        it.hold_events = True
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        await deliver(it, it.events * 10)
        ends = await handled(it)
        assert {how for how, _ in ends} == {"done"}
        it.hold_events = False
        await it.settle()
        await linked_once(it, guid)


@both_ways
async def test_contact_of_a_user_with_fhir_id(tmp_path: Path, writeback: str) -> None:
    """A contact that a user made for a resource gets its identifier row, and the resource its GUID."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        await it.settle()
        await linked_once(it, guid)
        assert len(it.events) == 2, "the row's event, and that of the identifier row which the relay made for it"


@both_ways
async def test_contact_without_fhir_id(tmp_path: Path, writeback: str) -> None:
    """A contact that stands for no resource asks for nothing, and nothing is written."""
    async with world(tmp_path, writeback=writeback) as it:
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT)
        assert await handled(it) == [("ignored", "no-fhir-id")]
        assert await own_identifier_rows(it, guid) == []
        assert it.fhir.calls == []


@both_ways
async def test_identifier_row_alone(tmp_path: Path, writeback: str) -> None:
    """The event of an identifier row, the reference architecture's trigger, is enough to write its parent back."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        it.hold_events = True
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        it.events.clear()
        bind = {"prefix_Patient@odata.bind": f"/contacts({guid})"}
        await user_creates(it, "prefix_patientidentifiers", prefix_system=SYSTEM, prefix_value=guid, **bind)
        (body,) = it.events
        it.hold_events = False
        await deliver(it, [body])
        await it.settle()
        await linked_once(it, guid)


@both_ways
async def test_row_of_a_plug_in(tmp_path: Path, writeback: str) -> None:
    """Where a plug-in of the site makes identifier rows the relay makes none, and still writes the GUID back."""
    async with world(tmp_path, writeback=writeback, identifier_rows="plugin") as it:
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.settle()
        guid = (await it.rows("contacts"))[0]["contactid"]
        assert await own_identifier_rows(it, guid) == []
        bind = {"prefix_Patient@odata.bind": f"/contacts({guid})"}
        await user_creates(it, "prefix_patientidentifiers", prefix_system=SYSTEM, prefix_value=guid, **bind)
        await it.settle()
        await linked_once(it, guid)


@both_ways
async def test_plain_contact_and_unmapped_table(tmp_path: Path, writeback: str) -> None:
    """Rows of no map, a sales contact or a table nobody mapped, are somebody else's: no FHIR call, nothing written."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        it.forget_calls()
        await user_creates(it, "contacts", lastname="Lead", msemr_azurefhirid="p1")
        assert await handled(it) == [("ignored", "not-mapped")]
        calls = it.calls()
        (body,) = it.events
        await deliver(it, [body.replace(b'"contact"', b'"opportunity"')])
        assert await handled(it) == [("ignored", "not-mapped")]
        assert it.calls() == calls
        assert it.fhir.calls == []
        assert await it.rows("prefix_patientidentifiers") == []


@both_ways
@pytest.mark.parametrize("message", ["Update", "Delete"])
async def test_messages_other_than_create(tmp_path: Path, writeback: str, message: str) -> None:
    """Only Create counts: other messages of a mapped table cost no call."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        it.hold_events = True
        await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        (body,) = it.events
        it.forget_calls()
        await deliver(it, [json.dumps({**json.loads(body), "MessageName": message}).encode()])
        assert [how for how, _ in await handled(it)] == ["ignored"]
        assert it.calls() == {"dataverse": 0, "fhir": 0}


@both_ways
async def test_row_deleted_before_its_event_is_read(tmp_path: Path, writeback: str) -> None:
    """The event of a row that is gone asks for nothing: no row, no FHIR call, no dead letter."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        it.hold_events = True
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        await it.http.delete(f"{API}/contacts({guid})")
        it.forget_calls()
        await deliver(it, it.events)
        assert await handled(it) == [("ignored", "row-gone")]
        assert it.calls() == {"dataverse": 1, "fhir": 0}
        assert await it.dead() == []


@both_ways
async def test_row_deleted_while_its_event_is_handled(tmp_path: Path, writeback: str) -> None:
    """A row that goes between the read and its identifier row is looked at again, and found gone."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        guid = await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        once(it.to_dataverse, writes_rows, lambda: it.http.delete(f"{API}/contacts({guid})"))
        assert await handled(it) == [("retried", "row-changed")]
        await it.settle()
        assert await it.rows("prefix_patientidentifiers") == []
        assert it.versions("Patient/p1") == 1
        assert await it.dead() == []


@both_ways
async def test_identifier_row_that_lost_its_parent(tmp_path: Path, writeback: str) -> None:
    """The row that a deleted contact left behind becomes the identifier row again when the contact is made anew."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        columns = {"contactid": GUID, "msemr_contacttype": PATIENT, "msemr_azurefhirid": "p1"}
        await user_creates(it, "contacts", lastname="By hand", **columns)
        await it.settle()
        await it.http.delete(f"{API}/contacts({GUID})")
        assert await own_identifier_rows(it, GUID) == []
        await user_creates(it, "contacts", lastname="By hand again", **columns)
        await it.settle()
        await linked_once(it, GUID)


@both_ways
async def test_echo_of_our_own_identifier_row_ends(tmp_path: Path, writeback: str) -> None:
    """The event of the identifier row that the relay made for an event writes nothing more on either side."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        await user_creates(it, "contacts", lastname="By hand", msemr_contacttype=PATIENT, msemr_azurefhirid="p1")
        assert await handled(it) == [("done", "written")]
        await it.dataverse.webhooks.idle()
        before = await state(it)
        it.forget_calls()
        assert await handled(it) == [("ignored", "done") if writeback == "inline" else ("done", "present")]
        calls = it.calls()
        assert calls == ({"dataverse": 0, "fhir": 0} if writeback == "inline" else {"dataverse": 2, "fhir": 1})
        await it.settle()
        assert it.calls() == calls
        assert await state(it) == before


async def test_events_after_the_ledger_is_lost(tmp_path: Path) -> None:
    """Losing the ledger costs calls, never correctness: the rows are read, and nothing is written."""
    async with world(tmp_path) as it:
        it.hold_events = True
        await it.put(patient())
        await it.post(bundle(patient()))
        await it.dataverse.webhooks.idle()
        before = await state(it)
        for partition, row, _ in await it.store.list_rows("works"):
            await it.store.delete_row("works", partition, row)
        it.hold_events = False
        await deliver(it, it.events)
        assert await handled(it) == [("done", "present")] * 4
        assert await state(it) == before

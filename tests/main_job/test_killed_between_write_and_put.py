"""The relay may die anywhere: whatever comes next completes what it left."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.mishaps import Kill, Moment, Wire, kill, once, puts_resources
from support.samples import bundle, patient, practitioner
from support.state import state
from support.world import URN, World, world

RESOURCES = (patient(identifiers=1, generalPractitioner=[{"reference": "Practitioner/d1"}]), practitioner())


async def calm(folder: Path, *resources: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the state after an undisturbed run, and the requests that the relay made for it."""
    async with world(folder / "calm", **settings) as it:
        wire = Wire().watch(it)
        await it.put(*resources)
        await it.post(bundle(*resources))
        await it.settle()
        return await state(it), wire.seen


async def die_before_the_put(it: World) -> None:
    """Post a bundle to a relay that dies when it is about to write to the FHIR server."""
    it.hold_events = True
    await it.put(*RESOURCES)
    once(it.to_fhir, puts_resources, kill())
    with pytest.raises(Kill):
        await it.post(bundle(*RESOURCES))
    await it.dataverse.webhooks.idle()
    assert await it.rows("contacts")
    assert it.versions("Patient/p1") == 1
    await it.restart()


async def test_resend_alone_completes_it(tmp_path: Path) -> None:
    """The sender posts the bundle again: the write-back is made, though the rows are found unchanged."""
    wanted, _ = await calm(tmp_path, *RESOURCES)
    async with world(tmp_path) as it:
        await die_before_the_put(it)
        reply = await it.post(bundle(*RESOURCES))
        assert reply.body is not None
        assert [(each["result"], each["writeback"]) for each in reply.body["entries"]] == [("unchanged", "written")] * 2
        assert await state(it) == wanted


async def test_event_alone_completes_it(tmp_path: Path) -> None:
    """Nobody sends again and the delayed message is not due: the rows' own events make the write-back."""
    wanted, _ = await calm(tmp_path, *RESOURCES)
    async with world(tmp_path) as it:
        await die_before_the_put(it)
        for body in it.events:
            await it.relay.take_event(body)
        await it.settle(within=timedelta(minutes=2))
        assert await it.store.length("inbound") == 1
        assert await state(it) == wanted


async def test_delayed_message_alone_completes_it(tmp_path: Path) -> None:
    """Nobody sends again and no event comes: the message left at the start takes the bundle up."""
    wanted, _ = await calm(tmp_path, *RESOURCES)
    async with world(tmp_path) as it:
        await die_before_the_put(it)
        began = it.clock()
        await it.settle()
        assert it.clock() - began >= it.relay.settings.resume_after
        assert await state(it) == wanted
        assert await it.store.list_blobs("relay-payloads") == []
        (outcome,) = await it.store.list_blobs("relay-outcomes")
        assert (await it.relay.inbound.status(outcome.name.removesuffix(".json"))).status == 200


async def test_event_that_died_before_the_put_comes_again(tmp_path: Path) -> None:
    """Where the event alone causes the write-back, its message stays on the queue until the write-back is made."""
    wanted, _ = await calm(tmp_path, *RESOURCES, writeback="event")
    async with world(tmp_path, writeback="event") as it:
        await it.put(*RESOURCES)
        assert (await it.post(bundle(*RESOURCES))).status == 200
        once(it.to_fhir, puts_resources, kill())
        with pytest.raises(Kill):
            await it.settle()
        await it.restart()
        await it.settle()
        assert await state(it) == wanted


async def run_with_a_crash(it: World, wire: Wire, *resources: dict[str, Any]) -> bool:
    """Post, and go on after the crash with a new relay; tells whether the relay died at all."""
    await it.put(*resources)
    died = False
    with suppress(Kill):
        await it.post(bundle(*resources))
    for _ in range(3):
        if not died and wire.at == len(wire.seen) - 1:
            died = True
            await it.restart()
        try:
            await it.settle()
        except Kill:
            continue
        return died
    raise AssertionError("it does not settle")


@pytest.mark.parametrize(
    ("writeback", "resources"), [("inline", RESOURCES), ("event", (patient(identifiers=1),))], ids=["inline", "event"]
)
async def test_crash_at_every_request(tmp_path: Path, writeback: str, resources: tuple[dict[str, Any], ...]) -> None:
    """Whichever request the relay dies before or after, a new one ends in the same two databases, written once."""
    wanted, requests = await calm(tmp_path, *resources, writeback=writeback)
    assert len(requests) >= 4
    moments: tuple[Moment, ...] = ("before", "after")
    for at, moment in ((at, moment) for at in range(len(requests)) for moment in moments):
        where = f"{moment} {at}: {requests[at]}"
        async with world(tmp_path / f"{at}-{moment}", writeback=writeback) as it:
            wire = Wire(at, moment).watch(it)
            assert await run_with_a_crash(it, wire, *resources), where
            assert await state(it) == wanted, where
            assert [it.versions(f"{each['resourceType']}/{each['id']}") for each in resources] == [2] * len(resources)
            assert await it.dead() == [], where
            for each in await it.rows("prefix_patientidentifiers", f"prefix_system eq '{URN.format('patient')}'"):
                assert each["prefix_value"] == each["_prefix_patient_value"], where

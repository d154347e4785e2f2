"""HAPI is asked for what changed: rows in Dataverse, GUIDs in its resources, deletions, and silence afterwards."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from real_kit import Real, guids, real

from support.samples import patient

pytestmark = pytest.mark.real

NEVER = "0 0 0 1 1 *"


async def poll(it: Real) -> None:
    """Run the timer function by the host's admin route, and wait until all is still."""
    assert (await it.relay.post("/admin/functions/poll", json={})).status_code == 202
    assert await it.stack.settle()


async def test_changes_are_found_page_after_page(tmp_path: Path, hapi_url: str) -> None:
    """What is put on HAPI after polling began has its row and its GUID; the echo ends it, and nothing is asked twice."""
    ids = [f"poll-{uuid4().hex[:8]}" for _ in range(5)]
    async with real(tmp_path, hapi_url, poll=NEVER, poll_overlap="1s") as it:
        module: Any = sys.modules["relay.app"].get_relay().poller.__class__
        sys.modules[module.__module__].PAGE = 2  # type: ignore[attr-defined]  # the app's own copy of it
        await poll(it)
        await asyncio.sleep(1.1)  # HAPI has its own clock
        for each in ids:
            assert (await it.put(patient(each))).is_success
        it.calls()
        await poll(it)
        made = it.calls()
        assert sum("_history" in each for each in made) == 3, "pages of two"
        for each in ids:
            row = await it.row("contacts", each)
            resource = await it.read(f"Patient/{each}")
            assert guids(resource) == (row["contactid"],)
            assert resource["meta"]["versionId"] == "2"
        await poll(it)  # the echo
        it.calls()
        await poll(it)
        assert [each for each in it.calls() if "Patient" in each and "_history" not in each] == []
        for each in ids:
            assert (await it.read(f"Patient/{each}"))["meta"]["versionId"] == "2"


async def test_a_deletion_is_found(tmp_path: Path, hapi_url: str) -> None:
    """HAPI's history names what was deleted, without a time: the resource is looked at, and is gone."""
    fhir_id = f"poll-{uuid4().hex[:8]}"
    async with real(tmp_path, hapi_url, poll=NEVER, poll_overlap="1s") as it:
        await poll(it)
        assert (await it.put(patient(fhir_id))).is_success
        assert (await it.fhir.delete(f"Patient/{fhir_id}")).is_success
        relay = sys.modules["relay.app"].get_relay()
        kept: list[Any] = []

        async def note(changes: Any) -> None:
            kept.extend(changes)

        relay.inbound.keep = note
        await poll(it)
        await poll(it)
        assert [(each.id, each.op) for each in kept if each.id == fhir_id] == [(fhir_id, "unknown")]
        assert (await it.fhir.get(f"Patient/{fhir_id}")).status_code == 410

"""A request that takes longer than the worker waits is done by both: what its caller was told is what stands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.control import Fault
from support.mishaps import once
from support.samples import bundle, patient, results
from support.world import world
from support.writes import both_paths


@both_paths
@pytest.mark.parametrize("refused", [False, True])
async def test_the_outcome_is_the_one_that_was_answered(tmp_path: Path, write: dict[str, Any], refused: bool) -> None:
    """The worker, which ends last, finds nothing to do, or is refused; asked for by id the outcome is still the answer's."""
    async with world(tmp_path, events=False, resume_after="0s", **write) as it:
        await it.put(patient())
        working: list[asyncio.Task[int]] = []
        begun, answered = asyncio.Event(), asyncio.Event()

        async def take_up() -> None:
            working.append(asyncio.create_task(it.work()))
            await begun.wait()

        async def last(_request: httpx.Request) -> None:
            if asyncio.current_task() in working:
                await answered.wait()
                if refused:
                    it.dataverse.faults.append(Fault(path="batch", status=403, body={"error": {"code": "0x80040220"}}))

        carry = it.relay.inbound._carry

        async def note(*arguments: Any) -> dict[str, Any]:
            if asyncio.current_task() in working:
                begun.set()
            return await carry(*arguments)

        it.relay.inbound._carry = note  # type: ignore[method-assign]
        once(it.to_dataverse, lambda _request: True, take_up)
        it.to_dataverse.before.append(last)
        reply = await it.post(bundle(patient()))
        answered.set()
        assert await asyncio.gather(*working) == [1]
        await it.settle()
        assert results(dict(reply.body or {})) == {"Patient/p1": "created"}
        done = await it.relay.inbound.status(reply.job)
        assert results(dict(done.body or {})) == {"Patient/p1": "created"}
        assert len(await it.rows("contacts")) == 1
        assert await it.dead() == []

"""A write-back changes the resource, so it comes in again: the second round finds nothing to write, and it is silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.samples import bundle, family, patient, practitioner
from support.state import state
from support.world import World, world

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])


@dataclass
class Feed:
    """Brings every new version of every resource to the relay, as the change events of a FHIR server would."""

    it: World
    with_times: bool = True
    seen: dict[str, int] = field(default_factory=dict)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, int]] = field(default_factory=list)

    async def round(self) -> int:
        """Bring what changed since the last round, wait until nothing moves, and return how many resources it was."""
        newest = self.it.newest()
        changed = [address for address in newest if self.it.versions(address) != self.seen.get(address)]
        if not changed:
            return 0
        self.seen |= {address: self.it.versions(address) for address in changed}
        self.it.forget_calls()
        reply = await self.it.post(bundle(*(self._body(newest[address]) for address in changed)))
        assert reply.body is not None
        await self.it.settle()
        self.outcomes.append(dict(reply.body))
        self.calls.append(self.it.calls())
        return len(changed)

    def _body(self, resource: dict[str, Any]) -> dict[str, Any]:
        if self.with_times:
            return resource
        return {**resource, "meta": {"versionId": resource["meta"]["versionId"]}}


@both_ways
@pytest.mark.parametrize("with_times", [True, False], ids=["lastUpdated", "no lastUpdated"])
async def test_second_round_writes_nothing(tmp_path: Path, writeback: str, with_times: bool) -> None:
    """The echo of the write-back changes neither side: round one writes, round two reads once, round three is empty."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(*family())
        feed = Feed(it, with_times=with_times)
        assert await feed.round() == 6
        before = await state(it, times=True)
        assert await feed.round() == 6, "each resource was written back once"
        assert await state(it, times=True) == before
        assert {each["result"] for each in feed.outcomes[1]["entries"]} == {"unchanged"}
        assert feed.outcomes[1]["receipt"]["rows"] == {"created": 0, "updated": 0}
        assert await feed.round() == 0
        assert {it.versions(address) for address in it.newest()} == {2}
        assert feed.calls[1] == {"dataverse": 1, "fhir": 0}
        assert await it.dead() == []


@both_ways
@pytest.mark.parametrize("with_times", [True, False], ids=["lastUpdated", "no lastUpdated"])
async def test_calls_until_silence(tmp_path: Path, writeback: str, with_times: bool) -> None:
    """Two new resources with three identifiers cost this many calls until nothing moves any more, echo included.

    Inline: locate, write, read, put; and one locate for the echo. By events, beside locate and write: each row costs
    a read and its identifier row, each of the five identifier rows two reads; each of these seven one FHIR read, and
    two of them a PUT.
    """
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient(), practitioner())
        feed = Feed(it, with_times=with_times)
        while await feed.round():
            assert len(feed.calls) < 4
        total = {side: sum(each[side] for each in feed.calls) for side in ("dataverse", "fhir")}
        by_events = {"dataverse": 2 + 2 * 2 + 5 * 2 + 1, "fhir": 7 + 2}
        assert total == ({"dataverse": 2 + 1, "fhir": 2} if writeback == "inline" else by_events)


@both_ways
async def test_change_after_the_echo_goes_through_once(tmp_path: Path, writeback: str) -> None:
    """A real change after the write-back is written to Dataverse, once, and causes no further write-back."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        feed = Feed(it)
        while await feed.round():
            pass
        await it.put({**await it.read("Patient", "p1"), "gender": "male"})
        assert await feed.round() == 1
        assert feed.outcomes[-1]["entries"][0]["result"] == "updated"
        assert feed.calls[-1] == {"dataverse": 2, "fhir": 0}
        assert await feed.round() == 0
        assert it.versions("Patient/p1") == 3
        assert (await it.rows("contacts"))[0]["gendercode"] == 1


@both_ways
async def test_sender_that_drops_our_identifier(tmp_path: Path, writeback: str) -> None:
    """A source that overwrites the resource without the identifier gets it back once per overwrite, not for ever."""
    async with world(tmp_path, writeback=writeback) as it:
        await it.put(patient())
        feed = Feed(it)
        while await feed.round():
            pass
        await it.put(patient())
        rounds = 0
        while await feed.round():
            rounds += 1
            assert rounds < 4
        again = [each["value"] for each in (await it.read("Patient", "p1"))["identifier"] if "d365" in each["system"]]
        assert len(again) == 1
        assert it.versions("Patient/p1") == 4

"""A large bundle is carried out in windows, each of which needs only what came before: the end is that of one piece."""

from __future__ import annotations

import itertools
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_plan_properties import bundles, circles, drafts, options

from devstack.control import Fault
from relay.inbound import intake
from relay.inbound.operations import Planned
from relay.inbound.plan import PlanOptions
from relay.inbound.windows import windows
from relay.mapping.model import ByFhirId, Draft
from support.memory import Memory
from support.samples import bundle, encounter, organization, patient, practitioner, results
from support.state import state
from support.world import shipped_maps, world

Json = dict[str, Any]
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def told(done: dict[int, Planned]) -> dict[int, tuple[str, list[str], str]]:
    """Return result, issue codes and row of each resource."""
    return {number: (each.result, [issue.code for issue in each.issues], each.row_id) for number, each in done.items()}


def rows(memory: Memory) -> Json:
    """Return all rows without their versions."""
    return {
        table: {guid: {k: v for k, v in row.items() if k != "@odata.etag"} for guid, row in found.items()}
        for table, found in memory.tables.items()
        if found
    }


@quick
@given(sent=st.one_of(bundles(), circles()), before=bundles(), most=st.integers(1, 4), chosen=options)
def test_windows_end_as_one_piece(sent: list[Json], before: list[Json], most: int, chosen: PlanOptions) -> None:
    """Whatever refers to what, in windows of any size the rows and what is said of each resource are those of one piece."""
    whole = Memory(shipped_maps())
    whole.send(drafts(before), chosen)
    parts = deepcopy(whole)
    listed = drafts(sent)
    done = whole.send(listed, chosen)
    in_parts: dict[int, Planned] = {}
    for window in windows(listed, most, "fhir"):
        in_parts |= parts.send({number: listed[number] for number in window}, chosen)
    assert rows(parts) == rows(whole)
    assert told(in_parts) == told(done)


@quick
@given(sent=st.one_of(bundles(), circles()), most=st.integers(1, 4))
def test_each_resource_is_in_one_window_after_what_it_needs(sent: list[Json], most: int) -> None:
    """Every draft is in exactly one window, none refers to a later one, and only what belongs together is over the size."""
    listed = drafts(sent)
    cut = windows(listed, most, "fhir")
    assert sorted(number for window in cut for number in window) == sorted(listed)
    place = {(listed[n].map.resource, listed[n].id): at for at, window in enumerate(cut) for n in window}
    for at, window in enumerate(cut):
        for number in window:
            assert all(place.get((each.type, each.id), 0) <= at for each in _references(listed[number]))
    for one, other in itertools.pairwise(cut):
        assert len(one) > most or len(other) > 0


def _references(draft: Draft) -> list[ByFhirId]:
    return [each for each in draft.lookups.values() if isinstance(each, ByFhirId)]


def test_a_bundle_that_fits_is_one_window() -> None:
    """Up to the size of a window a bundle stays whole, in its own order; an empty one has no windows."""
    listed = drafts([patient("p2"), patient("p1")])
    assert windows(listed, 2, "fhir") == [[0, 1]]
    assert windows({}, 2, "fhir") == []


async def test_a_bundle_in_windows_is_carried_out(tmp_path: Path) -> None:
    """References backwards and forwards, rows, identifiers and the outcome in the bundle's order, in windows of two."""
    sent = [
        encounter("e1", subject="Patient/p1"),
        patient("p1", practitioner="Practitioner/d1"),
        practitioner("d1"),
        organization("o1"),
        patient("p2"),
    ]
    async with world(tmp_path, window=2) as it:
        await it.put(*sent)
        it.forget_calls()
        reply = await it.post(bundle(*sent))
        assert reply.status == 200, reply.body
        outcome = dict(reply.body or {})
        assert [each["index"] for each in outcome["entries"]] == list(range(5))
        assert set(results(outcome).values()) == {"created"}
        assert {each["writeback"] for each in outcome["entries"]} == {"written"}
        assert outcome["receipt"]["calls"] == it.calls()
        (row,) = await it.rows("msemr_encounters")
        (first,) = await it.rows("contacts", "msemr_azurefhirid eq 'p1'")
        assert row["_msemr_encounterpatientidentifier_value"] == first["contactid"]
        again = await it.post(bundle(*sent))
        assert set(results(dict(again.body or {})).values()) == {"unchanged"}
        await it.settle()


@pytest.mark.parametrize("chosen", [{"writeback": "event"}, {"trust_sent_bodies": True}, {"write": "fewest-calls"}])
async def test_windows_beside_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    """In windows, decoded entry by entry, by events or with sent bodies trusted: the two databases end as in one piece."""
    monkeypatch.setattr(intake.read_bundle, "__kwdefaults__", {**(intake.read_bundle.__kwdefaults__ or {}), "large": 0})
    sent = [encounter(f"e{n}", subject=f"Patient/p{n}") for n in range(3)] + [patient(f"p{n}") for n in range(3)]
    ends = []
    for window in (100, 2):
        async with world(tmp_path / str(window), window=window, **chosen) as it:
            await it.put(*sent)
            stored = [await it.read(each["resourceType"], each["id"]) for each in sent]
            assert (await it.post(bundle(*stored))).status == 200
            await it.settle()
            ends.append(await state(it))
    assert ends[0] == ends[1]


async def test_a_side_that_gets_busy_between_windows(tmp_path: Path) -> None:
    """What was done stays, the rest is done later, once; nothing that refers to what is still missing fails for it."""
    sent = [encounter(f"e{n}", subject=f"Patient/p{n}") for n in range(3)] + [patient(f"p{n}") for n in range(3)]
    async with world(tmp_path, window=2, write="fewest-calls") as it:
        await it.put(*sent)
        it.dataverse.faults.append(Fault(path=r"\$batch", after=3, times=6, status=503))
        reply = await it.post(bundle(*sent))
        assert reply.status == 202
        await it.settle()
        outcome = dict((await it.relay.inbound.status(reply.job)).body or {})
        assert outcome["status"] == "succeeded"
        assert set(results(outcome).values()) <= {"created", "unchanged"}
        assert len(await it.rows("msemr_encounters")) == len(await it.rows("contacts")) == 3

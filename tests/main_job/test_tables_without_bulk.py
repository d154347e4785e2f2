"""A table without bulk messages: its resources stay change sets, and what only a call tells is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devstack.control import Fault
from devstack.dataverse.troubles import TROUBLES
from support.samples import bundle, encounter, patient, practitioner, results
from support.state import state
from support.world import world
from support.writes import sets, watch_writes

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

CHILDREN = "prefix_patientidentifiers"


def ward() -> list[dict[str, Any]]:
    """Return patients, encounters that point to them, and practitioners."""
    sent = [encounter(f"e{n}", f"Patient/p{n}") for n in range(12)]
    return [*sent, *(patient(f"p{n}") for n in range(12)), *(practitioner(f"d{n}") for n in range(12))]


async def undisturbed(folder: Path, writeback: str) -> dict[str, Any]:
    """Return the state after the same bundle in one batch."""
    async with world(folder / "undisturbed", writeback=writeback, write="fewest-calls") as it:
        await it.put(*ward())
        await it.post(bundle(*ward()))
        await it.settle()
        return await state(it)


@pytest.mark.parametrize(
    ("without", "bulk"),
    [
        (["msemr_encounter"], {"contacts", CHILDREN, "prefix_practitioneridentifiers"}),
        (
            ["prefix_patientidentifier"],
            {"contacts", "prefix_practitioneridentifiers", "msemr_encounters", "prefix_encounteridentifiers"},
        ),
        (["contact", "msemr_encounter"], set()),
    ],
    ids=["a table", "a child table", "all"],
)
async def test_a_resource_with_such_a_row_is_a_change_set(tmp_path: Path, without: list[str], bulk: set[str]) -> None:
    """It is written whole, in batches beside the bulk calls, level by level; the rows are those of any other way."""
    wanted = await undisturbed(tmp_path, "inline")
    async with world(tmp_path, bulk_from=1, org={"no_bulk": without}) as it:
        await it.put(*ward())
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward()))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"created"}
        assert {write.what for write in seen} == bulk | {"$batch"}
        await it.settle()
        assert await state(it) == wanted


@both_ways
async def test_a_table_that_turns_out_to_have_none(tmp_path: Path, writeback: str) -> None:
    """The call is refused: its rows are asked for one by one in a batch, and no bulk call is made for that table again."""
    wanted = await undisturbed(tmp_path, writeback)
    async with world(tmp_path, writeback=writeback, bulk_from=1) as it:
        it.dataverse.faults.append(
            Fault(**TROUBLES["no_bulk"].fault | {"path": f"{CHILDREN}/.*CreateMultiple", "times": 0})
        )
        await it.put(*ward())
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward()))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"created"}
        tried = [write for write in seen if write.what == CHILDREN]
        assert 0 < len(tried) <= it.relay.dataverse.governor.limit
        await it.settle()
        assert await state(it) == wanted
        seen.clear()
        await it.post(bundle(*(patient(f"q{n}") for n in range(12))))
        assert {write.what for write in seen} == {"$batch"}


async def test_a_process_that_may_not_ask(tmp_path: Path) -> None:
    """Where the question is refused, tables are taken to have bulk messages until a call says otherwise."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        denied = {"error": {"code": "0x80040220", "message": "no"}}
        it.dataverse.faults.append(Fault(path="sdkmessagefilters", status=403, body=denied))
        seen = watch_writes(it)
        assert (await it.post(bundle(*(patient(f"p{n}") for n in range(12))))).status == 200
        assert sets(seen) == ["contacts", CHILDREN]


async def test_the_question_is_not_answered(tmp_path: Path) -> None:
    """While Dataverse is away the bundle waits, and asks again: nothing is taken for known that was not said."""
    async with world(tmp_path, bulk_from=1, events=False, org={"no_bulk": ["contact"]}) as it:
        it.dataverse.faults.append(Fault(path="sdkmessagefilters", times=6))
        await it.put(*ward())
        assert (await it.post(bundle(*ward()))).status == 202
        seen = watch_writes(it)
        await it.settle()
        assert "contacts" not in sets(seen)
        assert len(await it.rows("contacts")) == 24

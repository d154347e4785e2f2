"""A large plan is written in bulk: by levels, side by side, and it ends as the same plan in one batch does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.throttle import Governor
from support.samples import bundle, encounter, family, organization, patient, results
from support.state import state
from support.world import World, world
from support.writes import Write, sets, watch_writes

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

PRIORITY = {"priority": {"coding": [{"code": "EM", "display": "Emergency"}]}}


def ward(patients: int = 12) -> list[dict[str, Any]]:
    """Return patients with encounters that share a code, and one resource of each other type."""
    sent = [patient(f"w{n}") for n in range(patients)]
    sent += [encounter(f"v{n}", f"Patient/w{n}", **PRIORITY) for n in range(patients)]
    return [*reversed(sent), *family()]


def narrow(it: World, concurrency: int) -> None:
    """Let so many requests run at once, and none wait."""
    it.relay.dataverse.governor = Governor(concurrency=concurrency, sleep=it.clock.sleep, clock=it.clock.seconds)


@both_ways
async def test_bulk_ends_as_one_batch_does(tmp_path: Path, writeback: str) -> None:
    """The same bundle in bulk and in one batch: the same rows, the same resources, the same outcome."""
    ends = []
    for write in ("auto", "fewest-calls"):
        async with world(tmp_path / write, writeback=writeback, write=write, bulk_from=1) as it:
            await it.put(*ward())
            reply = await it.post(bundle(*ward()))
            assert reply.body is not None
            assert set(results(reply.body).values()) == {"created"}
            await it.settle()
            assert await it.dead() == []
            outcome = [{**each, "row": None, "children": len(each["children"])} for each in reply.body["entries"]]
            ends.append((await state(it), outcome, reply.body["receipt"]["rows"]))
            again = await it.post(bundle(*ward()))
            assert again.body is not None
            assert set(results(again.body).values()) == {"unchanged"}
    assert ends[0] == ends[1]


async def test_parents_come_first(tmp_path: Path) -> None:
    """Codes and rows that point to nothing new come first, each table in bulk; then what points to them, level by level."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        seen = watch_writes(it)
        assert (await it.post(bundle(*ward()))).status == 200
        made: dict[str, set[str]] = {}
        for write in seen:
            for row in write.made:
                bound = {value for name, value in row.items() if name.endswith("@odata.bind")}
                assert bound <= {f"/{name}({guid})" for name, guids in made.items() for guid in guids}
            for row in write.made:  # only now: no row of a call points to another one of it
                (key,) = [value for name, value in row.items() if re.fullmatch(f"{_table(write)}id", name)]
                made.setdefault(write.what, set()).add(key)
        assert {name: len(rows) for name, rows in made.items()} == {name: len(await it.rows(name)) for name in made}
        assert sets(seen)[0] == "msemr_codeableconcepts"


def _table(write: Write) -> str:
    return str(write.made[0]["@odata.type"]).removeprefix("Microsoft.Dynamics.CRM.")


async def test_every_call_carries_the_tag(tmp_path: Path) -> None:
    """A webhook tells the relay's own rows by the tag, those of a bulk call too."""
    async with world(tmp_path, bulk_from=1) as it:
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward()))
        assert reply.body is not None
        assert {write.query for write in seen} == {f"tag={reply.body['tag']}"}
        await it.settle()
        outcome = (await it.relay.inbound.status(reply.job)).body
        assert outcome is not None
        assert outcome["receipt"]["deliveries"] == len(it.events)


async def test_a_small_plan_is_one_batch(tmp_path: Path) -> None:
    """Below the threshold each resource is one change set of one batch, and nobody asks which tables take bulk calls."""
    async with world(tmp_path, bulk_from=33, events=False) as it:
        sent = [patient(f"p{n}", identifiers=2) for n in range(8)]
        seen = watch_writes(it)
        await it.post(bundle(*sent))
        assert [(write.what, write.rows) for write in seen] == [("$batch", 32)]
        assert [call["method"] for call in it.dataverse.calls] == ["POST", "POST"]


async def test_fewest_calls_is_never_bulk(tmp_path: Path) -> None:
    """Whoever asks for the fewest calls gets them, however large the plan is."""
    async with world(tmp_path, bulk_from=1, write="fewest-calls", events=False) as it:
        seen = watch_writes(it)
        await it.post(bundle(*ward()))
        assert [write.what for write in seen] == ["$batch"]


async def test_tables_are_asked_for_once(tmp_path: Path) -> None:
    """One read in a process says which tables take bulk calls; it is a read of metadata, and the receipt leaves it out."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        for name in ("a", "b"):
            reply = await it.post(bundle(*(patient(f"{name}{n}") for n in range(8))))
            assert reply.body is not None
            calls = len(it.dataverse.calls) - (name == "a")
            assert reply.body["receipt"]["calls"]["dataverse"] == calls
            it.forget_calls()
        assert not any("sdkmessagefilters" in call["path"] for call in it.dataverse.calls)


@pytest.mark.parametrize(
    ("at_once", "rows", "calls"), [(1, 500, [60, 180]), (4, 500, [15] * 4 + [45] * 4), (4, 10, None)]
)
async def test_rows_are_spread_over_what_may_run(
    tmp_path: Path, at_once: int, rows: int, calls: list[int] | None
) -> None:
    """A level makes as many calls of one table as may run at once, and no call has more rows than the setting says."""
    async with world(tmp_path, bulk_from=1, bulk_rows=rows, events=False) as it:
        narrow(it, at_once)
        seen = watch_writes(it)
        await it.post(bundle(*(patient(f"p{n}") for n in range(60))))
        assert [write.rows for write in seen] == (calls or [10] * 24)


async def test_changes_stay_change_sets(tmp_path: Path) -> None:
    """A resource with a change stays whole; many of them go in several batches, side by side, each with If-Match."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        sent = [patient(f"p{n}") for n in range(40)]
        await it.post(bundle(*sent))
        for each in sent:
            each["name"][0]["family"] += " changed"
            each["identifier"].append({"system": "https://site.example/new", "value": each["id"]})
        seen = watch_writes(it)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"updated"}
        assert [(write.what, write.rows) for write in seen] == [("$batch", 10)] * 8
        for write in seen:
            assert len(re.findall(r'boundary="changeset_', write.text)) == 5
            assert write.text.count("If-Match: W/") == 5


async def test_new_rows_of_known_resources_go_in_bulk(tmp_path: Path) -> None:
    """A resource whose row stays as it is and gets new children consists of creates only: they need no change set."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        sent = [patient(f"p{n}") for n in range(20)]
        await it.post(bundle(*sent))
        for each in sent:
            each["identifier"].append({"system": "https://site.example/new", "value": each["id"]})
        seen = watch_writes(it)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"updated"}
        assert {write.what for write in seen} == {"prefix_patientidentifiers", "$batch"} - {"$batch"}
        assert sum(write.rows for write in seen) == 20


async def test_circles_are_closed_last(tmp_path: Path) -> None:
    """What closes a cycle goes out when every row is there, side by side too."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        sent = [organization(f"o{n}", partOf={"reference": f"Organization/o{n ^ 1}"}) for n in range(20)]
        seen = watch_writes(it)
        assert (await it.post(bundle(*sent))).status == 200
        assert seen[-1].what == "$batch"
        closing = [write for write in seen if write.what == "$batch"]
        assert seen[-len(closing) :] == closing
        assert sum(write.rows for write in closing) == 10
        rows = {each["accountid"]: each for each in await it.rows("accounts")}
        assert len(rows) == 20
        for row in rows.values():
            other = rows[row["_parentaccountid_value"]]
            assert int(other["msemr_azurefhirid"][1:]) == int(row["msemr_azurefhirid"][1:]) ^ 1


async def test_side_by_side(tmp_path: Path) -> None:
    """The calls of a level are under way together, and none of the next one before all of them are answered."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        log: list[str] = []

        async def note(request: Any) -> None:
            if "CreateMultiple" in request.url.path:
                log.append(request.url.path.split("/")[-2])

        it.to_dataverse.before.append(note)
        it.to_dataverse.after.append(note)
        await it.post(bundle(*(patient(f"p{n}") for n in range(80))))
        contacts = log.index("prefix_patientidentifiers")
        assert log[:contacts] == ["contacts"] * 16
        assert json.dumps(log[contacts:]).count("contacts") == 0

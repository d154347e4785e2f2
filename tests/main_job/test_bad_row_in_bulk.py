"""A bulk call says that a row is bad, not which: it is found in few calls, fails alone, and every other row is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.control import Fault
from relay.dataverse.keys import row_key
from relay.dataverse.throttle import Governor
from relay.inbound.bulk import ALONE, DEADLOCKS
from relay.inbound.carry import ROUNDS
from support.made_up import wider_maps
from support.mishaps import once
from support.samples import PATIENT, bundle, codes, encounter, patient, results
from support.state import state
from support.users import makes
from support.world import Between, World, world
from support.writes import Write, watch_writes

both_ways = pytest.mark.parametrize("writeback", ["inline", "event"])

COUNT = 60
TOO_LONG = "L" * 60
PRIVILEGE = "0x80040220"
REFUSED = "dataverse-0x80044331"
CHILDREN = "prefix_patientidentifiers"
PRIORITY = {"priority": {"coding": [{"code": "EM", "display": "Emergency"}]}}


def ward(*bad: int) -> list[dict[str, Any]]:
    """Return sixty patients; the bad ones have a last name that Dataverse does not take."""
    sent = [patient(f"p{number}") for number in range(COUNT)]
    for number in bad:
        sent[number]["name"][0]["family"] = TOO_LONG
    return sent


def most_calls(rows: int, bad: int) -> int:
    """Return how many calls it takes to find that many bad rows at worst.

    The call itself; two halves of each half that has a bad row, down to `ALONE` rows; one batch of those that are left.
    """
    depth = math.ceil(math.log2(rows / ALONE)) if rows > ALONE else 0
    return 1 + bad * (2 * depth + 1)


def one_at_a_time(it: World) -> None:
    """Let one request run at once: a table's rows of a level are one call then."""
    it.relay.dataverse.governor = Governor(concurrency=1, sleep=it.clock.sleep, clock=it.clock.seconds)


class Refuses(httpx.AsyncBaseTransport):
    """Answers bulk calls itself, as long as the rule gives a code for their rows, and does nothing of them."""

    def __init__(self, side: Between, rule: Callable[[str, list[dict[str, Any]]], tuple[int, str] | None]) -> None:
        self.inner, self.rule, self.struck = side.inner, rule, 0
        side.inner = self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("CreateMultiple"):
            entity_set = request.url.path.split("/")[-2]
            if (said := self.rule(entity_set, json.loads(await request.aread())["Targets"])) is not None:
                self.struck += 1
                return httpx.Response(said[0], json={"error": {"code": said[1], "message": "no"}})
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def to(seen: list[Write], entity_set: str) -> list[int]:
    """Return the sizes of the bulk calls to a set."""
    return [write.rows for write in seen if write.what == entity_set]


@both_ways
@pytest.mark.parametrize("bad", [(17,), (0, 31, 59)], ids=["one", "three"])
async def test_bad_rows_are_isolated(tmp_path: Path, writeback: str, bad: tuple[int, ...]) -> None:
    """Each bad patient fails with Dataverse's code and column, nothing of it is written, and all others are done."""
    async with world(tmp_path, writeback=writeback, bulk_from=1, maps=wider_maps(tmp_path)) as it:
        one_at_a_time(it)
        await it.put(*ward(*bad))
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward(*bad)))
        assert reply.body is not None
        assert reply.status == 207
        found = results(reply.body)
        assert {name for name, result in found.items() if result == "failed"} == {f"Patient/p{n}" for n in bad}
        for number in bad:
            entry = reply.body["entries"][number]
            assert (entry["row"], entry["children"], entry["writeback"]) == (None, [], "none")
            assert (entry["issues"][-1]["code"], entry["issues"][-1]["at"]) == (REFUSED, "lastname")
        assert TOO_LONG not in json.dumps(reply.body)
        assert len(to(seen, CHILDREN)) == 1
        assert len(seen) - 1 <= most_calls(COUNT, len(bad))
        await it.settle()
        assert len(await it.rows("contacts")) == COUNT - len(bad)
        assert len(await it.rows(CHILDREN)) == 3 * (COUNT - len(bad))
        assert all(it.versions(f"Patient/p{n}") == (1 if n in bad else 2) for n in range(COUNT))
        assert await it.dead() == []


async def test_all_rows_are_bad(tmp_path: Path) -> None:
    """When all fail the answer is 422, each with its reason, and nothing is written on either side."""
    async with world(tmp_path, bulk_from=1, maps=wider_maps(tmp_path)) as it:
        await it.put(*ward(*range(COUNT)))
        reply = await it.post(bundle(*ward(*range(COUNT))))
        assert reply.body is not None
        assert (reply.status, reply.body["status"]) == (422, "failed")
        assert codes(reply.body) == {f"Patient/p{number}": [REFUSED] for number in range(COUNT)}
        assert await it.rows("contacts") == await it.rows(CHILDREN) == []


@both_ways
async def test_a_bad_child_fails_its_resource_and_keeps_its_row(tmp_path: Path, writeback: str) -> None:
    """The row is there by then, so it stays, with the children that went through, and it is told to FHIR; sent again, it heals."""
    async with world(tmp_path, writeback=writeback, bulk_from=1) as it:
        facts = it.dataverse.metadata.tables["prefix_patientidentifier"].columns["prefix_value"]
        sent = ward()
        sent[4]["identifier"][1]["value"] = "V" * 400
        await it.put(*sent)
        before = facts.max_length
        object.__setattr__(facts, "max_length", 300)
        try:
            reply = await it.post(bundle(*sent))
        finally:
            object.__setattr__(facts, "max_length", before)
        assert reply.body is not None
        assert (reply.status, codes(reply.body)["Patient/p4"]) == (207, [REFUSED])
        assert list(results(reply.body).values()).count("created") == COUNT - 1
        (row,) = await it.rows("contacts", "msemr_azurefhirid eq 'p4'")
        children = await it.rows(CHILDREN, f"_prefix_patient_value eq {row['contactid']}")
        entry = reply.body["entries"][4]
        assert entry["row"]["id"] == row["contactid"]
        key = "prefix_patientidentifierid"
        assert {each["id"] for each in entry["children"]} == {each[key] for each in children}
        assert len(children) == (2 if writeback == "inline" else 1)
        await it.settle()
        assert it.versions("Patient/p4") == 2
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert results(reply.body) == {f"Patient/p{n}": "updated" if n == 4 else "unchanged" for n in range(COUNT)}
        assert len(await it.rows(CHILDREN, f"_prefix_patient_value eq {row['contactid']}")) == 3


async def test_what_points_to_a_bad_row_is_not_sent(tmp_path: Path) -> None:
    """The encounter of a refused patient fails with `unresolved-reference`; no request ever bound the row that is not there."""
    async with world(tmp_path, bulk_from=1, maps=wider_maps(tmp_path)) as it:
        sent = [*ward(4), *(encounter(f"e{n}", f"Patient/p{n}") for n in range(COUNT))]
        await it.put(*sent)
        seen = watch_writes(it)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 207
        failed = {name: said for name, said in codes(reply.body).items() if said}
        assert failed == {"Patient/p4": [REFUSED], "Encounter/e4": ["unresolved-reference"]}
        assert not any('"visit-e4"' in write.text for write in seen)
        assert len(await it.rows("msemr_encounters")) == COUNT - 1


async def test_a_code_that_nobody_may_create(tmp_path: Path) -> None:
    """What needs a codeable concept that is refused fails with that reason, and is not sent; the rest is done."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        denied = {"error": {"code": PRIVILEGE, "message": "no"}}
        for inside in (False, True):
            it.dataverse.faults.append(
                Fault("POST", "msemr_codeableconcepts", times=0, status=403, body=denied, inside=inside)
            )
        seen = watch_writes(it)
        sent = [
            *ward(),
            encounter("e0", "Patient/p0"),
            *(encounter(f"e{n}", f"Patient/p{n}", **PRIORITY) for n in range(1, 4)),
        ]
        await it.put(*sent)
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        failed = {name: said for name, said in codes(reply.body).items() if said}
        assert failed == {f"Encounter/e{n}": [f"dataverse-{PRIVILEGE}"] for n in range(1, 4)}
        assert not any('"visit-e1"' in write.text for write in seen)
        assert [each["msemr_azurefhirid"] for each in await it.rows("msemr_encounters")] == ["e0"]


async def test_a_right_that_is_missing_is_not_searched_for(tmp_path: Path) -> None:
    """A call refused for want of a right is not halved: one batch asks for each of its rows."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        one_at_a_time(it)
        Refuses(it.to_dataverse, lambda name, _: (403, PRIVILEGE) if name == "contacts" else None)
        seen = watch_writes(it)
        assert (await it.post(bundle(*ward()))).status == 200
        assert [(write.what, write.rows) for write in seen] == [("contacts", 60), ("$batch", 60), (CHILDREN, 180)]
        assert len(await it.rows("contacts")) == COUNT


async def test_a_call_that_takes_too_long_is_halved(tmp_path: Path) -> None:
    """An SQL time-out says that there were too many rows: each half is sent by itself, and so on until it goes through."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        one_at_a_time(it)
        refusal = Refuses(it.to_dataverse, lambda _, rows: (500, "0x80044151") if len(rows) > 20 else None)
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward()))
        assert reply.status == 200
        assert to(seen, "contacts") == [60, 30, 15, 15, 30, 15, 15] or sorted(to(seen, "contacts")) == [15] * 4 + [
            30
        ] * 2 + [60]
        assert refusal.struck == 3 + 15
        assert len(await it.rows(CHILDREN)) == 3 * COUNT


async def test_one_row_that_takes_too_long_waits(tmp_path: Path) -> None:
    """A single row that times out is busy: 202, and done at the next try."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        await it.put(*ward())
        refusal = Refuses(
            it.to_dataverse,
            lambda name, rows: (
                (500, "0x80044151")
                if name == "contacts" and any(row["msemr_azurefhirid"] == "p7" for row in rows) and refusal.struck < 6
                else None
            ),
        )
        reply = await it.post(bundle(*ward()))
        assert reply.status == 202
        assert len(await it.rows("contacts")) == COUNT - 1
        await it.settle()
        assert len(await it.rows("contacts")) == COUNT
        assert await it.dead() == []


@pytest.mark.parametrize(("times", "status"), [(1, 200), (DEADLOCKS, 200), (DEADLOCKS + 1, 202)])
async def test_a_deadlock_is_tried_again(tmp_path: Path, times: int, status: int) -> None:
    """A call that lost a deadlock is sent again, whole, after a while; if it always loses, the bundle waits."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        one_at_a_time(it)
        await it.put(*ward())
        refusal = Refuses(
            it.to_dataverse,
            lambda name, _: (500, "0x80040255") if name == CHILDREN and refusal.struck < times else None,
        )
        seen = watch_writes(it)
        reply = await it.post(bundle(*ward()))
        assert reply.status == status
        assert to(seen, CHILDREN) == [180] * min(times + 1, DEADLOCKS + 1)
        await it.settle()
        assert len(await it.rows(CHILDREN)) == 3 * COUNT
        assert all(it.versions(f"Patient/p{n}") == 2 for n in range(COUNT))


async def test_a_user_makes_one_of_the_rows(tmp_path: Path) -> None:
    """A row that somebody makes just before the call takes all of it back: it is located again, and nothing is doubled."""
    async with world(tmp_path, bulk_from=1) as it:
        await it.put(*ward())
        key = row_key("fhir", "Patient", "p7")

        async def make() -> None:
            await makes(
                it, "contacts", contactid=key, lastname="By hand", msemr_azurefhirid="p7", msemr_contacttype=PATIENT
            )

        once(it.to_dataverse, lambda request: request.url.path.endswith("CreateMultiple"), make)
        reply = await it.post(bundle(*ward()))
        assert reply.body is not None
        assert reply.status == 200
        assert results(reply.body) == {f"Patient/p{n}": "updated" if n == 7 else "created" for n in range(COUNT)}
        await it.settle()
        rows = {each["msemr_azurefhirid"]: each["lastname"] for each in await it.rows("contacts")}
        assert rows == {f"p{n}": f"Family p{n}" for n in range(COUNT)}
        assert len(await it.rows(CHILDREN)) == 3 * COUNT
        assert await it.dead() == []


async def test_an_alternate_key_of_the_site(tmp_path: Path) -> None:
    """Nobody knows which row a violated key is about: all are planned again, each alone, and the one that lasts fails."""
    async with world(tmp_path, bulk_from=1) as it:
        it.dataverse.declare_key("contact", "telephone1")
        sent = ward()
        for number in (3, 40):
            sent[number]["telecom"] = [{"system": "phone", "use": "work", "value": "111"}]
        await it.put(*sent)
        one_at_a_time(it)
        it.forget_calls()
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 207
        assert {name: said for name, said in codes(reply.body).items() if said} == {
            "Patient/p40": ["dataverse-0x80060892"]
        }
        assert list(results(reply.body).values()).count("created") == COUNT - 1
        assert it.calls()["dataverse"] <= 3 * ROUNDS + 2
        await it.settle()
        assert len(await it.rows("contacts")) == COUNT - 1
        assert await it.store.length("inbound") == 0


async def test_an_answer_that_is_lost(tmp_path: Path) -> None:
    """A bulk call that was carried out though its answer was lost is found to be done: the rows are there once."""
    wanted = None
    for lost in (False, True):
        async with world(tmp_path / str(lost), bulk_from=1) as it:
            await it.put(*ward())
            if lost:
                it.dataverse.faults.append(Fault(path="contacts/Microsoft.Dynamics.CRM.CreateMultiple", effect="lose"))
                it.dataverse.faults.append(Fault(path=f"{CHILDREN}/Microsoft.Dynamics.CRM", effect="lose", after=2))
            reply = await it.post(bundle(*ward()))
            assert reply.status == 200
            await it.settle()
            assert await it.dead() == []
            if lost:
                assert await state(it) == wanted
            wanted = await state(it)


async def test_one_call_of_a_level_is_not_answered(tmp_path: Path) -> None:
    """The others of its level are done before the bundle is put off: when the caller has its 202, nothing is being written."""
    async with world(tmp_path, bulk_from=1) as it:
        await it.put(*ward())

        async def time_out(request: httpx.Request) -> None:
            if request.url.path.endswith("contacts/Microsoft.Dynamics.CRM.CreateMultiple"):
                it.to_dataverse.before.remove(time_out)
                raise httpx.ReadTimeout("no answer", request=request)

        it.to_dataverse.before.append(time_out)
        seen = watch_writes(it)
        assert (await it.post(bundle(*ward()))).status == 202
        sent = len(seen)
        rows = len(await it.rows("contacts"))
        assert 0 < rows < COUNT
        assert to(seen, CHILDREN) == []
        await it.dataverse.webhooks.idle()
        assert (len(seen), len(await it.rows("contacts"))) == (sent, rows)
        await it.settle()
        assert len(await it.rows("contacts")) == COUNT
        assert len(await it.rows(CHILDREN)) == 3 * COUNT
        assert all(it.versions(f"Patient/p{n}") == 2 for n in range(COUNT))


async def test_deadlocks_have_a_budget(tmp_path: Path) -> None:
    """What is sent again after a deadlock counts as made again: a database in trouble is not asked for ever more."""
    async with world(tmp_path, bulk_from=1, events=False) as it:
        await it.put(*ward())
        refusal = Refuses(it.to_dataverse, lambda *_: (500, "0x80040255") if refusal.struck < 200 else None)
        it.forget_calls()
        began, bundles = it.clock.seconds(), COUNT // 3
        replies = [await it.post(bundle(*ward()[n : n + 3])) for n in range(0, COUNT, 3)]
        assert {each.status for each in replies} == {202}
        minutes = (it.clock.seconds() - began) / 60
        calls = it.calls()["dataverse"] + refusal.struck
        assert refusal.struck <= bundles + 0.2 * calls + 10 * (1 + minutes) < bundles * (1 + DEADLOCKS)
        await it.settle()
        assert len(await it.rows("contacts")) == COUNT

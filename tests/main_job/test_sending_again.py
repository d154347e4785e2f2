"""Sending again, shuffled or split ends in the same rows and resources; an older version is skipped."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.samples import bundle, family, organization, patient, results
from support.state import state
from support.world import world

RESOURCES = [*family(), patient("p9"), organization("o9")]


@pytest.mark.parametrize("setting", ["inline", "event"])
async def test_the_second_time_writes_nothing(tmp_path: Path, setting: str) -> None:
    """The same bundle again: one locate, no write on either side, every entry unchanged."""
    async with world(tmp_path, writeback=setting) as w:
        await w.put(*family())
        await w.post(bundle(*family()))
        await w.settle()
        first = await state(w, times=True)
        versions = len(w.fhir.store.log)
        w.forget_calls()
        reply = await w.post(bundle(*family()))
        assert reply.body
        assert set(results(reply.body).values()) == {"unchanged"}
        assert len(w.dataverse.calls) == 1
        await w.settle()
        assert await state(w, times=True) == first
        assert len(w.fhir.store.log) == versions


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return where all of `RESOURCES` end, sent in their own order in one bundle."""
    return asyncio.run(_run(tmp_path_factory.mktemp("once"), [RESOURCES]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), split=st.integers(0, 2), seed=st.integers(0, 3))
async def test_shuffled_or_split_ends_alike(
    tmp_path_factory: pytest.TempPathFactory, once: dict[str, Any], order: list[int], split: int, seed: int
) -> None:
    """Any order of entries, and any split whose parts need nothing of each other, ends in the same two databases."""
    parts = [[RESOURCES[number] for number in order]]
    others = RESOURCES[6:]
    random.Random(seed).shuffle(others)  # noqa: S311 - a shuffle, not a secret
    parts = (
        [parts[0] + others] if split == 0 else [others, parts[0]] if split == 1 else [parts[0], *([o] for o in others)]
    )
    assert await _run(tmp_path_factory.mktemp("other"), parts) == once


async def _run(folder: Path, parts: list[list[dict[str, Any]]]) -> dict[str, Any]:
    async with world(folder) as w:
        await w.put(*(each for part in parts for each in part))
        for part in parts:
            reply = await w.post(bundle(*part))
            assert reply.status == 200, reply.body
        await w.settle()
        return await state(w)


def _version(number: int, **more: Any) -> dict[str, Any]:
    return patient("p1", meta={"versionId": str(number), "lastUpdated": f"2026-01-0{number}T10:00:00Z"}, **more)


async def test_an_older_version_after_a_newer_one_is_skipped(tmp_path: Path) -> None:
    """meta.lastUpdated before what the row has: skipped as stale, and nothing is written."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        await w.post(bundle(_version(2, birthDate="1999-09-09")))
        before = await state(w, times=True)
        reply = await w.post(bundle(_version(1, birthDate="1980-01-01", identifier=[])))
        assert reply.status == 200
        assert reply.body
        assert results(reply.body) == {"Patient/p1": "skipped"}
        assert reply.body["entries"][0]["issues"][0]["code"] == "stale"
        assert await state(w, times=True) == before


async def test_an_older_version_cannot_bring_back_what_only_a_child_row_lost(tmp_path: Path) -> None:
    """A newer version that changed identifiers alone is remembered too."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        await w.post(bundle(_version(1, identifiers=1)))
        await w.post(bundle(_version(2, identifiers=3)))
        reply = await w.post(bundle(_version(1, identifiers=1)))
        assert reply.body
        assert results(reply.body) == {"Patient/p1": "skipped"}
        rows = await w.rows(
            "prefix_patientidentifiers", "statecode eq 0 and prefix_system ne 'urn:oid:org.d365.mc4h.patient.id'"
        )
        assert len(rows) == 3


async def test_versions_break_ties_only_where_they_are_ordered(tmp_path: Path) -> None:
    """Two versions of one second: the number decides where the server's versions grow, else the input is taken."""
    for setting, expected in (("ordered", "skipped"), ("opaque", "updated")):
        async with world(tmp_path / setting, fhir_versions=setting) as w:
            meta = {"lastUpdated": "2026-01-01T10:00:00Z"}
            await w.put(patient("p1"))
            await w.post(bundle(patient("p1", meta={"versionId": "2", **meta}, birthDate="1999-09-09")))
            reply = await w.post(bundle(patient("p1", meta={"versionId": "1", **meta})))
            assert reply.body
            assert results(reply.body) == {"Patient/p1": expected}


async def test_a_vanished_identifier_is_deactivated_and_comes_back(tmp_path: Path) -> None:
    """A corrected record number must not live on; only rows that the relay wrote are touched."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        reply = await w.post(bundle(patient("p1", identifiers=2)))
        assert reply.body
        guid = reply.body["entries"][0]["row"]["id"]
        theirs = {
            "prefix_system": "https://user.example",
            "prefix_value": "x",
            "prefix_Patient@odata.bind": f"/contacts({guid})",
        }
        answer = await w.http.post("/api/data/v9.2/prefix_patientidentifiers", json=theirs)
        assert answer.status_code == 204
        await w.post(bundle(patient("p1", identifiers=1)))
        inactive = await w.rows("prefix_patientidentifiers", "statecode eq 1")
        assert [row["prefix_value"] for row in inactive] == ["p1-1"]
        await w.post(bundle(patient("p1", identifiers=2)))
        assert await w.rows("prefix_patientidentifiers", "statecode eq 1") == []
        assert len(await w.rows("prefix_patientidentifiers")) == 4

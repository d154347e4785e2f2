"""The relay remembers which bundle, and which line and path of which map, wrote a column; never the value."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.store.written import CONTAINER
from support.samples import bundle, encounter, patient
from support.world import World, world


async def contact(it: World) -> str:
    (row,) = await it.rows("contacts")
    return str(row["contactid"])


async def test_a_created_column_names_its_line(tmp_path: Path) -> None:
    """The bundle is the one whose outcome tells of the row; the path is the one that had the value."""
    async with world(tmp_path, events=False) as it:
        reply = await it.post(bundle(patient(identifiers=1)))
        assert reply.body is not None
        (found,) = await it.relay.written.find("contact", await contact(it), "lastname")
        assert found.bundle == reply.body["id"]
        assert found.file == "patient.yaml"
        line = (Path(it.relay.settings.maps) / found.file).read_text(encoding="utf-8").splitlines()[found.line - 1]
        assert "lastname" in line
        assert found.path in line


async def test_only_what_was_written_is_told_the_newest_first(tmp_path: Path) -> None:
    """A bundle that changed nothing wrote nothing; one that changed a column is told before the one that made it."""
    async with world(tmp_path, events=False) as it:
        names = [{"use": "official", "family": family, "given": ["G"]} for family in ("A", "A", "B")]
        replies = []
        for name in names:
            it.clock.advance(timedelta(minutes=1))
            replies.append(await it.post(bundle(patient(identifiers=0, name=[name]))))
        guid = await contact(it)
        ids = [reply.body["id"] for reply in replies if reply.body]
        assert [each.bundle for each in await it.relay.written.find("contact", guid, "lastname")] == [ids[2], ids[0]]
        assert [each.bundle for each in await it.relay.written.find("contact", guid, "firstname")] == [ids[0]]
        assert await it.relay.written.find("contact", guid, "fax") == []


async def test_child_rows_and_lookups_are_told_too(tmp_path: Path) -> None:
    """An identifier row's value, and a lookup by its column's own name."""
    async with world(tmp_path, events=False) as it:
        organization = {"resourceType": "Organization", "id": "o1", "name": "One"}
        await it.post(
            bundle(organization, patient(identifiers=1, managingOrganization={"reference": "Organization/o1"}))
        )
        rows = await it.rows("prefix_patientidentifiers")
        guid = next(row["prefix_patientidentifierid"] for row in rows if "d365" not in row["prefix_system"])
        (value,) = await it.relay.written.find("prefix_patientidentifier", guid, "prefix_value")
        assert value.path == "$.value"
        (lookup,) = await it.relay.written.find("contact", await contact(it), "msemr_managingorganization")
        assert lookup.path == "$.managingOrganization"


@pytest.mark.parametrize("apart", [{"window": 1}, {"bulk_from": 1}], ids=["windows", "levels"])
async def test_a_bundle_that_was_put_off_told_what_it_wrote(tmp_path: Path, apart: dict[str, Any]) -> None:
    """What went through before a side was away is remembered, although a later try finds it unchanged."""
    async with world(tmp_path, events=False, **apart) as it:
        away = 1

        async def cut(request: httpx.Request) -> None:
            nonlocal away
            if away and b"visit-e1" in request.content:
                away -= 1
                raise httpx.ReadTimeout("away")

        it.to_dataverse.before.append(cut)
        reply = await it.post(bundle(patient(), encounter()))
        assert reply.status == 202
        await it.settle()
        assert away == 0
        assert len(await it.rows("msemr_encounters")) == 1
        (found,) = await it.relay.written.find("contact", await contact(it), "lastname")
        assert found.bundle == reply.job


async def test_no_value_and_no_id_is_kept(tmp_path: Path) -> None:
    """The record holds keyed hashes, names and lines; it goes when it is too old."""
    async with world(tmp_path, events=False) as it:
        await it.post(bundle(patient(identifiers=2)))
        (blob,) = await it.store.list_blobs(CONTAINER)
        data = await it.store.get_blob(CONTAINER, blob.name)
        assert data is not None
        kept = json.loads(data)
        assert all(re.fullmatch(r"[0-9a-f]{16}", word) for word in kept["rows"])
        assert {type(each) for columns in kept["rows"].values() for each in columns.values()} == {int}
        assert {len(line) for line in kept["lines"]} == {3}
        it.clock.advance(timedelta(days=40))
        await it.relay.sweep()
        assert await it.store.list_blobs(CONTAINER) == []

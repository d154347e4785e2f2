"""Bodies that a sender forwards as the server wrote them: found to the letter, and odd ones are no error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.samples import bundle, patient
from support.world import world


@pytest.mark.parametrize("entry", ["null", "[]"])
async def test_a_bundle_without_entries(tmp_path: Path, entry: str) -> None:
    """`"entry": null` is an empty bundle here as it is elsewhere."""
    async with world(tmp_path, trust_sent_bodies=True) as it:
        reply = await it.post(f'{{"resourceType":"Bundle","type":"batch","entry":{entry}}}')
        assert reply.body is not None
        assert (reply.status, reply.body["entries"]) == (200, [])


async def test_what_is_put_is_what_was_sent(tmp_path: Path) -> None:
    """Number text and order of the sent resource reach the server as they were, without a read."""
    async with world(tmp_path, trust_sent_bodies=True, events=False) as it:
        await it.put(patient())
        text = json.dumps(await it.read("Patient", "p1"))
        odd = text[:-1] + ', "extension": [{"url": "https://site.example/x", "valueDecimal": 1.10}]}'
        sent = json.dumps(bundle(patient())).replace(json.dumps(patient()), odd)
        it.forget_calls()
        reply = await it.post(sent)
        assert reply.status == 200
        assert [each["method"] for each in it.fhir.calls] == ["PUT"]
        assert '"valueDecimal":1.10' in it.fhir.store.log[-1].body.decode().replace(" ", "")


@pytest.mark.parametrize("version", [None, 7, "", "a b", '1"', "x" * 65])
async def test_a_version_that_is_none(tmp_path: Path, version: object) -> None:
    """A resource without a legal versionId is read from the server: no header is made of what a sender calls a version."""
    async with world(tmp_path, trust_sent_bodies=True, events=False) as it:
        await it.put(patient())
        reply = await it.post(bundle(patient(meta={"versionId": version})))
        assert reply.body is not None
        assert reply.body["entries"][0]["writeback"] == "written"
        assert it.fhir.calls[-2]["method"] == "GET"


async def test_a_single_resource(tmp_path: Path) -> None:
    """A resource that is posted alone is its own text."""
    async with world(tmp_path, trust_sent_bodies=True, events=False) as it:
        await it.put(patient())
        sent = await it.read("Patient", "p1")
        it.forget_calls()
        reply = await it.post(sent)
        assert reply.status == 200
        assert [each["method"] for each in it.fhir.calls] == ["PUT"]

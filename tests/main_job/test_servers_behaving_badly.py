"""Whatever a FHIR server or a proxy before it answers, the outcome is stated, and no other host is ever asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.misbehaving import CUT, DRIP, SLOW, Answer, Misbehaving, answer, front, misbehaving
from support.samples import bundle, encounter, patient
from support.world import URN, World, world

HTML = "<html><body>Sign in</body></html>"
OUTCOME = json.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "throttled"}]})
OTHER = json.dumps({**patient("p9"), "meta": {"versionId": "1"}})
DATES = {"Date": "Mon, 01 Jun 2026 12:00:00 GMT", "Retry_After": "Mon, 01 Jun 2026 12:05:00 GMT"}


@dataclass(frozen=True)
class Case:
    """One way to behave badly; how the write-back ends: its state and code at once, and the seconds it waits at least.

    `elsewhere` in it is the address of a server that is nobody's business.
    """

    name: str
    told: Answer
    state: str
    code: str
    wait: int = 0


QUEUED = [
    Case("slow", SLOW, "queued", "fhir-unavailable"),
    Case("drip", DRIP, "queued", "fhir-unavailable"),
    Case("cut", CUT, "queued", "fhir-unavailable"),
    Case("half an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{", "queued", "fhir-unavailable"),
    Case("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "queued", "fhir-unavailable"),
    Case("429, seconds", answer(429, OUTCOME, Retry_After="300"), "queued", "fhir-429", 300),
    Case("429, date", answer(429, OUTCOME, **DATES), "queued", "fhir-429", 300),
    Case("429, milliseconds", answer(429, OUTCOME, x_ms_retry_after_ms="300000"), "queued", "fhir-429", 300),
    Case("429, both", answer(429, OUTCOME, Retry_After="1", x_ms_retry_after_ms="300000"), "queued", "fhir-429", 300),
    Case("429, nonsense", answer(429, OUTCOME, Retry_After="soon"), "queued", "fhir-429", 5),
    Case("429, HTML", answer(429, HTML, "text/html"), "queued", "fhir-429", 5),
    Case("503, seconds", answer(503, HTML, "text/html", Retry_After="300"), "queued", "fhir-503", 300),
    Case("500", answer(500, OUTCOME), "queued", "fhir-500"),
    Case("502, HTML", answer(502, HTML, "text/html"), "queued", "fhir-502"),
    Case("504", answer(504, ""), "queued", "fhir-504"),
    Case("401", answer(401, OUTCOME), "queued", "fhir-401"),
    Case("200, HTML", answer(200, HTML, "text/html"), "queued", "bad-answer"),
    Case("200, cut JSON", answer(200, '{"resourceType":"Pat'), "queued", "bad-answer"),
    Case("200, Latin-1", answer(200, '{"a":"Jos\u00e9"}'.encode("latin-1")), "queued", "bad-answer"),
]
LASTING = [
    Case("403, HTML", answer(403, HTML, "text/html"), "failed", "fhir-403"),
    Case("422", answer(422, OUTCOME), "failed", "fhir-422"),
    *(
        Case(
            f"{status}, elsewhere",
            answer(status, HTML, "text/html", Location="{elsewhere}/x"),
            "failed",
            f"fhir-{status}",
        )
        for status in (301, 302, 303, 307, 308)
    ),
]
IN_BATCHES = ("cut", "429, date", "502, HTML", "200, HTML", "403, HTML", "307, elsewhere")
CASES = pytest.mark.parametrize("case", [*QUEUED, *LASTING], ids=lambda case: case.name)


@asynccontextmanager
async def between(folder: Path, **settings: Any) -> AsyncIterator[tuple[World, Misbehaving, Misbehaving]]:
    """Hold a world whose FHIR server is on a port of this machine, and a server that nobody named."""
    async with (
        misbehaving() as server,
        misbehaving() as elsewhere,
        world(folder, fhir_url=server.url, timeout="0.25s", events=False, **settings) as it,
        front(server, it.fhir),
    ):
        it.to_fhir.inner = httpx.AsyncHTTPTransport()
        yield it, server, elsewhere
        assert elsewhere.requests == [], "a host that no setting names was asked"


def aimed(told: Answer, elsewhere: Misbehaving) -> Answer:
    """Fill in the address of the other server."""
    return told if told is None else told.replace(b"{elsewhere}", elsewhere.url.encode())


@pytest.mark.parametrize(
    ("case", "at", "count"),
    [
        pytest.param(case, at, count, id=f"{case.name}, {what} of {count}")
        for case in [*QUEUED, *LASTING]
        for at, what in enumerate(("read", "put"))
        for count in ((1, 2) if case.name in IN_BATCHES else (1,))
    ],
)
async def test_write_back(tmp_path: Path, case: Case, at: int, count: int) -> None:
    """Rows are written all the same; the write-back waits as long as it was told and is made, or is a dead letter."""
    async with between(tmp_path) as (it, server, elsewhere):
        sent = [patient(f"p{number}") for number in range(count)]
        await it.put(*sent)
        told = aimed(case.told, elsewhere)
        lasting = case.state == "failed"
        server.plan = dict.fromkeys(range(at, 99 if lasting and count > 1 else at + 1), told)
        began = it.clock()
        reply = await it.post(bundle(*sent))
        assert reply.body is not None
        assert reply.status == 200
        for entry in reply.body["entries"]:
            assert (entry["result"], entry["writeback"], entry["issues"][0]["code"]) == (
                "created",
                case.state,
                case.code,
            )
        await it.settle()
        resources = [await it.read("Patient", each["id"]) for each in sent]
        done = [any(each["system"] == URN.format("patient") for each in one["identifier"]) for one in resources]
        assert done == [not lasting] * count
        assert await it.dead() == [case.code] * (count if lasting else 0)
        assert it.clock() - began >= timedelta(seconds=case.wait)


@CASES
async def test_forward(tmp_path: Path, case: Case) -> None:
    """Nothing is written to Dataverse before the server has taken the bundle; it is put off, or refused with its status."""
    async with between(tmp_path, forward=True) as (it, server, elsewhere):
        server.plan = {0: aimed(case.told, elsewhere)}
        began = it.clock()
        reply = await it.post(bundle(patient(), encounter(), kind="transaction"))
        assert await it.rows("contacts") == []
        if case.state == "failed":
            assert reply.body is not None
            assert reply.status == 422
            assert {each["issues"][0]["code"] for each in reply.body["entries"]} == {case.code}
            return
        assert reply.status == 202
        await it.settle()
        assert it.clock() - began >= timedelta(seconds=case.wait)
        assert len(await it.rows("contacts")) == 1
        assert it.versions("Patient/p1") == 2


@pytest.mark.parametrize("forward", [True, False])
async def test_urls_everywhere(tmp_path: Path, forward: bool) -> None:
    """URLs in what is sent are names: fullUrl, request.url, references, links, extensions; none of them is asked."""
    async with between(tmp_path, forward=forward) as (it, _, elsewhere):
        there = f"{elsewhere.url}/fhir"
        link = [{"relation": "next", "url": f"{there}?page=2"}]
        person = patient(
            extension=[
                {"url": f"{there}/known-by", "valueReference": {"reference": f"{there}/{named}"}}
                for named in ("Practitioner/d1", "Organization?identifier=a|b", "Patient/p1/_history/3")
            ],
            photo=[{"url": f"{there}/photo.png"}],
            implicitRules=f"{there}/rules",
            meta={"profile": [f"{there}/profile"], "source": there},
        )
        sent = bundle(person, encounter(subject=f"{there}/Patient/p1"))
        for entry in sent["entry"]:
            entry["fullUrl"] = f"{there}/{entry['request']['url']}"
            entry["request"]["url"] = entry["fullUrl"]
        if not forward:
            await it.put(patient())
        reply = await it.post({**sent, "link": link})
        assert reply.status == 200
        await it.settle()
        assert URN.format("patient") in json.dumps(await it.read("Patient", "p1"))


async def test_addresses_in_answers(tmp_path: Path) -> None:
    """Where a server says that something is elsewhere, its id is taken and its host is not asked."""
    async with between(tmp_path, forward=True) as (it, server, elsewhere):
        await it.put(patient("there"))
        said = {"response": {"status": "200 OK", "location": f"{elsewhere.url}/Patient/there/_history/1"}}
        body = {"resourceType": "Bundle", "type": "batch-response", "entry": [said]}
        body["link"] = [{"relation": "self", "url": elsewhere.url}]
        located = {"Location": f"{elsewhere.url}/Patient/there", "Content_Location": f"{elsewhere.url}/x"}
        server.plan = {0: answer(200, json.dumps(body), **located)}
        entry = bundle(patient("there"))["entry"][0]
        entry["request"] = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=a|b"}
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        assert [each["resource"] for each in reply.body["entries"]] == ["Patient/there"]


async def test_pages(tmp_path: Path) -> None:
    """A search's next page is not asked for, wherever it is: more than one match is more than one."""
    async with between(tmp_path, forward=True) as (it, server, elsewhere):
        found = {"resource": {**patient("there")}, "search": {"mode": "match"}}
        page = {"resourceType": "Bundle", "type": "searchset", "entry": [found]}
        page["link"] = [{"relation": "next", "url": f"{elsewhere.url}/fhir?page=2"}]
        empty = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "200"}}]}
        server.plan = {0: answer(200, json.dumps(empty)), 1: answer(200, json.dumps(page))}
        entry = bundle(patient("there"))["entry"][0]
        entry["request"] = {
            "method": "POST",
            "url": "Patient",
            "ifNoneExist": "identifier=https://site.example/0|there-0",
        }
        reply = await it.post({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert reply.body is not None
        assert reply.body["entries"][0]["issues"][0]["code"] == "unknown-id"
        assert len(server.requests) == 2

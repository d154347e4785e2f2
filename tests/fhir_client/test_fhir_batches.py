"""The FHIR client: many resources in batches the server takes, each answer checked, every oddity told from a refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fhir_client_kit import CANARY, URL, Script, client, outcome

from devstack.fhir import create_app
from devstack.fhir.server import FhirServer
from relay.errors import Failed, RelayError, Transient
from relay.fhir.client import BUSY, Put, Read, Written
from relay.telemetry import metered


def named(fhir_id: str, **more: Any) -> dict[str, Any]:
    """Return a small patient."""
    return {"resourceType": "Patient", "id": fhir_id, **more}


def ids(count: int) -> list[tuple[str, str]]:
    """Return that many (type, id)."""
    return [("Patient", f"p{number}") for number in range(count)]


def puts(count: int, etag: str = 'W/"1"') -> list[Put]:
    """Return that many PUTs of what `server` holds."""
    return [Put(*each, json.dumps(named(each[1], active=True)), etag) for each in ids(count)]


@asynccontextmanager
async def server(count: int, **options: Any) -> AsyncIterator[FhirServer]:
    """Return the embedded server, with that many patients in their first version."""
    app = create_app(base_url="http://fhir", **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir") as http:
        for _, fhir_id in ids(count):
            await http.put(f"/Patient/{fhir_id}", json=named(fhir_id))
    app.calls.clear()
    yield app


def batch(entries: Sequence[Any], **more: Any) -> httpx.Response:
    """Return the answer to a batch."""
    return httpx.Response(200, json={"resourceType": "Bundle", "type": "batch-response", "entry": entries}, **more)


def read_entry(fhir_id: str, **response: Any) -> dict[str, Any]:
    """Return the answer to a read inside a batch."""
    return {"resource": named(fhir_id), "response": {"status": "200 OK", **response}}


def one_by_one(request: httpx.Request) -> httpx.Response:
    """Answer reads and PUTs of single resources."""
    etag = {"ETag": 'W/"7"'}
    if request.method == "PUT":
        return httpx.Response(200, headers=etag)
    return httpx.Response(200, json=named(request.url.path.rpartition("/")[2]), headers=etag)


# --- sizes


async def test_nothing_asks_nothing() -> None:
    """No ids and no PUTs make no call."""
    async with server(0) as app, client(app) as fhir:
        assert await fhir.read([]) == []
        assert await fhir.write([]) == []
        assert app.calls == []


async def test_one_goes_alone_and_many_together() -> None:
    """One resource is one GET or PUT, several are one batch, and answers come in the order that was asked."""
    async with server(3) as app, client(app) as fhir:
        (alone,) = await fhir.read(ids(1))
        assert (alone.status, alone.etag, json.loads(alone.text)["id"]) == (200, 'W/"1"', "p0")
        reads = await fhir.read([("Patient", "p2"), ("Patient", "none"), ("Patient", "p0")])
        assert [each.status for each in reads] == [200, 404, 200]
        assert [json.loads(each.text)["id"] for each in reads if each.text] == ["p2", "p0"]
        assert [each.status for each in await fhir.write(puts(1))] == [200]
        written = await fhir.write([*puts(3)[1:], *puts(1)])
        assert [each.status for each in written] == [200, 200, 412]
        assert [f"{each['method']} {each['path']}" for each in app.calls] == [
            "GET /Patient/p0",
            "POST /",
            "PUT /Patient/p0",
            "POST /",
        ]


async def test_no_batch_is_larger_than_the_setting() -> None:
    """RELAY_FHIR_BATCH_ENTRIES cuts the runs; a run of one goes alone."""
    async with server(7) as app, client(app, batch_entries=3) as fhir:
        assert [each.status for each in await fhir.read(ids(7))] == [200] * 7
        assert [each["method"] for each in app.calls] == ["POST", "POST", "GET"]


@pytest.mark.parametrize(("limit", "count", "calls"), [(3, 8, 7), (1, 4, 7), (500, 8, 1)])
async def test_a_batch_that_is_too_large_is_halved(limit: int, count: int, calls: int) -> None:
    """A server that takes fewer entries gets halves until it takes them: all is read and written, in order."""
    async with server(count, entry_limit=limit) as app, client(app) as fhir:
        reads = await fhir.read(ids(count))
        assert [json.loads(each.text)["id"] for each in reads] == [each for _, each in ids(count)]
        assert len(app.calls) == calls
        assert [each.status for each in await fhir.write(puts(count))] == [200] * count
        assert len(app.calls) == 2 * calls
        assert len(app.store.log) == 2 * count


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_only_the_size_is_blamed_for_a_refusal_that_may_be_about_it(status: int) -> None:
    """400, 413 and 422 to a batch are halved, down to single resources, whose own answers count."""
    seen: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            seen.append(len(json.loads(request.content)["entry"]))
            return httpx.Response(status, json={})
        return one_by_one(request)

    async with client(answer) as fhir:
        assert [each.status for each in await fhir.read(ids(4))] == [200] * 4
        assert seen == [4, 2, 2]
        assert [each.status for each in await fhir.write(puts(4))] == [200] * 4


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_a_server_without_batches(status: int) -> None:
    """Where batches are not taken at all each resource goes alone; the batch is tried once a call."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(status) if request.method == "POST" else one_by_one(request)

    async with client(answer) as fhir:
        assert [each.etag for each in await fhir.read(ids(3))] == ['W/"7"'] * 3
        assert [each.status for each in await fhir.write(puts(2))] == [200] * 2
    assert asked == ["POST", "GET", "GET", "GET", "POST", "PUT", "PUT"]


# --- a server that is away or talks nonsense


@pytest.mark.parametrize("status", sorted(BUSY))
async def test_a_busy_server(status: int) -> None:
    """A batch answered busy is Transient with the status as its code; a single answer says so itself."""
    async with client(lambda _: httpx.Response(status, headers={"Retry-After": "7"})) as fhir:
        with pytest.raises(Transient) as caught:
            await fhir.read(ids(2))
        assert (caught.value.code, caught.value.retry_after) == (f"fhir-{status}", 7)
        assert await fhir.read(ids(1)) == [Read(status, retry_after=7)]
        assert await fhir.write(puts(1)) == [Written(status, retry_after=7)]


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.DecodingError, httpx.InvalidURL])
async def test_a_server_that_is_away(error: type[Exception]) -> None:
    """Whatever the network does is Transient, without a word of what was sent."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise error(CANARY)

    async with client(answer) as fhir:
        for count in (1, 2):
            with pytest.raises(Transient) as caught:
                await fhir.write(puts(count))
            assert caught.value.code == "fhir-unavailable"
            assert CANARY not in str(caught.value)


NONSENSE: dict[str, httpx.Response] = {
    "HTML": httpx.Response(200, text="<html>Down for maintenance</html>"),
    "nothing": httpx.Response(200),
    "half of it": httpx.Response(200, text='{"resourceType":"Bundle","entry":['),
    "two documents": httpx.Response(200, text="{}{}"),
    "not UTF-8": httpx.Response(200, content=b'{"resourceType":"Patient","id":"\xff"}'),
    "an array": httpx.Response(200, text="[]"),
    "null": httpx.Response(200, text="null"),
    "no entries": httpx.Response(200, json={"resourceType": "Bundle"}),
    "entry null": httpx.Response(200, json={"resourceType": "Bundle", "entry": None}),
    "one entry": batch([read_entry("p0")]),
    "three entries": batch([read_entry("p0"), read_entry("p1"), read_entry("p2")]),
    "entries null": batch([None, None]),
    "entries text": batch(["200", "200"]),
    "entries empty": batch([{}, {}]),
    "members twice": httpx.Response(200, text='{"entry":[{"response":{},"response":{}},{}]}'),
    "no status": batch([{"response": {}}] * 2),
    "status null": batch([{"response": {"status": None}}] * 2),
    "status a word": batch([{"response": {"status": "OK"}}] * 2),
    "status too long": batch([{"response": {"status": "20012"}}] * 2),
    "response an array": batch([{"response": []}] * 2),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_an_answer_that_cannot_be_read(name: str) -> None:
    """Nonsense under status 200 comes from something in between: Transient, so that it is asked again."""
    async with client(lambda _: NONSENSE[name]) as fhir:
        with pytest.raises(Transient) as caught:
            await fhir.read(ids(2))
        assert caught.value.code == "bad-answer"
        with pytest.raises(Transient):
            await fhir.read(ids(1))
        with pytest.raises(Transient):
            await fhir.write(puts(2))


@pytest.mark.parametrize(
    "resource",
    [named("p9"), {"resourceType": "Person", "id": "p0"}, {"id": "p0"}, [], None, "p0", {"resourceType": "Patient"}],
)
async def test_another_resource_than_was_asked_for(resource: Any) -> None:
    """A resource of another type or id is never taken for the one that was asked for."""
    entry = {"resource": resource, "response": {"status": "200"}}
    async with client(lambda _: batch([entry, read_entry("p1")])) as fhir:
        with pytest.raises(Transient, match="another resource"):
            await fhir.read(ids(2))
    async with client(lambda _: httpx.Response(200, text=json.dumps(resource))) as fhir:
        with pytest.raises(Transient, match="another resource"):
            await fhir.read(ids(1))


async def test_a_read_without_the_resource() -> None:
    """A 200 inside a batch without a resource is no answer."""
    async with client(lambda _: batch([{"response": {"status": "200"}}] * 2)) as fhir:
        with pytest.raises(Transient, match="without the resource"):
            await fhir.read(ids(2))


@pytest.mark.parametrize("status", [204, 301, 304, 400, 403, 404, 410, 418])
async def test_a_read_that_is_no_200(status: int) -> None:
    """Any other status is handed on, without a text; no redirect is followed."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        location = {"Location": "http://elsewhere/"}
        if request.method == "POST":
            return batch([{"response": {"status": str(status)}}, read_entry("p1")])
        return httpx.Response(status, headers=location, json=named("p0"))

    async with client(answer) as fhir:
        assert await fhir.read(ids(1)) == [Read(status)]
        assert [each.status for each in await fhir.read(ids(2))] == [status, 200]
    assert {each.url.host for each in seen} == {"fhir"}


# --- versions


ETAGS: dict[str, tuple[str | None, Any, str]] = {
    "weak": ('W/"3"', None, 'W/"3"'),
    "strong": ('"3"', None, '"3"'),
    "of a server's own making": ('W/"a b/c=="', None, 'W/"a b/c=="'),
    "bare": ("3", None, 'W/"3"'),
    "bare beside a version": ("3", "4", 'W/"4"'),
    "missing": (None, "4", 'W/"4"'),
    "missing, no version": (None, None, ""),
    "empty": ("", None, ""),
    "a version that is none": (None, "4 5", ""),
    "a version that is a number": (None, 4, 'W/"4"'),
    "half a quote": ('W/"3', None, ""),
    "two": ('W/"3", W/"4"', "4", 'W/"4"'),
}


@pytest.mark.parametrize("name", ETAGS)
async def test_what_guards_a_put(name: str) -> None:
    """The ETag as it came, else the one that meta.versionId or a bare ETag means; else nothing, and it must not be put."""
    etag, version, wanted = ETAGS[name]
    resource = named("p0", **({"meta": {"versionId": version}} if version is not None else {}))
    headers = {"ETag": etag} if etag is not None else {}
    async with client(lambda _: httpx.Response(200, json=resource, headers=headers)) as fhir:
        (read,) = await fhir.read(ids(1))
        assert (read.status, read.etag) == (200, wanted)
    said = {"etag": etag} if etag is not None else {}
    entry = {"resource": resource, "response": {"status": "200 OK", **said}}
    async with client(lambda _: batch([entry, read_entry("p1")])) as fhir:
        assert [each.etag for each in await fhir.read(ids(2))] == [wanted, ""]


@pytest.mark.parametrize("etag", [None, 3, ["3"], {}])
async def test_an_etag_in_a_batch_that_is_no_text(etag: Any) -> None:
    """JSON may hold anything for an ETag; a number is HAPI's bare one, all else says nothing."""
    async with client(lambda _: batch([read_entry("p0", etag=etag), read_entry("p1", etag='W/"1"')])) as fhir:
        first, second = await fhir.read(ids(2))
        assert (first.etag, second.etag) == ('W/"3"' if etag == 3 else "", 'W/"1"')


@pytest.mark.parametrize("meta", [None, [], "4", {"versionId": []}])
async def test_a_meta_that_names_no_version(meta: Any) -> None:
    """A meta of any shape is read without harm."""
    async with client(lambda _: httpx.Response(200, json=named("p0", meta=meta))) as fhir:
        assert [each.etag for each in await fhir.read(ids(1))] == [""]


async def test_the_guard_leaves_with_the_put() -> None:
    """If-Match stands in the header of one PUT, and in `ifMatch` of each entry; texts leave to the letter."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return batch([{"response": {"status": "200"}}] * 2) if request.method == "POST" else httpx.Response(200)

    text = '{"resourceType" : "Patient","id":"p0", "x":1.10,"é":"\\u00e9"}'
    sent = [Put("Patient", "p0", text, 'W/"a\\"'), Put("Patient", "p1", text, "W/'")]
    async with client(answer) as fhir:
        await fhir.write(sent[:1])
        await fhir.write(sent)
    alone, together = seen
    assert (alone.headers["If-Match"], alone.headers["Prefer"]) == ('W/"a\\"', "return=minimal")
    assert (alone.content.decode(), str(alone.url)) == (text, f"{URL}/Patient/p0")
    assert alone.headers["Content-Type"] == together.headers["Content-Type"] == "application/fhir+json"
    assert (together.method, str(together.url)) == ("POST", URL)
    entries = json.loads(together.content)["entry"]
    assert [each["request"] for each in entries] == [
        {"method": "PUT", "url": f"Patient/{each.id}", "ifMatch": each.etag} for each in sent
    ]
    assert together.content.decode().count(text) == 2


async def test_nothing_is_put_without_a_guard() -> None:
    """A PUT without an ETag would go over anybody's change: it is refused before anything leaves."""
    async with client(Script([])) as fhir:
        for others in (0, 2):
            with pytest.raises(Failed) as caught:
                await fhir.write([*puts(others), *puts(1, etag="")])
            assert caught.value.code == "no-version"


# --- waiting


WAITS: dict[str, tuple[Mapping[str, str], float | None]] = {
    "none": ({}, None),
    "seconds": ({"Retry-After": "120"}, 120),
    "zero": ({"Retry-After": "0"}, 0),
    "a date": ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
    "a date gone by": ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0),
    "a date without a zone": (
        {"Retry-After": "Wed, 21 Oct 2026 07:28:07 -0000", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
        7,
    ),
    "a date of an answer without one": ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    "a fraction": ({"Retry-After": "1.5"}, None),
    "negative": ({"Retry-After": "-1"}, None),
    "endless": ({"Retry-After": "9" * 400}, None),
    "other digits": ({"Retry-After": "\u00b2"}, None),
    "milliseconds": ({"x-ms-retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
    "odd milliseconds": ({"x-ms-retry-after-ms": "soon", "Retry-After": "2"}, 2),
}


@pytest.mark.parametrize("name", WAITS)
async def test_how_long_the_server_asks_to_wait(name: str) -> None:
    """Whole seconds, Azure's milliseconds, or a date, counted from the answer's own; anything else is left to our own growing delay."""
    given, wanted = WAITS[name]
    headers = [(key.encode(), value.encode("latin-1")) for key, value in given.items()]
    async with client(lambda _: httpx.Response(429, headers=headers)) as fhir:
        assert await fhir.read(ids(1)) == [Read(429, retry_after=wanted)]
        assert await fhir.write(puts(1)) == [Written(429, retry_after=wanted)]
        with pytest.raises(Transient) as caught:
            await fhir.write(puts(2))
        assert caught.value.retry_after == wanted


# --- what is kept of a refusal


OUTCOMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "FHIR's codes": (outcome("invalid", "too-long"), ("invalid", "too-long")),
    "a server's own": (outcome(CANARY, "conflict"), ("conflict",)),
    "no text": (outcome(None, 7, ["invalid"]), ()),
    "issues that are none": ({"issue": [None, CANARY, {}]}, ()),
    "an issue that is no array": ({"issue": {"code": "invalid"}}, ()),
    "no issue": ({"text": CANARY}, ()),
    "an array": ([CANARY], ()),
    "null": (None, ()),
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_nothing_of_diagnostics_is_kept(name: str) -> None:
    """Only codes that FHIR defines are kept of an OperationOutcome, wherever the server puts it."""
    said, wanted = OUTCOMES[name]
    async with client(lambda _: httpx.Response(422, json=said)) as fhir:
        assert await fhir.write(puts(1)) == [Written(422, codes=wanted)]
    inside = [
        {"response": {"status": "422", "outcome": said}},
        {"resource": said, "response": {"status": "409 Conflict"}},
    ]
    async with client(lambda _: batch(inside)) as fhir:
        assert await fhir.write(puts(2)) == [Written(422, codes=wanted), Written(409, codes=wanted)]


@pytest.mark.parametrize("content", [CANARY, "", "[" * 100_000, '{"issue":'])
async def test_a_refusal_that_is_no_json(content: str) -> None:
    """A refusal in any other form is its status alone."""
    async with client(lambda _: httpx.Response(400, text=content)) as fhir:
        assert await fhir.write(puts(1)) == [Written(400)]


async def test_what_a_batch_says_of_success() -> None:
    """An informational outcome beside a success is no code, and the new ETag is handed on."""
    done = {"response": {"status": "201 Created", "etag": 'W/"2"', "outcome": outcome("informational")}}
    async with client(lambda _: batch([done, done])) as fhir:
        assert await fhir.write(puts(2)) == [Written(201, 'W/"2"')] * 2
    async with client(lambda _: httpx.Response(200, headers={"ETag": 'W/"2"'}, json=outcome("invalid"))) as fhir:
        assert await fhir.write(puts(1)) == [Written(200, 'W/"2"')]


# --- addresses, cookies, counts


@pytest.mark.parametrize(
    ("kind", "fhir_id"),
    [
        ("Patient", ".."),
        ("Patient", "."),
        ("Patient", ""),
        ("Patient", "a/b"),
        ("Patient", "a?b"),
        ("Patient", "x" * 65),
        ("Patient", '"'),
        ("", "p0"),
        ("../x", "p0"),
        ("Patient\n", "p0"),
    ],
)
async def test_what_is_no_type_and_id_makes_no_url(kind: str, fhir_id: str) -> None:
    """An address is a legal type and id or none at all; nothing leaves."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return one_by_one(request)

    async with client(answer) as fhir:
        for others in ([], ids(1)):
            with pytest.raises(Failed) as caught:
                await fhir.read([(kind, fhir_id), *others])
            assert caught.value.code == "invalid-id"
            with pytest.raises(RelayError):
                await fhir.write([Put(kind, fhir_id, "{}", 'W/"1"'), *puts(len(others))])
    assert asked == []


async def test_no_cookie_is_sent_back() -> None:
    """A cookie would tie every call to one node of the server."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=named("p0"), headers={"Set-Cookie": "node=7"})

    async with client(answer) as fhir:
        await fhir.read(ids(1))
        await fhir.read(ids(1))
    assert [each.headers.get("cookie") for each in seen] == [None, None]


async def test_calls_are_counted_but_for_metadata() -> None:
    """Every request for the work counts, failed ones too; asking for the CapabilityStatement does not."""
    async with server(2) as app, client(app) as fhir:
        with metered() as meter:
            assert await fhir.metadata() == 200
            assert meter.fhir == 0
            await fhir.read(ids(2))
            await fhir.write(puts(1))
        assert meter.fhir == 2


async def test_a_byte_order_mark_is_no_part_of_a_resource() -> None:
    """An answer that begins with a byte order mark is read, and the mark is not put back."""
    content = b"\xef\xbb\xbf" + json.dumps(named("p0")).encode()
    async with client(lambda _: httpx.Response(200, content=content)) as fhir:
        (read,) = await fhir.read(ids(1))
        assert json.loads(read.text) == named("p0")

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fhir_client_kit import CANARY, URL, Script, client, outcome

from devstack.fhir import create_app
from devstack.fhir.server import FhirServer
from relay.errors import Failed, Transient
from relay.fhir.client import BUSY, Created, FhirClient, Token
from relay.telemetry import metered

SYSTEM = "urn:oid:org.d365.mc4h.patient.id"
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
OURS: Token = (SYSTEM, GUID)
TEXT = f'{{"resourceType":"Patient","identifier":[{{"system":"{SYSTEM}","value":"{GUID}"}}],"x":1.10}}'


def stored(fhir_id: str, version: str | None = None) -> dict[str, Any]:
    """Return the resource as a server has it."""
    meta = {"meta": {"versionId": version}} if version else {}
    return {**json.loads(TEXT), "id": fhir_id, **meta}


async def created(*answers: httpx.Response) -> Created:
    """Return what the client makes of answers."""
    async with client(Script(answers)) as fhir:
        return await fhir.create("Patient", TEXT, OURS)


def searchset(*resources: Any) -> httpx.Response:
    """Return the answer to a search."""
    entry = [{"resource": each, "search": {"mode": "match"}} for each in resources]
    return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entry})


# --- against the embedded server


async def test_it_is_made_once() -> None:
    """The first create makes it, the next ones find it as it is then, and several of it are told apart from one."""
    app = create_app(base_url="http://fhir")
    async with client(app) as fhir, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir") as it:
        first = await fhir.create("Patient", TEXT, OURS)
        assert (first.status, first.etag, first.version) == (201, 'W/"1"', "1")
        (read,) = await fhir.read([("Patient", first.id)])
        assert '"x":1.10' in read.text
        await it.put(f"/Patient/{first.id}", json=stored(first.id))
        assert await fhir.create("Patient", TEXT, OURS) == Created(200, first.id, 'W/"2"', "2")
        await it.put("/Patient/other", json=stored("other"))
        assert await fhir.create("Patient", TEXT, OURS) == Created(412, codes=("conflict",))
        assert len(app.store.live("Patient")) == 2


class Losing(httpx.AsyncBaseTransport):
    """Loses the first answer of an app."""

    def __init__(self, app: FhirServer) -> None:
        self._inner = httpx.ASGITransport(app)
        self._lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if not self._lost:
            self._lost = True
            raise httpx.ReadTimeout(CANARY)
        return answer


async def test_a_repeat_after_a_lost_answer_makes_no_second_one() -> None:
    """A create whose answer was lost is sent again without harm."""
    app = create_app(base_url="http://fhir")
    fhir = FhirClient("http://fhir/", transport=Losing(app))
    with pytest.raises(Transient):
        await fhir.create("Patient", TEXT, OURS)
    again = await fhir.create("Patient", TEXT, OURS)
    assert (again.status, list(app.store.live("Patient"))) == (200, [again.id])
    await fhir.aclose()


async def test_a_refusal_of_the_embedded_server() -> None:
    """A body of another type is refused with FHIR's issue code."""
    async with client(create_app()) as fhir:
        assert await fhir.create("Person", TEXT, OURS) == Created(400, codes=("invalid",))


# --- what is asked


async def test_the_request() -> None:
    """The text leaves to the letter, the condition reads as FHIR writes it, and the resource is not asked back."""
    script = Script([httpx.Response(201, headers={"Location": "Patient/1"})])
    async with client(script) as fhir:
        with metered() as meter:
            await fhir.create("Patient", TEXT, OURS)
    (request,) = script.asked
    assert (request.method, str(request.url), request.content.decode()) == ("POST", f"{URL}/Patient", TEXT)
    assert request.headers["If-None-Exist"] == f"identifier={SYSTEM}|{GUID}"
    assert request.headers["Content-Type"] == "application/fhir+json"
    assert request.headers["Prefer"] == "return=minimal"
    assert meter.fhir == 1


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (("http://x/y", "7"), "identifier=http://x/y|7"),
        (("", "7"), "identifier=|7"),
        (("urn:x", "a|b,c$d\\e"), "identifier=urn:x|a%5C|b%5C%2Cc%5C%24d%5C%5Ce"),
        (("urn:x", "é&_count=0#+ "), "identifier=urn:x|%C3%A9%26_count%3D0%23%2B%20"),
        (("urn:x", "7\r\nX: y"), "identifier=urn:x|7%0D%0AX:%20y"),
    ],
    ids=lambda each: each[1] if isinstance(each, tuple) else "",
)
async def test_the_condition(token: Token, said: str) -> None:
    """What would end the header or the parameter is escaped; what needs no escape stays readable for every server."""
    script = Script([httpx.Response(201, headers={"Location": "Patient/1"})])
    async with client(script) as fhir:
        await fhir.create("Patient", TEXT, token)
    assert script.asked[0].headers["If-None-Exist"] == said


# --- what servers answer


SHAPES: dict[str, tuple[httpx.Response, Created]] = {
    "HAPI, made": (
        httpx.Response(201, headers={"Location": f"{URL}/Patient/1/_history/1", "ETag": 'W/"1"'}),
        Created(201, "1", 'W/"1"', "1"),
    ),
    "HAPI, there": (
        httpx.Response(200, headers={"Location": f"{URL}/Patient/1/_history/4"}, json=outcome("informational")),
        Created(200, "1", 'W/"4"', "4"),
    ),
    "Azure, made": (
        httpx.Response(
            201,
            headers={"Location": "https://x.azurehealthcareapis.com/Patient/1/_history/1", "ETag": 'W/"1"'},
            json=stored("1", "1"),
        ),
        Created(201, "1", 'W/"1"', "1"),
    ),
    "Google, made": (
        httpx.Response(
            201,
            headers={
                "Content-Location": "https://healthcare.googleapis.com/v1/projects/p/fhirStores/f/fhir/Patient/1/_history/MTcw",
                "ETag": 'W/"MTcw"',
            },
        ),
        Created(201, "1", 'W/"MTcw"', "MTcw"),
    ),
    "the body alone": (httpx.Response(201, json=stored("1", "u-u-i-d")), Created(201, "1", 'W/"u-u-i-d"', "u-u-i-d")),
    "the body alone, no version": (httpx.Response(200, json=stored("1")), Created(200, "1")),
    "relative": (httpx.Response(201, headers={"Location": "Patient/1"}), Created(201, "1")),
    "absolute path": (httpx.Response(201, headers={"Location": "/base/Patient/1/"}), Created(201, "1")),
    "with a query": (
        httpx.Response(201, headers={"Location": "http://h/Patient/1/_history/2?_format=json#x"}),
        Created(201, "1", 'W/"2"', "2"),
    ),
    "a bare ETag": (
        httpx.Response(201, headers={"Location": "Patient/1", "ETag": "3"}),
        Created(201, "1", 'W/"3"', "3"),
    ),
    "an ETag of its own making": (
        httpx.Response(201, headers={"Location": "Patient/1", "ETag": 'W/"a b=="'}),
        Created(201, "1", 'W/"a b=="'),
    ),
    "a Location of something else": (
        httpx.Response(201, headers={"Location": "http://h/Binary/9"}, json=stored("1", "2")),
        Created(201, "1", 'W/"2"', "2"),
    ),
    "a Location with no id": (
        httpx.Response(201, headers={"Location": "http://h/Patient/.."}, json=stored("1")),
        Created(201, "1"),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
async def test_the_shapes_of_servers(name: str) -> None:
    """Id and version come from Location, relative or absolute, else from the body and the ETag."""
    answer, wanted = SHAPES[name]
    assert await created(answer) == wanted


MUTE: dict[str, httpx.Response] = {
    "nothing": httpx.Response(200),
    "an outcome": httpx.Response(200, json=outcome("informational")),
    "another type": httpx.Response(201, json={"resourceType": "Person", "id": "9"}),
    "an id that is none": httpx.Response(201, json={"resourceType": "Patient", "id": ".."}),
    "no JSON": httpx.Response(201, text=CANARY),
}


@pytest.mark.parametrize("name", MUTE)
async def test_a_server_that_does_not_say_which(name: str) -> None:
    """Where a success names no resource (Azure, when one was there) the identifier is searched for."""
    answer = MUTE[name]
    assert await created(answer, searchset(stored("1", "4"))) == Created(answer.status_code, "1", 'W/"4"', "4")
    assert await created(answer, searchset(stored("1"), stored("2"))) == Created(412)
    with pytest.raises(Transient) as caught:
        await created(answer, searchset())
    assert caught.value.code == "bad-answer"
    with pytest.raises(Failed) as refused:
        await created(answer, httpx.Response(403))
    assert refused.value.code == "fhir-403"


@pytest.mark.parametrize("status", [302, 400, 403, 404, 405, 409, 412, 422])
async def test_a_refusal(status: int) -> None:
    """A refusal is its status and FHIR's issue codes; diagnostics are not kept, and no redirect is followed."""
    answer = httpx.Response(status, headers={"Location": f"{URL}/Patient/9"}, json=outcome("multiple-matches", CANARY))
    assert await created(answer) == Created(status, codes=("multiple-matches",))


@pytest.mark.parametrize("status", sorted(BUSY))
async def test_a_busy_server(status: int) -> None:
    """A create answered busy says so, with the wait that the server asks for."""
    answer = httpx.Response(status, headers={"Retry-After": "7"})
    assert await created(answer) == Created(status, retry_after=7)


async def test_a_server_that_is_away() -> None:
    """Whatever the network does is Transient, without a word of what was sent."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(CANARY)

    async with client(answer) as fhir:
        with pytest.raises(Transient) as caught:
            await fhir.create("Patient", TEXT, OURS)
        assert caught.value.code == "fhir-unavailable"
        assert CANARY not in str(caught.value)

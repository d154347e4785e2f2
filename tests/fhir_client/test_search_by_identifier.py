from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from fhir_client_kit import CANARY, URL, Script, client, outcome
from hypothesis import given
from hypothesis import strategies as st

from devstack.fhir import create_app
from relay.errors import Failed, Transient
from relay.fhir.client import BUSY, Found, Hit, Token
from relay.fhir.searches import condition, search_form
from relay.telemetry import metered

SYSTEM = "urn:oid:2.16.528.1"
ASKED: Token = (SYSTEM, "7")
NASTY = "p|q,r$s\\t&u=v+w%20 é😀\"'\r\n"


def patient(fhir_id: str, *tokens: Token, **more: Any) -> dict[str, Any]:
    """Return a patient with identifiers."""
    identifier = [{"system": system, "value": value} if system else {"value": value} for system, value in tokens]
    return {"resourceType": "Patient", "id": fhir_id, "identifier": identifier, **more}


def searchset(*resources: Any, **more: Any) -> httpx.Response:
    """Return the answer to a search."""
    entry = [{"resource": each, "search": {"mode": "match"}} for each in resources]
    return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entry, **more})


async def found(answer: httpx.Response, *tokens: Token) -> Found:
    """Return what the client makes of an answer."""
    async with client(lambda _: answer) as fhir:
        return await fhir.search("Patient", tokens or [ASKED])


# --- against the embedded server


async def test_what_is_found() -> None:
    """A resource with any of the tokens is a hit, with its version; one with other identifiers is not."""
    app = create_app(base_url="http://fhir")
    async with client(app) as fhir, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir") as it:
        for each in (
            patient("a", ASKED),
            patient("b", (SYSTEM, "8")),
            patient("c", ("", "7")),
            patient("d", ("x", NASTY)),
        ):
            await it.put(f"/Patient/{each['id']}", json=each)
        await it.put("/Patient/a", json=patient("a", ASKED, active=True))
        app.calls.clear()
        one = await fhir.search("Patient", [ASKED])
        assert [(each.id, each.etag) for each in one.hits] == [("a", 'W/"2"')]
        assert not one.several
        assert json.loads(one.hits[0].text)["active"] is True
        both = await fhir.search("Patient", [ASKED, (SYSTEM, "8"), (SYSTEM, "9")])
        assert ([each.id for each in both.hits], both.several) == (["a", "b"], True)
        assert [each.id for each in (await fhir.search("Patient", [("", "7")])).hits] == ["c"]
        assert [each.id for each in (await fhir.search("Patient", [("x", NASTY)])).hits] == ["d"]
        assert await fhir.search("Patient", [("x", "p")]) == Found()
        assert await fhir.search("Person", [ASKED]) == Found()
        assert {f"{each['method']} {each['path']}" for each in app.calls} == {
            "POST /Patient/_search",
            "POST /Person/_search",
        }


async def test_more_than_a_page() -> None:
    """Ten are read at most; that there are more is known without following a link."""
    app = create_app(base_url="http://fhir")
    async with client(app) as fhir, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir") as it:
        for number in range(12):
            await it.put(f"/Patient/p{number}", json=patient(f"p{number}", ASKED))
        app.calls.clear()
        many = await fhir.search("Patient", [ASKED])
        assert (len(many.hits), many.several) == (10, True)
        assert len(app.calls) == 1


@given(st.lists(st.tuples(st.text(), st.text().filter(str.strip)), min_size=1, max_size=3))
def test_tokens_survive_the_way(tokens: list[Token]) -> None:
    """Whatever system and value hold, the form says just them, and nothing of them is a parameter of its own."""
    form = search_form(tokens)
    assert form.isascii()
    (name, said), count = parse_qsl(form, keep_blank_values=True, strict_parsing=True)
    assert (name, count) == ("identifier", ("_count", "10"))
    assert [tuple(map(unescaped, split(each, "|"))) for each in split(said, ",")] == tokens
    ((name, said),) = parse_qsl(condition(tokens[0]), keep_blank_values=True, strict_parsing=True)
    assert (name, tuple(map(unescaped, split(said, "|")))) == ("identifier", tokens[0])


def split(text: str, mark: str) -> list[str]:
    """Split at a mark, character by character, minding backslashes."""
    parts, at = [""], 0
    while at < len(text):
        if text[at] == "\\":
            parts[-1] += text[at : at + 2]
            at += 2
            continue
        if text[at] == mark:
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    return parts


def unescaped(text: str) -> str:
    """Take the backslashes away."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


# --- what is asked


async def test_the_request() -> None:
    """Identifiers travel in the body alone; a cached answer and a parameter passed over are not wanted."""
    script = Script([searchset()])
    async with client(script) as fhir:
        with metered() as meter:
            await fhir.search("Patient", [ASKED, ("", "a b")])
    (request,) = script.asked
    assert (request.method, str(request.url)) == ("POST", f"{URL}/Patient/_search")
    assert request.content == b"identifier=urn%3Aoid%3A2.16.528.1%7C7,%7Ca%20b&_count=10"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert (request.headers["Cache-Control"], request.headers["Prefer"]) == ("no-cache", "handling=strict")
    assert meter.fhir == 1


async def test_nothing_asks_nothing() -> None:
    """Without tokens nothing is asked: such a search would find everything."""
    async with client(Script([])) as fhir:
        assert await fhir.search("Patient", []) == Found()


@pytest.mark.parametrize(
    "token", [(SYSTEM, ""), (SYSTEM, " \t"), ("", ""), (SYSTEM, "\ud800"), ("\udfff", "7")], ids=ascii
)
async def test_tokens_that_are_none(token: Token) -> None:
    """A token without a value would find every one of its system, and half a character is no text: nothing leaves."""
    async with client(Script([])) as fhir:
        for tokens in ([token], [ASKED, token]):
            with pytest.raises(Failed) as caught:
                await fhir.search("Patient", tokens)
            assert caught.value.code == "invalid-identifier"
        with pytest.raises(Failed):
            await fhir.create("Patient", "{}", token)


@pytest.mark.parametrize("kind", ["", "../x", "Patient/_search?x=", "Patient\n", "Pat ient"])
async def test_what_is_no_type_makes_no_url(kind: str) -> None:
    """A type is letters: nothing else becomes a part of a URL."""
    async with client(Script([])) as fhir:
        with pytest.raises(Failed) as caught:
            await fhir.search(kind, [ASKED])
        assert caught.value.code == "invalid-id"
        with pytest.raises(Failed):
            await fhir.create(kind, "{}", ASKED)


# --- what servers answer


async def test_the_shapes_of_servers() -> None:
    """HAPI, Azure and Google tell the same in their own ways."""
    hapi = {
        "resourceType": "Bundle",
        "id": "0f8fad5b",
        "meta": {"lastUpdated": "2026-01-31T09:00:00.000+00:00"},
        "type": "searchset",
        "total": 1,
        "link": [{"relation": "self", "url": "http://fhir/base/Patient/_search?identifier=x"}],
        "entry": [
            {
                "fullUrl": "http://fhir/base/Patient/1",
                "resource": patient("1", ASKED, meta={"versionId": "3", "source": "#x"}),
                "search": {"mode": "match"},
            }
        ],
    }
    azure = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": "self", "url": "https://x.fhir.azurehealthcareapis.com/Patient?identifier=x"}],
        "entry": [
            {"fullUrl": "https://x/Patient/1", "resource": hapi["entry"][0]["resource"], "search": {"mode": "match"}}
        ],  # type: ignore[index]
    }
    google = {
        "entry": [
            {"fullUrl": "https://healthcare.googleapis.com/v1/…/Patient/1", "resource": azure["entry"][0]["resource"]}
        ],  # type: ignore[index]
        "link": [{"relation": "first", "url": "https://x/"}, {"relation": "last", "url": "https://x/"}],
        "resourceType": "Bundle",
        "total": 1,
        "type": "searchset",
    }
    for body in (hapi, azure, google):
        said = await found(httpx.Response(200, json=body))
        assert [(each.id, each.etag, said.several) for each in said.hits] == [("1", 'W/"3"', False)]


async def test_nothing_is_found() -> None:
    """A searchset without matches finds nothing, whether it has entries, a total or neither."""
    warned = [{"resource": outcome("informational"), "search": {"mode": "outcome"}}]
    for body in ({}, {"total": 0}, {"entry": []}, {"entry": warned, "total": 0}):
        answer = httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", **body})
        assert await found(answer) == Found()


async def test_only_matches_of_the_type_count() -> None:
    """Outcomes, inclusions and other types beside a match are passed over; a match that comes twice is one."""
    match = patient("1", ASKED)
    entries = [
        {"resource": match},
        {"resource": match, "search": {"mode": "match"}},
        {"resource": match, "search": {}},
        {"resource": patient("2", ASKED), "search": {"mode": "include"}},
        {"search": {"mode": "outcome"}},
        {"resource": {"resourceType": "Organization", "id": "o"}},
        {"resource": outcome("informational"), "search": {"mode": "match"}},
        {"resource": None},
    ]
    said = await found(httpx.Response(200, json={"resourceType": "Bundle", "entry": entries}))
    assert ([each.id for each in said.hits], said.several) == (["1"], False)


@pytest.mark.parametrize(
    ("more", "several"),
    [
        ({"total": 2}, True),
        ({"total": "2"}, True),
        ({"total": 1}, False),
        ({"total": 0}, False),
        ({"total": None}, False),
        ({"total": 1.5}, False),
        ({"total": []}, False),
        ({"link": [{"relation": "next", "url": "http://elsewhere/"}]}, True),
        ({"link": [{"relation": "self"}, None, "next"]}, False),
        ({"link": {"relation": "next"}}, False),
        ({"link": None}, False),
    ],
    ids=str,
)
async def test_a_page_that_is_not_all(more: dict[str, Any], several: bool) -> None:
    """One match on a page is several when the server knows of more: by its total, or by a next page."""
    assert (await found(searchset(patient("1", ASKED), **more))).several is several
    assert (await found(searchset(patient("1", ASKED), patient("2", ASKED), **more))).several is True


async def test_a_next_page_is_never_fetched() -> None:
    """Links of an answer may lead anywhere: none is followed, even where the page is empty."""
    script = Script([searchset(link=[{"relation": "next", "url": "http://elsewhere/"}])])
    async with client(script) as fhir:
        assert await fhir.search("Patient", [ASKED]) == Found((), several=True)
    assert len(script.asked) == 1


@pytest.mark.parametrize("name", ["first", "only"])
async def test_a_server_that_passed_over_the_parameter(name: str) -> None:
    """A match that carries none of the identifiers tells that the server did not search by them: nothing is trusted."""
    others = {"first": [patient("2", ("x", "7")), patient("1", ASKED)], "only": [patient("2", ("", "7"))]}
    with pytest.raises(Failed) as caught:
        await found(searchset(*others[name]))
    assert caught.value.code == "search-ignored"


@pytest.mark.parametrize(
    "carried",
    [
        {"identifier": [None, {}, {"value": 7}, {"system": SYSTEM, "value": " ab "}]},
        {"identifier": {"system": SYSTEM, "value": "aB"}},
        {"masterIdentifier": {"system": SYSTEM, "value": "AB"}, "identifier": []},
    ],
    ids=["among others", "one object", "master"],
)
async def test_how_a_match_carries_an_identifier(carried: dict[str, Any]) -> None:
    """In an array, as one object or as masterIdentifier; letters may differ in case, as servers compare them."""
    said = await found(searchset({"resourceType": "Patient", "id": "1", **carried}), (SYSTEM, "x"), (SYSTEM, "Ab"))
    assert [each.id for each in said.hits] == ["1"]


async def test_texts_are_exact() -> None:
    """The resource is cut out of the bundle to the letter: number text, spacing, order and escapes."""
    text = f'{{ "x":1.10, "resourceType" : "Patient","y":1e3,"identifier":[{{"value":"7","system":"{SYSTEM}"}}],"id":"\\u0031" }}'
    body = f'\ufeff{{"entry":[ {{"resource": {text} ,"response":{{"etag":"5"}} }}],"resourceType":"Bundle"}}'
    assert await found(httpx.Response(200, content=body.encode())) == Found((Hit("1", text, 'W/"5"'),))


NONSENSE: dict[str, httpx.Response] = {
    "HTML": httpx.Response(200, text=f"<html>{CANARY}</html>"),
    "nothing": httpx.Response(200),
    "an array": httpx.Response(200, text="[]"),
    "not UTF-8": httpx.Response(200, content=b'{"resourceType":"Bundle\xff"}'),
    "an outcome": httpx.Response(200, json=outcome("exception")),
    "no type": httpx.Response(200, json={"entry": []}),
    "entry null": httpx.Response(200, json={"resourceType": "Bundle", "entry": None}),
    "an entry that is null": httpx.Response(200, json={"resourceType": "Bundle", "entry": [None]}),
    "members twice": httpx.Response(200, text='{"resourceType":"Bundle","entry":[{"search":{},"search":{}}]}'),
    "no resource": httpx.Response(200, json={"resourceType": "Bundle", "entry": [{"search": {"mode": "match"}}]}),
    "no id": searchset({"resourceType": "Patient"}),
    "an id that is none": searchset(patient("../x", ASKED)),
    "an id that is a number": searchset({**patient("", ASKED), "id": None}),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_an_answer_that_cannot_be_read(name: str) -> None:
    """Nonsense under status 200 comes from something in between: Transient, so that it is asked again."""
    with pytest.raises(Transient) as caught:
        await found(NONSENSE[name])
    assert caught.value.code == "bad-answer"
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("status", sorted(BUSY))
async def test_a_busy_server(status: int) -> None:
    """A search answered busy is Transient, with the wait that the server asks for."""
    with pytest.raises(Transient) as caught:
        await found(httpx.Response(status, headers={"Retry-After": "7"}, json=outcome("throttled")))
    assert (caught.value.code, caught.value.retry_after) == (f"fhir-{status}", 7)


@pytest.mark.parametrize("status", [204, 302, 400, 403, 404, 405, 415, 501])
async def test_a_refused_search(status: int) -> None:
    """Any other status is Failed, with FHIR's own issue codes and nothing else of the answer; no GET takes its place."""
    script = Script(
        [httpx.Response(status, headers={"Location": "http://elsewhere/"}, json=outcome("forbidden", CANARY))]
    )
    async with client(script) as fhir:
        with pytest.raises(Failed) as caught:
            await fhir.search("Patient", [ASKED])
    assert caught.value.code == f"fhir-{status}"
    assert str(caught.value) == f"the FHIR server refused a search ({status} forbidden)"
    assert len(script.asked) == 1


async def test_a_server_that_is_away() -> None:
    """Whatever the network does is Transient, without a word of what was sent."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout(CANARY)

    async with client(answer) as fhir:
        with pytest.raises(Transient, match="does not answer") as caught:
            await fhir.search("Patient", [(SYSTEM, CANARY)])
        assert CANARY not in str(caught.value)

from __future__ import annotations

import json
from typing import Any

from contract_kit import Met, patient

from relay.fhir.links import Link
from relay.writeback.writer import Writer

SYSTEM = "urn:oid:org.d365.mc4h.patient.id"
GUID = "b7cbe6c4-8c3f-4b3e-9d3b-0c8a52a3d{:03}"

RICH = """{
  "resourceType": "Patient", "id": "%s", "active": true,
  "identifier": [{"use": "usual", "system": "urn:x", "value": "1"}, {"value": "no system"}],
  "birthDate": "1984-03", "_birthDate": {"extension": [{"url": "http://e.example/known-by", "valueString": "Ana \\u00d1"}]},
  "extension": [
    {"url": "http://e.example/a", "valueDecimal": 1.10}, {"url": "http://e.example/b", "valueDecimal": 1e3},
    {"url": "http://e.example/c", "valueDecimal": 66.899999999999991},
    {"url": "http://e.example/d", "extension": [{"url": "deep", "valueInstant": "2026-01-02T03:04:05.600+00:00"}]}
  ],
  "name": [{"family": "Lindqvist", "given": ["Ana", "Sofía"]}],
  "multipleBirthInteger": 2
}"""


async def no_row(*_: str) -> bool:
    return False


async def write(server: Met, links: list[Link], **seams: Any) -> list[tuple[str, str]]:
    """Carry links out; gives (state, code) of each."""
    async with server.client() as fhir:
        return [(each.state, each.code) for each in await Writer(fhir, no_row, **seams).write(links)]


def link(fhir_id: str, number: int = 1) -> Link:
    return Link("Patient", fhir_id, "contact", GUID.format(number), SYSTEM)


async def test_only_identifier_differs_from_what_the_server_had(server: Met) -> None:
    """Numbers, unknown extensions, order: all is as the server gave it before, but for one identifier and the version."""
    fhir_id = server.id()
    answer = await server.put(RICH % fhir_id)
    assert answer.is_success, answer.text
    before = await server.read(fhir_id)
    assert await write(server, [link(fhir_id)]) == [("written", "")]
    after = await server.read(fhir_id)
    assert after.pop("identifier") == [*before.pop("identifier"), {"system": SYSTEM, "value": GUID.format(1)}]
    assert before.pop("meta")["versionId"] != after.pop("meta")["versionId"]
    assert list(after) == list(before)
    assert after == before


async def test_numbers_are_what_the_server_makes_of_them(server: Met) -> None:
    """Some servers keep the digits of a number, some rewrite them when they are sent: the relay sends what it read."""
    fhir_id = server.id()
    await server.put(RICH % fhir_id)
    kept = [each.get("valueDecimal") for each in (await server.read(fhir_id))["extension"][:3]]
    if server.profile.number_text is not None:
        assert (kept == ["1.10", "1e3", "66.899999999999991"]) == server.profile.number_text


async def test_the_same_again_writes_nothing(server: Met) -> None:
    """A resource that carries its identifier is not put again: no version, no echo, on whatever server."""
    ids = [await server.patient() for _ in range(3)]
    links = [link(each, number) for number, each in enumerate(ids)]
    assert await write(server, links) == [("written", "")] * 3
    versions = [(await server.read(each))["meta"]["versionId"] for each in ids]
    server.control.calls.clear()
    assert await write(server, links) == [("present", "")] * 3
    assert len(server.control.calls) == 1
    assert [(await server.read(each))["meta"]["versionId"] for each in ids] == versions


async def test_links_of_every_fate_in_one_go(server: Met) -> None:
    """Among many each gets its own: written, present, another's, gone, never there; and two calls did it."""
    fresh = await server.patient()
    there = await server.patient((SYSTEM, GUID.format(2)))
    others = await server.patient((SYSTEM, GUID.format(9)))
    gone = await server.patient()
    await server.delete(gone)
    links = [link(each, number) for number, each in enumerate((fresh, there, others, gone, server.id()), 1)]
    server.control.calls.clear()
    assert await write(server, links) == [
        ("written", ""),
        ("present", ""),
        ("failed", "identifier-conflict"),
        ("failed", "gone"),
        ("failed", "gone"),
    ]
    assert len(server.control.calls) == 2
    assert (await server.read(fresh))["identifier"] == [{"system": SYSTEM, "value": GUID.format(1)}]
    assert (await server.read(others))["identifier"] == [{"system": SYSTEM, "value": GUID.format(9)}]


async def test_somebody_else_writes_first_again_and_again(server: Met) -> None:
    """Every change that somebody makes between read and PUT is kept, and the identifier gets in at last."""
    ids = [await server.patient() for _ in range(3)]
    edits = iter(["male", "female", "other"])
    posted = server.control.app

    async def interfere(scope: Any, receive: Any, send: Any) -> None:
        """Edit the first resource just before the relay's next batch of PUTs, or its PUT, comes in."""
        if scope["method"] in ("POST", "PUT") and not busy:
            body = await receive()
            ours = GUID.format(1).encode() in body.get("body", b"")
            if ours and (gender := next(edits, None)):
                busy.append(gender)
                resource = {**await server.read(ids[0]), "gender": gender}
                assert (await server.put(json.dumps(resource))).is_success
                busy.clear()
            await posted(scope, _once(body, receive), send)
        else:
            await posted(scope, receive, send)

    busy: list[str] = []
    server.control.app = interfere

    async def at_once(_: float) -> None:
        return None

    links = [link(each, number) for number, each in enumerate(ids, 1)]
    assert await write(server, links, sleep=at_once) == [("written", "")] * 3
    assert next(edits, None) is None
    first = await server.read(ids[0])
    assert (first["gender"], first["identifier"]) == ("other", [{"system": SYSTEM, "value": GUID.format(1)}])


def _once(body: Any, receive: Any) -> Any:
    """Give the message that was taken already, then what comes after it."""
    waiting = [body]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again


async def test_a_gone_row_gives_way(server: Met) -> None:
    """Another GUID of ours whose row is gone from our own org becomes `use: old`; the new one stands beside it."""
    fhir_id = server.id()
    await server.put(patient(fhir_id, identifier=[{"system": SYSTEM, "value": GUID.format(7)}]))

    async def gone(table: str, guid: str) -> bool:
        return (table, guid) == ("contact", GUID.format(7))

    async with server.client() as fhir:
        (result,) = await Writer(fhir, gone).write([link(fhir_id, 8)])
    assert result.state == "written"
    assert (await server.read(fhir_id))["identifier"] == [
        {"system": SYSTEM, "value": GUID.format(7), "use": "old"},
        {"system": SYSTEM, "value": GUID.format(8)},
    ]

from __future__ import annotations

import json

import pytest
from contract_kit import Met

from relay.errors import Failed


def text_of(system: str, value: str) -> str:
    return json.dumps({"resourceType": "Patient", "active": True, "identifier": [{"system": system, "value": value}]})


async def test_a_create_on_condition_makes_one_or_finds_it(server: Met) -> None:
    """Nobody carries the identifier: 201 and an id; the second time: 200, the same id, nothing made."""
    token = server.identifier()
    async with server.client() as fhir:
        first = await fhir.create("Patient", text_of(*token), token)
        server.made.append(f"Patient/{first.id}")
        again = await fhir.create("Patient", text_of(*token), token)
        found = await fhir.search("Patient", [token])
    assert (first.status, again.status) == (201, 200)
    assert first.id == again.id
    assert [each.id for each in found.hits] == [first.id]
    assert not found.several


async def test_a_create_on_condition_that_several_meet_makes_none(server: Met) -> None:
    """Two carry the identifier already: 412, and no third."""
    token = server.identifier()
    two = {await server.patient(token) for _ in range(2)}
    async with server.client() as fhir:
        created = await fhir.create("Patient", text_of(*token), token)
        found = await fhir.search("Patient", [token])
    assert (created.status, created.id) == (412, "")
    assert ({each.id for each in found.hits}, found.several) == (two, True)


async def test_what_was_just_made_is_found(server: Met) -> None:
    """A search finds what was made after the same search found nothing, though the server may cache searches."""
    token, other = server.identifier(), server.identifier()
    async with server.client() as fhir:
        before = await fhir.search("Patient", [token, other])
        fhir_id = await server.patient(token, gender="female")
        after = await fhir.search("Patient", [token, other])
        (read,) = await fhir.read([("Patient", fhir_id)])
    assert (before.hits, before.several) == ((), False)
    (hit,) = after.hits
    assert (hit.id, hit.etag, json.loads(hit.text)["gender"]) == (fhir_id, read.etag, "female")


async def test_a_search_may_be_cached(server: Met) -> None:
    """Who does not ask for a fresh answer may miss, for a minute, what was just made: the relay always asks."""
    system, value = server.identifier()
    query = {"identifier": f"{system}|{value}"}
    assert (await server.owner.get("Patient", params=query)).json().get("total", 0) == 0
    await server.patient((system, value))
    entries = (await server.owner.get("Patient", params=query)).json().get("entry", [])
    if server.profile.cached_search is not None:
        assert (entries == []) == server.profile.cached_search


@pytest.mark.parametrize("value", ["a,b", "a$b", "a|b", "a\\b", "a b+c&d=e", "Ñandú"])
async def test_identifiers_of_any_characters_are_found(server: Met, value: str) -> None:
    """What stands for something in a search is escaped; a server that cannot tell is not taken at its word."""
    system, number = server.identifier()
    token = (system, f"{number} {value}")
    fhir_id = await server.patient(token)
    async with server.client() as fhir:
        found = await fhir.search("Patient", [token])
        if "|" not in value or server.profile.escapes is not False:
            assert [each.id for each in found.hits] == [fhir_id]
        else:
            assert found.hits == ()
        with pytest.raises(Failed, match="every one"):
            await fhir.search("Patient", [(system, " ")])


async def test_an_identifier_of_another_system_is_no_hit(server: Met) -> None:
    """System and value count together."""
    system, value = server.identifier()
    await server.patient((f"{system}/other", value))
    async with server.client() as fhir:
        assert (await fhir.search("Patient", [(system, value)])).hits == ()

"""What servers answer to the entries of a batch or transaction, and what of a refusal may be told on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fhir_client_kit import CANARY, client
from hypothesis import given
from hypothesis import strategies as st

from devstack.fhir import create_app
from relay.errors import Failed, Transient
from relay.fhir.client import BundleRefused
from relay.fhir.forwarding import (
    Answer,
    Interaction,
    answer_of,
    entry_text,
    references,
    refusal_of,
    same_content,
    with_id,
    with_references,
    with_version,
)
from relay.fhir.json_text import document

Json = dict[str, Any]
PUT = Interaction(0, "PUT", "Patient", "p1", "{}")
POST = Interaction(0, "POST", "Patient", text="{}", if_none_exist="identifier=a|b")
FOUND = {"resourceType": "Patient", "id": "p9", "meta": {"versionId": "u-u", "lastUpdated": "2026-01-01T00:00:00Z"}}


def read(entry: Any, it: Interaction = PUT) -> Answer:
    text = json.dumps(entry)
    return answer_of(text, document(text), it)


@pytest.mark.parametrize(
    ("entry", "it", "wanted"),
    [
        ({"response": {"status": "201 Created", "etag": "3"}}, PUT, Answer(201, "p1", "3")),
        (
            {"response": {"status": "201", "location": "http://other.example/Patient/p9/_history/2"}},
            POST,
            Answer(201, "p9", "2"),
        ),
        (
            {"response": {"status": "200", "etag": 'W/"2"', "lastModified": "2026-01-01T00:00:00.1+00:00"}},
            PUT,
            Answer(200, "p1", "2", "2026-01-01T00:00:00.1+00:00"),
        ),
        (
            {"resource": FOUND, "response": {"status": "201"}},
            POST,
            Answer(201, "p9", "u-u", "2026-01-01T00:00:00Z"),
        ),
        (
            {"resource": FOUND, "response": {"status": "200", "location": "Patient/p9"}},
            POST,
            Answer(200, "p9", "u-u", "2026-01-01T00:00:00Z", body=json.dumps(FOUND)),
        ),
        ({"response": {"status": "200", "location": "Observation/p9"}}, POST, Answer(200)),
        ({"response": {"status": "200", "lastModified": "2026-02-31T00:00:00Z"}}, PUT, Answer(200, "p1")),
        ({"response": {"status": "204"}}, PUT, Answer(204, "p1")),
    ],
    ids=[
        "HAPI's bare etag",
        "location of another host",
        "all of it",
        "Medplum",
        "found",
        "another type",
        "no day",
        "deleted",
    ],
)
def test_success(entry: Json, it: Interaction, wanted: Answer) -> None:
    """Id, version and time are read wherever a server puts them; the host of a Location is never asked."""
    assert read(entry, it) == wanted


def test_a_part_of_a_resource_is_no_body() -> None:
    """A resource tagged SUBSETTED never stands for the whole of it."""
    part = {**FOUND, "meta": {"tag": [{"code": "SUBSETTED"}]}}
    assert read({"resource": part, "response": {"status": "200"}}, POST).body == ""


@pytest.mark.parametrize(
    "entry",
    [{}, [], {"response": {}}, {"response": {"status": "200", "location": "Patient/p2"}}],
    ids=["empty", "array", "no status", "another resource"],
)
def test_what_is_no_answer(entry: Any) -> None:
    """An answer that cannot be read, or is about another resource, is asked for again."""
    with pytest.raises(Transient) as raised:
        read(entry)
    assert raised.value.code == "bad-answer"


@pytest.mark.parametrize(
    ("issue", "told"),
    [
        ({"code": "value", "expression": ["Patient.birthDate"]}, "value at Patient.birthDate"),
        ({"code": "value", "location": ["Patient.name[0].family"]}, "value at Patient.name[0].family"),
        ({"code": "value", "diagnostics": f"HAPI-0450: {CANARY}"}, "value HAPI-0450"),
        ({"code": CANARY, "diagnostics": CANARY, "details": {"text": CANARY}}, ""),
        ({"code": "value", "expression": [f"Patient.where(name='{CANARY}')"]}, "value"),
        ({"code": "value", "severity": "warning"}, ""),
    ],
)
def test_a_refusal_tells_no_patient_data(issue: Json, told: str) -> None:
    """Of an OperationOutcome codes, element paths and message keys are told on, never a sentence."""
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", **issue}, 7]}
    assert refusal_of(outcome) == told
    assert read({"response": {"status": "422", "outcome": outcome}}).told == told


@pytest.mark.parametrize("outcome", [None, [], {"issue": 7}, {}])
def test_a_refusal_without_reason(outcome: Any) -> None:
    """What is no OperationOutcome says nothing."""
    assert refusal_of(outcome) == ""


def test_an_entry_names_no_host() -> None:
    """The URL of an entry is type, id and condition; what guards it goes along."""
    text = entry_text(Interaction(0, "PUT", "Patient", "p1", '{"a":1.10}', if_match='W/"1"', full_url="urn:uuid:1"))
    assert text == (
        '{"fullUrl":"urn:uuid:1","resource":{"a":1.10},'
        '"request":{"method": "PUT", "url": "Patient/p1", "ifMatch": "W/\\"1\\""}}'
    )
    condition = Interaction(0, "PUT", "Patient", condition="identifier=a|b", if_none_match="*")
    assert json.loads(entry_text(condition))["request"] == {
        "method": "PUT",
        "url": "Patient?identifier=a|b",
        "ifNoneMatch": "*",
    }


strings = st.text(max_size=8) | st.sampled_from(
    ["urn:uuid:1", '"reference":"urn:uuid:1"', '{"reference":"urn:uuid:1"}', "\\", '\\"', "reference"]
)
values = st.recursive(
    strings | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(strings, inner, max_size=3)
        | st.fixed_dictionaries({"reference": strings})
    ),
    max_leaves=8,
)


def renamed(value: Any) -> Any:
    """Rename the references of parsed JSON."""
    if isinstance(value, dict):
        return {
            name: "Patient/1" if name == "reference" and each == "urn:uuid:1" else renamed(each)
            for name, each in value.items()
        }
    return [renamed(each) for each in value] if isinstance(value, list) else value


@given(st.dictionaries(strings, values, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_references_alone_are_renamed(resource: Json, indent: int | None, ascii_only: bool) -> None:
    """Whatever a resource's texts hold, only members named `reference` change, and only those that are meant."""
    text = json.dumps(resource, indent=indent, ensure_ascii=ascii_only)
    new = with_references(text, lambda named: "Patient/1" if named == "urn:uuid:1" else None)
    assert json.loads(new) == renamed(resource)
    assert "urn:uuid:1" not in list(references(new))
    assert with_references(text, lambda _: None) == text


def test_id_and_version_are_the_servers() -> None:
    """The id is put in; a sender's version and time give way to the server's, or go where it tells none."""
    text = '{"resourceType":"Patient","meta":{"versionId":"9","lastUpdated":"x","source":"y"}}'
    assert json.loads(with_version(with_id(text, "p1"), "2", "")) == {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"versionId": "2", "source": "y"},
    }
    assert with_version('{"id":"a"}', "", "") == '{"id":"a"}'
    assert with_version('{"id":"a","meta":null}', "1", "") == '{"id":"a","meta":{"versionId":"1"}}'
    with pytest.raises(Failed):
        with_id("[]", "a")
    assert with_id('{"id":"a", "b":1.0}', "a") == '{"id":"a", "b":1.0}'


def test_same_content() -> None:
    """Two texts are one resource when all but `meta` is equal; servers may spell numbers in their own way."""
    assert same_content('{"a":1.10,"b":1e3,"meta":{"versionId":"1"}}', '{ "meta":{}, "a":1.1,"b":1000 }')
    assert not same_content('{"a":1.10}', '{"a":1.11}')


async def test_a_transaction_is_cut_by_what_is_known_alone() -> None:
    """A server whose limit nobody knows gets a transaction whole; a setting says otherwise."""
    app = create_app(base_url="http://fhir")
    async with client(app) as fhir:
        assert await fhir.most_entries(100, "transaction") == 100
        assert await fhir.most_entries(4000, "transaction") == 4000
        assert await fhir.most_entries(4000, "batch") == 500
    async with client(app, batch_entries=7) as fhir:
        assert await fhir.most_entries(4000, "transaction") == 7


async def test_a_refused_bundle_says_what_the_server_said() -> None:
    """The refusal of a bundle holds the server's answer, and its message none of its words."""
    async with client(create_app(base_url="http://fhir", entry_limit=1)) as fhir:
        with pytest.raises(BundleRefused) as raised:
            await fhir.exchange("transaction", [entry_text(PUT), entry_text(PUT)])
    assert (raised.value.status, refusal_of(raised.value.outcome)) == (400, "too-costly")

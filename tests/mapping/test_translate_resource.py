"""Translating a whole resource: id, version, claims, and what no line reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_kit import GUID, IDENTIFIER, MAPS, TOP, URN, load, resolve

from relay.mapping.load import load_maps
from relay.mapping.model import Draft
from relay.mapping.translate import translate

SHIPPED = load_maps(MAPS)
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "1",
    "meta": {"versionId": "3", "lastUpdated": "2025-08-13T15:29:43.758+05:30"},
    "name": [{"use": "official", "family": "Family", "given": ["Given"]}],
    "gender": "female",
}


def patient(**changes: Any) -> Draft:
    """Translate a Patient by the shipped map."""
    entity = SHIPPED.for_resource("Patient")
    assert entity is not None
    return translate(entity, {**PATIENT, **changes}, resolve)


def codes(made: Draft) -> list[tuple[str, str, str]]:
    return [(issue.severity, issue.code, issue.at) for issue in made.issues]


def test_version_and_time_are_written_to_their_columns() -> None:
    """The time is UTC to the second."""
    made = patient()
    assert made.columns["msemr_azurefhirversion"] == "3"
    assert made.columns["msemr_azurefhirlastupdatedon"] == "2025-08-13T09:59:43Z"
    assert made.issues == ()


def test_without_meta_there_is_no_version() -> None:
    """Neither column is written."""
    made = patient(meta=None)
    assert not {"msemr_azurefhirversion", "msemr_azurefhirlastupdatedon"} & made.columns.keys()


@pytest.mark.parametrize(
    ("meta", "issue"),
    [
        ([], ("error", "invalid-element", "$.meta")),
        ({"versionId": 3}, ("warning", "invalid-element", "$.meta.versionId")),
        ({"versionId": "x" * 51}, ("warning", "too-long", "$.meta.versionId")),
        ({"lastUpdated": "yesterday"}, ("warning", "invalid-element", "$.meta.lastUpdated")),
        ({"tag": [None, {"code": "SUBSETTED"}]}, ("error", "subsetted", "$.meta.tag")),
    ],
)
def test_wrong_meta_is_told(meta: Any, issue: tuple[str, str, str]) -> None:
    """A version that does not fit costs the guard against old input only; an incomplete resource is refused."""
    assert codes(patient(meta=meta)) == [issue]


def test_an_id_longer_than_the_key_column_is_an_error() -> None:
    """The shipped column holds 38 characters, a FHIR id 64; it is never cut."""
    assert patient(id="x" * 38).columns["msemr_azurefhirid"] == "x" * 38
    made = patient(id="x" * 39)
    assert codes(made) == [("error", "id-too-long", "msemr_azurefhirid")]
    assert "msemr_azurefhirid" not in made.columns


@pytest.mark.parametrize("identity", [None, "", 5])
def test_without_an_id_there_is_no_row(identity: Any) -> None:
    """The draft says so and holds no key."""
    made = patient(id=identity)
    assert codes(made) == [("error", "no-id", "id")]
    assert made.id == ""


def test_claims_are_the_guids_of_our_own_identifiers() -> None:
    """Lower case without braces, each once; one that is old is no claim."""
    other = GUID.replace("1", "9")
    made = patient(
        identifier=[
            {"system": URN, "value": GUID.upper()},
            {"system": URN, "value": GUID},
            {"system": URN, "value": f"{{{GUID}}}"},
            {"system": URN, "use": "old", "value": other},
            {"system": "urn:other", "value": other},
            {"system": URN},
        ]
    )
    assert made.claims == (GUID,)
    assert [child.columns["prefix_value"] for child in made.children] == [other]
    assert made.issues == ()


@pytest.mark.parametrize("value", ["not a guid", 5, GUID + "0"])
def test_a_claim_that_is_no_guid_is_told(value: Any) -> None:
    """It is neither a claim nor data."""
    made = patient(identifier=[{"system": URN, "value": value}])
    assert made.claims == ()
    assert made.children == ()
    assert codes(made) == [("warning", "invalid-claim", "$.identifier")]


def test_no_line_reads_our_own_identifier(tmp_path: Path) -> None:
    """Else the GUID that was written back would come in again as data."""
    maps = load(tmp_path, TOP + IDENTIFIER + "attributes:\n  - {column: governmentid, copy: '$.identifier[0].value'}\n")
    entity = maps.for_resource("Patient")
    assert entity is not None
    resource = {"resourceType": "Patient", "id": "1", "identifier": [{"system": URN, "value": GUID}]}
    assert "governmentid" not in translate(entity, resource, resolve).columns
    resource["identifier"] = [{"system": URN, "value": GUID}, {"value": "x"}]
    assert translate(entity, resource, resolve).columns["governmentid"] == "x"


def test_elements_that_no_line_reads_are_listed() -> None:
    """In the order of the resource, without what is read in any case."""
    made = patient(photo=[], contact=[], _gender={"id": "x"})
    assert made.unmapped == ("photo", "contact")


def test_translating_changes_nothing_in_the_resource() -> None:
    """The resource is somebody else's."""
    resource = {**PATIENT, "identifier": [{"system": URN, "value": GUID}, {"value": "x"}]}
    before = copy.deepcopy(resource)
    patient(**resource)
    assert resource == before


RICH: dict[str, dict[str, Any]] = {
    "Patient": {
        **PATIENT,
        "identifier": [{"system": "s", "value": "v", "type": {"coding": [{"code": "MR"}]}}],
        "telecom": [{"system": "phone", "use": "home", "value": "1"}],
        "address": [{"line": ["l"], "city": "c"}],
        "maritalStatus": {"coding": [{"code": "M"}]},
        "generalPractitioner": [{"reference": "Practitioner/1"}],
        "managingOrganization": {"reference": "Organization/1"},
        "birthDate": "1980-01-01",
        "multipleBirthInteger": 2,
    },
    "Encounter": {
        "resourceType": "Encounter",
        "id": "1",
        "status": "finished",
        "class": {"code": "AMB"},
        "type": [{"coding": [{"code": "1", "display": "d"}]}],
        "subject": {"reference": "Patient/1"},
        "period": {"start": "2020-01-01T00:00:00Z"},
        "priority": {"coding": [{"code": "1"}]},
        "hospitalization": {"admitSource": {"coding": [{"code": "1"}]}},
    },
}
JUNK = st.sampled_from(
    [None, "", "x" * 2000, "\ud800", 5, -1.5, True, [], [None], {}, {"a": 1}, [[]], ["x"], "2020", {"value": {}}]
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place] if place else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*place, key))
    return found


@settings(max_examples=300)
@given(st.data())
def test_no_json_makes_translating_raise(data: st.DataObject) -> None:
    """Any value anywhere gives an issue or is absent; messages hold no values."""
    kind = data.draw(st.sampled_from(sorted(RICH)))
    resource: Any = copy.deepcopy(RICH[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([place for place in _places(resource) if place[0] != "resourceType"]))
        inside = resource
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = copy.deepcopy(data.draw(JUNK))
    entity = SHIPPED.for_resource(kind)
    assert entity is not None
    made = translate(entity, resource, resolve)
    assert isinstance(made.columns, Mapping)
    assert not any("xxx" in issue.message for issue in made.issues)

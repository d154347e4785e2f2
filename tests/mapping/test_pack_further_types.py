"""What the shipped maps make of episodes, goals, coverage, specimens, services, requests, tasks and the like.

A golden is what `relay preview FILE --json` prints, here of one resource of a published file.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from pack_kit import GOLDEN, SHIPPED, made, published, shown, switched_on

from relay.mapping.load import MapSet
from support.data import need_fhir_data, resources

TYPES = {
    "BodyStructure": "msemr_bodysite",
    "Coverage": "msemr_coverage",
    "Endpoint": "msemr_endpoint",
    "EpisodeOfCare": "msemr_episodeofcare",
    "Goal": "msemr_goal",
    "HealthcareService": "msemr_healthcareservice",
    "MedicationAdministration": "msemr_medicationadministration",
    "PractitionerRole": "msemr_practitionerrole",
    "RiskAssessment": "msemr_riskassessment",
    "ServiceRequest": "msemr_procedurerequest",
    "Specimen": "msemr_specimen",
    "Task": "task",
}
HL7 = {
    "BodyStructure": "skin-patch tumor",
    "Coverage": "9876B1 SP1234",
    "Endpoint": "example example-iid",
    "Goal": "stop-smoking",
    "MedicationAdministration": "medadmin0301 medadmin0303 medadmin0310 medadmin0313",
    "RiskAssessment": "cardiac prognosis riskexample",
    "ServiceRequest": "colonoscopy do-not-turn og-example1 physical-therapy",
    "Specimen": "101 isolate",
    "Task": "example5 fm-example1 fm-example6",
}
"""Type → ids, of the examples published with R4."""
GOLDENS = {
    **{f"hl7-r4-examples/{kind}-{each}": (f"{kind}/{each}",) for kind, ids in HL7.items() for each in ids.split()},
    "ahds-samples/USCore6-resource-bundle": (
        "Coverage/CoverageA",
        "Goal/GoalA",
        "PractitionerRole/PractitionerRoleA",
        "ServiceRequest/ServiceRequestA",
    ),
    "bulk-10-patients/PractitionerRole.000.ndjson:1": ("PractitionerRole/01a97323-3c5e-0b03-7dcf-b0e9c1d87759",),
    "hl7-r4-examples/Bundle-b0a5e4277-83c4-4adb-87e2-e3efe3369b6f": ("Endpoint/83",),
    "ms-fhir-server-bundles/Bundle-ChainingSortAndSearchValidation": (
        "HealthcareService/bfbb4e1b-3f20-4e69-882b-cee20cbc6ff3",
        "PractitionerRole/fake-practitionerRole-01",
    ),
    "synthea-blaze/057aa36e-b892-9964-75b9-ffb46b097e34": (
        "MedicationAdministration/d6d06530-1646-4575-ae1a-5f3822a64a33",
    ),
    "synthea-blaze/0-practitionerInformation1625911868739": ("PractitionerRole/f7ed6a79-4155-62a0-73e7-b278a31c2e00",),
    "us-core-examples/Specimen-example-serum-hemolyzed": ("Specimen/example-serum-lipemic",),
    "us-core-examples/goal-1": ("Goal/goal-1",),
    "us-core-examples/goal-sdoh-2": ("Goal/goal-sdoh-2",),
    "us-core-examples/servicerequest-DNR": ("ServiceRequest/servicerequest-dnr-example1",),
}
"""Published file (of NDJSON: which line) → the resources of it that have a golden."""


def columns(resource: dict[str, Any], maps: MapSet = SHIPPED) -> dict[str, Any]:
    """Return the columns, without the id, of a resource that may only lack what is required."""
    one = made(resource, maps)
    assert {issue["code"] for issue in one["issues"]} <= {"required"}
    return {name: value for name, value in one["columns"].items() if name != "prefix_fhirid"}


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in GOLDENS.items() for name in names])
def test_a_published_resource_becomes_this_row(file: str, name: str) -> None:
    """The whole preview of a resource that others published is the golden one."""
    expected = json.loads((GOLDEN / f"{name.replace('/', '-').lower()}.json").read_text(encoding="utf-8"))
    assert shown(SHIPPED, published(file), name) == expected


def test_every_published_resource_of_these_types_becomes_a_row() -> None:
    """Nothing of them fails, and what is reported is that a reference means no row, a code no option, a text is cut."""
    need_fhir_data()
    seen: Counter[str] = Counter()
    for name, text in resources():
        kind = json.loads(text)["resourceType"]
        if kind in TYPES:
            seen[kind] += 1
            one = made(json.loads(text))
            assert one["table"] == TYPES[kind], name
            assert {issue["code"] for issue in one["issues"]} <= {
                "required",
                "truncated",
                "unmapped-value",
                "unresolvable-reference",
            }, name
            assert all(issue["severity"] != "error" for issue in one["issues"]), name
    assert seen.keys() == TYPES.keys() - {"EpisodeOfCare"}
    assert seen.total() > 1900


def test_an_episode_of_care_is_described_by_its_type() -> None:
    """The words of its type, the patient's care by an organization and a manager, from when to when."""
    episode = {
        "resourceType": "EpisodeOfCare",
        "status": "active",
        "type": [{"coding": [{"code": "hacc", "display": "Home and Community Care"}]}],
        "patient": {"reference": "Patient/example"},
        "managingOrganization": {"reference": "Organization/hl7"},
        "period": {"start": "2014-09-01", "end": "2015-03-01T10:00:00+10:00"},
        "careManager": {"reference": "Practitioner/14"},
    }
    assert columns(episode) == {
        "msemr_description": "Home and Community Care",
        "msemr_status": 935000002,
        "msemr_patient": "Patient/example",
        "msemr_organization": "Organization/hl7",
        "msemr_caremanager": "Practitioner/14",
        "msemr_startdatetime": "2014-09-01T00:00:00Z",
        "msemr_enddatetime": "2015-03-01T00:00:00Z",
    }


MASS = {"value": 85.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
DETAIL = "msemr_goaltargetdetail"
NO_QUANTITY = dict.fromkeys(f"{DETAIL}quantity{part}" for part in ("value", "comparator", "unit", "system", "code"))
NO_RANGE = {f"{DETAIL}lowervalue": None, f"{DETAIL}uppervalue": None}


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        (
            {"detailQuantity": {**MASS, "comparator": "<="}},
            {
                f"{DETAIL}type": 935000000,
                f"{DETAIL}quantityvalue": 85.5,
                f"{DETAIL}quantitycomparator": 935000001,
                f"{DETAIL}quantityunit": "kg",
                f"{DETAIL}quantitysystem": "http://unitsofmeasure.org",
                f"{DETAIL}quantitycode": "msemr_codeableconcept/935000111/kg",
                **NO_RANGE,
                f"{DETAIL}valuecode": None,
            },
        ),
        (
            {"detailRange": {"low": MASS, "high": {"value": 90}}},
            {
                f"{DETAIL}type": 935000001,
                **NO_QUANTITY,
                f"{DETAIL}lowervalue": 85.5,
                f"{DETAIL}uppervalue": 90,
                f"{DETAIL}valuecode": None,
            },
        ),
        (
            {"detailCodeableConcept": {"coding": [{"code": "8517006", "display": "Ex-smoker"}]}},
            {
                f"{DETAIL}type": 935000002,
                **NO_QUANTITY,
                **NO_RANGE,
                f"{DETAIL}valuecode": "msemr_codeableconcept/935000062/8517006",
            },
        ),
        ({"detailString": "a marathon"}, {}),
    ],
    ids=["quantity", "range", "concept", "text"],
)
def test_a_goal_has_the_detail_of_its_first_target(detail: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each kind of detail has its columns and clears those of the others; one without columns leaves all as they are."""
    measure = {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}
    goal = {"resourceType": "Goal", "target": [{"measure": measure, **detail}, {"detailInteger": 1}]}
    assert columns(goal) == {"msemr_goaltargetmeasure": "msemr_codeableconcept/935000073/29463-7", **expected}


@pytest.mark.parametrize(
    ("lifecycle", "achievement", "status"),
    [
        ("completed", "achieved", 935000008),
        ("active", "achieved", 935000003),
        ("entered-in-error", "achieved", 935000011),
        ("completed", "not-achieved", None),
        ("completed", "sustaining", None),
    ],
)
def test_a_goal_is_achieved_where_it_is_completed_and_says_so(
    lifecycle: str, achievement: str, status: int | None
) -> None:
    """The lifecycle counts first; completed alone means no status of the table, and the column is empty."""
    achieved = {"coding": [{"code": achievement}]}
    goal = {"resourceType": "Goal", "lifecycleStatus": lifecycle, "achievementStatus": achieved}
    one = made(goal)
    assert one["columns"]["msemr_goalstatus"] == status
    assert [issue["code"] for issue in one["issues"]] == ([] if status else ["unmapped-value"])


def test_a_service_is_what_its_name_says() -> None:
    """Comment, eligibility, times not available and the rest each have their column; texts are cut, codes are not."""
    service = {
        "resourceType": "HealthcareService",
        "name": "Consulting psychologists",
        "category": [{"coding": [{"code": "8", "display": "Counselling"}]}, {"coding": [{"code": "9"}]}],
        "comment": "c" * 101,
        "extraDetails": "Several assessments are required",
        "eligibility": [{"code": {"coding": [{"code": "DVA"}]}, "comment": "Evidence is required"}],
        "appointmentRequired": False,
        "notAvailable": [{"description": "Holidays", "during": {"start": "2015-12-25", "end": "2015-12-26"}}],
        "availabilityExceptions": "Reduced capacity at Easter",
    }
    one = made(service)
    assert one["columns"] == {
        "prefix_fhirid": "1",
        "msemr_name": "Consulting psychologists",
        "msemr_category": "msemr_codeableconcept/935000129/8",
        "msemr_comment": "c" * 100,
        "msemr_extradetails": "Several assessments are required",
        "msemr_eligibility": "msemr_codeableconcept/935000132/DVA",
        "msemr_eligibilitynote": "Evidence is required",
        "msemr_appointmentrequired": False,
        "msemr_availabilityexceptions": "Reduced capacity at Easter",
        "msemr_notavailabledescription": "Holidays",
        "msemr_notavailableduringstartdatetime": "2015-12-25T00:00:00Z",
        "msemr_notavailableduringenddatetime": "2015-12-26T00:00:00Z",
    }
    assert [issue["code"] for issue in one["issues"]] == ["truncated"]


@pytest.mark.parametrize(
    ("status", "given"), [("not-done", True), ("completed", False), ("entered-in-error", None), ("unknown", None)]
)
def test_what_was_not_done_was_not_given(status: str, given: bool | None) -> None:
    """The status says whether a medication was not given, where it says it; else the column is empty."""
    one = made({"resourceType": "MedicationAdministration", "status": status})
    assert one["columns"]["msemr_notgiven"] is given


def test_a_request_no_longer_forbidden_is_cleared() -> None:
    """A row must not go on saying `do not perform`, nor both forms of `as needed`, once the resource does not."""
    reason = {"coding": [{"code": "pain"}]}
    one = columns({"resourceType": "ServiceRequest", "code": {"text": "Ice"}, "asNeededCodeableConcept": reason})
    assert one == {
        "msemr_name": "Ice",
        "msemr_donotperform": None,
        "msemr_asneededboolean": None,
        "msemr_asneededcodeableconcept": "msemr_codeableconcept/935000075/pain",
    }


def test_communications_are_off_until_somebody_switches_them_on() -> None:
    """The table is not for messages: off, none becomes a row; on, a row says whom it is about and what it is."""
    message = {
        "resourceType": "Communication",
        "subject": {"reference": "Patient/1"},
        "payload": [{"contentString": "Your results are here"}],
    }
    assert SHIPPED.disabled("Communication") is not None
    assert made(message)["table"] is None
    expected = {"msemr_contact": "Patient/1", "msemr_display": "Your results are here"}
    assert columns(message, switched_on("Communication")) == expected


@pytest.mark.parametrize("kind", [*TYPES, "Communication"])
def test_nothing_goes_out_unless_somebody_says_so(kind: str) -> None:
    """A shipped map carries the Dynamics identifier to FHIR and nothing else."""
    entity = SHIPPED.for_resource(kind) or SHIPPED.disabled(kind)
    assert entity is not None
    assert entity.identifier is not None
    assert entity.identifier.system == f"urn:oid:org.d365.mc4h.{kind.lower()}.id"
    assert not entity.outward.messages
    assert not entity.outward.create
    assert entity.outward.columns == ()

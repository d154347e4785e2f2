"""Codes, concepts and references of the further types: each has the option, the concept type or the column of its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pack_kit import SHIPPED, TABLES, made

CONCEPT_TYPES = {label: number for number, label in TABLES["msemr_codeableconcept"]["columns"]["msemr_type"]["options"]}


def columns_of(kind: str) -> Mapping[str, Any]:
    """Return the column facts of the table that a type is mapped to."""
    entity = SHIPPED.for_resource(kind)
    assert entity is not None
    columns: Mapping[str, Any] = TABLES[entity.table.name]["columns"]
    return columns


CHOICES = {
    ("Goal", "subject", "msemr_goalsubjecttype"): ("Patient", "Organization"),
    ("Goal", "expressedBy", "msemr_goalexpressedbytype"): ("Patient", "Practitioner"),
    ("Specimen", "subject", "msemr_subjecttype"): ("Patient", "Device"),
    ("RiskAssessment", "performer", "msemr_performertype"): ("Practitioner", "Device"),
    ("ServiceRequest", "subject", "msemr_subjecttype"): ("Patient", "Device", "Location"),
    ("ServiceRequest", "requester", "msemr_requesteragent"): ("Practitioner", "Organization", "Device"),
    ("ServiceRequest", "performer", "msemr_performertype"): (
        *("Practitioner", "Organization", "Patient", "Device", "HealthcareService"),
    ),
    ("MedicationAdministration", "context", "msemr_contexttype"): ("Encounter", "EpisodeOfCare"),
    ("Task", "requester", "msemr_requesteragent"): ("Practitioner", "Organization", "Patient", "Device"),
    ("Task", "owner", "msemr_performerownertype"): ("Practitioner", "Organization", "Patient", "Device"),
}
"""(Type, element, picklist) → the types of the choice."""


@pytest.mark.parametrize(
    ("kind", "element", "picklist", "target"),
    [(*place, target) for place, targets in CHOICES.items() for target in targets],
)
def test_a_reference_goes_to_the_column_of_its_type(kind: str, element: str, picklist: str, target: str) -> None:
    """Of the columns of a choice the one of the type is filled, the picklist says which, the others are cleared."""
    reference: Any = {"reference": f"{target}/23"}
    many = (kind, element) == ("ServiceRequest", "performer")
    one = made({"resourceType": kind, element: [reference] if many else reference})["columns"]
    (filled,) = (column for column, value in one.items() if value == f"{target}/23")
    assert filled.endswith(target.lower())
    label = dict(columns_of(kind)[picklist]["options"])[one[picklist]]
    assert label.lower().replace(" ", "").replace("pratitioner", "practitioner") == target.lower()
    ends = tuple(each.lower() for each in CHOICES[kind, element, picklist])
    assert sum(column.endswith(ends) for column in one) == len(ends)


R4_CODES = {
    ("EpisodeOfCare", "status", "msemr_status"): "planned waitlist active onhold finished cancelled entered-in-error",
    ("Goal", "lifecycleStatus", "msemr_goalstatus"): (
        "proposed planned accepted active on-hold completed cancelled entered-in-error rejected"
    ),
    ("Coverage", "status", "msemr_coveragestatus"): "active cancelled draft entered-in-error",
    ("Specimen", "status", "msemr_status"): "available unavailable unsatisfactory entered-in-error",
    ("RiskAssessment", "status", "msemr_status"): (
        "registered preliminary final amended corrected cancelled entered-in-error unknown"
    ),
    ("Endpoint", "status", "msemr_status"): "active suspended error off entered-in-error test",
    ("Endpoint", "connectionType", "msemr_connectiontype"): (
        "ihe-xcpd ihe-xca ihe-xdr ihe-xds ihe-iid dicom-wado-rs dicom-qido-rs dicom-stow-rs dicom-wado-uri"
        " hl7-fhir-rest hl7-fhir-msg hl7v2-mllp secure-email direct-project"
    ),
    ("ServiceRequest", "status", "msemr_status"): ("draft active on-hold revoked completed entered-in-error unknown"),
    ("ServiceRequest", "intent", "msemr_intent"): (
        "proposal plan directive order original-order reflex-order filler-order instance-order option"
    ),
    ("ServiceRequest", "priority", "msemr_priority"): "routine urgent asap stat",
    ("MedicationAdministration", "status", "msemr_status"): (
        "in-progress not-done on-hold completed entered-in-error stopped unknown"
    ),
    ("Task", "status", "msemr_status"): (
        "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed entered-in-error"
    ),
    ("Task", "intent", "msemr_intent"): (
        "unknown proposal plan order original-order reflex-order filler-order instance-order option"
    ),
    ("Task", "priority", "msemr_taskpriority"): "routine urgent asap stat",
}
"""(Type, element, column) → every code of the value set that R4 binds the element to."""
NO_OPTION = {
    ("Goal", "completed"),
    ("MedicationAdministration", "not-done"),
    ("ServiceRequest", "directive"),
    ("ServiceRequest", "original-order"),
    ("ServiceRequest", "reflex-order"),
    ("ServiceRequest", "filler-order"),
    ("ServiceRequest", "instance-order"),
    ("ServiceRequest", "option"),
    ("Task", "unknown"),
}
SYNONYMS = {
    ("EpisodeOfCare", "onhold"): "On Hold",
    ("Goal", "active"): "In Progress",
    ("ServiceRequest", "on-hold"): "Suspended",
    ("ServiceRequest", "revoked"): "Cancelled",
    ("Endpoint", "hl7-fhir-rest"): "HL7 FHIR",
    ("Endpoint", "hl7-fhir-msg"): "HL7 FHIR Messaging",
    ("Endpoint", "hl7v2-mllp"): "HL7 v2 MLLP",
}
"""Codes whose option has another label than the code: what STU3 called them, and Microsoft's words."""


@pytest.mark.parametrize(
    ("kind", "element", "column", "code"),
    [(*place, code) for place, codes in R4_CODES.items() for code in codes.split()],
)
def test_every_code_of_r4_has_the_option_of_its_name_or_none(kind: str, element: str, column: str, code: str) -> None:
    """A code becomes the option with its label; the codes that have none are named here, and empty the column."""
    value = {"code": code} if element == "connectionType" else code
    one = made({"resourceType": kind, "name": "n", element: value})
    written = one["columns"][column]
    if (kind, code) in NO_OPTION:
        assert written is None
        assert "unmapped-value" in {issue["code"] for issue in one["issues"]}
        return
    label = dict(option[:2] for option in columns_of(kind)[column]["options"])[written]
    if (kind, code) in SYNONYMS:
        assert label == SYNONYMS[kind, code]
    else:
        assert label.lower().replace(" ", "-") == code


CONCEPTS = {
    ("Goal", "description"): ("msemr_goaldescription", "Clinical Finding"),
    ("Goal", "priority"): ("msemr_goalpriority", "Goal Priority"),
    ("Goal", "startCodeableConcept"): ("msemr_goalstartcode", "Goal Start Event"),
    ("Goal", "target/measure"): ("msemr_goaltargetmeasure", "LOINC Code"),
    ("Specimen", "type"): ("msemr_type", "Specimen Type"),
    ("Specimen", "collection.method"): ("msemr_collectedmethod", "Specimen Collection Method"),
    ("Specimen", "collection.bodySite"): ("msemr_bodysite", "Body Structure"),
    ("RiskAssessment", "code"): ("msemr_code", "Risk Assessment Code"),
    ("RiskAssessment", "method"): ("msemr_method", "Risk Assessment Method"),
    ("RiskAssessment", "reasonCode/"): ("msemr_reasonconcept", "Risk Assessment Reason Code"),
    ("HealthcareService", "category/"): ("msemr_category", "Service Category"),
    ("HealthcareService", "eligibility/code"): ("msemr_eligibility", "Service Eligibility"),
    ("Endpoint", "payloadType/"): ("msemr_payloadtype", "Endpoint Payload Type"),
    ("ServiceRequest", "code"): ("msemr_code", "Procedure Code"),
    ("ServiceRequest", "asNeededCodeableConcept"): (
        "msemr_asneededcodeableconcept",
        "Medication As Needed Reason Code",
    ),
    ("MedicationAdministration", "category"): ("msemr_category", "Medication Administration Category"),
    ("MedicationAdministration", "medicationCodeableConcept"): ("msemr_medicationcodeableconcept", "Medication Code"),
    ("MedicationAdministration", "dosage.site"): ("msemr_dosagesite", "Administration Site Code"),
    ("MedicationAdministration", "dosage.route"): ("msemr_dosageroute", "Route Code"),
    ("MedicationAdministration", "dosage.method"): ("msemr_dosagemethod", "Administration Method Code"),
    ("Task", "code"): ("msemr_code", "Task Code"),
    ("Task", "statusReason"): ("msemr_statusreason", "Task Status Reason"),
    ("Task", "businessStatus"): ("msemr_businessstatus", "Task Business Status"),
    ("Task", "reasonCode"): ("msemr_reason", "Task Reason"),
}
"""(Type, where the concept stands: `.` goes into an object, `/` into the first item) → its column and concept type."""


@pytest.mark.parametrize(("kind", "place"), CONCEPTS)
def test_a_code_is_filed_under_the_concept_type_of_its_column(kind: str, place: str) -> None:
    """The first coding counts, under the type that Microsoft's list of columns gives the lookup."""
    value: Any = {"coding": [{"code": "c", "display": "d"}, {"code": "other"}], "text": "t"}
    element, _, inside = place.partition("." if "." in place else "/")
    value = {inside: value} if inside else value
    one = made({"resourceType": kind, "name": "n", element: [value] if "/" in place else value})
    column, label = CONCEPTS[kind, place]
    assert one["columns"][column] == f"msemr_codeableconcept/{CONCEPT_TYPES[label]}/c"
    concepts = [text for text in one["columns"].values() if str(text).startswith("msemr_codeableconcept")]
    assert len(concepts) == 1

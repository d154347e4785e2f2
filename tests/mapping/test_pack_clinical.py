"""What the shipped maps make of conditions, allergies, procedures, observations, reports, medications, devices and claims.

A golden is what `relay preview FILE --json` prints, here of one resource of a published file.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from mapping_kit import resolve
from pack_kit import GOLDEN, SHIPPED, filled, label, made, published, shown, switched_on

from relay.mapping.actions import Sourced
from relay.mapping.model import ByFhirId, ByIdentifier, ChildDraft, Concept, Draft
from relay.mapping.outward import RowView
from relay.mapping.preview import lookup_text
from relay.mapping.reverse import resource_of
from relay.mapping.translate import translate

HL7 = "hl7-r4-examples"
AHDS = "ahds-samples/USCore6-resource-bundle"
US_CORE = "us-core-examples"
SYNTHEA = "synthea-blaze/057aa36e-b892-9964-75b9-ffb46b097e34"
GOLDENS = {
    "allergyintolerance-medication": (f"{HL7}/AllergyIntolerance-medication", ""),
    "allergyintolerance-nkda": (f"{HL7}/AllergyIntolerance-nkda", ""),
    "allergyintolerance-synthea": (
        "synthea-blaze/23275f24-df5a-6bcf-17cc-ff6507270b1c",
        "AllergyIntolerance/5dae3ae6-a03b-f429-7ac4-773b014db0d1",
    ),
    "claim-960151": (f"{HL7}/Claim-960151", ""),
    "claim-760151": (f"{HL7}/Claim-760151", ""),
    "claim-synthea": (SYNTHEA, "Claim/81ff718a-42da-aea3-54ba-6a06c55c82a4"),
    "condition-f202": (f"{HL7}/Condition-f202", ""),
    "condition-f204": (f"{HL7}/Condition-f204", ""),
    "condition-stroke": (f"{HL7}/Condition-stroke", ""),
    "condition-us-core": (AHDS, "Condition/ConditionC1"),
    "condition-synthea": (SYNTHEA, "Condition/d17f1175-960a-4a2b-8270-d263f74d4456"),
    "device-example": (f"{HL7}/Device-example", ""),
    "device-us-core": (f"{US_CORE}/Device-defib", ""),
    "device-c": (AHDS, "Device/DeviceC"),
    "device-synthea": (SYNTHEA, "Device/b0dfa954-dfba-e1fa-d513-b017b0539643"),
    "diagnosticreport-example-pgx": (f"{HL7}/DiagnosticReport-example-pgx", ""),
    "diagnosticreport-f201": (f"{HL7}/DiagnosticReport-f201", ""),
    "diagnosticreport-synthea": (SYNTHEA, "DiagnosticReport/ead397ce-b8fe-04a7-f02c-d14b784d6603"),
    "medication-med0303": (f"{HL7}/Medication-med0303", ""),
    "medication-med0317": (f"{HL7}/Medication-med0317", ""),
    "medication-synthea": (SYNTHEA, "Medication/b7381315-c0b9-09f5-7971-0de3b39c99b3"),
    "medicationrequest-medrx002": (f"{HL7}/MedicationRequest-medrx002", ""),
    "medicationrequest-medrx0303": (f"{HL7}/MedicationRequest-medrx0303", ""),
    "medicationrequest-medrx0312": (f"{HL7}/MedicationRequest-medrx0312", ""),
    "medicationrequest-medrx0323": (f"{HL7}/MedicationRequest-medrx0323", ""),
    "medicationrequest-us-core": (AHDS, "MedicationRequest/MedicationRequestC"),
    "medicationrequest-synthea": (SYNTHEA, "MedicationRequest/7c3f1e6a-a9b6-f8f2-3f93-a6270e19e7f5"),
    "observation-alcohol-type": (f"{HL7}/Observation-alcohol-type", ""),
    "observation-bmd": (f"{HL7}/Observation-bmd", ""),
    "observation-date-lastmp": (f"{HL7}/Observation-date-lastmp", ""),
    "observation-f001": (f"{HL7}/Observation-f001", ""),
    "observation-f205": (f"{HL7}/Observation-f205", ""),
    "observation-map-sitting": (f"{HL7}/Observation-map-sitting", ""),
    "observation-rhstatus": (f"{HL7}/Observation-rhstatus", ""),
    "observation-trachcare": (f"{HL7}/Observation-trachcare", ""),
    "observation-blood-glucose": (AHDS, "Observation/ObservationBloodGlucoseC2"),
    "observation-blood-pressure": (AHDS, "Observation/ObservationBloodPressureC"),
    "observation-substance-use": (f"{US_CORE}/Observation-substance-use-status", ""),
    "observation-synthea": (SYNTHEA, "Observation/d0b333f1-1daf-03ed-494a-a7231a113a78"),
    "procedure-colon-biopsy": (f"{HL7}/Procedure-colon-biopsy", ""),
    "procedure-education": (f"{HL7}/Procedure-education", ""),
    "procedure-f201": (f"{HL7}/Procedure-f201", ""),
    "procedure-synthea": (SYNTHEA, "Procedure/0178e66e-84f7-ab14-453d-615d0cd05954"),
}
"""Golden → the published file, and which resource of it where it is a bundle."""
CODED: dict[str, Any] = json.loads((GOLDEN / "clinical-codes.json").read_text(encoding="utf-8"))
"""Coded element → its column, and every code that R4 allows there with the label of the option it means."""
CONCEPTS = {"clinicalStatus", "verificationStatus"}
QUANTITY = {"value": 1, "comparator": "<", "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}


@pytest.mark.parametrize("name", GOLDENS)
def test_a_published_example_becomes_this_row(name: str) -> None:
    """Columns, children, what is not mapped and what is told: the whole preview is the stored one."""
    file, wanted = GOLDENS[name]
    stored = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert shown(SHIPPED, published(file), wanted) == stored


@pytest.mark.parametrize("element", CODED)
def test_every_code_of_r4_means_the_option_of_its_name(element: str) -> None:
    """A code without an option is told and leaves the column empty; every option that FHIR can mean is reached."""
    kind, name = element.split(".")
    column = CODED[element]["column"]
    for code, wanted in CODED[element]["codes"].items():
        value = {"coding": [{"system": "urn:local", "code": "x"}, {"code": code}]} if name in CONCEPTS else code
        one = made({"resourceType": kind, name: value})
        assert label(one["table"], column, one["columns"][column]) == wanted, code
        told = [issue for issue in one["issues"] if issue["code"] == "unmapped-value" and column in issue["message"]]
        assert bool(told) is (wanted is None), code


@pytest.mark.parametrize(
    ("element", "value", "kind", "columns"),
    [
        (
            "valueQuantity",
            QUANTITY,
            "Quantity",
            {
                "msemr_valuetypequantityvalue": 1,
                "msemr_valuetypequantitycomparator": 935000000,
                "msemr_valuequantityunit": "mg",
                "msemr_valuequantitysystem": "http://unitsofmeasure.org",
                "msemr_valuequantitycode": "msemr_codeableconcept/935000111/mg",
            },
        ),
        (
            "valueCodeableConcept",
            {"coding": [{"code": "c"}]},
            "Codeable Concept",
            {"msemr_valuecodeableconcept": "msemr_codeableconcept/935000090/c"},
        ),
        ("valueString", "s", "String", {"msemr_valuestring": "s"}),
        ("valueBoolean", False, "Boolean", {"msemr_valueboolean": False}),
        (
            "valueRatio",
            {"numerator": QUANTITY, "denominator": {"value": 2, "comparator": ">=", "unit": "mL"}},
            "Ratio",
            {
                "msemr_valuerationumeratorvalue": 1,
                "msemr_valuerationumeratorcomparator": 935000000,
                "msemr_valuerationumeratorunit": "mg",
                "msemr_valuerationumeratorsystem": "http://unitsofmeasure.org",
                "msemr_valuerationumeratorcode": "msemr_codeableconcept/935000111/mg",
                "msemr_valueratiodenominatorvalue": 2,
                "msemr_valueratiodenominatorcomparator": 935000003,
                "msemr_valueratiodenominatorunit": "mL",
            },
        ),
        ("valueDateTime", "2020-01-31", "Date Time", {"msemr_valuedatetype": "2020-01-31T00:00:00Z"}),
        (
            "valuePeriod",
            {"start": "2020-01-31", "end": "2020-02-01"},
            "Period",
            {
                "msemr_valueperiodstartdate": "2020-01-31T00:00:00Z",
                "msemr_valueperiodenddate": "2020-02-01T00:00:00Z",
            },
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_observation_holds_one_value_whole(element: str, value: Any, kind: str, columns: dict[str, Any]) -> None:
    """The value type says which; every other column of a value is cleared, and so is what this one does not say."""
    one = made({"resourceType": "Observation", element: value})
    written = {name: value for name, value in one["columns"].items() if name.startswith("msemr_value")}
    assert label("msemr_observation", "msemr_valuetype", written.pop("msemr_valuetype")) == kind
    assert {name: value for name, value in written.items() if value is not None} == columns
    assert len(written) == 21
    assert one["issues"] == []


def test_a_quantity_keeps_its_digits_and_loses_an_earlier_comparator() -> None:
    """Numbers are exact, and a comparator that the resource no longer has is not left in the row."""
    text = '{"resourceType": "Observation", "id": "1", "valueQuantity": {"value": 99999999999.0123456789}}'
    (one,) = shown(SHIPPED, text.encode())["resources"]
    assert one["columns"]["msemr_valuetypequantityvalue"] == "99999999999.0123456789"
    assert one["columns"]["msemr_valuetypequantitycomparator"] is None
    assert one["columns"]["msemr_valuequantityunit"] is None


@pytest.mark.parametrize(
    ("element", "value", "columns"),
    [
        ("onsetDateTime", "2020-01-31T23:00:00-05:00", {"msemr_onsetdate": "2020-01-31"}),
        ("onsetAge", {"value": 52.5}, {"msemr_onsettype": "Age", "msemr_onsetage": 52.5}),
        (
            "onsetPeriod",
            {"start": "2020-01-31"},
            {"msemr_onsettype": "Period", "msemr_onsetperiodstartdate": "2020-01-31T00:00:00Z"},
        ),
        ("onsetString", "long ago", {"msemr_onsettype": "String", "msemr_onsetstring": "long ago"}),
        (
            "abatementDateTime",
            "2020-01-31",
            {"msemr_abatementtype": "Date time", "msemr_abatementdate": "2020-01-31"},
        ),
        ("abatementAge", {"value": 54}, {"msemr_abatementtype": "Age", "msemr_abatementage": 54}),
        (
            "abatementPeriod",
            {"end": "2020-01-31"},
            {"msemr_abatementtype": "Period", "msemr_abatementperiodenddate": "2020-01-31T00:00:00Z"},
        ),
        ("abatementString", "soon", {"msemr_abatementtype": "String", "msemr_abatementstring": "soon"}),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_condition_begins_and_ends_in_one_way(element: str, value: Any, columns: dict[str, Any]) -> None:
    """The type says in which; a date has no onset type."""
    one = made({"resourceType": "Condition", "code": {"text": "t"}, element: value})
    written = {name: value for name, value in one["columns"].items() if "onset" in name or "abatement" in name}
    for name in ("msemr_onsettype", "msemr_abatementtype"):
        if name in written:
            written[name] = label("msemr_condition", name, written[name])
    assert {name: value for name, value in written.items() if value is not None} == columns
    assert one["issues"] == []


def test_a_procedure_that_was_not_done_says_so_with_the_reason() -> None:
    """Not done is a yes/no of its own, and the status is none of the others; of an unknown status neither is said."""
    reason = {"coding": [{"code": "183932001"}]}
    one = made({"resourceType": "Procedure", "status": "not-done", "statusReason": reason})["columns"]
    assert (one["msemr_notdone"], one["msemr_status"]) == (True, None)
    assert one["msemr_notdonereason"] == "msemr_codeableconcept/935000109/183932001"
    assert made({"resourceType": "Procedure", "status": "completed"})["columns"]["msemr_notdone"] is False
    assert made({"resourceType": "Procedure", "status": "unknown"})["columns"]["msemr_notdone"] is None


def test_a_performer_with_two_functions_is_two_rows() -> None:
    """Performers are told apart by who they are and their function; what they are is said beside, a role has no column."""
    actor = {"reference": "Practitioner/1"}
    performers = [
        {"actor": actor, "function": {"coding": [{"code": "a"}]}},
        {"actor": actor, "function": {"coding": [{"code": "b"}]}, "onBehalfOf": {"reference": "Organization/2"}},
        {"actor": {"reference": "Device/3"}},
        {"actor": {"reference": "PractitionerRole/4"}},
    ]
    one = made({"resourceType": "Procedure", "performer": performers})
    assert [filled(child) for child in one["children"]] == [
        {
            "msemr_performertype": 935000000,
            "msemr_performeractorpractitioner": "Practitioner/1",
            "msemr_performerrole": "msemr_codeableconcept/935000108/a",
        },
        {
            "msemr_performertype": 935000000,
            "msemr_performeractorpractitioner": "Practitioner/1",
            "msemr_performerrole": "msemr_codeableconcept/935000108/b",
            "msemr_performeronbehalfof": "Organization/2",
        },
        {"msemr_performertype": 935000004, "msemr_performeractordevice": "Device/3"},
    ]
    assert [issue["at"] for issue in one["issues"]] == ["performer[3].actor", "performer[3]"]


@pytest.mark.parametrize(
    ("allowed", "column"),
    [
        ({"allowedBoolean": True}, True),
        ({"allowedBoolean": False}, False),
        ({"allowedCodeableConcept": {"coding": [{"code": "N"}]}}, False),
        ({"allowedCodeableConcept": {"coding": [{"code": "TB"}]}}, True),
    ],
    ids=["yes", "no", "none", "therapeutic brand"],
)
def test_a_substitution_is_allowed_or_not(allowed: dict[str, Any], column: bool) -> None:
    """As a yes/no, or by the code for what kind of substitution."""
    one = made({"resourceType": "MedicationRequest", "substitution": allowed})
    assert one["columns"]["msemr_substitutionallowed"] is column


def test_no_repeats_leave_their_column_empty() -> None:
    """The column begins at 1: a request without repeats is written all the same, and what could not be said is told."""
    one = made({"resourceType": "MedicationRequest", "dispenseRequest": {"numberOfRepeatsAllowed": 0}})
    assert one["columns"]["msemr_dispenserequestnumberofrepeatsallowed"] is None
    assert [(issue["severity"], issue["code"]) for issue in one["issues"]] == [("information", "unmapped-value")]


def test_lines_that_a_site_may_switch_on() -> None:
    """Ranges, the dispensed quantity and dosage instructions make rows as soon as their lines are enabled."""
    maps = switched_on("Condition", "Observation", "MedicationRequest")
    range_ = {"low": {"value": 40}, "high": {"value": 50}}
    condition = made({"resourceType": "Condition", "onsetRange": range_, "abatementRange": range_}, maps)["columns"]
    assert (condition["msemr_onsettype"], condition["msemr_abatementtype"]) == (935000002, 935000002)
    assert (condition["msemr_onsetrangelow"], condition["msemr_onsetrangehigh"]) == (40, 50)
    assert (condition["msemr_abatementrangelow"], condition["msemr_abatementrangehigh"]) == (40, 50)
    observation = made(
        {"resourceType": "Observation", "valueRange": range_, "component": [{"code": {"coding": [{"code": "c"}]}}]},
        maps,
    )["columns"]
    assert (observation["msemr_valuerangelowlimit"], observation["msemr_valuerangehighlimit"]) == (40, 50)
    (request,) = shown(maps, published(f"{HL7}/MedicationRequest-medrx0323"))["resources"]
    dosage = next(child for child in request["children"] if child["table"] == "msemr_dosage")
    assert filled(dosage) == {
        "msemr_sequence": 1,
        "msemr_text": "1000mL infused at 50ml/hour for 4 hours - hung at 2200 hours",
        "msemr_route": "msemr_codeableconcept/935000127/255560000",
        "msemr_site": "msemr_codeableconcept/935000006/6073002",
        "msemr_ratetype": 935000000,
        "msemr_rateratioquantitynumeratorvalue": 50,
        "msemr_rateratioquantitynumeratorunit": "mL",
        "msemr_rateratioquantitynumeratorsystem": "http://unitsofmeasure.org",
        "msemr_rateratioquantitynumeratorcode": "msemr_codeableconcept/935000111/mL",
        "msemr_rateratioquantitydenominatorvalue": 1,
        "msemr_rateratioquantitydenominatorunit": "h",
        "msemr_rateratiotquantitydenominatorsystem": "http://unitsofmeasure.org",
        "msemr_rateratioquantitydenominatorcode": "msemr_codeableconcept/935000111/h",
    }


def as_row(draft: Draft | ChildDraft) -> RowView:
    """See a draft as the row it would become, with its children."""
    values: dict[str, Any] = dict(draft.columns)
    meant: dict[str, ByFhirId | Concept | None] = {}
    for number, (column, target) in enumerate(draft.lookups.items()):
        if isinstance(target, (ByFhirId, Concept)):
            values[f"_{column}_value"] = str(number)
            meant[str(number)] = target
    children: dict[str, list[RowView]] = {}
    for child in draft.children:
        children.setdefault(child.expansion.table.name, []).append(as_row(child))
    return RowView(values, meant, children)


def kept(draft: Draft | ChildDraft, lines: Any) -> dict[str, Any]:
    """Return what a draft has in the columns that may go out; who is known by an identifier alone has no row yet."""
    stays = {line.reading.column for line in lines if isinstance(line, Sourced) and line.reading.outward is False}
    pointing = {
        name: lookup_text(target) for name, target in draft.lookups.items() if not isinstance(target, ByIdentifier)
    }
    every = {**draft.columns, **pointing}
    return {name: value for name, value in every.items() if name not in stays}


@pytest.mark.parametrize("name", [name for name in GOLDENS if GOLDENS[name][0].startswith(HL7)])
def test_what_a_row_says_can_go_back(name: str) -> None:
    """A resource made of the row becomes the same row, but for columns that never leave Dataverse."""
    resource = json.loads(published(GOLDENS[name][0]))
    entity = SHIPPED.for_resource(resource["resourceType"])
    assert entity is not None
    draft = translate(entity, resource, resolve)
    made_of_it = resource_of(entity, as_row(draft), resolve)
    assert made_of_it.issues == ()
    again = translate(entity, {**made_of_it.resource, "id": resource["id"]}, resolve)
    assert kept(again, entity.lines) == kept(draft, entity.lines)
    for one, other in zip(again.children, draft.children, strict=True):
        assert kept(one, one.expansion.lines) == kept(other, other.expansion.lines)

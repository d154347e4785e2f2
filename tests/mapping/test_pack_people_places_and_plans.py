"""What the shipped maps of people, places and plans make of published examples, whole.

The goldens in `golden/` hold what `preview` shows, one file per type and one entry per example; each was read beside its
example before it was stored.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pack_kit import GOLDEN, SHIPPED, filled, published, shown, switched_on
from pack_kit import made as made_of

from relay.mapping.load import MapSet

HOSPITAL = "synthea-blaze/0-hospitalInformation1625911868739"
PRACTITIONERS = "synthea-blaze/0-practitionerInformation1625911868739"
RECORD = "synthea-blaze/5875d3aa-192c-6d05-221a-88a9cee35ff9"
TYPES = {
    "Patient": ("hl7-r4-examples/Patient-f201", "hl7-r4-examples/Patient-infant-twin-2", RECORD),
    "Practitioner": ("hl7-r4-examples/Practitioner-example", "hl7-r4-examples/Practitioner-f001", PRACTITIONERS),
    "Organization": ("hl7-r4-examples/Organization-f001", "hl7-r4-examples/Organization-hl7", HOSPITAL),
    "Encounter": ("hl7-r4-examples/Encounter-f002", "hl7-r4-examples/Encounter-home", RECORD),
    "CarePlan": (
        "hl7-r4-examples/CarePlan-example",
        "hl7-r4-examples/CarePlan-f201",
        "hl7-r4-examples/CarePlan-gpvisit",
        "hl7-r4-examples/CarePlan-preg",
        RECORD,
    ),
    "RelatedPerson": (
        "hl7-r4-examples/RelatedPerson-benedicte",
        "hl7-r4-examples/RelatedPerson-f002",
        "hl7-r4-examples/RelatedPerson-peter",
    ),
    "Location": ("hl7-r4-examples/Location-1", "hl7-r4-examples/Location-2", HOSPITAL),
    "Appointment": ("hl7-r4-examples/Appointment-2docs", "hl7-r4-examples/Appointment-example"),
    "Slot": ("hl7-r4-examples/Slot-1", "hl7-r4-examples/Slot-3"),
    "Schedule": ("hl7-r4-examples/Schedule-example", "hl7-r4-examples/Schedule-exampleloc1"),
    "CareTeam": ("hl7-r4-examples/CareTeam-example", RECORD),
}
SWITCHED_ON = (
    ("Patient", "hl7-r4-examples/Patient-infant-twin-2"),
    ("Encounter", "hl7-r4-examples/Encounter-home"),
    ("Encounter", RECORD),
    ("CarePlan", "hl7-r4-examples/CarePlan-example"),
    ("Appointment", "hl7-r4-examples/Appointment-2docs"),
)


def first(maps: MapSet, kind: str, name: str) -> dict[str, Any]:
    """Preview the first resource of a type in a published file."""
    (one,) = shown(maps, published(name), kind)["resources"]
    assert isinstance(one, dict)
    return one


def golden(name: str) -> dict[str, Any]:
    """Read the stored previews of one file."""
    stored = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(stored, dict)
    return stored


def made(kind: str, **elements: Any) -> dict[str, Any]:
    """Preview one resource of a type, of which only what matters is given."""
    return made_of({"resourceType": kind, **elements})


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in TYPES.items() for name in names], ids=lambda each: each
)
def test_a_published_example_becomes_this_row(kind: str, name: str) -> None:
    """Columns, children, what is not mapped and what is told: the whole preview is the stored one."""
    assert first(SHIPPED, kind, name) == golden(kind.lower())[name]


@pytest.mark.parametrize(("kind", "name"), SWITCHED_ON, ids=lambda each: each)
def test_what_is_switched_off_works_once_it_is_switched_on(kind: str, name: str) -> None:
    """The disabled lines of a map make these rows when a site enables them."""
    assert first(switched_on(kind), kind, name) == golden("switched_on")[f"{kind} {name}"]


def test_a_diagnosis_is_told_apart_by_what_it_is_and_what_for() -> None:
    """One condition on admission and on discharge is two rows; a procedure has a lookup of its own."""

    def diagnosis(what: str, use: str) -> dict[str, Any]:
        return {"condition": {"reference": what}, "use": {"coding": [{"code": use}]}, "rank": 1}

    listed = [diagnosis(*each) for each in (("Condition/1", "AD"), ("Condition/1", "DD"), ("Procedure/1", "AD"))]
    resource = {"resourceType": "Encounter", "id": "1", "diagnosis": listed}
    it = made_of(resource, switched_on("Encounter"))
    assert [child["table"] for child in it["children"]] == ["msemr_encounterdiagnosis"] * 3
    assert [child["columns"] for child in it["children"]] == [
        {"msemr_encounterrank": 1, column: target, "msemr_encounterrole": f"msemr_codeableconcept/935000038/{use}"}
        for column, target, use in (
            ("msemr_encounterconditionidentifier", "Condition/1", "AD"),
            ("msemr_encounterconditionidentifier", "Condition/1", "DD"),
            ("msemr_encounterprocedureidentifier", "Procedure/1", "AD"),
        )
    ]


def test_a_link_of_a_patient_is_a_row_and_only_then() -> None:
    """A link to a patient is one row with its kind; to a related person none; a patient without links has no row."""
    links = [
        {"other": {"reference": "Patient/2", "display": "Old record"}, "type": "replaces"},
        {"other": {"reference": "RelatedPerson/3"}, "type": "seealso"},
    ]
    assert made("Patient", name=[{"family": "F"}], link=links)["children"] == [
        {
            "table": "msemr_contactlink",
            "columns": {
                "msemr_name": "Old record",
                "msemr_link": "Patient/2",
                "msemr_linktype": "msemr_codeableconcept/935000071/replaces",
            },
        }
    ]
    assert made("Patient", name=[{"family": "F"}])["children"] == []


def test_slots_of_an_appointment_are_rows_and_the_first_is_the_primary_one() -> None:
    """One row per slot, and the lookup of the appointment itself."""
    it = made("Appointment", slot=[{"reference": "Slot/1", "display": "Nine"}, {"reference": "Slot/2"}])
    assert it["columns"]["msemr_primaryslotid"] == "Slot/1"
    assert it["children"] == [
        {"table": "msemr_appointmentemrslot", "columns": {"msemr_name": "Nine", "msemr_slot": "Slot/1"}},
        {"table": "msemr_appointmentemrslot", "columns": {"msemr_slot": "Slot/2"}},
    ]


def test_roles_hang_on_their_participant() -> None:
    """Every coded role of a participant is a row of its own below it; the first is the participant's own as well."""
    roles = [
        {"coding": [{"system": "http://snomed.info/sct", "code": "17561000", "display": "Cardiologist"}]},
        {"coding": [{"code": "309343006"}], "text": "Doctor"},
    ]
    (member,) = made("CareTeam", participant=[{"member": {"reference": "Practitioner/2"}, "role": roles}])["children"]
    assert filled(member) == {
        "msemr_membertype": 935000000,
        "msemr_memberpractioner": "Practitioner/2",
        "msemr_role": "msemr_codeableconcept/935000091/17561000",
    }
    assert member["children"] == [
        {
            "table": "msemr_careteamparticipantrole",
            "columns": {
                "msemr_code": "17561000",
                "msemr_system": "http://snomed.info/sct",
                "msemr_display": "Cardiologist",
                "msemr_codeableconceptid": "msemr_codeableconcept/935000091/17561000",
            },
        },
        {
            "table": "msemr_careteamparticipantrole",
            "columns": {
                "msemr_code": "309343006",
                "msemr_display": "Doctor",
                "msemr_codeableconceptid": "msemr_codeableconcept/935000091/309343006",
            },
        },
    ]


def test_a_member_listed_with_two_roles_is_two_participants() -> None:
    """Member and first role tell participants apart, so no role is lost."""
    listed = [
        {"member": {"reference": "Practitioner/2"}, "role": [{"coding": [{"code": code}]}]} for code in ("a", "b", "a")
    ]
    rows = made("CareTeam", participant=listed)["children"]
    assert [row["columns"]["msemr_role"] for row in rows] == [
        "msemr_codeableconcept/935000091/a",
        "msemr_codeableconcept/935000091/b",
    ]


def test_a_request_that_is_an_activity_is_a_row_by_its_lookup() -> None:
    """An activity that only refers to a request is told apart by it; the same action on two days is two rows."""
    daily = {"code": {"coding": [{"code": "walk"}]}, "status": "scheduled"}
    listed: list[dict[str, Any]] = [
        {"reference": {"reference": "Appointment/1"}},
        {"reference": {"reference": "MedicationRequest/1"}},
        {"reference": {"reference": "ServiceRequest/1"}},
        {"reference": {"reference": "Task/1"}},
        *({"detail": {**daily, "scheduledPeriod": {"start": day}}} for day in ("2024-01-01", "2024-01-02")),
    ]
    assert [filled(child) for child in made("CarePlan", activity=listed)["children"]] == [
        {"msemr_activityreferencetype": 935000000, "msemr_referenceappointmentidentifier": "Appointment/1"},
        {"msemr_activityreferencetype": 935000003, "msemr_referencemedicationrequestidentifier": "MedicationRequest/1"},
        {"msemr_activityreferencetype": 935000006, "msemr_referenceprocedurerequestidentifier": "ServiceRequest/1"},
        {"msemr_activityreferencetype": 935000005, "msemr_referencetaskidentifier": "Task/1"},
        *(
            {
                "msemr_activitycode": "msemr_codeableconcept/935000013/walk",
                "msemr_activitystatus": 935000001,
                "msemr_activityscheduledtype": 935000001,
                "msemr_activitystartdate": day,
            }
            for day in ("2024-01-01", "2024-01-02")
        ),
    ]


CODES = {
    # type, element, column: the codes that R4 binds, and those of them for which the column has no option
    ("Patient", "gender", "gendercode"): ("male female other unknown", ""),
    ("Practitioner", "gender", "gendercode"): ("male female other unknown", ""),
    ("Encounter", "status", "msemr_encounterstatus"): (
        "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown",
        "",
    ),
    ("Encounter", "class.code", "msemr_class"): (
        "AMB EMER FLD HH IMP ACUTE NONAC OBSENC PRENC SS VR",
        "OBSENC",
    ),
    ("CarePlan", "status", "msemr_planstatus"): (
        "draft active on-hold revoked completed entered-in-error unknown",
        "",
    ),
    ("CarePlan", "intent", "msemr_planintent"): ("proposal plan order option", ""),
    ("CarePlan", "activity.0.detail.status", "msemr_activitystatus"): (
        "not-started scheduled in-progress on-hold completed cancelled stopped unknown entered-in-error",
        "stopped entered-in-error",
    ),
    ("Location", "status", "msemr_status"): ("active suspended inactive", ""),
    ("Location", "mode", "msemr_mode"): ("instance kind", ""),
    ("Location", "operationalStatus.code", "msemr_operationalstatus"): ("C H O U K I", ""),
    ("Location", "address.use", "msemr_addressuse"): ("home work temp old billing", "billing"),
    ("Location", "address.type", "msemr_addresstype"): ("postal physical both", ""),
    ("Appointment", "status", "msemr_appointmentstatus"): (
        "proposed pending booked arrived fulfilled cancelled noshow entered-in-error checked-in waitlist",
        "",
    ),
    ("Slot", "status", "msemr_status"): ("busy free busy-unavailable busy-tentative entered-in-error", ""),
    ("Slot", "appointmentType.coding.0.code", "msemr_appointmenttypenew"): (
        "CHECKUP EMERGENCY FOLLOWUP ROUTINE WALKIN",
        "",
    ),
    ("CareTeam", "status", "msemr_careteamstatus"): ("proposed active suspended inactive entered-in-error", ""),
}


def within(path: list[str], value: Any) -> Any:
    """Build the JSON that has a value at a path of members and positions 0."""
    if not path:
        return value
    inner = within(path[1:], value)
    return [inner] if path[0] == "0" else {path[0]: inner}


@pytest.mark.parametrize(("kind", "element", "column"), CODES, ids=lambda each: each)
def test_every_code_of_r4_has_its_own_option_or_empties_the_column(kind: str, element: str, column: str) -> None:
    """No code is guessed at: no two share an option, and what has none is told and leaves the column empty."""
    codes, without = (set(each.split()) for each in CODES[kind, element, column])
    options = {}
    for code in codes:
        detail = {"code": {"coding": [{"code": "x"}]}}
        resource = within(element.split("."), code)
        if "activity" in resource:
            resource["activity"][0]["detail"] |= detail
        it = made(kind, **resource)
        rows = [it["columns"], *(child["columns"] for child in it["children"])]
        (options[code],) = (row[column] for row in rows if column in row)
        assert any(each["code"] == "unmapped-value" for each in it["issues"]) == (code in without)
    assert {code for code, option in options.items() if option is None} == without
    assert len({*options.values()} - {None}) == len(codes - without)


def test_a_priority_is_an_option_only_where_its_system_says_so() -> None:
    """A letter of another code system is a concept and no option."""
    act = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": "UR"}
    columns = made("Encounter", priority={"coding": [act]})["columns"]
    assert columns["msemr_priority"] == 935000014
    assert columns["msemr_encounterpriority"] == "msemr_codeableconcept/935000102/UR"
    other = made("Encounter", priority={"coding": [act | {"system": "http://example.org"}]})
    assert "msemr_priority" not in other["columns"]
    assert other["issues"] == []

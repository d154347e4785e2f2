"""Preview, and what the shipped maps make of known and of real resources."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import GUID, TOP, load, resolve
from pack_kit import SHIPPED, switched_on

from relay.mapping.actions import Mapped
from relay.mapping.check import every_line
from relay.mapping.model import ByIdentifier, Concept
from relay.mapping.preview import lookup_text, preview
from relay.mapping.translate import translate
from support.data import need_fhir_data, resources


def one(resource: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Preview one resource; the answer must be JSON."""
    shown = preview(SHIPPED, [resource], resolve, **options)
    assert list(json.loads(json.dumps(shown))) == ["resources"]
    (made,) = shown["resources"]
    assert isinstance(made, dict)
    return made


def test_a_patient_becomes_this_contact() -> None:
    """The golden draft of a Patient as Synthea writes them."""
    resource = json.loads((Path(__file__).parent / "golden_patient.json").read_text(encoding="utf-8"))
    made = one(resource)
    assert made == {
        "resource": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34",
        "table": "contact",
        "columns": {
            "msemr_contacttype": 935000000,
            "msemr_azurefhirid": "057aa36e-b892-9964-75b9-ffb46b097e34",
            "msemr_azurefhirversion": "2",
            "msemr_azurefhirlastupdatedon": "2021-07-10T10:31:41Z",
            "lastname": "Cervántez",
            "firstname": "Chi716",
            "middlename": "Ana",
            "salutation": "Mrs.",
            "birthdate": "1941-02-11",
            "msemr_deceaseddate": "2014-03-02",
            "msemr_multiplebirth": 2,
            "gendercode": 2,
            "familystatuscode": 2,
            "msemr_medicalrecordnumber": "057aa36e-b892-9964-75b9-ffb46b097e34",
            "mobilephone": "555-555-0002",
            "telephone2": "555-555-0001",
            "emailaddress1": "home@example.org",
            "address1_line1": "401 Howell Walk",
            "address1_line2": "Unit 2",
            "address1_city": "Pittsfield",
            "address1_county": "Berkshire",
            "address1_stateorprovince": "MA",
            "address1_postalcode": "01201",
            "address1_country": "US",
            "msemr_communication1language": "msemr_codeableconcept/935000068/en-US",
            "msemr_generalpractioner": "Practitioner/23",
            "msemr_managingorganization": "Organization/1",
        },
        "children": [
            {
                "table": "prefix_patientidentifier",
                "columns": {
                    "prefix_system": "https://github.com/synthetichealth/synthea",
                    "prefix_value": "057aa36e-b892-9964-75b9-ffb46b097e34",
                },
            },
            {
                "table": "prefix_patientidentifier",
                "columns": {
                    "prefix_system": "http://hospital.smarthealthit.org",
                    "prefix_value": "057aa36e-b892-9964-75b9-ffb46b097e34",
                },
            },
            {
                "table": "prefix_patientidentifier",
                "columns": {"prefix_system": "http://hl7.org/fhir/sid/us-ssn", "prefix_value": "999-82-5655"},
            },
        ],
        "unmapped": ["text", "extension"],
        "issues": [],
    }
    entity = SHIPPED.for_resource("Patient")
    assert entity is not None
    assert translate(entity, resource, resolve).claims == (GUID,)


def test_an_encounter_without_words_is_named_by_its_class() -> None:
    """Type text, then type display, then class; status and class are options; the care is a lookup."""
    made = one(
        {
            "resourceType": "Encounter",
            "id": "1",
            "status": "in-progress",
            "class": {"code": "EMER"},
            "subject": {"reference": "Patient/1"},
            "partOf": {"reference": "Encounter/0"},
            "period": {"start": "2013-03-11", "end": "2013-03-20T10:00:00+02:00"},
            "priority": {"coding": [{"code": "103391001", "display": "Urgent"}]},
        }
    )
    assert made["columns"] == {
        "msemr_azurefhirid": "1",
        "msemr_name": "EMER",
        "msemr_encounterstatus": 935000003,
        "msemr_class": 935000001,
        "msemr_encounterstartdate": "2013-03-11T00:00:00Z",
        "msemr_encounterenddate": "2013-03-20T08:00:00Z",
        "msemr_encounterpatientidentifier": "Patient/1",
        "msemr_encounterparentencounteridentifier": "Encounter/0",
        "msemr_encounterpriority": "msemr_codeableconcept/935000102/103391001",
    }


def test_a_care_plan_without_a_title_takes_its_category() -> None:
    """The first category may hold a bare code."""
    made = one(
        {
            "resourceType": "CarePlan",
            "id": "1",
            "status": "revoked",
            "intent": "order",
            "category": [{"coding": [{"code": "assess-plan"}]}, {"coding": [{"display": "Wound care"}]}],
            "subject": {"reference": "Group/1"},
        }
    )
    assert made["columns"] == {
        "msemr_azurefhirid": "1",
        "msemr_title": "Wound care",
        "msemr_planstatus": 935000005,
        "msemr_planintent": 935000002,
    }
    assert [issue["code"] for issue in made["issues"]] == ["unresolvable-reference"]


def test_an_organization_and_a_practitioner_hold_their_kind() -> None:
    """The where of the map is written with the row."""
    organization = one(
        {"resourceType": "Organization", "id": "1", "name": "n" * 161, "partOf": {"reference": "Organization/2"}}
    )
    assert organization["columns"]["msemr_accounttype"] == 935000001
    assert organization["columns"]["name"] == "n" * 160
    assert organization["columns"]["parentaccountid"] == "Organization/2"
    npi = {"system": "http://hl7.org/fhir/sid/us-npi", "value": "9999"}
    practitioner = one({"resourceType": "Practitioner", "id": "1", "name": [{"family": "F"}], "identifier": [npi]})
    assert practitioner["columns"]["msemr_contacttype"] == 935000001
    assert practitioner["columns"]["msemr_qualification1identifier"] == "9999"


def test_preview_tells_sources_where_asked() -> None:
    """File, line and path of every column that came from a line."""
    resource = {"resourceType": "CarePlan", "id": "1", "title": "t", "identifier": [{"value": "v"}]}
    made = one(resource, sources=True)
    assert made["sources"]["msemr_title"].startswith("careplan.yaml:")
    assert made["sources"]["msemr_title"].endswith(" $.title")
    assert made["children"][0]["sources"]["prefix_value"].endswith(" $.value")


@pytest.mark.parametrize("resource", [{"resourceType": "Basic", "id": "1"}, {"id": "1"}])
def test_a_type_without_a_map_is_told(resource: dict[str, Any]) -> None:
    """Nothing would be written for it."""
    made = one(resource)
    assert made["table"] is None
    assert [issue["code"] for issue in made["issues"]] == ["no-map"]


def test_lookups_and_decimals_are_shown_as_people_read_them(tmp_path: Path) -> None:
    """A decimal is a number where a double holds it exactly."""
    maps = load(
        tmp_path, TOP + "attributes:\n  - {column: creditlimit, copy: $.a}\n  - {column: annualincome, copy: $.b}\n"
    )
    resource = {"resourceType": "Patient", "id": "1", "a": Decimal("1.5"), "b": Decimal("99999999999999.9999")}
    columns = preview(maps, [resource], resolve)["resources"][0]["columns"]
    assert (columns["creditlimit"], columns["annualincome"]) == (1.5, "99999999999999.9999")
    assert lookup_text(None) is None
    assert lookup_text(ByIdentifier("Practitioner", "s", "v")) == "Practitioner?identifier=s|v"
    assert lookup_text(Concept(1, "c")) == "msemr_codeableconcept/1/c"


def test_a_code_that_is_not_listed_never_leaves_the_old_one() -> None:
    """A status of before would be wrong: every line with codes empties its column and tells."""
    codes = [line for entity in switched_on() for _, line in every_line(entity) if isinstance(line, Mapped)]
    assert len(codes) > 50
    assert {line.unmapped for line in codes} == {"clear"}


def test_every_kind_is_told_beside_what_is_of_it() -> None:
    """The columns that say which kind a reference, a value or a schedule is are written, but for those without a source."""
    silent = set()
    for entity in switched_on():
        written: dict[str, set[str]] = {}
        tables = {table.name: table for table, _ in every_line(entity)}
        for table, line in every_line(entity):
            written.setdefault(table.name, set(entity.where)).update(line.columns)
        silent |= {
            f"{name}.{column.name}"
            for name, table in tables.items()
            for column in table.columns.values()
            if column.type == "Picklist" and column.name.endswith("type") and column.name not in written[name]
        }
    assert {name for name in silent if ".msemr_" in name} == {
        "msemr_careplanactivity.msemr_activitydefinitiontype",  # STU3 had it
        "msemr_dosage.msemr_dosetype",  # doses have no column that holds them
    }


def test_every_real_resource_translates() -> None:
    """No exception and, but for resources without an id and for ids that their key column cannot hold, no error."""
    need_fhir_data()
    count = 0
    for name, text in resources():
        resource = json.loads(text, parse_float=Decimal)
        entity = SHIPPED.for_resource(resource["resourceType"])
        if entity is None:
            continue
        count += 1
        errors = {issue.code for issue in translate(entity, resource, resolve).issues if issue.severity == "error"}
        expected = set()
        if "id" not in resource:
            expected = {"no-id"}
        elif len(resource["id"]) > (entity.table.columns[entity.key].max_length or 0):
            expected = {"id-too-long"}
        assert errors == expected, name
    assert count > 5000

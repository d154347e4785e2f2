"""Exported toolkit maps import whole: the map files load, and make of resources what the toolkit's maps say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import resolve
from toolkit_kit import PARTICIPANTS, PATIENT, ROLES, TEAM, Export, Imported, care_teams, guid, patients, run_import

from relay.mapping.outward import RowView
from relay.mapping.preview import preview
from relay.mapping.reverse import changes
from support.data import need_fhir_data, resources

ADA: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "ada",
    "meta": {"versionId": "3", "lastUpdated": "2024-02-29T10:00:00Z"},
    "identifier": [
        {"system": "urn:oid:1.2.3", "value": "11", "type": {"coding": [{"code": "MR"}]}},
        {"system": "urn:oid:1.2.4", "value": "22"},
    ],
    "name": [{"use": "nickname", "given": ["Addie"]}, {"use": "official", "family": "Lind", "given": ["Ada", "Mary"]}],
    "telecom": [
        {"system": "email", "value": "ada@example.org"},
        {"system": "phone", "use": "work", "value": "1"},
        {"system": "phone", "use": "home", "value": "2"},
        {"system": "phone", "use": "mobile", "value": "3"},
    ],
    "gender": "female",
    "birthDate": "1990-12-31",
    "address": [{"line": ["Main St 1", "left"], "city": "Lund", "country": "SE"}],
    "maritalStatus": {"coding": [{"code": "S"}]},
    "generalPractitioner": [{"reference": "Practitioner/greta"}],
    "link": [{"other": {"reference": "Patient/older"}, "type": "replaces"}],
}


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imported:
    export = patients()
    export.entity("contact <-> Practitioner")
    practitioner = "contact <-> Practitioner"
    export.attribute(practitioner, "msemr_contacttype", "Set Default Value", "", constant=935000001)
    export.attribute(practitioner, "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    return run_import(capsys, tmp_path, export.document())


def test_contact_and_patient_become_one_map(imported: Imported) -> None:
    """Every column of contact <-> Patient is filled as the toolkit would fill it, fillers aside."""
    assert imported.code == 0
    assert imported.losses() == {}
    (made,) = preview(imported.maps(), [ADA], resolve)["resources"]
    assert made["issues"] == []
    assert made["table"] == "contact"
    assert made["columns"] == {
        "msemr_contacttype": 935000000,
        "msemr_azurefhirid": "ada",
        "msemr_azurefhirversion": "3",
        "msemr_azurefhirlastupdatedon": "2024-02-29T10:00:00Z",
        "mobilephone": "3",
        "emailaddress1": "ada@example.org",
        "telephone1": "1",
        "telephone2": "2",
        "msemr_generalpractioner": "Practitioner/greta",
        "firstname": "Ada",
        "lastname": "Lind",
        "gendercode": 2,
        "birthdate": "1990-12-31",
        "address1_city": "Lund",
        "address1_line1": "Main St 1",
        "address1_country": "SE",
        "familystatuscode": 935000007,
    }
    assert made["children"] == [
        {
            "table": "msemr_medicalidentifier",
            "columns": {"msemr_identifiersystem": "urn:oid:1.2.3", "msemr_value": "11", "msemr_type": 935000003},
        },
        {
            "table": "msemr_medicalidentifier",
            "columns": {"msemr_identifiersystem": "urn:oid:1.2.4", "msemr_value": "22"},
        },
        {
            "table": "msemr_contactlink",
            "columns": {
                "msemr_name": "replaces",
                "msemr_link": "Patient/older",
                "msemr_linktype": "msemr_codeableconcept/935000071/replaces",
            },
        },
    ]


def test_an_hl7_patient_becomes_a_contact(imported: Imported) -> None:
    """The published example f201: one identifier row of two equal ones, a local marital code beside the HL7 one."""
    need_fhir_data()
    (text,) = [text for name, text in resources("hl7-r4-examples/Patient-f201*")]
    (made,) = preview(imported.maps(), [json.loads(text)], resolve)["resources"]
    assert made["columns"] == {
        "msemr_contacttype": 935000000,
        "msemr_azurefhirid": "f201",
        "mobilephone": "+31612345678",
        "telephone2": "+31201234567",
        "firstname": "Roelof Olaf",
        "lastname": "Bor",
        "gendercode": 1,
        "birthdate": "1960-03-13",
        "address1_line1": "Bos en Lommerplein 280",
        "address1_city": "Amsterdam",
        "address1_postalcode": "1055RW",
        "address1_country": "NLD",
    }
    (identifier,) = made["children"]
    assert identifier["columns"]["msemr_value"] == "123456789"
    assert [issue["code"] for issue in made["issues"]] == ["unmapped-value"]


def test_no_hl7_patient_is_refused(imported: Imported) -> None:
    """All published patients go through the imported map without an error of its making."""
    need_fhir_data()
    maps = imported.maps()
    seen = 0
    for _, text in resources("hl7-r4-examples/Patient*"):
        resource = json.loads(text)
        if resource.get("resourceType") == "Patient":
            seen += 1
            (made,) = preview(maps, [resource], resolve)["resources"]
            assert [each for each in made["issues"] if each["severity"] == "error"] == []
    assert seen > 5


def test_care_team_participants_keep_member_and_roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that share a path take each their own type, and the pseudo-type Participant becomes rows of rows."""
    imported = run_import(capsys, tmp_path, care_teams().document())
    assert imported.code == 0
    assert {each["resource"] for each in imported.report["written"]} == {
        "Patient",
        "Practitioner",
        "Organization",
        "CareTeam",
    }
    team = {
        "resourceType": "CareTeam",
        "id": "team",
        "name": "Ward 4",
        "subject": {"reference": "Patient/ada"},
        "participant": [
            {
                "member": {"reference": "Practitioner/greta"},
                "onBehalfOf": {"reference": "Organization/clinic"},
                "role": [
                    {"coding": [{"code": "17561000", "display": "Cardiologist"}]},
                    {"coding": [{"code": "59058001"}]},
                ],
            },
            {"member": {"reference": "Patient/ada"}, "period": {"start": "2024-01-01"}},
        ],
    }
    (made,) = preview(imported.maps(), [team], resolve)["resources"]
    assert made["issues"] == []
    assert made["columns"] == {
        "msemr_azurefhirid": "team",
        "msemr_name": "Ward 4",
        "msemr_subjectpatient": "Patient/ada",
    }
    first, second = made["children"]
    assert first["columns"] == {
        "msemr_memberpractioner": "Practitioner/greta",
        "msemr_onbehalfof": "Organization/clinic",
    }
    assert [each["columns"] for each in first["children"]] == [
        {"msemr_code": "17561000", "msemr_display": "Cardiologist"},
        {"msemr_code": "59058001"},
    ]
    assert second["columns"] == {"msemr_memberpatient": "Patient/ada", "msemr_periodstart": "2024-01-01T00:00:00Z"}


def test_what_is_disabled_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Disable of an entity map, an expansion map and a line are each a key of their own."""
    export = care_teams()
    for row in export.entities:
        row["msind_disabled"] = row["msind_name"] in (TEAM, PARTICIPANTS, ROLES)
    for row in export.attributes:
        row["msind_disabled"] = row["msind_cdsattributename"] == "msemr_subjectpatient"
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    text = imported.text("careteam.yaml")
    assert "\ndisabled: true\n" in text
    assert "    lookup: msemr_careteam\n    disabled: true\n" in text
    assert "        disabled: true\n" in text
    assert "targets: {Patient: contact}, disabled: true}" in text
    team = imported.maps().disabled("CareTeam")
    assert team is not None
    assert team.expansions == ()


def test_write_back_settings_are_keys_of_map_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Supported Messages are the events; a line goes out unless its Enable Writeback is No."""
    export = patients()
    export.entities[0] |= {"msind_writeback": True, "msind_supportedmessages": "440670000,440670001"}
    for row in export.attributes:
        row["msind_enablewriteback"] = row["msind_cdsattributename"] != "birthdate"
    imported = run_import(capsys, tmp_path, export.document())
    patient = imported.maps().for_resource("Patient")
    assert patient is not None
    assert patient.outward.messages == {"create", "update"}
    assert not patient.outward.create
    assert "birthdate" not in patient.outward.columns
    assert "familystatuscode" in patient.outward.columns
    assert "{column: birthdate, copy: $.birthDate, writeback: false}" in imported.text("patient.yaml")
    changed = imported.row(PATIENT)["changes"]
    assert any("create_in_fhir" in each for each in changed)
    assert any("lines without c (" in each and "gendercode" in each for each in changed)
    assert imported.text("patient.yaml").count("match: true, writeback: false") == 3, "expansions without write-back"


def test_a_write_back_of_an_imported_map_holds_no_filler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A city of a patient without an address becomes an address with that city and nothing else."""
    export = patients()
    export.entities[0] |= {"msind_writeback": True, "msind_supportedmessages": "440670001"}
    maps = run_import(capsys, tmp_path, export.document()).maps()
    patient = maps.for_resource("Patient")
    assert patient is not None
    row = RowView({"address1_city": "Lund", "firstname": "Ada"})
    bare = {"resourceType": "Patient", "id": "ada"}
    outgoing = changes(patient, bare, row, ["address1_city", "firstname"], resolve)
    assert outgoing.resource == bare | {
        "address": [{"city": "Lund"}],
        "name": [{"use": "official", "given": ["Ada"]}],
    }


def recipe(**columns: Any) -> Export:
    """Care plans with the identifier table of Microsoft's reference architecture, as its steps say."""
    plan, identifiers = "msemr_careplan <-> CarePlan", "prefix_careplanidentifier <-> CarePlan"
    export = Export()
    export.entity(plan)
    export.attribute(plan, "msemr_title", "Copy Data", {"s": "$.title"})
    export.attribute(plan, "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    metadata = {"_msind_fhirattributemetadata_value": guid("metadata")}
    export.attribute(plan, "Not Applicable", "Expand", "identifier", expansion=identifiers, **metadata)
    expansion = {"msind_isexpand": True, "msind_parentlinkattribute": "prefix_careplan"}
    out = {"msind_writeback": True, "msind_supportedmessages": "440670000,440670001"}
    export.entity(identifiers, **(expansion | out | columns))
    export.attribute(identifiers, "prefix_system", "Copy Data", '{"s":"\\$.system"}', match=True)
    export.attribute(identifiers, "prefix_value", "Copy Data", '{"s":"\\$.value"}', match=True)
    return export


def test_the_identifier_recipe_becomes_the_identifier_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An expansion of identifier into a table of one's own, matched by system and value, needs no plug-in here."""
    imported = run_import(capsys, tmp_path, recipe().document())
    assert imported.code == 0
    plan = imported.maps().for_resource("CarePlan")
    assert plan is not None
    assert plan.identifier is not None
    assert plan.identifier.system == "urn:oid:org.d365.mc4h.careplan.id"
    assert (plan.identifier.table.name, plan.identifier.lookup) == ("prefix_careplanidentifier", "prefix_careplan")
    assert (plan.identifier.system_column, plan.identifier.value_column) == ("prefix_system", "prefix_value")
    assert plan.identifier.writeback
    assert "expansions:" not in imported.text("careplan.yaml")
    told = imported.row("prefix_careplanidentifier <-> CarePlan")["changes"]
    assert any("urn:oid:org.d365.mc4h.careplan.id" in each and "convention" in each for each in told)


@pytest.mark.parametrize("how", ["disabled", "one-match", "more-lines"])
def test_what_is_not_quite_the_recipe_stays_an_expansion(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block says system and value, both matching, live: with anything else the expansion is written out."""
    export = recipe(**({"msind_disabled": True} if how == "disabled" else {"msind_writeback": False}))
    if how == "one-match":
        export.attributes[-2]["msind_usedinrecordmatching"] = False
    if how == "more-lines":
        export.attribute("prefix_careplanidentifier <-> CarePlan", "statuscode", "Set Default Value", "", constant=1)
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("careplan.yaml")
    assert "\nidentifier:" not in text
    assert "  identifier:\n    table: prefix_careplanidentifier\n" in text
    assert "    disabled: true" in text or how != "disabled"
    assert imported.maps()

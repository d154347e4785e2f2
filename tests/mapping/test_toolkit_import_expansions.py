"""Expansion maps: which one an Expand line means, what holds the parent, and what is told when neither is clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toolkit_kit import (
    FORMATTED,
    IDENTIFIERS,
    LINKS,
    PARTICIPANTS,
    PATIENT,
    ROLES,
    TEAM,
    Export,
    care_teams,
    guid,
    patients,
    run_import,
)

Capsys = pytest.CaptureFixture[str]


def without_links(export: Export) -> Export:
    """Take from every Expand line what says which expansion it runs."""
    for row in export.attributes:
        row.setdefault("_msind_expansionentitymap_value", None)
        row["_msind_expansionentitymap_value"] = None
        row.pop(f"_msind_expansionentitymap_value{FORMATTED}", None)
    return export


def test_an_expansion_is_found_by_the_name_of_its_table(tmp_path: Path, capsys: Capsys) -> None:
    """Where the line does not say which one it runs: the table is called as the element is."""
    imported = run_import(capsys, tmp_path, without_links(patients()).document())
    assert (imported.code, imported.losses()) == (0, {})
    assert "{expand: link, using: link}" in imported.text("patient.yaml")
    (told,) = imported.row(f"{PATIENT} / expand link")["changes"]
    assert told == f"the export does not say which expansion it runs: {LINKS}, the one that fits"


def test_an_expansion_that_could_be_two_is_told(tmp_path: Path, capsys: Capsys) -> None:
    """No guess is made between them."""
    export = without_links(patients())
    export.entity(
        "prefix_patientidentifier <-> Patient", msind_isexpand=True, msind_parentlinkattribute="prefix_patient"
    )
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.losses()[f"{PATIENT} / expand identifier"] == ["the Expansion Entity Map could be 2 rows"]
    assert imported.losses()[IDENTIFIERS] == ["no Expand line of a map that is carried runs this expansion"]
    assert imported.maps()


def test_the_parent_link_is_the_one_column_that_can_be_it(tmp_path: Path, capsys: Capsys) -> None:
    """Two columns of the link table point to contacts, one of the identifier table does."""
    export = patients()
    for row in export.entities:
        row["msind_parentlinkattribute"] = None
    imported = run_import(capsys, tmp_path, export.document())
    assert "    lookup: msemr_assignee\n" in imported.text("patient.yaml")
    assert any("Parent Link Attribute: msemr_assignee" in each for each in imported.row(IDENTIFIERS)["changes"])
    lost = imported.losses()
    assert lost[f"{PATIENT} / expand link"] == [f"its expansion {LINKS} has no Parent Link Attribute"]
    assert lost[LINKS][0] == "there is no Parent Link Attribute"
    assert f"{LINKS} / msemr_link" in lost
    assert imported.maps()


@pytest.mark.parametrize(
    ("element", "why"),
    [
        ("$.contact.telecom", "$.contact.telecom is not the bare name of an element: only arrays of the item expand"),
        ("", "there is no FHIR Element Map"),
    ],
)
def test_an_expand_line_of_no_array_is_lost(element: str, why: str, tmp_path: Path, capsys: Capsys) -> None:
    """With it goes the expansion that nothing else runs."""
    export = patients()
    for row in export.attributes:
        if row["msind_fhirelementmap"] == "link":
            row["msind_fhirelementmap"] = element
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.losses()[f"{PATIENT} / expand {element}".strip()] == [why]
    assert f"{LINKS} / msemr_link" in imported.losses()


def test_no_row_of_an_expansion_without_lines_is_passed_over(tmp_path: Path, capsys: Capsys) -> None:
    """What hangs in an expansion that cannot be is lost with it, though it could be carried itself."""
    export = care_teams()
    for row in export.attributes:
        if (
            row[f"_msind_updateserviceentitymap_value{FORMATTED}"] == PARTICIPANTS
            and row["msind_actiontype"] != 440670005
        ):
            row["msind_cdsattributename"] = None
    imported = run_import(capsys, tmp_path, export.document())
    lost = imported.losses()
    assert lost[f"{TEAM} / expand participant"] == [f"its expansion {PARTICIPANTS} has no line that could be carried"]
    assert lost[f"{ROLES} / msemr_code"] == ["the expansion around it is not carried"]
    assert all(row["losses"] or row["file"] for row in imported.report["rows"] if row["kind"] == "attribute map")
    assert imported.maps()


def test_lines_of_an_expansion_all_match_where_none_is_said_to(tmp_path: Path, capsys: Capsys) -> None:
    """Constants and disabled lines apart: rows need something to be told apart by, and a person may know better."""
    export = patients()
    for row in export.attributes:
        row["msind_usedinrecordmatching"] = False
    export.attribute(IDENTIFIERS, "msemr_use", "Set Default Value", "", constant=935000001)
    export.attribute(IDENTIFIERS, "msemr_periodstart", "Copy Data", {"s": "$.period.start"}, msind_disabled=True)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    patient = imported.maps().for_resource("Patient")
    assert patient is not None
    assert [each.match for each in patient.expansions] == [
        ("msemr_identifiersystem", "msemr_value", "msemr_type"),
        ("msemr_link", "msemr_linktype", "msemr_name"),
    ]
    told = imported.row(IDENTIFIERS)["changes"]
    assert any("msemr_identifiersystem, msemr_value, msemr_type" in each for each in told)


def test_an_element_that_is_expanded_twice_has_two_definitions(tmp_path: Path, capsys: Capsys) -> None:
    """Into two tables; both are told apart by name."""
    export = patients()
    other = "prefix_patientidentifier <-> Patient"
    export.entity(other, msind_isexpand=True, msind_parentlinkattribute="prefix_patient")
    export.attribute(PATIENT, "Not Applicable", "Expand", "identifier", expansion=other)
    export.attribute(other, "prefix_system", "Copy Data", {"s": "$.system"}, match=True)
    export.attribute(other, "prefix_value", "Copy Data", {"s": "$.type.text"}, match=True)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    text = imported.text("patient.yaml")
    assert "{expand: identifier, using: identifier}" in text
    assert "{expand: identifier, using: identifier-prefix_patientidentifier}" in text
    assert imported.maps()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"msind_writeback": True}, "Enable Write Back to FHIR without Supported Messages: nothing goes out"),
        (
            {"msind_supportedmessages": "440670001"},
            "Enable Write Back to FHIR is No, with Supported Messages: nothing goes out",
        ),
        ({"msind_updaterecord": True}, "Update Record: its effect is not documented"),
    ],
)
def test_settings_without_effect_are_told(columns: dict[str, Any], told: str, tmp_path: Path, capsys: Capsys) -> None:
    """The map is carried, the row says what is otherwise."""
    export = patients()
    export.entities[0] |= columns
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    assert told in imported.row(PATIENT)["changes"]
    assert "writeback" not in imported.text("patient.yaml")


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (
            {"msind_supportedmessages": "440670002"},
            "Supported Messages has 440670002, which is neither Create nor Update",
        ),
        ({"msind_entityname": None, "msind_name": "People"}, "there is no EntityName"),
        ({"_msind_azurefhirresource_value": None, "msind_name": "People"}, "there is no Azure FHIR Resource"),
    ],
)
def test_an_entity_map_that_cannot_be_carried_says_why(
    columns: dict[str, Any], why: str, tmp_path: Path, capsys: Capsys
) -> None:
    """A map needs a table and a type."""
    export = patients()
    document = export.document()
    export.entities[0] |= columns
    if "_msind_azurefhirresource_value" in columns:
        del export.entities[0][f"_msind_azurefhirresource_value{FORMATTED}"]
    imported = run_import(capsys, tmp_path, document)
    assert imported.code == 1
    assert imported.losses()[columns.get("msind_name", PATIENT)] == [why]


def test_notes_are_no_change(tmp_path: Path, capsys: Capsys) -> None:
    """What needs no key here is told, and the row is carried."""
    export = patients()
    export.attributes[0] |= {
        "msind_fhirrequiredattribute": True,
        "_msind_fhirattributemetadata_value": guid("metadata"),
        f"_msind_fhirattributemetadata_value{FORMATTED}": "Patient Telecom",
    }
    export.attributes[3]["msind_istemplate"] = True
    imported = run_import(capsys, tmp_path, export.document())
    row = imported.row(f"{PATIENT} / mobilephone")
    assert row["status"] == "carried"
    assert [each.partition(" needs")[0] for each in row["notes"]] == [
        "FHIR Required Attribute",
        "FHIR Attribute Metadata",
    ]
    template = imported.row(f"{PATIENT} / emailaddress1")
    assert template["changes"] == ["Is Template: its effect is not documented"]

"""Attribute maps become lines: what each action takes from its row, and what a row cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toolkit_kit import FORMATTED, PATIENT, Export, run_import, small

Capsys = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (
            {"msind_actiontype": 440670009, f"msind_actiontype{FORMATTED}": "Convert"},
            "the Action Type Convert is not known",
        ),
        ({"msind_actiontype": None, f"msind_actiontype{FORMATTED}": None}, "there is no Action Type"),
        ({"msind_cdsattributename": None}, "there is no Attribute Name"),
        ({"msind_fhirelementmap": '{"s":"$..x"}'}, "the path $..x: searching all levels with '..' is not supported"),
        (
            {"msind_fhirelementmap": '{"s":"$.active","t":"x"}'},
            "the key t of the FHIR Element Map has no documented meaning",
        ),
        ({"msind_disabled": "Vielleicht"}, "Disable is Vielleicht, which is neither Yes nor No"),
        ({"msind_cdsattributename": "surname"}, "does not load: column: unknown column surname in table contact"),
        (
            {"msind_cdsattributename": "fullname"},
            "does not load: column: contact.fullname is written by Dataverse alone",
        ),
    ],
)
def test_a_line_that_cannot_be_carried_says_why(
    columns: dict[str, Any], why: str, tmp_path: Path, capsys: Capsys
) -> None:
    """The loader's faults are told at the rows that the lines came from, too."""
    export = small()
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.nickname"}, **columns)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 1
    (row,) = [row for row in imported.report["rows"] if row["losses"]]
    assert row["kind"] == "attribute map"
    assert row["status"] == "not carried"
    assert row["losses"][0].startswith(why)
    assert bool(imported.report["faults"]) == why.startswith("does not load")


def test_references_of_one_column_are_one_line(tmp_path: Path, capsys: Capsys) -> None:
    """Each row says one type; a line has as many as there are rows. What a row leaves out comes from maps and facts."""
    export = small()
    export.entity("contact <-> Practitioner")
    export.attribute("contact <-> Practitioner", "msemr_contacttype", "Set Default Value", "", constant=935000001)
    for kind in ("Practitioner", "Patient"):
        element = {"s": "$.generalPractitioner[0].reference"}
        export.attribute(PATIENT, "msemr_generalpractioner", "FK Reference", element, reference=(kind, "contact"))
    element = {"s": "$.managingOrganization.reference"}
    export.attribute(PATIENT, "msemr_managingorganization", "FK Reference", element, reference=("Organization", ""))
    imported = run_import(capsys, tmp_path, export.document())
    assert (imported.code, imported.losses()) == (0, {})
    assert "targets: {Practitioner: contact, Patient: contact}" in imported.text("patient.yaml")
    assert "targets: {Organization: account}" in imported.text("patient.yaml")
    (told,) = imported.row(f"{PATIENT} / msemr_managingorganization")["changes"]
    assert told.startswith("there is no Entity Reference: account")


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (("Copy Data", "$.a"), ("Copy Data", "$.b"), "copy: [$.a, $.b]"),
        (("Copy Data", "$.a"), ("Copy Data", "$.a"), "copy: $.a"),
        (("Copy Data", "$.a"), ("Mapped Value", "$.b"), "two actions cannot share a column"),
    ],
)
def test_lines_of_one_column_become_one_or_are_told(
    first: tuple[str, str], second: tuple[str, str], outcome: str, tmp_path: Path, capsys: Capsys
) -> None:
    """Two copies are one line with two paths; two actions cannot be."""
    export = small()
    for action, path in (first, second):
        values = {"x": "y"} if action == "Mapped Value" else None
        export.attribute(PATIENT, "nickname", action, {"s": path}, values=values)
    imported = run_import(capsys, tmp_path, export.document())
    assert outcome in imported.text("patient.yaml") or any(outcome in each[0] for each in imported.losses().values())


def test_values_are_what_the_column_takes(tmp_path: Path, capsys: Capsys) -> None:
    """Yes/no as such, options by number or label, text as text; what is none of these is lost and told."""
    export = small()
    export.attribute(
        PATIENT, "donotemail", "Mapped Value", {"s": "$.a"}, values={"true": "Yes", "false": 0, "x": "maybe"}
    )
    export.attribute(
        PATIENT, "familystatuscode", "Mapped Value", {"s": "$.b"}, values={"M": "Married", "Q": "Nobody", "S": 1}
    )
    export.attribute(PATIENT, "nickname", "Mapped Value", {"s": "$.c"}, values={"1": "007", "true": "yes"})
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("patient.yaml")
    assert 'values: {"true": true, "false": false}' in text
    assert "values: {M: 2, S: 1}" in text
    assert 'values: {"1": "007", "true": yes}' in text
    assert imported.losses() == {
        f"{PATIENT} / donotemail / x": ["maybe is neither yes nor no"],
        f"{PATIENT} / familystatuscode / Q": ["Nobody is no option"],
    }
    assert imported.maps()


def test_labels_of_options_are_comments(tmp_path: Path, capsys: Capsys) -> None:
    """A reader sees what a number means, where the code does not say it."""
    export = small()
    export.attribute(PATIENT, "familystatuscode", "Mapped Value", {"s": "$.b"}, values={"M": 2})
    export.values[-1]["msind_optionsetlabel"] = "Married\nfor good"
    imported = run_import(capsys, tmp_path, export.document())
    assert "      M: 2  # Married for good\n" in imported.text("patient.yaml")
    assert imported.maps()


def test_a_root_row_is_not_matched_on_a_lookup(tmp_path: Path, capsys: Capsys) -> None:
    """The line is carried without the flag, and that is told; plain columns match."""
    export = small()
    element = {"s": "$.generalPractitioner[0].reference"}
    reference = ("Practitioner", "contact")
    export.attribute(PATIENT, "msemr_generalpractioner", "FK Reference", element, reference=reference, match=True)
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.x"}, match=True)
    imported = run_import(capsys, tmp_path, export.document())
    assert "{column: nickname, copy: $.x, match: true}" in imported.text("patient.yaml")
    ((name, (why,)),) = imported.losses().items()
    assert name == f"{PATIENT} / msemr_generalpractioner"
    assert why.startswith("Used in Record Matching")
    assert imported.maps()


def test_what_facts_and_rows_disagree_on_is_told(tmp_path: Path, capsys: Capsys) -> None:
    """Lengths and navigation names are the metadata's; the export's are told where they differ."""
    export = small()
    columns = {"msind_refentitynavigation": "msemr_GeneralPractioner"}
    element, reference = {"s": "$.generalPractitioner[0].reference"}, ("Practitioner", "contact")
    export.attribute(PATIENT, "msemr_generalpractioner", "FK Reference", element, reference=reference, **columns)
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.x"}, msind_cdsmaxlength=7)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    assert "Ref Entity Navigation is" in imported.row(f"{PATIENT} / msemr_generalpractioner")["changes"][0]
    assert "Attribute Max Length is 7" in imported.row(f"{PATIENT} / nickname")["changes"][0]


@pytest.mark.parametrize(
    ("column", "given", "written"),
    [
        ("numberofchildren", "2", "2"),
        ("creditlimit", "1.50", "1.50"),
        ("birthdate", "2020-01-31", '"2020-01-31"'),
        ("msemr_contacttype", "Practitioner", "935000001"),
    ],
)
def test_a_constant_is_of_the_type_of_its_column(
    column: str, given: str, written: str, tmp_path: Path, capsys: Capsys
) -> None:
    """A number is a number, a date is text, an option may be given by its label."""
    export = Export()
    export.entity("contact <-> Person")
    export.attribute("contact <-> Person", column, "Set Default Value", "", constant=given)
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("person.yaml")
    assert f"default: {written}}}" in text or f"where: {{{column}: {written}}}" in text
    assert imported.maps()


@pytest.mark.parametrize(
    ("column", "given", "why"),
    [
        ("numberofchildren", "1.5", "1.5 is no number"),
        ("creditlimit", "NaN", "NaN is no number"),
        ("donotemail", "2", "2 is neither yes nor no"),
        ("gendercode", "Neither", "Neither is no option"),
        ("parentcustomerid", "x", "parentcustomerid is a lookup, and a constant cannot point to a row"),
    ],
)
def test_a_constant_that_its_column_cannot_hold_is_lost(
    column: str, given: str, why: str, tmp_path: Path, capsys: Capsys
) -> None:
    """The row says why; its value map goes with it."""
    export = small()
    export.attribute(PATIENT, column, "Set Default Value", "", constant=given)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.losses() == {
        f"{PATIENT} / {column}": [why],
        f"{PATIENT} / {column} / -": ["its attribute map is not carried"],
    }


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [("Picklist", "7", "7"), ("BooleanType", "1", "true"), ("String", "7", '"7"'), ("", "7", "7"), ("", "~", '"~"')],
)
def test_a_column_without_facts_is_of_the_type_that_the_row_says(
    kind: str, given: str, written: str, tmp_path: Path, capsys: Capsys
) -> None:
    """Tables of one's own may not be in the facts yet; the loader then says so."""
    export = Export()
    export.entity("new_thing <-> Basic")
    export.attribute(
        "new_thing <-> Basic", "new_x", "Set Default Value", "", constant=given, msind_cdsattributetype=kind
    )
    imported = run_import(capsys, tmp_path, export.document())
    assert f"{{column: new_x, default: {written}}}" in imported.text("basic.yaml")
    assert "unknown table new_thing" in imported.report["faults"][0]


def test_a_code_and_a_constant_stand_for_one_thing(tmp_path: Path, capsys: Capsys) -> None:
    """What comes second, and what is inactive, is told."""
    export = small()
    values = {"M": 2, " ": 1, "S": 1, "T": 3}
    export.attribute(PATIENT, "familystatuscode", "Mapped Value", {"s": "$.b"}, values=values)
    export.values[-1]["msind_azurefhirvalue"] = "M"
    export.values[-2]["statecode"] = 1
    first = dict(export.values[0])
    export.values.append(first | {"msind_attributevaluemapid": "other", "msind_cdsvalue": "935000002"})
    imported = run_import(capsys, tmp_path, export.document())
    assert "values: {M: 2}" in imported.text("patient.yaml")
    assert [why for (why,) in imported.losses().values()] == [
        "there is no Azure FHIR Value",
        "M stands for 2 already",
        "a line has one constant, and another one came first",
    ]
    assert imported.row(f"{PATIENT} / familystatuscode / S")["changes"] == ["is inactive: left out"]


@pytest.mark.parametrize(
    ("concept", "written"),
    [
        (("Link Type", 935000071), "type: Link Type}"),
        (("Other words", 935000071), "type: Link Type}"),
        (("Link Type", None), "type: Link Type}"),
        (("", 123), "type: 123}"),
    ],
)
def test_a_concept_type_is_the_number_by_its_label(
    concept: tuple[str, int | None], written: str, tmp_path: Path, capsys: Capsys
) -> None:
    """The facts know the label of a number; a number that they do not know stays, and the loader tells it."""
    export = small()
    export.attribute(PATIENT, "msemr_link1type", "Codeable Concept", {"s": "$.x"}, concept=concept)
    imported = run_import(capsys, tmp_path, export.document())
    assert f"{{column: msemr_link1type, concept: $.x, {written}" in imported.text("patient.yaml")
    assert imported.code == (1 if concept[1] == 123 else 0)
    assert bool(imported.row(f"{PATIENT} / msemr_link1type")["changes"]) == (concept[0] == "Other words")


@pytest.mark.parametrize(
    ("reference", "outcome"),
    [
        (("Patient", ""), "targets: {Patient: contact}"),
        (("", "contact"), "targets: {Patient: contact}"),
        (("Any", "contact"), "the FHIR Resource Reference Any is no R4 type"),
        (("", "account"), "there is no FHIR Resource Reference, and no map of the export writes account"),
        (("Organization", ""), "there is no Entity Reference"),
    ],
)
def test_what_a_reference_row_leaves_out_is_inferred_or_missed(
    reference: tuple[str, str], outcome: str, tmp_path: Path, capsys: Capsys
) -> None:
    """From the maps of the export, and where the column points to one table from the facts."""
    export = small()
    export.attribute(PATIENT, "parentcustomerid", "FK Reference", {"s": "$.x.reference"}, reference=reference)
    imported = run_import(capsys, tmp_path, export.document())
    row = imported.row(f"{PATIENT} / parentcustomerid")
    if outcome.startswith("targets"):
        assert outcome in imported.text("patient.yaml")
        assert row["status"] == "carried with change"
    else:
        assert row["losses"] == [outcome]


def reference_row(export: Export, path: str, kind: str, table: str, **columns: Any) -> None:
    element = {"s": path, "c": {"p": "x[0]", "a": [{"reference": "%%%"}]}}
    export.attribute(PATIENT, "parentcustomerid", "FK Reference", element, reference=(kind, table), **columns)


def test_what_two_rows_of_a_column_say_is_said_by_one_line(tmp_path: Path, capsys: Capsys) -> None:
    """Paths, targets, match and write-back are joined; a create block is that of the first row that has one."""
    export = small()
    export.entities[0] |= {"msind_writeback": True, "msind_supportedmessages": "440670001"}
    reference_row(export, "$.a.reference", "Patient", "contact", msind_enablewriteback=False)
    reference_row(export, "$.x[*].reference", "Organization", "account")
    imported = run_import(capsys, tmp_path, export.document())
    (line,) = [each for each in imported.text("patient.yaml").split("\n  - ") if "parentcustomerid" in each]
    assert 'reference: [$.a.reference, "$.x[*].reference"]' in line
    assert "targets: {Patient: contact, Organization: account}" in line
    assert "writeback: true" in line
    assert 'create: {at: "$.x[*]", set: {reference: "%%%"}}' in line


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"constant": 1}, {"constant": 0}, "two constants cannot share a column"),
        ({"values": {"a": 1}}, {"values": {"a": 0}}, "their values disagree"),
        ({"concept": ("Link Type", None)}, {"concept": ("Priority", None)}, "two concept types cannot share a column"),
    ],
)
def test_rows_of_a_column_that_disagree_are_told(
    first: dict[str, Any], second: dict[str, Any], why: str, tmp_path: Path, capsys: Capsys
) -> None:
    """The first one is carried."""
    action = {"constant": "Set Default Value", "values": "Mapped Value", "concept": "Codeable Concept"}[
        next(iter(first))
    ]
    column = "msemr_link1type" if action == "Codeable Concept" else "donotemail"
    export = small()
    for given in (first, second):
        export.attribute(PATIENT, column, action, "" if "constant" in given else {"s": "$.x"}, **given)
    imported = run_import(capsys, tmp_path, export.document())
    (told,) = [losses for losses in imported.losses().values() if why in losses[0]]
    assert told == [f"{column} is written by {PATIENT} / {column} already: {why}"]


def test_a_disabled_line_takes_no_column(tmp_path: Path, capsys: Capsys) -> None:
    """It stands beside the live one; a disabled version is left out, a disabled key cannot be."""
    export = small()
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.a"}, msind_disabled=True)
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.b"})
    export.attribute(PATIENT, "msemr_azurefhirversion", "Copy Data", {"s": "$.meta.versionId"}, msind_disabled=True)
    export.attribute(PATIENT, "externaluseridentifier", "Copy Data", {"s": "$.meta.versionId"})
    export.attributes[1]["msind_disabled"] = True
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("patient.yaml")
    assert "{column: nickname, copy: $.a, disabled: true}" in text
    assert "{column: nickname, copy: $.b}" in text
    assert "\nversion:" not in text
    assert "\nkey: msemr_azurefhirid\n" in text
    assert imported.losses() == {f"{PATIENT} / externaluseridentifier": ["version of the map is left out already"]}


def test_a_path_that_says_no_place_does_not_go_out(tmp_path: Path, capsys: Capsys) -> None:
    """[*] without c: the toolkit overwrites what it finds; the relay would not know where a new value goes."""
    export = small()
    export.entities[0] |= {"msind_writeback": True, "msind_supportedmessages": "440670001"}
    export.attribute(PATIENT, "nickname", "Copy Data", {"s": "$.name[*].text"})
    created = {"s": "$.telecom[*].value", "c": {"p": "telecom[0]", "a": [{"value": "%"}]}}
    export.attribute(PATIENT, "telephone3", "Copy Data", created)
    category = {"s": "$.x[*].coding[0].code", "c": {"p": "x[0].coding[0]", "a": [{"system": "urn:x"}, {"code": "%"}]}}
    export.attribute(PATIENT, "msemr_link1type", "Codeable Concept", category, concept=("Link Type", None))
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("patient.yaml")
    assert '{column: nickname, copy: "$.name[*].text", writeback: false}' in text
    assert 'writeback: true, create: {at: "$.telecom[*]", set: {value: "%"}}' in text.replace("\n    ", " ").replace(
        "create:", "create:"
    )
    assert 'concept: ["$.x[*].coding[0].code", "$.x[0].coding[0].code"]' in text
    assert 'system: "urn:x"' in text or "system: urn:x" in text
    ((name, (why,)),) = imported.losses().items()
    assert name == f"{PATIENT} / nickname"
    assert why.startswith("Enable Writeback")
    assert imported.maps()

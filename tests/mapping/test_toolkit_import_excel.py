"""Excel exports of the toolkit's tables: sheets by their first row, names as people see them, openpyxl only if there."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import MAPS
from toolkit_kit import FORMATTED, Export, care_teams, patients, run_import

from relay.cli import main

openpyxl = pytest.importorskip("openpyxl")

Capsys = pytest.CaptureFixture[str]
ENTITY = {
    "(Do Not Modify) Update Service Entity Map": "msind_updateserviceentitymapid",
    "(Do Not Modify) Row Checksum": "",
    "(Do Not Modify) Modified On": "",
    "Name": "msind_name",
    "EntityName": "msind_entityname",
    "Azure FHIR Resource": "_msind_azurefhirresource_value",
    "Is Disabled": "msind_disabled",
    "Enable Write Back to FHIR": "msind_writeback",
    "Supported Messages": "msind_supportedmessages",
    "Expand": "msind_isexpand",
    "Parent Link Attribute": "msind_parentlinkattribute",
    "Status": "statecode",
}
ATTRIBUTE = {
    "(Do Not Modify) Update Service Attribute Map": "msind_updateserviceattributemapid",
    "(Do Not Modify) Row Checksum": "",
    "Name": "msind_name",
    "Update Service Entity Map": "_msind_updateserviceentitymap_value",
    "Entity Name": "msind_entityname",
    "Attribute Name": "msind_cdsattributename",
    "Action Type": "msind_actiontype",
    "FHIR Element Map": "msind_fhirelementmap",
    "Entity Reference": "msind_cdsentityreference",
    "FHIR Resource Reference": "_msind_fhirresourcereference_value",
    "Codeable Concept Type": "msind_codeableconcepttype",
    "Codeable Concept Type Value": "msind_codeableconcepttypevalue",
    "Expansion Entity Map": "_msind_expansionentitymap_value",
    "Used in Record Matching": "msind_usedinrecordmatching",
    "Enable Writeback to FHIR": "msind_enablewriteback",
    "Disabled": "msind_disabled",
}
VALUE = {
    "(Do Not Modify) Attribute Value Map": "msind_attributevaluemapid",
    "Update Service Attribute Map": "_msind_updateserviceattributemap_value",
    "Azure FHIR Value": "msind_azurefhirvalue",
    "Value": "msind_cdsvalue",
}


def shown(row: dict[str, Any], column: str) -> Any:
    """Return what a cell of an export shows of a column: labels and names, Yes and No."""
    value = row.get(f"{column}{FORMATTED}", row.get(column))
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if column == "msind_supportedmessages" and value:
        return "Create; Update"
    return "Active" if column == "statecode" else value


def sheet(workbook: Any, title: str, columns: dict[str, str], rows: Iterable[dict[str, Any]]) -> None:
    """Write one sheet; the hidden columns are those that are not to be modified."""
    page = workbook.create_sheet(title)
    page.append(list(columns))
    for row in rows:
        page.append([shown(row, column) for column in columns.values()])
    for number, name in enumerate(columns, 1):
        letter = openpyxl.utils.get_column_letter(number)
        page.column_dimensions[letter].hidden = name.startswith("(Do Not Modify)")


def workbook_of(export: Export, path: Path, *, values: bool = True) -> Path:
    """Write the sheets that a person exports from the views of the three tables."""
    workbook = openpyxl.Workbook()
    workbook.active.title = "hiddenDataSheet"
    workbook.active.append(["msind_updateserviceattributemap:checksum"])
    workbook.active.sheet_state = "hidden"
    sheet(workbook, "Update Service Entity Maps", ENTITY, export.entities)
    sheet(workbook, "Service Attribute Maps", ATTRIBUTE, export.attributes)
    if values:
        sheet(workbook, "Attribute Value Maps", VALUE, export.values)
    workbook.save(path)
    return path


def run_excel(capsys: Capsys, folder: Path, *paths: Path, arguments: Sequence[str] = ()) -> tuple[int, str, str]:
    """Run the command on workbooks; return its code, and the two outputs."""
    out = folder / "maps"
    code = main(["maps", "import", *map(str, paths), "--out", str(out), "--maps", str(MAPS), *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("make", [patients, care_teams], ids=["patients", "care-teams"])
def test_an_excel_export_says_what_the_web_api_says(make: Any, tmp_path: Path, capsys: Capsys) -> None:
    """The same maps, whether lookups are names and choices labels, or ids and numbers."""
    export = make()
    export.entities[0] |= {"msind_writeback": True, "msind_supportedmessages": "440670000,440670001"}
    (tmp_path / "json").mkdir()
    by_json = run_import(capsys, tmp_path / "json", export.document())
    code, out, err = run_excel(capsys, tmp_path, workbook_of(export, tmp_path / "maps.xlsx"))
    assert (code, err) == (0, "")
    assert by_json.code == 0
    assert "row 2)" in out
    for each in by_json.report["written"]:
        assert (tmp_path / "maps" / each["file"]).read_text(encoding="utf-8") == by_json.text(each["file"])


def test_value_maps_that_were_not_exported_are_missed(tmp_path: Path, capsys: Capsys) -> None:
    """A Mapped Value line without its values is lost; they are a table, and a sheet, of their own."""
    code, out, _ = run_excel(capsys, tmp_path, workbook_of(patients(), tmp_path / "maps.xlsx", values=False))
    assert code == 1
    assert "lost: its values, Attribute Value Maps, are not in the export" in out
    assert "lost: its constant, an Attribute Value Map, is not in the export" in out


def test_a_sheet_of_something_else_is_told(tmp_path: Path, capsys: Capsys) -> None:
    """Its first row names no columns of a toolkit table."""
    workbook = openpyxl.Workbook()
    workbook.active.title = "Contacts"
    workbook.active.append(["Full Name", "Email"])
    workbook.active.append(["Ada", "ada@example.org"])
    workbook.save(tmp_path / "contacts.xlsx")
    code, out, _ = run_excel(capsys, tmp_path, tmp_path / "contacts.xlsx")
    assert code == 1
    assert "input: contacts.xlsx: Contacts: the first row names no columns of a toolkit table" in out
    assert "ada" not in out.lower()


def test_columns_named_in_another_language_can_be_said(tmp_path: Path, capsys: Capsys) -> None:
    """Headers are in the language of the user who exports; --column says which is which."""
    export = care_teams()
    workbook = openpyxl.Workbook()
    german = {
        {"Expand": "Erweitern", "Parent Link Attribute": "Übergeordnet"}.get(key, key): value
        for key, value in ENTITY.items()
    }
    sheet(workbook, "Karten", german, export.entities)
    sheet(workbook, "Attribute", ATTRIBUTE, export.attributes)
    sheet(workbook, "Werte", VALUE, export.values)
    workbook.save(tmp_path / "karten.xlsx")
    said = ("--column", "Expand=Erweitern", "--column", "Parent Link Attribute=Übergeordnet")
    code, out, err = run_excel(capsys, tmp_path, tmp_path / "karten.xlsx", arguments=said)
    assert (code, err) == (0, "")
    assert "CareTeam -> msemr_careteam" in out


def test_a_broken_workbook_is_an_error(tmp_path: Path, capsys: Capsys) -> None:
    """The error names the file."""
    (tmp_path / "maps.xlsx").write_bytes(b"PK\x03\x04 not a zip")
    code, _, err = run_excel(capsys, tmp_path, tmp_path / "maps.xlsx")
    assert code == 1
    assert f"{tmp_path / 'maps.xlsx'}: is no Excel workbook" in err


def test_without_openpyxl_the_error_names_the_extra(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but this needs it."""
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "maps.xlsx").write_bytes(b"")
    code, _, err = run_excel(capsys, tmp_path, tmp_path / "maps.xlsx")
    assert code == 1
    assert ".venv/bin/pip install -e '.[excel]'" in err

"""`relay maps import`: what it writes, what it refuses to overwrite, its report and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mapping_kit import MAPS
from toolkit_kit import PATIENT, Export, patients, run_import

from relay.cli import main
from relay.mapping.toolkit.columns import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "toolkit-import.md"
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(patients().document()), encoding="utf-8")
    return path


def test_the_folder_is_ready_to_be_used(export: Path, tmp_path: Path, capsys: Capsys) -> None:
    """One file for each resource type, the facts beside them, and the maps preview what they are given."""
    out = tmp_path / "new" / "maps"
    assert main(["maps", "import", str(export), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["metadata.json", "patient.yaml"]
    capsys.readouterr()
    resource = tmp_path / "patient.json"
    resource.write_text('{"resourceType": "Patient", "id": "ada", "gender": "female"}', encoding="utf-8")
    assert main(["preview", str(resource), "--maps", str(out), "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["resources"]
    assert made["columns"]["gendercode"] == 2


def test_nothing_is_overwritten_without_force(export: Path, tmp_path: Path, capsys: Capsys) -> None:
    """A file that is there stays as it is, and no other one is written either; --force overwrites maps, never facts."""
    out = tmp_path / "maps"
    out.mkdir()
    (out / "patient.yaml").write_text("mine", encoding="utf-8")
    (out / "metadata.json").write_text("mine", encoding="utf-8")
    arguments = ["maps", "import", str(export), "--out", str(out), "--maps", str(MAPS)]
    assert main(arguments) == 2
    assert "only --force overwrites" in capsys.readouterr().err
    assert (out / "patient.yaml").read_text(encoding="utf-8") == "mine"
    assert main([*arguments, "--force"]) == 0
    assert "resource: Patient" in (out / "patient.yaml").read_text(encoding="utf-8")
    assert (out / "metadata.json").read_text(encoding="utf-8") == "mine"


def test_the_report_for_people_ends_with_the_counts(export: Path, tmp_path: Path, capsys: Capsys) -> None:
    """First the files, then each row with what was changed, then columns, then one line of counts."""
    assert main(["maps", "import", str(export), "--out", str(tmp_path / "maps")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "patient.yaml: Patient -> contact"
    assert (
        f"carried with change: {PATIENT} / firstname (attribute map, export.json: msind_updateserviceattributemaps[7])"
        in lines
    )
    assert "    changed: fillers are never written: $.name[0].family" in lines
    assert "    note: is key of the map" in lines
    assert re.fullmatch(r"\d+ carried, \d+ carried with change, 0 not carried", lines[-1])


def test_the_report_for_programs_has_every_row_once(tmp_path: Path, capsys: Capsys) -> None:
    """Each with where it came from, which file it went into, and its status."""
    document = patients().document()
    imported = run_import(capsys, tmp_path, document)
    rows = imported.report["rows"]
    assert len(rows) == sum(
        len(document[table.entity_set]["value"]) for table in TABLES.values() if table.kind != "resource"
    )
    assert {row["file"] for row in rows} == {"patient.yaml"}
    assert list(rows[0]) == ["kind", "name", "source", "file", "status", "notes", "changes", "losses"]
    assert imported.report["counts"] == {
        status: sum(row["status"] == status for row in rows)
        for status in ("carried", "carried with change", "not carried")
    }


def test_what_the_loader_refuses_is_in_the_report(tmp_path: Path, capsys: Capsys) -> None:
    """The file is written as the export has it, the fault names file and line, and the exit code says it."""
    export = patients()
    export.entity("new_custom <-> Basic")
    export.attribute("new_custom <-> Basic", "new_text", "Copy Data", {"s": "$.code.text"})
    export.attribute(PATIENT, "msemr_contactlinkid", "Copy Data", {"s": "$.x"})
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 1
    out = imported.folder
    (basic, patient) = imported.report["faults"]
    assert basic.startswith(f"{out / 'basic.yaml'}:4: table: unknown table new_custom")
    assert patient.startswith(f"{out / 'patient.yaml'}:")
    assert imported.row("new_custom <-> Basic")["status"] == "not carried"
    assert "column: new_text" in imported.text("basic.yaml")


def test_the_fault_of_a_nested_line_is_told_at_its_row(tmp_path: Path, capsys: Capsys) -> None:
    """Lines of expansions, and lines below those, know the rows that they came from."""
    from toolkit_kit import ROLES, care_teams

    export = care_teams()
    export.attribute(ROLES, "msemr_nothing", "Copy Data", {"s": "$.text"})
    imported = run_import(capsys, tmp_path, export.document())
    ((name, (why,)),) = imported.losses().items()
    assert name == f"{ROLES} / msemr_nothing"
    assert why.startswith("does not load: column: unknown column msemr_nothing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--column", "Expand"], "is not NAME=LOGICALNAME"),
        (["--column", "=x"], "is not NAME=LOGICALNAME"),
        ([], "required: --out"),
    ],
)
def test_options_that_cannot_be_meant_are_wrong_use(
    arguments: list[str], said: str, tmp_path: Path, capsys: Capsys
) -> None:
    """The parser says so."""
    out = ["--out", str(tmp_path)] if arguments else []
    with pytest.raises(SystemExit) as left:
        main(["maps", "import", "export.json", *out, *arguments])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (
            "export.json",
            ["--column", "Priority=msind_expand"],
            "Priority: no column of the toolkit's forms is called so",
        ),
        ("export.json", ["--column", "Expand=msind_nothing"], "msind_nothing: no row of the export has this column"),
        ("export.csv", [], "is no export (valid: .json, .xlsx, .xlsm)"),
    ],
)
def test_wrong_use_writes_nothing(name: str, arguments: list[str], said: str, export: Path, capsys: Capsys) -> None:
    """Exit code 2, and the reason on the error output."""
    given = export.rename(export.with_name(name))
    out = export.with_name("maps")
    assert main(["maps", "import", str(given), "--out", str(out), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "said"), [(b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (None, "No such file")]
)
def test_a_file_that_cannot_be_read_is_an_error(
    content: bytes | None, said: str, tmp_path: Path, capsys: Capsys
) -> None:
    """Exit code 1, naming the file."""
    path = tmp_path / "export.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["maps", "import", str(path), "--out", str(tmp_path / "maps")]) == 1
    assert said in capsys.readouterr().err


def test_an_export_without_a_root_map_writes_nothing(tmp_path: Path, capsys: Capsys) -> None:
    """What is there is told row by row all the same."""
    export = Export()
    export.entity("new_custom <-> Nothing")
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 1
    assert imported.report["written"] == []
    assert not list(imported.folder.glob("*"))


def test_the_page_has_every_column_of_the_toolkit() -> None:
    """docs/toolkit-import.md says of each where it goes, or why it does not."""
    page = PAGE.read_text(encoding="utf-8")
    for table in TABLES.values():
        assert table.label in page
        for each in table.fields:
            row = rf"^\| {re.escape(each.label)} \|"
            assert re.search(row, page, re.MULTILINE), f"{table.label}: {each.label}"

"""`relay maps check`: faults, lines without effect, what is missing; errors fail, warnings only with --strict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mapping_kit import IDENTIFIER, MAPS, TOP
from maps_kit import NAMES, WHOLE, folder_of

from relay.cli import main
from relay.errors import MapError
from relay.mapping.check import check_folder
from relay.mapping.findings import faults

PRACTITIONERS = (
    "resource: Practitioner\ntable: contact\nkey: msemr_azurefhirid\nwhere: {msemr_contacttype: 935000001}\n"
    "attributes: [{column: lastname, copy: '$.name[0].family'}]\n"
)
CONCEPT = {"type": "Lookup", "targets": ["msemr_codeableconcept"], "navigation": {"msemr_codeableconcept": "msemr_S"}}
PATIENTS = TOP + "where: {msemr_contacttype: 935000000}\n" + IDENTIFIER + "attributes:\n"


def told(folder: Path) -> list[tuple[str, str, int, str]]:
    """Return (severity, code, line, at) of what is told of the first map; assumed names and options are left out."""
    return [
        (each.severity, each.code, each.line, each.at)
        for each in check_folder(folder)
        if each.code not in ("assumed-navigation", "unmapped-option") and each.file.endswith("map0.yaml")
    ]


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_shipped_maps_have_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """The pack can be used as it is: what a person should look at are warnings."""
    assert main(["maps", "check", str(MAPS)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("0 errors, ")
    assert ": information: " not in out
    assert err == ""


def test_a_good_map_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the counts are printed, and strictness finds nothing."""
    assert main(["maps", "check", str(folder_of(tmp_path, WHOLE)), "--strict"]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 0 informations\n"


def test_every_fault_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults of several files come in one run, and do not hide what has no effect."""
    faulty = f"{WHOLE}  - {{column: surname, copy: $.x}}\n  - {{column: nickname, copy: '$.name[0:1]'}}\n"
    other = f"{PRACTITIONERS.replace('contacttype: 935000001', 'contacttype: 1')}expansions: {{spare: {{}}}}\n"
    folder = folder_of(tmp_path, faulty, other)
    assert main(["maps", "check", str(folder)]) == 1
    out = capsys.readouterr().out
    at = f"{folder / 'map0.yaml'}:{line_of(faulty, 'surname')}: error: fault: column: unknown column surname"
    assert at in out
    assert "\n    $.name[0:1]\n            ^" in out
    assert f"{folder / 'map1.yaml'}:4: error: fault: msemr_contacttype: " in out
    assert f"{folder / 'map1.yaml'}:6: warning: unused-expansion: " in out


def test_a_wrong_path_among_several_is_a_fault_alone(tmp_path: Path) -> None:
    """What cannot be read is told by loading, and says nothing of the paths beside it."""
    folder = folder_of(tmp_path, f"{WHOLE}  - {{column: nickname, copy: [$.a, $.a..b, $.a]}}\n")
    assert sorted(code for _, code, _, _ in told(folder)) == ["fault", "unreachable-path"]


def test_a_folder_without_maps_is_a_fault(tmp_path: Path) -> None:
    """A fault that no line has stands for the folder."""
    (found,) = check_folder(folder_of(tmp_path))
    assert (found.severity, found.code, found.file, found.line) == ("error", "fault", str(tmp_path), 0)
    assert str(found).startswith(f"{tmp_path}: error: fault: holds no maps")


def test_a_fault_without_a_place_is_told_all_the_same() -> None:
    """Whatever loading says is a finding."""
    (found,) = faults(MapError("no place"))
    assert (found.message, found.file) == ("no place", "")


def test_findings_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints everything, informations too, with the same exit code."""
    folder = folder_of(tmp_path, f"{WHOLE}  - {{column: nickname, copy: $.x, disabled: true}}\n")
    assert main(["maps", "check", "--json", str(folder)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert found == {
        "severity": "information",
        "code": "disabled-line",
        "message": "the line of nickname is disabled",
        "file": str(folder / "map0.yaml"),
        "line": line_of(WHOLE, "contacttype") + 1,
        "at": "contact.nickname",
    }


def test_informations_are_counted_and_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They tell what is right and good to know, and never fail a check."""
    folder = folder_of(tmp_path, f"{WHOLE}  - {{column: nickname, copy: $.x, disabled: true}}\n")
    assert main(["maps", "check", str(folder), "--strict"]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 1 information\n"
    assert main(["maps", "check", str(folder), "--all"]) == 0
    assert "information: disabled-line" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "unreachable"),
    [
        ("{column: nickname, copy: [$.a, $.b, $.a]}", "$.a"),
        ("{column: nickname, copy: ['$.a[*].b', '$.a[0].b']}", "$.a[0].b"),
        ("{column: nickname, copy: [\"$.a[?(@.u=='x')].b\", \"$.a[?(@.u=='x' && @.v=='y')].b\"]}", "&& @.v=='y')].b"),
        ("{column: gendercode, map: ['$.a[*].b', \"$.a[?(@.u=='x')].b\"], values: {m: 1}}", "$.a[?(@.u=='x')].b"),
        ("{column: nickname, copy: ['$.a[0].b', '$.a[*].b']}", None),
        ("{column: nickname, copy: [\"$.a[?(@.u=='x')].b\", \"$.a[?(@.u=='y')].b\"]}", None),
        ("{column: nickname, copy: [$.a, $.a.b]}", None),
        ("{column: nickname, copy: $.a}", None),
    ],
)
def test_a_path_that_is_never_reached(line: str, unreachable: str | None, tmp_path: Path) -> None:
    """A path after one that finds all that it would find is a warning at its line."""
    text = f"{PATIENTS}  - {line}\n  - {{column: lastname, copy: $.l}}\n"
    found = told(folder_of(tmp_path, text))
    assert [(code, at) for _, code, at, _ in found] == (
        [("unreachable-path", line_of(text, line))] if unreachable else []
    )
    messages = [each.message for each in check_folder(tmp_path) if each.code == "unreachable-path"]
    assert all(f"{unreachable} is never reached" in each for each in messages)


def test_a_concept_passes_over_what_has_no_code(tmp_path: Path) -> None:
    """For concepts only the same path twice is unreachable."""
    line = "  - column: msemr_spoken\n    concept: ['$.l.coding[*]', '$.l.coding[0]', '$.l.coding[0]']\n    type: 935000102\n"
    folder = folder_of(tmp_path, WHOLE + line, contact__msemr_spoken=CONCEPT)
    assert [code for _, code, _, _ in told(folder)] == ["unreachable-path"]


def test_an_expansion_nobody_uses(tmp_path: Path) -> None:
    """A definition without a line is a warning where it stands."""
    text = f"{WHOLE}expansions:\n  spare:\n    table: prefix_patientidentifier\n    lookup: prefix_patient\n    attributes: []\n"
    assert told(folder_of(tmp_path, text)) == [("warning", "unused-expansion", line_of(text, "spare"), "")]


def test_what_is_disabled_is_told(tmp_path: Path) -> None:
    """Disabled lines and expansions are informations; of a disabled map only that it is disabled."""
    expansion = "{expand: identifier, table: prefix_patientidentifier, lookup: prefix_patient, disabled: true, attributes: [{column: prefix_value, copy: $.value, match: true}]}"
    text = f"{TOP}attributes:\n{NAMES}  - {expansion}\n"
    codes = [code for _, code, _, _ in told(folder_of(tmp_path, text))]
    assert codes == ["no-writeback", "disabled-expansion"]
    text = f"{WHOLE}disabled: true\n"
    assert told(folder_of(tmp_path, text)) == [("information", "disabled-map", line_of(text, "disabled"), "")]


@pytest.mark.parametrize("disabled", [False, True])
def test_a_reference_to_nothing_that_has_rows(disabled: bool, tmp_path: Path) -> None:
    """A target without a map, or with a disabled one, is a warning: the lookup stays empty."""
    line = "  - {column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}}\n"
    text = PATIENTS + "  - {column: lastname, copy: $.l}\n" + line
    others = [f"{PRACTITIONERS}disabled: true\n"] if disabled else []
    folder = folder_of(tmp_path, text, *others)
    at = ("warning", "unmapped-target", line_of(text, "reference"), "contact.msemr_generalpractioner")
    assert told(folder) == [at]
    (message,) = [each.message for each in check_folder(folder) if each.code == "unmapped-target"]
    assert message.startswith("the map of Practitioner is disabled" if disabled else "there is no map for Practitioner")
    assert told(folder_of(tmp_path, text, PRACTITIONERS)) == []


def test_columns_that_the_table_requires(tmp_path: Path) -> None:
    """SystemRequired without a source is an error, merely required a warning; what Dataverse fills is neither."""
    folder = folder_of(
        tmp_path,
        WHOLE.replace("  - {column: lastname, copy: '$.name[0].family'}\n", ""),
        contact__nickname={"required": "systemrequired"},
        contact__statecode={"required": "systemrequired"},
        prefix_patientidentifier__prefix_x={"type": "String", "required": "systemrequired"},
    )
    assert sorted(told(folder)) == [
        ("error", "system-required", 2, "contact.nickname"),
        ("error", "system-required", 2, "prefix_patientidentifier.prefix_x"),
        ("warning", "required", 2, "contact.lastname"),
    ]


@pytest.mark.parametrize(
    ("top", "line", "codes"),
    [
        ("", "writeback: true", ["writeback-off"]),
        ("writeback_when: {nickname: a}\n", "", ["writeback-off"]),
        ("writeback: [update]\n", "", ["writeback-empty"]),
        ("writeback: [update]\n", "writeback: true", []),
        ("create_in_fhir: true\nwriteback_when: {nickname: a}\n", "writeback: true", []),
        ("", "writeback: false", []),
    ],
)
def test_keys_of_the_way_out_that_wait_for_another(top: str, line: str, codes: list[str], tmp_path: Path) -> None:
    """A line that may write the resource, in a map that lets nothing out, does nothing."""
    text = f"{top}{WHOLE}  - {{column: jobtitle, copy: $.j{', ' * bool(line)}{line}}}\n"
    assert [code for _, code, _, _ in told(folder_of(tmp_path, text))] == codes


REQUEST = TOP.replace("Patient", "MedicationRequest") + IDENTIFIER + "attributes:\n"
COLUMNS = {"jobtitle": "$.status", "nickname": "$.intent", "suffix": "$.medicationReference.display"}


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ((), ["intent", "medication[x]", "status", "subject"]),
        (("jobtitle", "nickname"), ["medication[x]", "subject"]),
        (("jobtitle", "nickname", "suffix"), ["subject"]),
    ],
)
def test_a_resource_made_from_a_row_has_what_r4_requires(columns: list[str], left: list[str], tmp_path: Path) -> None:
    """With create_in_fhir on, each required element needs a line that can make it; a choice needs one of its types."""
    lines = "".join(f"  - {{column: {column}, copy: {COLUMNS[column]}}}\n" for column in columns)
    text = f"{REQUEST}  - {{column: lastname, copy: $.groupIdentifier.value}}\n{lines}"
    found = check_folder(folder_of(tmp_path, f"create_in_fhir: true\n{text}"))
    told = [each for each in found if each.code == "required-element"]
    assert {(each.severity, each.line) for each in told} == {("error", 1)}
    assert [each.message.split("makes ")[1].split(",")[0] for each in told] == left
    assert not [each for each in check_folder(folder_of(tmp_path, text)) if each.code == "required-element"]


def test_a_line_that_stays_in_dataverse_makes_no_element(tmp_path: Path) -> None:
    """`writeback: false`, and a path that says no place, do not count; a create block does."""
    top = TOP.replace("Patient", "RelatedPerson") + f"create_in_fhir: true\n{IDENTIFIER}attributes:\n"
    for line, missing in (
        ("{column: lastname, copy: $.patient.display}", False),
        ("{column: lastname, copy: $.patient.display, writeback: false}", True),
        ("{column: lastname, copy: '$.patient[*].display'}", True),
        ("{column: lastname, copy: '$.patient[*].display', create: {at: $.patient, set: {display: '%'}}}", False),
        ("{column: msemr_generalpractioner, reference: $.patient, targets: {Patient: contact}}", False),
        ("{column: msemr_spoken, concept: $.patient, type: 935000102}", False),
    ):
        found = check_folder(folder_of(tmp_path, f"{top}  - {line}\n", contact__msemr_spoken=CONCEPT))
        assert not any(each.code == "fault" for each in found), line
        assert any(each.code == "required-element" for each in found) is missing, line


def test_options_that_no_code_stands_for(tmp_path: Path) -> None:
    """A line that maps codes to options tells which options it never writes."""
    text = f"{WHOLE}  - {{column: gendercode, map: $.gender, values: {{male: 1}}, unmapped: 'default: 2'}}\n"
    (found,) = [each for each in check_folder(folder_of(tmp_path, text)) if each.code == "unmapped-option"]
    assert (found.severity, found.line, found.at) == ("information", line_of(text, "gender"), "contact.gendercode")
    assert found.message.endswith(": 935000000 Other, 935000001 Unknown, 935000002 Item")


def test_navigation_names_nobody_has_read(tmp_path: Path) -> None:
    """Lookups whose names metadata.json marks as assumed are told once a map."""
    line = "  - {column: msemr_generalpractioner, reference: $.gp, targets: {Patient: contact}}\n"
    folder = folder_of(
        tmp_path,
        WHOLE + line,
        contact__msemr_generalpractioner={"navigationAssumed": True},
        prefix_patientidentifier__prefix_patient={"navigationAssumed": True},
    )
    (found,) = [each for each in check_folder(folder) if each.code == "assumed-navigation"]
    assert found.severity == "information"
    assert found.message.endswith(": contact.msemr_generalpractioner, prefix_patientidentifier.prefix_patient")


def test_no_folder_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be looked at is an error, by name."""
    assert main(["maps", "check", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["maps"], ["maps", "dance"], ["maps", "diff", "a"], ["maps", "check", "--from", "contoso"], ["maps", "metadata"]],
    ids=" ".join,
)
def test_wrong_use_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood ends with exit code 2 and a usage line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: relay maps")


def test_json_may_stand_before_the_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`relay maps --json check` is `relay maps check --json`."""
    assert main(["maps", "--json", "check", str(folder_of(tmp_path, WHOLE))]) == 0
    assert json.loads(capsys.readouterr().out) == {"findings": []}

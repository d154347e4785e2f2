"""The actions: copy, default, map, reference, concept, and what absent values do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapping_kit import TOP, load, resolve

from relay.mapping.actions import Copy, action
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, Draft
from relay.mapping.translate import translate

OTHERS = (
    "resource: Practitioner\ntable: contact\nkey: msemr_azurefhirid\nwhere: {msemr_contacttype: 935000001}\n",
    "resource: Organization\ntable: account\nkey: msemr_azurefhirid\n",
)
WHERE = "where: {msemr_contacttype: 935000000}\n"


def draft(folder: Path, lines: str, resource: dict[str, Any], *, top: str = TOP + WHERE, **options: Any) -> Draft:
    """Translate one made-up Patient by lines of YAML flow mappings."""
    attributes = "".join(f"  - {line}\n" for line in lines.strip().splitlines())
    maps = load(folder, f"{top}attributes:\n{attributes}", *OTHERS)
    entity = maps.for_resource("Patient")
    assert entity is not None
    return translate(entity, {"resourceType": "Patient", "id": "1", **resource}, resolve, **options)


def codes(made: Draft) -> list[tuple[str, str]]:
    return [(issue.severity, issue.code) for issue in made.issues]


def test_where_and_key_are_columns(tmp_path: Path) -> None:
    """They are written on create and compared like any other column."""
    made = draft(tmp_path, "{column: lastname, copy: $.a}", {})
    assert made.columns == {"msemr_contacttype": 935000000, "msemr_azurefhirid": "1"}
    assert made.id == "1"
    assert made.issues == ()


def test_copy_takes_the_first_path_that_has_a_value(tmp_path: Path) -> None:
    """Null, absent and empty text are no value; the source tells which path it was."""
    line = "{column: lastname, copy: [$.a, $.b, $.c, $.d]}"
    made = draft(tmp_path, line, {"a": None, "b": "", "c": "C", "d": "D"})
    assert made.columns["lastname"] == "C"
    assert made.sources["lastname"].path == "$.c"
    assert made.sources["lastname"].line == 6


def test_an_absent_value_writes_nothing(tmp_path: Path) -> None:
    """Keep is the default; an extension beside an absent value is not a value."""
    made = draft(tmp_path, "{column: birthdate, copy: $.birthDate}", {"_birthDate": {"extension": []}})
    assert "birthdate" not in made.columns
    assert made.unmapped == ()


def test_an_absent_value_clears_where_the_line_says_so(tmp_path: Path) -> None:
    """A None clears: for plain columns and for lookups."""
    made = draft(
        tmp_path,
        """
        {column: birthdate, copy: $.birthDate, null: clear}
        {column: gendercode, map: $.gender, values: {male: 1}, null: clear}
        {column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}, null: clear}
        {column: msemr_communication1language, concept: $.language, type: Language, null: clear}
        """,
        {},
    )
    assert made.columns["birthdate"] is None
    assert made.columns["gendercode"] is None
    assert made.lookups == {"msemr_generalpractioner": None, "msemr_communication1language": None}


def test_clear_is_a_default_of_the_map_that_spares_match_and_state(tmp_path: Path) -> None:
    """A line may keep; a column that identifies the row or cannot be empty always keeps."""
    made = draft(
        tmp_path,
        """
        {column: birthdate, copy: $.birthDate}
        {column: firstname, copy: $.first, null: keep}
        {column: governmentid, copy: $.ssn, match: true}
        {column: statecode, map: $.active, values: {true: 0, false: 1}}
        """,
        {},
        top=TOP + WHERE + "null: clear\n",
    )
    assert {name for name, value in made.columns.items() if value is None} == {"birthdate"}
    assert made.map.match == ("governmentid",)


def test_a_present_value_that_is_not_written_clears_nothing(tmp_path: Path) -> None:
    """A partial date and a reference to another server are values, so the column is kept."""
    made = draft(
        tmp_path,
        """
        {column: birthdate, copy: $.birthDate, null: clear}
        {column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}, null: clear}
        """,
        {"birthDate": "1980", "gp": {"reference": "https://elsewhere/fhir/Practitioner/1"}},
    )
    assert "birthdate" not in made.columns
    assert made.lookups == {}
    assert codes(made) == [("information", "partial-date"), ("warning", "unresolvable-reference")]


def test_a_required_line_without_a_source_is_a_warning(tmp_path: Path) -> None:
    """Nothing is filled in; the issue names the column."""
    made = draft(tmp_path, "{column: lastname, copy: $.a, required: true}", {})
    assert codes(made) == [("warning", "required")]
    assert made.issues[0].at == "lastname"
    assert "lastname" not in made.columns


def test_too_long_text_is_an_error_or_cut(tmp_path: Path) -> None:
    """Error is the default; a cut text is told."""
    lines = "{column: suffix, copy: $.a}\n{column: salutation, copy: $.b, length: truncate}"
    made = draft(tmp_path, lines, {"a": "x" * 11, "b": "y" * 101})
    assert codes(made) == [("error", "too-long"), ("information", "truncated")]
    assert "suffix" not in made.columns
    assert made.columns["salutation"] == "y" * 100


def test_a_partial_date_may_be_written_as_its_first_day(tmp_path: Path) -> None:
    """Only where the line asks for it."""
    made = draft(tmp_path, "{column: birthdate, copy: $.birthDate, partial: first-day}", {"birthDate": "1980-05"})
    assert made.columns["birthdate"] == "1980-05-01"


def test_default_ignores_the_resource(tmp_path: Path) -> None:
    """A constant is converted once, to its column's type."""
    made = draft(tmp_path, "{column: donotemail, default: true}\n{column: jobtitle, default: no}", {"jobtitle": "x"})
    assert made.columns["donotemail"] is True
    assert made.columns["jobtitle"] == "no"
    assert made.sources["jobtitle"].path == ""


def test_a_disabled_line_writes_nothing(tmp_path: Path) -> None:
    """And leaves its column to another line."""
    made = draft(
        tmp_path, "{column: lastname, copy: $.a, disabled: true}\n{column: lastname, copy: $.b}", {"a": "A", "b": "B"}
    )
    assert made.columns["lastname"] == "B"


@pytest.mark.parametrize(
    ("gender", "unmapped", "expected", "issues"),
    [
        ("male", "fail", 1, []),
        ("x", "fail", "absent", [("error", "unmapped-value")]),
        ("x", "keep", "absent", [("information", "unmapped-value")]),
        ("x", "default:935000001", 935000001, []),
        (None, "default:935000001", "absent", []),
        ({"code": "male"}, "keep", "absent", [("error", "invalid-element")]),
    ],
)
def test_map_translates_listed_codes(
    gender: Any, unmapped: str, expected: Any, issues: list[tuple[str, str]], tmp_path: Path
) -> None:
    """What is not listed fails, is kept, or becomes the default; what is absent is not unlisted."""
    line = f"{{column: gendercode, map: $.gender, values: {{male: 1, female: 2}}, unmapped: {unmapped}}}"
    made = draft(tmp_path, line, {"gender": gender})
    assert made.columns.get("gendercode", "absent") == expected
    assert codes(made) == issues


def test_map_takes_the_first_code_that_is_listed(tmp_path: Path) -> None:
    """A concept may carry codes of several systems."""
    line = '{column: familystatuscode, map: "$.maritalStatus.coding[*].code", values: {M: 2}}'
    made = draft(tmp_path, line, {"maritalStatus": {"coding": [{"code": "36629006"}, {"code": "M"}]}})
    assert made.columns["familystatuscode"] == 2
    assert made.issues == ()


def test_map_reads_booleans_and_numbers_by_their_text(tmp_path: Path) -> None:
    """YAML's keys are text, so is a code."""
    lines = "{column: donotemail, map: $.a, values: {true: false, false: true}}\n{column: jobtitle, map: $.b, values: {1: one}}"
    made = draft(tmp_path, lines, {"a": True, "b": 1})
    assert made.columns["donotemail"] is False
    assert made.columns["jobtitle"] == "one"


@pytest.mark.parametrize("path", ["$.gp[0]", "$.gp[0].reference", "gp[*]"])
def test_reference_becomes_a_lookup(path: str, tmp_path: Path) -> None:
    """The path may name the Reference or, as toolkit maps do, its text."""
    line = f'{{column: msemr_generalpractioner, reference: "{path}", targets: {{Practitioner: contact}}}}'
    made = draft(tmp_path, line, {"gp": [{"reference": "Practitioner/7"}]})
    assert made.lookups == {"msemr_generalpractioner": ByFhirId("Practitioner", "7")}
    assert made.issues == ()


def test_reference_may_be_logical(tmp_path: Path) -> None:
    """What a reference means is the resolver's to say."""
    line = "{column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}}"
    made = draft(tmp_path, line, {"gp": {"identifier": {"system": "s", "value": "v"}}})
    assert made.lookups == {"msemr_generalpractioner": ByIdentifier("Practitioner", "s", "v")}


def test_of_several_references_the_first_accepted_counts(tmp_path: Path) -> None:
    """One of another type or another server does not stand in the way."""
    line = '{column: msemr_generalpractioner, reference: "$.gp[*]", targets: {Practitioner: contact}}'
    references = [{"reference": "Organization/1"}, {"reference": "#a"}, {"reference": "Practitioner/7"}]
    made = draft(tmp_path, line, {"gp": references})
    assert made.lookups == {"msemr_generalpractioner": ByFhirId("Practitioner", "7")}
    assert made.issues == ()


@pytest.mark.parametrize(
    ("reference", "severity", "code"),
    [
        ({"reference": "#contained"}, "warning", "unresolvable-reference"),
        ({"reference": "https://elsewhere/fhir/Practitioner/1"}, "warning", "unresolvable-reference"),
        ({"reference": "Group/1"}, "information", "unresolvable-reference"),
        ({"reference": "Canary/1"}, "information", "unresolvable-reference"),
        ({"display": "Dr Canary"}, "information", "unresolvable-reference"),
        ("Practitioner/1", "error", "invalid-element"),
        ([{"reference": "Practitioner/1"}], "error", "invalid-element"),
    ],
)
def test_a_reference_that_is_no_row_is_told(reference: Any, severity: str, code: str, tmp_path: Path) -> None:
    """A warning where data is out of reach, an information where another type was meant; no lookup in any case."""
    line = "{column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}}"
    made = draft(tmp_path, line, {"gp": reference})
    assert made.lookups == {}
    assert codes(made) == [(severity, code)]
    assert "Canary" not in made.issues[0].message


def test_lines_that_share_a_path_each_take_their_type(tmp_path: Path) -> None:
    """What another line takes is no issue; what none takes is told once."""
    lines = """
        {column: msemr_generalpractioner, reference: $.who, targets: {Practitioner: contact}}
        {column: msemr_managingorganization, reference: $.who, targets: {Organization: account}}
    """
    assert codes(draft(tmp_path, lines, {"who": {"reference": "Organization/1"}})) == []
    assert codes(draft(tmp_path, lines, {"who": {"reference": "Group/1"}})) == [
        ("information", "unresolvable-reference")
    ]


def test_a_target_without_a_map_stays_empty(tmp_path: Path) -> None:
    """No row of it could ever be found, so nothing waits for it."""
    line = "{column: msemr_contact1, reference: $.who, targets: {RelatedPerson: contact}}"
    made = draft(tmp_path, line, {"who": {"reference": "RelatedPerson/1"}})
    assert made.lookups == {}
    assert codes(made) == [("information", "unresolvable-reference")]


@pytest.mark.parametrize(
    ("path", "type_", "element", "expected"),
    [
        ("$.l.coding[0]", "Language", {"coding": [{"code": "nl", "display": "Dutch"}]}, ("nl", "Dutch")),
        ("$.l.coding[0].code", "935000068", {"coding": [{"code": "nl", "display": "Dutch"}]}, ("nl", "Dutch")),
        ("$.l", "Language", {"coding": [None, {"code": "nl"}], "text": "NL"}, ("nl", "nl")),
        ("$.l", "Language", {"code": "nl"}, ("nl", "nl")),
        ("$.l", "Language", "nl", ("nl", "nl")),
        ("$.l", "Language", {"coding": [{"code": "nl", "display": "x" * 101}]}, ("nl", "x" * 100)),
    ],
)
def test_concept_reads_codings_and_concepts(
    path: str, type_: str, element: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    """Type by label or number; the name is the display, else the code: never what was written about one patient."""
    line = f'{{column: msemr_communication1language, concept: "{path}", type: {type_}}}'
    made = draft(tmp_path, line, {"l": element})
    assert made.lookups == {"msemr_communication1language": Concept(935000068, *expected)}


@pytest.mark.parametrize(
    ("element", "issues"),
    [
        ({"text": "only words"}, []),
        ({"coding": []}, []),
        ({"coding": {"code": "nl"}}, [("error", "invalid-element")]),
        ({"coding": ["nl"]}, [("error", "invalid-element")]),
        ({"code": 5}, [("error", "invalid-element")]),
        ({"code": "nl", "display": 5}, [("error", "invalid-element")]),
        (["nl"], [("error", "invalid-element")]),
        ({"code": "x" * 101}, [("error", "too-long")]),
    ],
)
def test_a_concept_without_a_usable_code_is_no_lookup(
    element: Any, issues: list[tuple[str, str]], tmp_path: Path
) -> None:
    """Without a code it is absent; with a wrong one it is an issue."""
    made = draft(tmp_path, "{column: msemr_communication1language, concept: $.l, type: Language}", {"l": element})
    assert made.lookups == {}
    assert codes(made) == issues


def test_concepts_can_be_left_out(tmp_path: Path) -> None:
    """An organization without the concept table still gets everything else."""
    lines = "{column: msemr_communication1language, concept: $.l, type: Language}\n{column: lastname, copy: $.a}"
    made = draft(tmp_path, lines, {"l": {"code": "nl"}, "a": "A"}, concepts=False)
    assert made.lookups == {}
    assert made.columns["lastname"] == "A"


def test_an_action_is_registered_once() -> None:
    """Two kinds of line under one key are a programming error."""
    with pytest.raises(ValueError, match="copy is registered already"):
        action("copy")(Copy)

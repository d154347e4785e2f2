"""Expansions: items of an array become child rows, told apart by their match columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapping_kit import IDENTIFIER, TOP, load, resolve

from relay.mapping.model import Draft
from relay.mapping.translate import translate

INLINE = """attributes:
  - expand: {element}
    table: prefix_patientidentifier
    lookup: prefix_patient
    attributes:
      - {{column: prefix_system, copy: {first}, match: true}}
      - {{column: prefix_value, copy: {second}{more}}}
"""


def draft(folder: Path, text: str, resource: dict[str, Any]) -> Draft:
    """Translate one made-up Patient."""
    entity = load(folder, text).for_resource("Patient")
    assert entity is not None
    return translate(entity, {"resourceType": "Patient", "id": "1", **resource}, resolve)


def rows(made: Draft) -> list[dict[str, Any]]:
    return [dict(child.columns) for child in made.children]


def codes(made: Draft) -> list[tuple[str, str, str]]:
    return [(issue.severity, issue.code, issue.at) for issue in made.issues]


def test_the_identifier_block_expands_system_and_value(tmp_path: Path) -> None:
    """Both match, and a vanished identifier is deactivated."""
    made = draft(tmp_path, TOP + IDENTIFIER, {"identifier": [{"system": "s", "value": "v", "use": "usual"}]})
    assert rows(made) == [{"prefix_system": "s", "prefix_value": "v"}]
    expansion = made.map.expansions[0]
    assert made.children[0].expansion is expansion
    assert (expansion.name, expansion.element, expansion.lookup) == ("identifier", "identifier", "prefix_patient")
    assert expansion.match == ("prefix_system", "prefix_value")
    assert expansion.columns == ("prefix_system", "prefix_value")
    assert expansion.vanished == "deactivate"
    assert made.children[0].sources["prefix_value"].path == "$.value"


def test_an_identifier_without_a_value_is_no_row_and_one_without_a_system_is(tmp_path: Path) -> None:
    """The system column is then left out, which matches an empty one."""
    made = draft(
        tmp_path, TOP + IDENTIFIER, {"identifier": [{"system": "s"}, {"value": "v"}, {"system": "", "value": "w"}]}
    )
    assert rows(made) == [{"prefix_value": "v"}, {"prefix_value": "w"}]
    assert codes(made) == [("information", "item-left-out", "identifier[0]")]


def test_equal_identifiers_are_one_row(tmp_path: Path) -> None:
    """System and value are compared exactly."""
    items = [{"system": "s", "value": "v"}, {"system": "s", "value": "V"}, {"system": "s", "value": "v", "use": "old"}]
    made = draft(tmp_path, TOP + IDENTIFIER, {"identifier": items})
    assert [row["prefix_value"] for row in rows(made)] == ["v", "V"]
    assert made.issues == ()


def test_of_items_with_equal_match_values_the_first_counts(tmp_path: Path) -> None:
    """That the other columns differ is told."""
    text = TOP + INLINE.format(element="telecom", first="$.system", second="$.value", more="")
    made = draft(tmp_path, text, {"telecom": [{"system": "s", "value": "1"}, {"system": "s", "value": "2"}]})
    assert rows(made) == [{"prefix_system": "s", "prefix_value": "1"}]
    assert codes(made) == [("information", "duplicate-item", "telecom[1]")]


@pytest.mark.parametrize(
    ("items", "issues"),
    [
        (None, []),
        ([], []),
        ([None], []),
        ([{}], [("information", "item-left-out", "identifier[0]")]),
        ([{"extension": []}], [("information", "item-left-out", "identifier[0]")]),
        ({"value": "v"}, [("error", "invalid-element", "$.identifier")]),
        ("v", [("error", "invalid-element", "$.identifier")]),
        (
            ["v"],
            [("error", "invalid-element", "identifier[0].system"), ("error", "invalid-element", "identifier[0].value")],
        ),
        ([{"value": {"v": 1}}], [("error", "invalid-element", "identifier[0].value")]),
        ([{"value": "v" * 1025}], [("error", "too-long", "identifier[0].value")]),
    ],
)
def test_items_of_the_wrong_shape_are_told_with_their_place(
    items: Any, issues: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """Null items are skipped; nothing raises."""
    made = draft(tmp_path, TOP + IDENTIFIER, {"identifier": items})
    assert rows(made) == []
    assert codes(made) == issues


def test_an_array_of_plain_texts_expands_by_the_root_path(tmp_path: Path) -> None:
    """The path of the item itself is `$`; nulls beside extensions are skipped."""
    text = TOP + INLINE.format(element="alias", first="$", second="$.value", more=", disabled: true")
    made = draft(tmp_path, text, {"alias": ["one", None, "two"]})
    assert rows(made) == [{"prefix_system": "one"}, {"prefix_system": "two"}]
    assert made.map.expansions[0].vanished == "keep"


def test_a_named_expansion_overrides_the_identifier_block(tmp_path: Path) -> None:
    """One expansion writes the identifier table: the one that the map spells out."""
    text = (
        TOP
        + IDENTIFIER
        + """expansions:
  patient-identifier:
    table: prefix_patientidentifier
    lookup: prefix_patient
    vanished: delete
    attributes:
      - {column: prefix_value, copy: $.value, match: true, required: true}
      - {column: prefix_system, copy: $.system, match: true, required: true}
attributes:
  - {expand: identifier, using: patient-identifier}
"""
    )
    made = draft(tmp_path, text, {"identifier": [{"value": "v"}, {"system": "s", "value": "v"}]})
    assert [expansion.name for expansion in made.map.expansions] == ["patient-identifier"]
    assert made.map.expansions[0].vanished == "delete"
    assert rows(made) == [{"prefix_value": "v", "prefix_system": "s"}]


def test_a_disabled_expansion_writes_no_rows(tmp_path: Path) -> None:
    """It is checked like any other."""
    text = TOP + INLINE.format(element="alias", first="$", second="$", more="").replace(
        "  - expand", "  - disabled: true\n    expand"
    )
    made = draft(tmp_path, text, {"alias": ["one"]})
    assert made.children == ()
    assert made.map.expansions == ()
    assert made.unmapped == ("alias",)


def test_constants_alone_make_no_row(tmp_path: Path) -> None:
    """An item without match values is left out, whatever defaults say."""
    text = TOP + INLINE.format(element="telecom", first="$.system", second="$.value", more="").replace(
        "copy: $.value", "default: x"
    )
    made = draft(tmp_path, text, {"telecom": [{"use": "home"}]})
    assert made.children == ()
    assert codes(made) == [("information", "item-left-out", "telecom[0]")]

"""Element paths: what they read, in which spellings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from relay.mapping.paths import Misfit, PathError, compile_path

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "gender": "male",
    "active": True,
    "name": [
        {"use": "usual", "family": "Usual"},
        {"use": "official", "family": "Official", "given": ["One", None, "Three"]},
    ],
    "telecom": [
        {"system": "phone", "use": "home", "value": "1"},
        None,
        {"system": "phone", "use": "mobile", "value": "2", "rank": 1},
        {"system": "email", "value": "3", "rank": True},
    ],
    "identifier": [{"type": {"coding": [{"code": "MR"}]}, "value": "m"}, {"value": "n", "weight": Decimal("1.50")}],
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$.gender", "male"),
        ("gender", "male"),
        ("\\$.gender", "male"),
        ("$['gender']", "male"),
        ('$["gender"]', "male"),
        ("$.name[0].family", "Usual"),
        ("name[-1].family", "Official"),
        ("$.name[7].family", None),
        ("$.name[-7].family", None),
        ("$.name[*].given[0]", "One"),
        ("$.name[1].given[1]", None),
        ("$.name[1].given[*]", "One"),
        ("$.name[?(@.use=='official')].family", "Official"),
        ("$.name[?@.use=='official'].family", "Official"),
        ("$.name[?(@use=='official')].given[2]", "Three"),
        ("name.[?(@use == 'official')].family", "Official"),
        ('$.name[?(@["use"]=="official")].family', "Official"),
        ("$.name[?(@.use=='old')].family", None),
        ("$.telecom[?(@.system=='phone' && @.use=='mobile')].value", "2"),
        ("$.telecom[?(@system=='phone'&&@use=='home')].value", "1"),
        ("$.telecom[?(@.rank==1)].value", "2"),
        ("$.telecom[?(@.rank==true)].value", "3"),
        ("$.identifier[?(@.type.coding[0].code=='MR')].value", "m"),
        ("$.identifier[?(@.weight==1.5)].value", "n"),
        ("$.birthDate", None),
        ("$.maritalStatus.coding[0].code", None),
        ("$.name[?(@.use=='it\\'s')].family", None),
    ],
)
def test_a_path_reads_the_first_value(text: str, value: object) -> None:
    """RFC 9535 and the spellings of Json.NET read alike; null and absent are the same."""
    assert compile_path(text).first(PATIENT) == value


def test_all_reads_every_value_in_order() -> None:
    """Null items are skipped."""
    assert compile_path("$.telecom[*].value").all(PATIENT) == ["1", "2", "3"]
    assert compile_path("$.telecom[?(@.system=='phone')].value").all(PATIENT) == ["1", "2"]
    assert compile_path("$.name[-1].given[-1]").all(PATIENT) == ["Three"]
    assert compile_path("$.name[1].given[1]").all(PATIENT) == []
    assert compile_path("$.nothing[*].here").all(PATIENT) == []


def test_the_root_is_a_path() -> None:
    """In an expansion of plain texts `$` is the item itself."""
    path = compile_path("$")
    assert path.first("x") == "x"
    assert path.all("x") == ["x"]
    assert path.root_element == ""
    assert path.single


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("$.name[0]", {"name": {"family": "x"}}),
        ("$.name[*].family", {"name": "x"}),
        ("$.name.family", {"name": [{"family": "x"}]}),
        ("$.name[?(@.use=='a')].family", {"name": {"use": "a"}}),
        ("$.period.start", {"period": "2020"}),
        ("$.period.start", {"period": 5}),
    ],
)
def test_a_wrong_shape_is_told_from_absence(text: str, resource: dict[str, Any]) -> None:
    """`read` raises Misfit; `first` and `all` find nothing."""
    path = compile_path(text)
    with pytest.raises(Misfit):
        path.read(resource)
    with pytest.raises(Misfit):
        path.collect(resource, [])
    assert path.first(resource) is None
    assert path.all(resource) == []


def test_a_filter_passes_over_items_of_the_wrong_shape() -> None:
    """A filter asks a question of each item; an item that is no object answers no."""
    assert compile_path("$.name[?(@.use=='a')].family").first({"name": ["a", 5, {"use": "a", "family": "x"}]}) == "x"
    assert compile_path("$.a[?(@.b[0]=='x')].c").first({"a": [{"b": "xyz", "c": 1}, {"b": ["x"], "c": 2}]}) == 2


def test_a_path_knows_its_element_and_its_text() -> None:
    """The text is as written; equal paths are equal whatever their spelling."""
    path = compile_path("name[?(@use=='official')].family")
    assert path.text == "name[?(@use=='official')].family"
    assert path.root_element == "name"
    assert not path.single
    assert path.steps == compile_path("$.name[?@.use=='official'].family").steps


@pytest.mark.parametrize(
    "text", ["", "  ", "$x", "$.name[", "$.name[']", "$.name['\\n']", "$.name[x]", "$.name[01]", "$.a b"]
)
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    """The error holds the text and a caret."""
    with pytest.raises(PathError) as refused:
        compile_path(text)
    assert 0 <= refused.value.position <= len(text)
    assert str(refused.value).endswith("^")

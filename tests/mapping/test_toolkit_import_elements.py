"""The FHIR Element Map of the toolkit: what of its `s` and `c` a line says, and what is told instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.mapping.paths import compile_path
from relay.mapping.toolkit.creation import Creation, creation_of
from relay.mapping.toolkit.elements import ElementFault, element_name, read_element, text_of


def paths(text: str) -> list[str]:
    return [path.text for path in read_element(text).paths]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"s": "$.name[?(@use==\'official\')].family"}', "$.name[?(@use=='official')].family"),
        ('{"s":"\\$.system"}', "$.system"),
        ('{"s":"\\\\$.system"}', "$.system"),
        ("$.birthDate", "$.birthDate"),
        ("birthDate", "birthDate"),
        ("{'s': '$.gender'}", "$.gender"),
        ('{s: "$.gender",}', "$.gender"),
        ('{"S": " $.gender "}', "$.gender"),
        ('{\n\t"s": "$.[?(@.a==1)].b"\n}', "$.[?(@.a==1)].b"),
        ("{“s”: “$.name[?(@.use==‘usual’)].family”}", "$.name[?(@.use=='usual')].family"),  # noqa: RUF001
        ('{"s": "$.a[?(@.b===true)].c"}', "$.a[?(@.b==true)].c"),
    ],
)
def test_a_path_is_read_as_written_wherever_an_element_path_may_be_so(text: str, path: str) -> None:
    """Json.NET's spellings stay; only what Markdown and word processors left behind goes."""
    assert paths(text) == [path]


def test_a_filter_with_or_is_as_many_paths() -> None:
    """`||` is no operator of an element path; alternative paths say the same, quotes and `&&` untouched."""
    element = """{"s": "$.telecom[?(@.use=='home' && @.rank==1 || @.use=='a||b')].value"}"""
    assert paths(element) == [
        "$.telecom[?(@.use=='home' && @.rank==1)].value",
        "$.telecom[?(@.use=='a||b')].value",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no FHIR Element Map"),
        ('{"s": ""}', "has no s"),
        ('{"c": {}}', "has no s"),
        ('{"s": "$.a"', "is not JSON"),
        ('{"s": "$..family"}', "searching all levels"),
        ('{"s": "$.name[0:1]"}', "slices are not supported"),
        ('{"s": "$.name[?(@.use!=\'old\')].family"}', "only equality"),
        ('{"s": "$.name[?((@.a==1 || @.b==2) && @.c==3)].family"}', "compares a member"),
        ('{"s": "$.a", "c": []}', None),
        ('{"s": "$.a", "c": 1}', "c of the FHIR Element Map is no object"),
        ('{"s": "$.a", "c": {"p": 1, "a": []}}', "has no p and a"),
        ('{"s": "$.a", "c": {"p": "b c", "a": []}}', "names b c"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str | None) -> None:
    """The reason is what the report tells about the row."""
    if why is None:
        assert read_element(text).creates is None
        return
    with pytest.raises(ElementFault, match=why):
        read_element(text)


def test_an_expand_line_names_one_array() -> None:
    """A bare name, as a path or in an object; never something inside."""
    assert [element_name(each) for each in ("identifier", "$.link", '{"s": "$.participant"}')] == [
        "identifier",
        "link",
        "participant",
    ]
    with pytest.raises(ElementFault, match=r"\$\.contact\.telecom is not the bare name"):
        element_name("$.contact.telecom")


@pytest.mark.parametrize(
    "text",
    [
        "$",
        "$.name[0].given[-1]",
        "$.telecom[*].value",
        "$.name[?(@.use=='it\\'s' && @.period.start=='2020')].family",
        "$.a[?(@.b==true && @.c==1.5 && @.d[0].e==2)]",
    ],
)
def test_steps_are_written_as_the_path_that_they_are(text: str) -> None:
    """Compiling what was written gives the steps again."""
    steps = compile_path(text).steps
    assert text_of(steps) == text
    assert compile_path(text_of(steps)).steps == steps


def creation(select: str, parent: str, *properties: Any, action: str = "copy") -> Creation:
    return creation_of(read_element(json.dumps({"s": select, "c": {"p": parent, "a": list(properties)}})), action)


def test_c_that_says_what_the_filter_says_is_dropped() -> None:
    """The path itself says where a new value goes, so nothing but a note is left."""
    made = creation("$.name[?(@use=='official')].given[0]", "name[0]", {"use": "official"}, {"given[0]": "%"})
    assert made.block is None
    assert made.way
    assert (made.changes, made.losses) == ([], [])
    assert made.notes == ["c is not needed: s says where a new value goes"]


def test_fillers_are_told_and_never_carried() -> None:
    """`x` is a filler wherever it stands, in an array and in an object too."""
    made = creation("$.address[0].city", "address[0]", {"line": ["x"]}, {"city": "%"}, {"period": {"start": "x"}})
    assert made.block is None
    assert made.changes == ["fillers are never written: $.address[0].line[0], $.address[0].period.start"]


def test_a_constant_that_no_filter_demands_is_told_and_not_carried() -> None:
    """It may be more than a filler, so the report says how to keep it."""
    made = creation(
        "$.telecom[?(@.use=='mobile')].value", "telecom[0]", {"system": "phone"}, {"use": "mobile"}, {"value": "%"}
    )
    (told,) = made.changes
    assert told.startswith("the constant 'phone' at $.telecom[0].system is not written")
    assert made.block is None


def test_true_is_not_one() -> None:
    """A filter that demands 1 does not demand true."""
    made = creation("$.a[?(@.b==1)].c", "a[0]", {"b": True}, {"c": "%"})
    assert "True at $.a[0].b" in made.changes[0]


@pytest.mark.parametrize(
    ("action", "select", "parent", "properties", "block"),
    [
        ("copy", "$.telecom[*].value", "telecom[0]", [{"value": "%"}], {"at": "$.telecom[*]", "set": {"value": "%"}}),
        (
            "map",
            "$.maritalStatus.coding[*].code",
            "maritalStatus",
            [{"coding": [{"code": "%"}]}],
            {"at": "$.maritalStatus.coding[*]", "set": {"code": "%"}},
        ),
        (
            "copy",
            "$.contact[*].telecom[?(@.system=='phone')].value",
            "contact[0].telecom[0]",
            [{"system": "phone"}, {"value": "%"}],
            {"at": "$.contact[*]", "set": {"telecom": [{"system": "phone", "value": "%"}]}},
        ),
        (
            "reference",
            "$.generalPractitioner[*].reference",
            "generalPractitioner[0]",
            [{"reference": "%%%"}],
            {"at": "$.generalPractitioner[*]", "set": {"reference": "%%%"}},
        ),
        (
            "reference",
            "$.generalPractitioner[*]",
            "generalPractitioner[0]",
            [{"reference": "%%%"}],
            {"at": "$.generalPractitioner[*]", "set": {"reference": "%%%"}},
        ),
    ],
)
def test_c_of_a_path_with_every_item_becomes_a_create_block(
    action: str, select: str, parent: str, properties: list[Any], block: dict[str, Any]
) -> None:
    """A new item is added, where the toolkit takes a fixed position; that is told."""
    made = creation(select, parent, *properties, action=action)
    assert made.block == block
    assert made.way
    assert any(each.startswith("c became a create block") for each in made.changes)
    assert made.losses == []


def test_a_concept_of_every_item_gets_a_second_path() -> None:
    """Its value is a whole CodeableConcept; the second path says where a new one goes, and reads nothing more."""
    made = creation("$.category[*].coding[0].code", "category[0].coding[0]", {"code": "%"}, action="concept")
    assert made.path == "$.category[0].coding[0].code"
    assert made.block is None


@pytest.mark.parametrize(
    ("select", "parent", "name", "path"),
    [
        ("$.name[0].given[*]", "name[0]", "given", "$.name[0].given[0]"),
        ("$.name[?(@.use=='usual')].given[*]", "name[0]", "given", "$.name[?(@.use=='usual')].given[0]"),
        ("$.instantiatesUri[*]", "", "instantiatesUri", "$.instantiatesUri[0]"),
    ],
)
def test_every_item_of_plain_values_gets_a_second_path(select: str, parent: str, name: str, path: str) -> None:
    """A create block adds an object, and such an item is none."""
    made = creation(select, parent, {name: ["%"]})
    assert made.path == path
    assert made.block is None
    assert made.way


def test_a_position_that_would_leave_a_gap_is_told() -> None:
    """The second item of an array that is not there cannot be made."""
    made = creation("$.contact[*].telecom[1].value", "contact[0]", {"telecom[1]": {"value": "%"}})
    assert made.losses == ["c cannot be said as a create block: item 1 would leave a gap: there is no array yet"]
    assert not made.way


def test_the_system_of_a_concept_is_a_key_of_its_line() -> None:
    """From `c`, or from the filter that picks the coding."""
    told = creation(
        "$.code.coding[0].code", "code.coding[0]", {"system": "http://loinc.org"}, {"code": "%"}, action="concept"
    )
    assert told.system == "http://loinc.org"
    assert told.changes == []
    picked = creation_of(read_element("$.code.coding[?(@.system=='http://loinc.org')].code"), "concept")
    assert picked.system == "http://loinc.org"


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ([{"text": "%"}], "c puts the value at $.name[0].text, where s does not read it"),
        ([{"use": "official"}], "c puts the value nowhere"),
        ([{"family": "%"}, {"text": "%"}], "c puts % at $.name[0].text too"),
        ([{"family": "%"}, {"text": "Dr. %"}], r"c puts Dr. % at $.name[0].text too"),
    ],
)
def test_a_value_somewhere_else_is_lost(properties: list[Any], why: str) -> None:
    """A line writes the element that it reads, and only that one."""
    made = creation("$.name[?(@.use=='official')].family", "name[0]", *properties)
    assert any(each.startswith(why) for each in made.losses), made.losses


def test_a_path_with_every_item_and_no_c_says_no_place() -> None:
    """Then the line cannot be marked for write-back."""
    assert not creation_of(read_element("$.telecom[*].value"), "copy").way
    assert creation_of(read_element("$.telecom[0].value"), "copy").way

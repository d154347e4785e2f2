from __future__ import annotations

import json
from typing import Any

import pytest
from fhir_texts import GUID, OTHER, SYSTEM, taken_out

from relay.errors import Failed
from relay.fhir.identifiers import Added, Conflict, Present, add_identifier, canonical_guid, dynamics_ids, mark_old

ENTRY = f'{{"system":"{SYSTEM}","value":"{GUID}"}}'


def add(text: str) -> Added | Present | Conflict:
    return add_identifier(text, system=SYSTEM, value=GUID)


def patient(*identifiers: Any) -> str:
    return json.dumps({"resourceType": "Patient", "id": "p1", "identifier": list(identifiers)})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"id":"p1"}', f'{{"id":"p1","identifier":[{ENTRY}]}}'),
        ('{\n  "id": "p1"\n}\n', f'{{\n  "id": "p1","identifier":[{ENTRY}]\n}}\n'),
        ('{"identifier":[],"id":"p1"}', f'{{"identifier":[{ENTRY}],"id":"p1"}}'),
        ('{"identifier":[ ],"id":"p1"}', f'{{"identifier":[{ENTRY} ],"id":"p1"}}'),
        ('{"identifier": null ,"id":"p1"}', f'{{"identifier": [{ENTRY}] ,"id":"p1"}}'),
        ('{"identifier":[{"value":"7"} ]}', f'{{"identifier":[{{"value":"7"}},{ENTRY} ]}}'),
        ('{"identifier":[null,"x",7]}', f'{{"identifier":[null,"x",7,{ENTRY}]}}'),
        ('{"\\u0069dentifier":[{}]}', f'{{"\\u0069dentifier":[{{}},{ENTRY}]}}'),
    ],
)
def test_one_identifier_is_put_in(before: str, after: str) -> None:
    """The identifier is the last of its array, the array the last of the resource; no other byte moves."""
    assert add(before) == Added(after)


@pytest.mark.parametrize("value", [GUID.upper(), f"{{{GUID}}}", f"{{{GUID.upper()}}}"])
def test_the_guid_is_written_as_dataverse_spells_it(value: str) -> None:
    """Whatever case and braces the GUID comes with, it is written in lower case without braces."""
    assert add_identifier('{"id":"p1"}', system=SYSTEM, value=value) == add('{"id":"p1"}')
    assert canonical_guid(value) == GUID


@pytest.mark.parametrize("value", [GUID, GUID.upper(), f"{{{GUID.upper()}}}"])
def test_an_identifier_that_is_there_is_left_alone(value: str) -> None:
    """Our GUID in any spelling is present: there is nothing to write."""
    assert (
        add(patient({"system": "urn:x", "value": "1"}, {"use": "usual", "system": SYSTEM, "value": value})) == Present()
    )


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([{"system": SYSTEM, "value": OTHER}], Conflict("other-guid")),
        ([{"system": SYSTEM, "value": OTHER}, {"system": SYSTEM, "value": GUID}], Conflict("other-guid")),
        ([{"system": SYSTEM, "value": "not a GUID"}], Conflict("other-guid")),
        ([{"system": SYSTEM, "value": 7}], Conflict("other-guid")),
        ([{"system": SYSTEM, "value": GUID, "use": "old"}], Conflict("ours-is-old")),
        (
            [{"system": SYSTEM, "value": GUID, "use": "old"}, {"system": SYSTEM, "value": OTHER, "use": "old"}],
            Conflict("ours-is-old"),
        ),
        ([{"system": SYSTEM, "value": OTHER, "use": "old"}, {"system": SYSTEM, "value": GUID}], Present()),
        ([{"system": SYSTEM, "value": GUID, "use": "old"}, {"system": SYSTEM, "value": GUID}], Present()),
    ],
)
def test_a_conflict_writes_nothing(entries: list[Any], verdict: Conflict | Present) -> None:
    """Another current value under our system, or ours as old, is a conflict; an old one of another row is not."""
    assert add(patient(*entries)) == verdict


@pytest.mark.parametrize(
    "entry",
    [
        {"system": SYSTEM, "value": OTHER, "use": "old"},
        {"system": SYSTEM},
        {"system": SYSTEM, "value": None},
        {"system": SYSTEM, "value": ""},
        {"value": GUID},
        {"system": None, "value": GUID},
        {"system": SYSTEM.upper(), "value": OTHER},
        {"system": f"{SYSTEM}/", "value": OTHER},
        {"system": [SYSTEM], "value": OTHER},
    ],
)
def test_entries_that_are_not_ours_do_not_matter(entry: dict[str, Any]) -> None:
    """Systems are compared exactly; an entry without system or value claims nothing and stays."""
    before = patient(entry)
    merged = add(before)
    assert isinstance(merged, Added)
    assert taken_out(merged.text, before).strip(",") == ENTRY


@pytest.mark.parametrize("value", ['{"system":"x"}', '"x"', "7", "true"])
def test_a_single_identifier_has_no_room(value: str) -> None:
    """A resource type whose identifier is one object, or a wrong value, is refused and named."""
    with pytest.raises(Failed) as failed:
        add(f'{{"identifier":{value}}}')
    assert (failed.value.code, failed.value.at) == ("invalid-element", "identifier")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[]", "invalid-element"),
        ("7", "invalid-element"),
        ("{}", "invalid-element"),
        ("", "not-json"),
        ('{"id":"p1"', "not-json"),
        ('{"id":"p1"}{"id":"p1"}', "not-json"),
        ('{"id":NaN}', "not-json"),
        ('{"identifier":[],"identifier":[]}', "duplicate-member"),
        ('{"identifier":[{"value":"1","value":"2"}]}', "duplicate-member"),
        ('{"id":"p1","meta":{"tag":[{"code":"SUBSETTED"}]}}', "subsetted"),
    ],
)
def test_what_is_no_whole_resource_is_refused(text: str, code: str) -> None:
    """Broken or ambiguous JSON, and a resource that is only a part of itself, are never the base of a write."""
    with pytest.raises(Failed) as failed:
        add(text)
    assert failed.value.code == code


def test_adding_twice_is_adding_once() -> None:
    """A resource that got the identifier has it."""
    merged = add('{"id":"p1"}')
    assert isinstance(merged, Added)
    assert add(merged.text) == Present()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{{"system":"{s}", "value":"{g}"}}', '{{"system":"{s}", "value":"{g}","use":"old"}}'),
        ('{{"system":"{s}","use": "official","value":"{g}"}}', '{{"system":"{s}","use": "old","value":"{g}"}}'),
        ('{{"use":null,"system":"{s}","value":"{g}"}}', '{{"use":"old","system":"{s}","value":"{g}"}}'),
        ('{{"system":"{s}","value":"{g}","use":"old"}}', '{{"system":"{s}","value":"{g}","use":"old"}}'),
        ('{{"system":"urn:x","value":"{g}"}}', '{{"system":"urn:x","value":"{g}"}}'),
        ('{{"system":"{s}","value":"x"}}', '{{"system":"{s}","value":"x"}}'),
    ],
)
def test_a_row_that_is_gone_is_marked_old(before: str, after: str) -> None:
    """Only `use` of entries with this system and GUID changes, wherever they stand and however often."""
    before, after = (each.format(s=SYSTEM, g=OTHER.upper()) for each in (before, after))
    frame = '{{"identifier":[ {{"value":"1"}}, {0}, {0} ],"x":1.10}}'
    assert mark_old(frame.format(before), system=SYSTEM, value=OTHER) == frame.format(after)


@pytest.mark.parametrize("text", ['{"id":"p1"}', '{"identifier":null}', '{"identifier":[]}'])
def test_nothing_to_mark_changes_nothing(text: str) -> None:
    """Without identifiers the text stays as it is."""
    assert mark_old(text, system=SYSTEM, value=OTHER) == text


def test_after_marking_the_new_row_fits_in() -> None:
    """Once the old row's identifier is old, the new row's identifier is no conflict."""
    before = patient({"system": SYSTEM, "value": OTHER})
    assert add(before) == Conflict("other-guid")
    merged = add(mark_old(before, system=SYSTEM, value=OTHER))
    assert isinstance(merged, Added)
    assert dynamics_ids(json.loads(merged.text), SYSTEM) == ((GUID,), (OTHER,))


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (None, ((), ())),
        ([], ((), ())),
        ({"system": SYSTEM, "value": GUID}, ((), ())),
        ([None, "x", {"system": SYSTEM}, {"system": SYSTEM, "value": 7}, {"value": GUID}], ((), ())),
        ([{"system": SYSTEM, "value": f"{{{GUID.upper()}}}"}, {"system": SYSTEM, "value": GUID}], ((GUID,), ())),
        (
            [{"system": SYSTEM, "value": OTHER}, {"system": SYSTEM, "value": GUID, "use": "official"}],
            ((OTHER, GUID), ()),
        ),
        ([{"system": SYSTEM, "value": OTHER, "use": "old"}, {"system": SYSTEM, "value": GUID}], ((GUID,), (OTHER,))),
    ],
)
def test_the_guids_that_a_resource_claims(identifier: Any, expected: tuple[Any, Any]) -> None:
    """Current and old GUIDs under the system, canonical and each once; ill-typed parts claim nothing."""
    assert dynamics_ids({"identifier": identifier}, SYSTEM) == expected
    assert dynamics_ids({}, SYSTEM) == ((), ())

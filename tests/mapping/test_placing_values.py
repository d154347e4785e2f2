"""Element paths turned round: write then read gives the value, read then write changes nothing else."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay.mapping.paths import compile_path
from relay.mapping.placing import NoPlace, edited, find, put, take_away

NAMES = st.sampled_from(["name", "use", "family", "given", "system", "value", "code"])
TEXTS = st.sampled_from(["official", "usual", "phone", "mobile", "x", "y"])


def member(name: str) -> str:
    return f".{name}"


STEPS = st.lists(
    st.one_of(
        NAMES.map(member),
        st.sampled_from(["[0]", "[1]", "[-1]"]),
        st.builds(lambda name, text: f"[?(@.{name}=='{text}')]", st.sampled_from(["use", "system"]), TEXTS),
        st.builds(lambda one, two: f"[?(@.use=='{one}' && @.system=='{two}')]", TEXTS, TEXTS),
    ),
    min_size=1,
    max_size=5,
)
PATHS = st.builds(lambda first, rest: "$" + member(first) + "".join(rest), NAMES, STEPS)
JSON = st.recursive(
    st.one_of(TEXTS, st.integers(0, 3), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


def grown(puts: list[tuple[str, Any]]) -> dict[str, Any]:
    """Grow a resource by putting values where paths say."""
    resource: dict[str, Any] = {}
    for text, value in puts:
        with suppress(NoPlace):
            resource = edited(resource, [put(compile_path(text).steps, resource, value)])
    return resource


RESOURCES = st.one_of(
    st.lists(st.tuples(PATHS, TEXTS), max_size=6).map(grown), st.dictionaries(NAMES, JSON, max_size=5)
)
BOTH = st.lists(st.tuples(PATHS, TEXTS), min_size=1, max_size=6).map(lambda puts: (puts[-1][0], grown(puts)))
"""A path, and a resource in which it most likely finds something."""
VALUES = st.sampled_from(["new", 7, True, {"reference": "Patient/1"}])


@given(PATHS, RESOURCES, VALUES)
def test_what_is_put_is_what_is_read(text: str, resource: dict[str, Any], value: Any) -> None:
    """After the edit the path reads the value, unless there was no room for it: then that is said."""
    path = compile_path(text)
    before = deepcopy(resource)
    try:
        edit = put(path.steps, resource, value)
    except NoPlace:
        return
    assert resource == before
    read = path.read(edited(resource, [edit]))
    assert read == value or (isinstance(value, dict) and text.endswith(")]") and value.items() <= read.items())


@given(BOTH)
def test_putting_what_is_there_changes_nothing(both: tuple[str, dict[str, Any]]) -> None:
    """Read, then write the same: not one member differs."""
    text, resource = both
    path = compile_path(text)
    value = path.first(resource)
    assume(value is not None)
    assert edited(resource, [put(path.steps, resource, value)]) == resource


@given(PATHS, RESOURCES, VALUES)
def test_nothing_else_is_lost(text: str, resource: dict[str, Any], value: Any) -> None:
    """Everything that stood elsewhere stands there still, in its order."""
    path = compile_path(text)
    try:
        pointer, new = put(path.steps, resource, value)
    except NoPlace:
        return
    after = edited(resource, [(pointer, new)])
    assert list(_leaves(resource, pointer)) == list(_leaves(after, pointer))


def _leaves(value: Any, but: tuple[str | int, ...], at: tuple[str | int, ...] = ()) -> Any:
    if at == but:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, but, (*at, name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _leaves(inner, but, (*at, position))
    else:
        yield at, value


@given(BOTH)
def test_what_is_taken_away_is_not_found(both: tuple[str, dict[str, Any]]) -> None:
    """After the edits the path finds nothing, and no object or array was left empty by it."""
    text, resource = both
    path = compile_path(text)
    try:
        at = find(path.steps, resource)
        assume(at is not None)
        assert at is not None
        after = edited(resource, take_away(path.steps, resource, at))
    except (NoPlace, ValueError):
        return
    assert path.first(after) is None
    assert _empties(after) <= _empties(resource) or after == {}


def _empties(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_empties, value.values())) + (not value)
    if isinstance(value, list):
        return sum(map(_empties, value)) + (not value)
    return 0


CASES = {
    "nothing_there": ("$.name[?(@.use=='official')].family", {}, {"name": [{"use": "official", "family": "F"}]}),
    "another_item": (
        "$.name[?(@.use=='official')].family",
        {"name": [{"use": "usual", "family": "U"}]},
        {"name": [{"use": "usual", "family": "U"}, {"use": "official", "family": "F"}]},
    ),
    "an_item_without_it": (
        "$.name[?(@.use=='official')].family",
        {"name": [{"use": "official", "given": ["G"]}]},
        {"name": [{"use": "official", "given": ["G"], "family": "F"}]},
    ),
    "nested_filter": (
        "$.identifier[?(@.type.coding[0].code=='MR' && @.system=='s')].value",
        {},
        {"identifier": [{"type": {"coding": [{"code": "MR"}]}, "system": "s", "value": "F"}]},
    ),
    "an_extension": (
        "$.extension[?(@.url=='http://x/religion')].valueCodeableConcept.text",
        {"extension": [{"url": "http://x/other", "valueString": "o"}]},
        {
            "extension": [
                {"url": "http://x/other", "valueString": "o"},
                {"url": "http://x/religion", "valueCodeableConcept": {"text": "F"}},
            ]
        },
    ),
    "the_next_item": ("$.name[0].given[1]", {"name": [{"given": ["A"]}]}, {"name": [{"given": ["A", "F"]}]}),
    "in_place": ("$.name[0].given[0]", {"name": [{"given": ["A", "B"]}]}, {"name": [{"given": ["F", "B"]}]}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_created_is_what_the_path_says(name: str) -> None:
    """A filter's members become those of the new item; items are appended; what is there is replaced where it is."""
    text, before, after = CASES[name]
    assert edited(before, [put(compile_path(text).steps, before, "F")]) == after


NOWHERE = {
    "a_gap": ("$.name[0].given[1]", {"name": [{}]}),
    "a_gap_from_nothing": ("$.name[1].family", {}),
    "any_item": ("$.name[*].family", {}),
    "an_object_for_an_array": ("$.name[0].family", {"name": {"family": "F"}}),
    "a_text_for_an_object": ("$.name.family", {"name": "F"}),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_a_value_without_a_place_is_refused(name: str) -> None:
    """No position is assumed: a gap, an item that is not named and another JSON shape are said, not written."""
    text, resource = NOWHERE[name]
    with pytest.raises(NoPlace):
        put(compile_path(text).steps, resource, "F")


AWAY = {
    "a_member": ("$.birthDate", {"birthDate": "x", "gender": "y"}, {"gender": "y"}),
    "what_only_the_filter_says": (
        "$.telecom[?(@.system=='phone')].value",
        {"telecom": [{"system": "phone", "value": "1"}], "gender": "y"},
        {"gender": "y"},
    ),
    "an_item_that_says_more": (
        "$.telecom[?(@.system=='phone')].value",
        {"telecom": [{"system": "phone", "value": "1", "rank": 2}]},
        {"telecom": [{"system": "phone", "rank": 2}]},
    ),
    "what_is_left_empty": ("$.name[0].given[0]", {"name": [{"given": ["A"]}], "gender": "y"}, {"gender": "y"}),
    "the_last_item": ("$.name[0].given[1]", {"name": [{"given": ["A", "B"]}]}, {"name": [{"given": ["A"]}]}),
}


@pytest.mark.parametrize("name", AWAY)
def test_what_goes_takes_along_only_what_it_leaves_empty(name: str) -> None:
    """An item of which only the filter's members are left goes; one that says more stays."""
    text, before, after = AWAY[name]
    path = compile_path(text)
    at = find(path.steps, before)
    assert at is not None
    assert edited(before, take_away(path.steps, before, at)) == after


STAYS = {
    "items_would_move_up": ("$.name[0].given[0]", {"name": [{"given": ["A", "B"]}]}),
    "another_would_take_its_place": (
        "$.telecom[?(@.system=='phone')].value",
        {"telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2"}]},
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_nothing_moves_into_the_place_of_what_goes(name: str) -> None:
    """Where another value would be read instead, nothing is taken away."""
    text, resource = STAYS[name]
    path = compile_path(text)
    at = find(path.steps, resource)
    assert at is not None
    with pytest.raises(NoPlace):
        take_away(path.steps, resource, at)

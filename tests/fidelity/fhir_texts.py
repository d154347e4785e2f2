"""JSON texts of resources as other systems write them: any spacing, number text, escapes and order."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import Any

from hypothesis import strategies as st

SYSTEM = "urn:oid:org.d365.mc4h.patient.id"
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

spaces = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n", "\n    "])
numbers = st.sampled_from(
    [
        "1.10",
        "1e3",
        "1E+3",
        "-0.0",
        "0",
        "-0",
        "66.899999999999991",
        "0.00000001234567890123456789",
        "12345678901234567890",
    ]
)
characters = st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters='"\\') | st.sampled_from(
    ["\\n", '\\"', "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude00", "\\ud800", "\\uDC00", "{", "}", "[", "]", ",", ":", "é"]
)
strings = st.lists(characters, max_size=6).map(lambda parts: f'"{"".join(parts)}"')


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str], names: st.SearchStrategy[str] | None = None) -> str:
    """Write an object of distinct names and any values."""
    chosen = draw(st.lists(names or strings, max_size=4, unique_by=json.loads))
    return written(draw, "{", [f"{name}{draw(spaces)}:{draw(spaces)}{draw(values)}" for name in chosen], "}")


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Write an array of any values."""
    return written(draw, "[", draw(st.lists(values, max_size=3)), "]")


def written(draw: st.DrawFn, opening: str, parts: list[str], closing: str) -> str:
    """Join parts with commas and random white space."""
    spaced = [f"{draw(spaces)}{part}{draw(spaces)}" for part in parts]
    return f"{opening}{','.join(spaced) or draw(spaces)}{closing}"


values = st.recursive(
    st.sampled_from(["null", "true", "false"]) | numbers | strings,
    lambda inner: arrays(inner) | objects(inner),
    max_leaves=8,
)

systems = st.sampled_from([SYSTEM, SYSTEM.upper(), f"{SYSTEM}/", "http://hl7.org/fhir/sid/us-npi"])
guids = st.sampled_from([GUID, GUID.upper(), f"{{{GUID.upper()}}}", OTHER, "x"])
uses = st.sampled_from([None, "old", "official", "usual"])


@st.composite
def identifiers(draw: st.DrawFn) -> str:
    """Write one identifier: with or without system, value and use, and elements nobody knows, in any order."""
    members = draw(
        st.fixed_dictionaries(
            {}, optional={'"system"': systems, '"value"': guids, '"use"': uses, '"_value"': st.just({})}
        )
    )
    parts = [f"{name}{draw(spaces)}:{draw(spaces)}{json.dumps(value)}" for name, value in members.items()]
    parts += draw(st.lists(values.map(lambda value: f'"other":{value}'), max_size=1))
    return written(draw, "{", draw(st.permutations(parts)), "}")


@st.composite
def resources(draw: st.DrawFn, array: st.SearchStrategy[str | None]) -> str:
    """Write a resource whose identifier is drawn from `array` (None: it has none)."""
    parts = ['"resourceType":"Patient"', f'"id"{draw(spaces)}:"p1"']
    names = st.sampled_from(["_birthDate", "birthDate", "name", "valueDecimal", "é", "\\u0069d2", "extension"])
    chosen = draw(st.lists(names, unique=True, max_size=4))
    parts += [f'"{name}":{draw(spaces)}{draw(values)}' for name in chosen]
    identifier = draw(array)
    if identifier is not None:
        parts.append(f'"identifier"{draw(spaces)}:{draw(spaces)}{identifier}')
    return f"{draw(spaces)}{written(draw, '{', draw(st.permutations(parts)), '}')}{draw(spaces)}"


def exactly(text: str) -> Any:
    """Parse JSON with the text of every number, and members as ordered pairs."""
    return json.loads(text, parse_float=_number, parse_int=_number, object_pairs_hook=lambda pairs: ("object", pairs))


def _number(text: str) -> tuple[str, str]:
    return ("number", text)


def taken_out(new: str, old: str) -> str:
    """Return the piece that was put into `old` to make `new`; fails if `new` is anything else."""
    assert len(new) >= len(old)
    # the first place where they differ; comparing beginnings is quicker than comparing characters
    start = bisect_left(range(len(old)), 1, key=lambda at: old[: at + 1] != new[: at + 1])
    end = start + len(new) - len(old)
    assert new[:start] + new[end:] == old
    return new[start:end]

"""The YAML that an import writes reads as the data it was written from, however strange the texts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mapping.document import read_document
from relay.mapping.toolkit.write import write_map

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    [
        "no",
        "true",
        "null",
        "~",
        "1",
        "1.5",
        "-",
        "a: b",
        "a #b",
        "#b",
        "a:",
        "$.name[0]",
        "%",
        "urn:oid:1.2",
        " a",
        "a ",
        "a  b",
    ]
)
SCALARS = TEXTS | st.integers() | st.booleans() | st.decimals(allow_nan=False, allow_infinity=False, places=2)
KEYS = TEXTS.filter(bool)
VALUES = st.recursive(
    SCALARS, lambda each: st.dictionaries(KEYS, each, min_size=1, max_size=3) | st.lists(each, max_size=3), max_leaves=5
)
LINES = st.dictionaries(KEYS | st.sampled_from(["column", "copy", "values"]), VALUES, min_size=1, max_size=5)
MAPS = st.fixed_dictionaries(
    {"resource": TEXTS},
    optional={
        "where": st.dictionaries(KEYS, SCALARS, min_size=1, max_size=2),
        "identifier": st.dictionaries(KEYS, SCALARS, min_size=1, max_size=2),
        "expansions": st.dictionaries(
            KEYS,
            st.fixed_dictionaries({"table": TEXTS, "attributes": st.lists(LINES, min_size=1, max_size=2)}),
            min_size=1,
            max_size=2,
        ),
        "attributes": st.lists(LINES, min_size=1, max_size=4),
    },
)


@given(data=MAPS, title=TEXTS, remark=TEXTS)
def test_what_is_written_reads_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], title: str, remark: str
) -> None:
    """Data and numbers exactly, whatever stands in comments."""
    place = next(((key, name) for key in ("where", "identifier") for name in data.get(key, ())), ("resource",))
    path = tmp_path_factory.mktemp("yaml") / "map.yaml"
    path.write_text(write_map(data, (title,), {place: remark}), encoding="utf-8")
    read = read_document(path).data
    assert read == data
    assert repr(read) == repr(data)


def test_a_line_stands_on_one_line_where_it_fits() -> None:
    """Long ones are written key by key, and lines that hold lines always are."""
    short = {"column": "lastname", "copy": "$.name[0].family"}
    long = {"column": "gendercode", "map": "$.gender", "values": {f"code-{number}": number for number in range(20)}}
    nested = {"expand": "role", "table": "t", "lookup": "l", "attributes": [short]}
    data = {"resource": "Patient", "attributes": [short, long, nested], "where": {"a": Decimal("1.50")}}
    text = write_map(data, ("Patient",), {})
    assert text.startswith("# Patient\n\nresource: Patient\n")
    assert '  - {column: lastname, copy: "$.name[0].family"}\n' in text
    assert "  - column: gendercode\n    map: $.gender\n    values:\n      code-0: 0\n" in text
    assert '    attributes:\n      - {column: lastname, copy: "$.name[0].family"}\n' in text
    assert "where: {a: 1.50}\n" in text
    assert max(map(len, text.splitlines())) <= 118

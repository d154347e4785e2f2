"""The pages on maps name every key, action, choice and issue code there is, and what they show is so."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from mapping_kit import ROOT

from relay.mapping.actions import ACTIONS
from relay.mapping.model import Column
from relay.mapping.path_text import PathError
from relay.mapping.paths import compile_path
from relay.mapping.placing import edited, put
from relay.mapping.schema import KEYS  # and with it every action
from relay.mapping.shape import CreateShape, ExpansionShape, IdentifierShape, MappedShape, MapShape, Shape
from relay.mapping.values import PartialPolicy, Unfit, to_column

NAMES = ("maps", "element-paths", "map-values", "references-and-concepts", "expansions", "both-ways", "live-maps")
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
TEXT = "\n".join(PAGES.values())
SHAPES = [MapShape, IdentifierShape, CreateShape, ExpansionShape, *(kind.shape for kind in ACTIONS.values())]

CARRIED = ("actions", "building", "expansions", "lookups", "translate", "outward", "reverse", "values")
"""Modules of relay/mapping whose issues come into an outcome or a dead letter."""
AROUND = (
    "inbound/agreement",
    "inbound/carry",
    "inbound/resolve",
    "writeback/births",
    "writeback/outgoing",
    "store/turns",
)
"""Other modules whose codes tell about maps."""


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    below = PAGES[page].split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None
    lines = [re.split(r"(?<!\\) \| ", line.strip("| \n")) for line in table[0].splitlines()]
    return [[cell.replace("\\|", "|") for cell in line] for line in lines[2:]]


def reference() -> dict[str, list[str]]:
    """Return the table rows of the entry page by each key that their first cell names."""
    found: dict[str, list[str]] = {}
    for line in PAGES["maps"].splitlines():
        if line.startswith("| `"):
            for key in re.findall(r"`(\w+)`", line.split(" | ")[0]):
                found.setdefault(key, []).append(line)
    return found


def choices(annotation: Any) -> Iterator[str]:
    """Yield the words that a key takes."""
    for each in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(each)
        elif each is not NoneType:
            yield from choices(each)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_key_has_a_row(shape: type[Shape]) -> None:
    """A key that nobody can find is not there, and neither is a word that it takes."""
    there = reference()
    assert KEYS.keys() <= there.keys()
    for name, field in shape.model_fields.items():
        key = field.alias or name
        assert key in there, key
        words = [*choices(field.annotation)]
        assert any(all(f"`{word}`" in row for word in words) for row in there[key]), (key, words)


def test_what_happens_to_unlisted_codes_has_its_words() -> None:
    """`unmapped` is a pattern and no list of words: those that it begins with are in its row."""
    (pattern,) = [each.pattern for each in MappedShape.model_fields["unmapped"].metadata if hasattr(each, "pattern")]
    (row,) = reference()["unmapped"]
    words = re.findall(r"[a-z]+", pattern)
    assert len(words) > 3
    for word in words:
        assert f"`{word}" in row, word


def codes() -> Iterator[str]:
    """Yield every code that these modules give to an issue, a failure or a wait."""
    files = [f"mapping/{name}" for name in CARRIED] + list(AROUND)
    for name in files:
        tree = ast.parse((ROOT / "relay" / f"{name}.py").read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = getattr(call.func, "id", getattr(call.func, "attr", ""))
            given = [each.value for each in call.keywords if each.arg == "code"]
            if called in ("Issue", "issue") and len(call.args) > 1:
                given.append(call.args[1])
            elif called == "Unfit":
                given.append(call.args[0])
            for each in (leaf for value in given for leaf in ast.walk(value)):
                if isinstance(each, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z]+)*", str(each.value)):
                    yield str(each.value)


def test_every_issue_is_on_a_page() -> None:
    """People search the pages for the code in the outcome or the log."""
    found = set(codes()) - {
        "unknown-option",
        "dataverse-busy",
        "maps",
    }  # options are checked at load; no word about a map
    assert len(found) > 25
    assert sorted(code for code in found if f"`{code}`" not in TEXT) == []


def test_what_a_path_makes() -> None:
    """The table of element paths turned round is what placing does."""
    table = rows("element-paths", "## Turned round")
    assert len(table) > 4
    for path, made in table:
        steps = compile_path(path.strip("`")).steps
        assert edited({}, [put(steps, {}, "A")]) == json.loads(made.strip("`")), path


def test_what_is_refused_and_why() -> None:
    """The table of refused paths has the loader's own reasons."""
    table = rows("element-paths", "## Refused")
    assert len(table) > 6
    for path, why in table:
        with pytest.raises(PathError) as refused:
            compile_path(path.strip("`"))
        assert refused.value.reason == why, path


def test_every_spelling_is_taken() -> None:
    """The paths in the tables of what is read and of typical elements load."""
    cells = [cells[0] for cells in rows("element-paths", "## Reading")]
    cells += [cells[1] for cells in rows("element-paths", "## Typical elements")]
    paths = [path for cell in cells for path in re.findall(r"\$[^`\",]*", cell)]
    assert len(paths) > 12
    for path in paths:
        assert compile_path(path).text == path


def test_dates_become_what_the_page_says() -> None:
    """The table of dates is what the columns take."""
    kinds = {1: Column("a", "DateTime", format="DateOnly"), 2: Column("a", "DateTime", format="DateAndTime")}
    for cells in rows("map-values", "## Dates"):
        value = cells[0].split("`")[1]
        for place, column in kinds.items():
            policy: PartialPolicy = "first-day" if "first-day" in cells[0] else "skip"
            if cells[place] == "nothing":
                with pytest.raises(Unfit, match="whole dates"):
                    to_column(column, value, partial=policy)
            else:
                assert cells[place] == f"`{to_column(column, value, partial=policy)}`"

"""`relay maps schema`: the JSON Schema of map files, which editors read from maps/schema.json."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from mapping_kit import IDENTIFIER, MAPS, TOP

from relay.cli import main
from relay.mapping.document import read_document
from relay.mapping.outline import map_files
from relay.mapping.schema import KEYS, schema, schema_text

VALIDATOR = jsonschema_rs.Draft202012Validator(schema())
COMMENT = "# yaml-language-server: $schema=schema.json"
SHIPPED = map_files(MAPS)


def plain(value: Any) -> Any:
    """Return a document as JSON has it: numbers with a point are floats."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return float(value) if isinstance(value, Decimal) else value


def fits(text: str, folder: Path) -> bool:
    path = folder / "map.yaml"
    path.write_text(text, encoding="utf-8")
    return VALIDATOR.is_valid(plain(read_document(path).data))


def test_the_schema_is_one() -> None:
    """It follows the rules of its own dialect."""
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema())


def test_the_shipped_schema_is_current() -> None:
    """maps/schema.json is what the shapes say."""
    assert (MAPS / "schema.json").read_text(encoding="utf-8") == schema_text(), "run `relay maps schema --write`"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_map_fits(path: Path) -> None:
    """What loads has no red line in an editor."""
    assert [error.message for error in VALIDATOR.iter_errors(plain(read_document(path).data))] == []


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        ("attributes: []\n", True),
        ("attributes: [{column: a, copy: $.a}]\n", True),
        ("attributes: [{column: a, copy: [$.a, $.b], length: truncate, create: {at: $.a, set: {x: '%'}}}]\n", True),
        ("attributes: [{column: a, default: 1.5}]\n", True),
        ("attributes: [{column: a, concept: $.a, type: Priority}]\n", True),
        ("attributes: [{column: a, map: $.a, values: {x: 1}, unmapped: 'default: 2', beside: {b: true}}]\n", True),
        (
            "attributes: [{expand: a, using: b, disabled: true}]\nexpansions: {b: {table: t, lookup: l, attributes: [{expand: c, using: d}]}}\n",
            True,
        ),
        ("attributes: [{column: a}]\n", False),
        ("attributes: [{column: a, copy: $.a, map: $.b, values: {x: 1}}]\n", False),
        ("attributes: [{column: a, copy: $.a, colour: red}]\n", False),
        ("attributes: [{column: a, copy: []}]\n", False),
        ("attributes: [{column: a, copy: $.a, length: cut}]\n", False),
        ("attributes: [{column: a, map: $.a, values: {}}]\n", False),
        ("attributes: [{column: a, map: $.a, values: {x: 1}, unmapped: ignore}]\n", False),
        ("attributes: [{column: a, reference: $.a}]\n", False),
        ("attributes: [{column: a, copy: $.a, create: {at: $.a}}]\n", False),
        ("attributes: [{expand: a, attributes: [{column: b}]}]\n", False),
        ("expansions: {b: {table: t, lookup: l, attributes: []}}\n", False),
        ("create: sometimes\n", False),
        ("writeback: [delete]\n", False),
        ("identifier: null\n", False),
        ("colour: red\n", False),
    ],
)
def test_what_fits_and_what_does_not(text: str, fitting: bool, tmp_path: Path) -> None:
    """Unknown keys, missing ones, wrong choices and two actions in one line are seen while typing."""
    assert fits(TOP + text, tmp_path) is fitting


def test_blocks_and_types() -> None:
    """The identifier block is checked; the type is one of R4."""
    document = {"resource": "Patient", "table": "contact", "key": "k"}
    block = dict(line.strip().split(": ", 1) for line in IDENTIFIER.splitlines()[1:])
    assert VALIDATOR.is_valid({**document, "identifier": block})
    assert not VALIDATOR.is_valid({**document, "identifier": {**block, "colour": "red"}})
    assert not VALIDATOR.is_valid({**document, "resource": "Pateint"})


def test_every_key_says_what_it_is() -> None:
    """An editor has a sentence for each key of each object, and for each object."""
    top = schema()
    for name, each in {"": top, **top["$defs"]}.items():
        assert each["description"], name
        for key, shape in each.get("properties", {}).items():
            assert shape["description"], f"{name}.{key}"
    used = {key for each in (top, *top["$defs"].values()) for key in each.get("properties", {})}
    assert used == {*KEYS, "create"}


def test_printing_and_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --write it goes to stdout, with it beside the maps."""
    assert main(["maps", "schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert main(["maps", "schema", "--write", "--maps", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'schema.json'}\n"
    assert main(["maps", "schema", "--write", "--json", "--maps", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": str(tmp_path / "schema.json")}
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_map_names_the_schema(path: Path) -> None:
    """The first line tells editors where the schema is."""
    assert path.read_text(encoding="utf-8").splitlines()[0] == COMMENT

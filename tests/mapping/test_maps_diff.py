"""`relay maps diff`: what two sets of maps say differently, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mapping_kit import IDENTIFIER, TOP

from relay.cli import main
from relay.mapping.diff import diff
from relay.mapping.document import Document
from relay.mapping.outline import outline, read_outlines

HEAD = TOP + IDENTIFIER
NAME = "  - {column: lastname, copy: $.family}\n"
EXPANSION = """  ids:
    table: prefix_patientidentifier
    lookup: prefix_patient
    attributes:
      - {column: prefix_value, copy: $.value, match: true}
      - expand: type
        table: t
        lookup: l
        attributes: [{column: c, copy: $.code, match: true}]
"""


def said(tmp_path: Path, before: str, after: str) -> list[str]:
    """Return the differences between two map files, in words."""
    paths = (tmp_path / "a.yaml", tmp_path / "b.yaml")
    for path, text in zip(paths, (before, after), strict=True):
        path.write_text(text, encoding="utf-8")
    one, other = (read_outlines(path) for path in paths)
    return [f"{each.change} {each}" for each in diff(one, other)]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (NAME, "  - {column: lastname, copy: $.family}  # again\n", []),
        (NAME, NAME + "  - {column: fax, copy: $.f}\n", ["added fax added: copy: $.f"]),
        (NAME + "  - {column: fax, copy: $.f}\n", NAME, ["removed fax removed: copy: $.f"]),
        (NAME, "  - {column: lastname, copy: $.name}\n", ["changed lastname copy: $.family -> $.name"]),
        (
            NAME,
            "  - {column: lastname, copy: [$.family, $.name]}\n",
            ["changed lastname copy: $.family -> $.family | $.name"],
        ),
        (NAME, "  - {column: lastname, default: 5}\n", ["changed lastname action: copy: $.family -> default: 5"]),
        (NAME, "  - {column: lastname, copy: $.family, length: truncate}\n", ["added lastname length added: truncate"]),
        (NAME, "  - {column: lastname, copy: $.family, match: true}\n", ["added lastname match added: true"]),
        (
            "  - {column: a, map: $.c, values: {m: 1, f: 2}, unmapped: keep}\n",
            "  - {column: a, map: $.c, values: {m: 1, f: 3, x: 4}, unmapped: fail}\n",
            ["changed a values f: 2 -> 3", "added a values x added: 4", "changed a unmapped: keep -> fail"],
        ),
        (
            "  - {column: a, copy: $.c, beside: {k: 1}}\n",
            "  - {column: a, copy: $.c}\n",
            ["removed a beside removed: k: 1"],
        ),
        (NAME + NAME, NAME, ["removed lastname (2) removed: copy: $.family"]),
    ],
)
def test_lines_by_column(before: str, after: str, words: list[str], tmp_path: Path) -> None:
    """Action, path, values and policies of a column; how it is written does not count."""
    assert said(tmp_path, f"{HEAD}attributes:\n{before}", f"{HEAD}attributes:\n{after}") == words


def test_the_order_of_lines_does_not_count(tmp_path: Path) -> None:
    """A line that moved says what it said."""
    other = "  - {column: fax, copy: $.f}\n"
    assert said(tmp_path, f"{HEAD}attributes:\n{NAME}{other}", f"attributes:\n{other}{NAME}{HEAD}") == []


def test_keys_of_the_map_and_of_its_blocks(tmp_path: Path) -> None:
    """Keys above the lines are told by name, those of a block with its name."""
    before = f"{HEAD}where: {{msemr_contacttype: 935000000}}\n"
    after = f"{HEAD.replace('prefix_value', 'prefix_other')}where: {{msemr_contacttype: 935000001}}\ncreate: linked\n"
    assert said(tmp_path, before, after) == [
        "changed identifier value_column: prefix_value -> prefix_other",
        "changed where msemr_contacttype: 935000000 -> 935000001",
        "added create added: linked",
    ]


def test_expansions_and_their_lines(tmp_path: Path) -> None:
    """A named expansion and one written in its place are the same; lines inside go by the arrays around them."""
    before = f"{TOP}expansions:\n{EXPANSION}attributes:\n  - {{expand: identifier, using: ids}}\n"
    inline = EXPANSION.replace("  ids:\n", "  - expand: identifier\n")
    assert said(tmp_path, before, f"{TOP}attributes:\n{inline}") == []
    changed = inline.replace("$.code", "$.text").replace("l\n", "m\n").replace("$.value,", "$.system, null: clear,")
    assert said(tmp_path, before, f"{TOP}attributes:\n{changed}    disabled: true\n") == [
        "added expand identifier disabled added: true",
        "changed expand identifier.type lookup: l -> m",
        "added expand identifier.type disabled added: true",
        "changed identifier.prefix_value copy: $.value -> $.system",
        "added identifier.prefix_value null added: clear",
        "changed identifier.type.c copy: $.code -> $.text",
    ]
    assert "removed expand identifier.type removed: table: t, lookup: l" in said(
        tmp_path, before, f"{TOP}attributes: []\n"
    )


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Maps are paired by resource type, whatever their files are called; a difference is exit code 1."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "metadata.json").write_text("{}", encoding="utf-8")
        (folder / "schema.json").write_text("{}", encoding="utf-8")
    (one / "a.yaml").write_text(f"{HEAD}attributes:\n{NAME}", encoding="utf-8")
    (other / "b.json").write_text(json.dumps(outline_of(f"{HEAD}attributes:\n{NAME}", tmp_path).data), encoding="utf-8")
    assert main(["maps", "diff", str(one), str(other)]) == 0
    assert capsys.readouterr().out == "no difference\n"
    (other / "c.yaml").write_text("resource: Device\ntable: d\nkey: k\n", encoding="utf-8")
    (one / "d.yml").write_text("resource: Task\ntable: t\nkey: k\n", encoding="utf-8")
    assert main(["maps", "diff", str(one), str(other)]) == 1
    assert capsys.readouterr().out == "Device\n  + map added\nTask\n  - map removed\n"
    assert main(["maps", "diff", "--json", str(one), str(other)]) == 1
    assert json.loads(capsys.readouterr().out)["differences"] == [
        {"resource": "Device", "change": "added", "at": "", "key": "", "before": None, "after": None},
        {"resource": "Task", "change": "removed", "at": "", "key": "", "before": None, "after": None},
    ]


def outline_of(text: str, folder: Path) -> Document:
    """Return a map as a document, from a file that is gone again."""
    path = folder / "once.yaml"
    path.write_text(text, encoding="utf-8")
    (found,) = read_outlines(path)
    path.unlink()
    return found.document


def test_numbers_for_programs_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A number with a point stays one in JSON."""
    for name, value in (("a.yaml", "1.5"), ("b.yaml", "2.25")):
        (tmp_path / name).write_text(f"{HEAD}attributes: [{{column: c, default: {value}}}]\n", encoding="utf-8")
    assert main(["maps", "diff", "--json", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]) == 1
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert (found["before"], found["after"]) == (1.5, 2.25)


@pytest.mark.parametrize("text", ["[]", "a: {", "- x"])
def test_what_is_no_map_is_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be read is not a map that was removed."""
    (tmp_path / "good.yaml").write_text(HEAD, encoding="utf-8")
    bad = tmp_path / "maps"
    bad.mkdir()
    (bad / "bad.yaml").write_text(text, encoding="utf-8")
    assert main(["maps", "diff", str(tmp_path / "good.yaml"), str(bad)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"relay maps diff: {bad / 'bad.yaml'}")


def test_wrong_lines_are_left_out_of_an_outline() -> None:
    """What has not the shape of a line is told by loading; an outline goes on."""
    data = {
        "resource": "Patient",
        "expansions": [],
        "attributes": [
            "x",
            {"column": "a"},
            {"copy": "a", "map": "b"},
            {"column": "c", "copy": "$.d"},
            {"expand": "e"},
        ],
    }
    found = outline(Document("f", data, {}))
    assert [line.column for line in found.lines] == ["c"]
    assert [each.under for each in found.expansions] == [("e",)]
    assert found.table == ""
    assert found.tables == frozenset()

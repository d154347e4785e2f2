"""`relay maps preview`: the rows of `relay preview`, and for each column the line and path it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import IDENTIFIER, TOP, resolve
from maps_kit import folder_of

from relay.cli import main
from relay.mapping.load import load_maps
from relay.mapping.preview import preview

SAMPLE = Path(__file__).parents[2] / "samples" / "bundle.json"
MAP = f"""{TOP}where: {{msemr_contacttype: 935000000}}
null: clear
{IDENTIFIER}attributes:
  - {{column: lastname, copy: [$.family, "$.name[0].family"]}}
  - {{column: nickname, copy: $.nick}}
  - {{column: jobtitle, default: patient}}
"""


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json", str(SAMPLE)]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["resources"]
    return found


def test_the_rows_are_those_of_preview(capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands show the same; this one adds a source for every column of every row."""
    plain, told = rows(capsys, "preview"), rows(capsys, "maps", "preview")
    for one, other in zip(plain, told, strict=True):
        for row in (other, *other["children"]):
            assert row.pop("sources").keys() == row["columns"].keys()
        assert one == other


def test_where_a_column_came_from(tmp_path: Path) -> None:
    """A line and the path that had a value, the `where` of the map, or nothing: then it is cleared."""
    folder = folder_of(tmp_path, MAP)
    resource = {"resourceType": "Patient", "id": "1", "name": [{"family": "f"}], "identifier": [{"value": "v"}]}
    (made,) = preview(load_maps(folder), [resource], resolve, sources=True)["resources"]
    number = {
        part: line for line, text in enumerate(MAP.splitlines(), 1) for part in ("lastname", "default") if part in text
    }
    assert made["sources"] == {
        "msemr_contacttype": "map0.yaml where",
        "msemr_azurefhirid": made["sources"]["msemr_azurefhirid"],
        "lastname": f"map0.yaml:{number['lastname']} $.name[0].family",
        "nickname": "map0.yaml cleared",
        "jobtitle": f"map0.yaml:{number['default']}",
    }
    assert made["sources"]["msemr_azurefhirid"].endswith(" $.id")
    (child,) = made["children"]
    assert child["columns"] == {"prefix_value": "v"}
    assert child["sources"]["prefix_value"].endswith(" $.value")


def test_rows_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each column has its source behind it."""
    path = tmp_path / "patients.ndjson"
    path.write_text('{"resourceType":"Patient","id":"1","name":[{"family":"f"}]}\n\n', encoding="utf-8")
    assert main(["maps", "preview", "--maps", str(folder_of(tmp_path / "maps", MAP)), str(path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Patient/1 -> contact"
    line = next(number for number, text in enumerate(MAP.splitlines(), 1) if "lastname" in text)
    assert f"  lastname = f    [map0.yaml:{line} $.name[0].family]" in out


TEAM = """resource: CareTeam
table: msemr_careteam
key: msemr_azurefhirid
attributes:
  - expand: participant
    table: msemr_careteamparticipant
    lookup: msemr_careteam
    attributes:
      - {column: msemr_azurefhirid, copy: $.member.display, match: true}
      - expand: role
        table: msemr_careteamparticipantrole
        lookup: msemr_careteamparticipant
        attributes: [{column: msemr_display, copy: $.text, match: true}]
"""


def test_rows_that_hang_on_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Items of items are shown below the row they hang on, with their sources."""
    tables = ("msemr_careteam", "msemr_careteamparticipant", "msemr_careteamparticipantrole")
    folder = folder_of(tmp_path / "maps", TEAM, tables=tables)
    participant = {"member": {"display": "m"}, "role": [{"text": "r"}, {"text": "s"}]}
    path = tmp_path / "team.json"
    path.write_text(json.dumps({"resourceType": "CareTeam", "id": "1", "participant": [participant]}), encoding="utf-8")
    assert main(["maps", "preview", "--json", "--maps", str(folder), str(path)]) == 0
    (made,) = json.loads(capsys.readouterr().out)["resources"]
    (child,) = made["children"]
    assert [each["columns"] for each in child["children"]] == [{"msemr_display": "r"}, {"msemr_display": "s"}]
    assert child["children"][0]["sources"] == {"msemr_display": "map0.yaml:13 $.text"}
    assert main(["preview", "--maps", str(folder), str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  + msemr_careteamparticipant: msemr_azurefhirid = m",
        "    + msemr_careteamparticipantrole: msemr_display = r",
        "    + msemr_careteamparticipantrole: msemr_display = s",
    ]

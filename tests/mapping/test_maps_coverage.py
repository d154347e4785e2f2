"""`relay maps coverage`: what maps read of real resources, and what real resources fill of the maps; never a value."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import IDENTIFIER, TOP, resolve
from maps_kit import folder_of

from relay.cli import main
from relay.mapping.coverage import Coverage, read_elements, unread
from relay.mapping.load import load_maps
from support.data import need_fhir_data

LINES = """attributes:
  - {column: lastname, copy: ["$.name[?(@.use=='official')].family", "$.name[0].family"]}
  - {column: gendercode, map: $.gender, values: {male: 1}}
  - {column: nickname, copy: $.nick.name}
  - {column: msemr_generalpractioner, reference: "$.generalPractitioner[*].reference", targets: {Patient: contact}}
  - {column: msemr_spoken, concept: "$.communication[0].language", type: 935000102}
"""
CONCEPT = {"type": "Lookup", "targets": ["msemr_codeableconcept"], "navigation": {"msemr_codeableconcept": "msemr_S"}}
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "1", "profile": ["http://x"], "tag": [{"system": "s", "code": "c"}]},
    "identifier": [{"use": "usual", "system": "s", "value": "canary-1", "period": {"start": "2020"}}],
    "name": [
        {"use": "official", "family": "canary-2", "given": ["canary-3"], "period": {"start": "2020", "end": None}},
        {"text": "canary-4"},
    ],
    "gender": "male",
    "_birthDate": {"extension": [{"url": "u", "valueString": "v"}]},
    "generalPractitioner": [{"reference": "Patient/1", "display": "canary-5"}, {"identifier": {"system": "s"}}],
    "communication": [{"language": {"coding": [{"system": "s", "code": "c", "display": "d"}], "text": "t"}}],
    "contained": [{"resourceType": "Organization", "id": "o", "name": "canary-6"}],
}
UNREAD = {
    "meta.profile",
    "meta.tag.system",
    "meta.versionId",
    "identifier.period.start",
    "name.given",
    "name.period.start",
    "name.text",
    "_birthDate.extension.url",
    "_birthDate.extension.valueString",
    "generalPractitioner.display",
    "communication.language.coding.system",
    "communication.language.text",
    "contained",
}


def maps_in(folder: Path, *texts: str) -> Path:
    return folder_of(folder, *(texts or (TOP + IDENTIFIER + LINES,)), contact__msemr_spoken=CONCEPT)


def test_elements_that_no_line_reads(tmp_path: Path) -> None:
    """Dotted names without positions; what filters compare, references mean and concepts take is read."""
    entity = load_maps(maps_in(tmp_path)).for_resource("Patient")
    assert entity is not None
    assert unread(PATIENT, read_elements(entity)) == UNREAD


def test_version_and_time_are_read_where_they_have_columns(tmp_path: Path) -> None:
    """meta.versionId and meta.lastUpdated count as read only by a map that keeps them."""
    text = TOP + "version: msemr_azurefhirversion\nlast_updated: msemr_azurefhirlastupdatedon\nattributes: []\n"
    entity = load_maps(maps_in(tmp_path, text)).for_resource("Patient")
    assert entity is not None
    assert unread({"meta": {"versionId": "1", "lastUpdated": "2", "source": "s"}}, read_elements(entity)) == {
        "meta.source"
    }


def test_a_disabled_expansion_reads_nothing(tmp_path: Path) -> None:
    """Of an array whose expansion is disabled nothing is read; an enabled one reads what its lines name."""
    expansion = (
        "{expand: identifier, using: ids}\nexpansions:\n  ids:\n    table: prefix_patientidentifier\n"
        "    lookup: prefix_patient\n    attributes: [{column: prefix_value, copy: $.value, match: true}]\n"
    )
    resource = {"identifier": [{"value": "v", "system": "s"}]}
    for more, left in (
        ("", {"identifier.system"}),
        ("    disabled: true\n", {"identifier.system", "identifier.value"}),
    ):
        entity = load_maps(maps_in(tmp_path, f"{TOP}attributes:\n  - {expansion}{more}")).for_resource("Patient")
        assert entity is not None
        assert unread(resource, read_elements(entity)) == left


def test_counts_by_type(tmp_path: Path) -> None:
    """Elements are counted once a resource, columns are filled or not, and failures are counted."""
    coverage = Coverage(load_maps(maps_in(tmp_path)))
    coverage.add(PATIENT, resolve)
    coverage.add({"resourceType": "Patient", "id": "p2", "name": [{"text": "a"}, {"text": "b"}]}, resolve)
    coverage.add({"resourceType": "Patient", "name": "wrong"}, resolve)
    coverage.add({"resourceType": "Basic", "id": "b", "code": {"text": "t"}}, resolve)
    patients, others = coverage.report()
    assert (patients["type"], patients["resources"], patients["map"], patients["table"]) == (
        "Patient",
        3,
        "mapped",
        "contact",
    )
    assert patients["failed"] == 1
    assert {"element": "name.text", "resources": 2, "percent": 66.7} in patients["unread"]
    assert patients["unread"][0]["element"] == "name.text"
    assert patients["unfilled"] == ["nickname"]
    assert others == {
        "type": "Basic",
        "resources": 1,
        "map": "none",
        "table": None,
        "failed": 0,
        "issues": {},
        "unread": [{"element": "code.text", "resources": 1, "percent": 100.0}],
        "unfilled": [],
    }


def test_a_disabled_map_reads_nothing(tmp_path: Path) -> None:
    """Its resources are passed over, so all of them is unread."""
    coverage = Coverage(load_maps(maps_in(tmp_path, f"{TOP}disabled: true\nattributes: []\n")))
    coverage.add({"resourceType": "Patient", "id": "1", "gender": "male"}, resolve)
    (found,) = coverage.report()
    assert (found["map"], found["unfilled"]) == ("disabled", [])
    assert [each["element"] for each in found["unread"]] == ["gender"]


def test_columns_of_rows_that_hang_on_rows(tmp_path: Path) -> None:
    """What nothing filled is told with the array it would come from."""
    coverage = Coverage(load_maps(maps_in(tmp_path)))
    coverage.add({"resourceType": "Patient", "id": "1", "identifier": [{"value": "v"}]}, resolve)
    (found,) = coverage.report()
    assert "identifier: prefix_system" in found["unfilled"]
    assert "identifier: prefix_value" not in found["unfilled"]


def files(folder: Path) -> Path:
    """Write one file of each kind that can be read, two levels deep, and one that is none of them."""
    data = folder / "data" / "below"
    data.mkdir(parents=True)
    text = json.dumps(PATIENT)
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": PATIENT}, {"resource": {"resourceType": "Basic", "id": "b"}}],
    }
    (data / "one.json").write_text(text, encoding="utf-8")
    (data / "two.json.gz").write_bytes(gzip.compress(json.dumps(bundle).encode()))
    (data / "three.ndjson").write_text(f"{text}\n\n", encoding="utf-8")
    (data.parent / "four.ndjson.gz").write_bytes(gzip.compress(f"{text}\n".encode()))
    (data / "README.txt").write_text("not FHIR", encoding="utf-8")
    return folder / "data"


def covered(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = main(["maps", "coverage", "--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_every_kind_of_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bundles, resources and NDJSON, plain or gzipped, in folders and below them."""
    data = files(tmp_path)
    code, found, err = covered(capsys, "--maps", maps_in(tmp_path / "maps"), data)
    assert (code, err) == (0, "")
    assert (found["files"], found["failed"]) == (4, 0)
    assert [(each["type"], each["resources"]) for each in found["types"]] == [("Patient", 4), ("Basic", 1)]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are counted all the same; no file at all is a failure, too."""
    data = files(tmp_path)
    (data / "broken.json").write_text("{", encoding="utf-8")
    code, found, err = covered(capsys, "--maps", maps_in(tmp_path / "maps"), data, data / "nowhere.json")
    assert (code, found["files"], found["failed"]) == (1, 6, 2)
    assert "broken.json: " in err
    assert "nowhere.json: " in err
    (tmp_path / "empty").mkdir()
    code, found, err = covered(capsys, "--maps", tmp_path / "maps", tmp_path / "empty")
    assert (code, found["types"]) == (1, [])
    assert err == "relay maps coverage: no FHIR files there\n"


def test_the_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a type, then what is not read and not filled; types without a map only on request; never a value."""
    arguments = ["maps", "coverage", str(files(tmp_path)), "--maps", str(maps_in(tmp_path / "maps"))]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    head, patients, others, *rest = out.splitlines()
    assert head.split() == ["type", "resources", "map", "table", "unread", "unfilled", "failed"]
    assert patients.split() == ["Patient", "4", "mapped", "contact", str(len(UNREAD)), "1", "0"]
    assert others.split() == ["Basic", "1", "none", "-", "0", "0", "0"]
    assert "  not read        4  100.0 %  name.period.start" in rest
    assert "  not filled nickname" in rest
    assert "canary" not in out
    assert main([*arguments, "--all"]) == 0
    assert "canary" not in capsys.readouterr().out


def test_the_shipped_maps_over_published_bundles(capsys: pytest.CaptureFixture[str]) -> None:
    """Every resource of the published Synthea bundles is counted, and none that has a map fails."""
    folder = need_fhir_data() / "synthea-blaze"
    code, found, _ = covered(capsys, folder)
    assert code == 0
    assert found["files"] == len(list(folder.glob("*.json.gz")))
    assert sum(each["resources"] for each in found["types"]) > 10_000
    assert {each["type"]: each["failed"] for each in found["types"] if each["failed"]} == {}
    patients = next(each for each in found["types"] if each["type"] == "Patient")
    assert "name.family" not in {each["element"] for each in patients["unread"]}

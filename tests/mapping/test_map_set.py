"""A set of maps: which map a type, a table or a row belongs to, and what is worth telling about it."""

from __future__ import annotations

import json
from pathlib import Path

from mapping_kit import IDENTIFIER, MAPS, TOP, load

from relay.mapping.check import check
from relay.mapping.load import load_maps

SHIPPED = load_maps(MAPS)


def test_maps_are_found_by_type_table_and_identifier_table() -> None:
    """Unknown names find nothing."""
    names = [each.resource for each in SHIPPED.maps]
    assert {"Patient", "Practitioner", "Organization", "Encounter", "CarePlan", "Observation"} <= {*names}
    assert len(names) == len({*names})
    patient = SHIPPED.for_resource("Patient")
    assert patient in SHIPPED.for_table("contact")
    assert len(SHIPPED.for_table("contact")) == 2
    assert SHIPPED.for_identifier_table("prefix_patientidentifier") == (patient,)
    assert SHIPPED.for_resource("Questionnaire") is None
    assert SHIPPED.for_table("lead") == ()
    assert SHIPPED.for_identifier_table("contact") == ()


def test_a_row_belongs_to_the_map_whose_where_it_fits() -> None:
    """A row that fits none, or does not hold the column, is somebody else's."""
    fitting = SHIPPED.fitting
    assert fitting("contact", {"msemr_contacttype": 935000000}) is SHIPPED.for_resource("Patient")
    assert fitting("contact", {"msemr_contacttype": 935000001}) is SHIPPED.for_resource("Practitioner")
    assert fitting("contact", {"msemr_contacttype": 935000002}) is None
    assert fitting("contact", {"msemr_contacttype": None}) is None
    assert fitting("contact", {}) is None
    assert fitting("account", {"msemr_accounttype": 935000000}) is None
    assert fitting("msemr_careplan", {}) is SHIPPED.for_resource("CarePlan")
    assert fitting("lead", {}) is None


def test_columns_are_all_that_the_relay_may_write() -> None:
    """where, key, version, time and every line; each once."""
    patient = SHIPPED.for_resource("Patient")
    assert patient is not None
    assert patient.columns[:4] == (
        "msemr_contacttype",
        "msemr_azurefhirid",
        "msemr_azurefhirversion",
        "msemr_azurefhirlastupdatedon",
    )
    assert {"lastname", "msemr_generalpractioner"} <= {*patient.columns}
    assert len({*patient.columns}) == len(patient.columns)


def test_maps_may_be_json(tmp_path: Path) -> None:
    """The same keys; tabs between them are fine, and the facts and the editor's schema are no maps."""
    text = json.dumps({"resource": "Patient", "table": "contact", "key": "msemr_azurefhirid"}, indent="\t")
    (tmp_path / "patient.json").write_text(text, encoding="utf-8")
    (tmp_path / "schema.json").write_text("{}", encoding="utf-8")
    assert [entity.resource for entity in load(tmp_path)] == ["Patient"]


def test_plain_words_of_yaml_are_text(tmp_path: Path) -> None:
    """`no`, dates and numbers with leading zeros keep their letters."""
    lines = [
        "{column: firstname, default: no}",
        "{column: lastname, default: 2020-01-01}",
        "{column: suffix, default: 007}",
    ]
    maps = load(tmp_path, TOP + "attributes:\n" + "".join(f"  - {line}\n" for line in lines))
    assert [line.value for line in maps.maps[0].lines] == ["no", "2020-01-01", "007"]


def test_decimals_in_a_map_do_not_drift(tmp_path: Path) -> None:
    """A number with a point is a decimal from the start."""
    maps = load(tmp_path, TOP + "attributes:\n  - {column: creditlimit, default: 0.10}\n")
    assert str(maps.maps[0].lines[0].value) == "0.10"


def test_shipped_maps_leave_nothing_to_tell() -> None:
    """Every required column has a source, or the map says that it is left empty."""
    assert [finding for finding in check(SHIPPED) if finding.severity != "information"] == []


def test_required_columns_without_a_source_are_told(tmp_path: Path) -> None:
    """A merely required column is a warning: nothing fills it, and the Web API does not enforce it."""
    found = {(issue.severity, issue.code, issue.at) for issue in check(load(tmp_path, TOP + IDENTIFIER))}
    assert found == {
        ("warning", "required", "contact.lastname"),
        ("warning", "required", "contact.msemr_contacttype"),
    }


def test_system_required_columns_without_a_source_are_errors(tmp_path: Path) -> None:
    """The Web API refuses such a row."""
    folder = tmp_path / "maps"
    folder.mkdir()
    facts = json.loads((MAPS / "metadata.json").read_text(encoding="utf-8"))
    facts["tables"]["contact"]["columns"]["nickname"]["required"] = "systemrequired"
    (folder / "metadata.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "patient.yaml").write_text(TOP + IDENTIFIER, encoding="utf-8")
    assert ("error", "system-required") in {(issue.severity, issue.code) for issue in check(load_maps(folder))}


def test_targets_without_a_map_and_maps_without_write_back_are_told(tmp_path: Path) -> None:
    """A lookup to a type without a map stays empty."""
    line = "{column: msemr_generalpractioner, reference: $.gp, targets: {Practitioner: contact}}"
    found = {issue.code for issue in check(load(tmp_path, f"{TOP}attributes:\n  - {line}\n"))}
    assert {"unmapped-target", "no-writeback"} <= found

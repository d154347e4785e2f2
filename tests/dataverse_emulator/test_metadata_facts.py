"""The shipped column facts say what the Common Data Model says, and name everything they add to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
FACTS: dict[str, Any] = json.loads((REPO / "maps/metadata.json").read_text("utf-8"))
DATA = Path(os.environ.get("RELAY_TEST_DATA") or REPO.parent / "shared" / "data")
NAME = "msemr-schema.json"
HEALTHCARE = ("contact", "account", "msemr_encounter", "msemr_careplan", "msemr_codeableconcept")
IDENTIFIERS = {
    "prefix_patientidentifier": ("prefix_patient", "contact", "prefix_Patient"),
    "prefix_practitioneridentifier": ("prefix_practitioner", "contact", "prefix_Practitioner"),
    "prefix_organizationidentifier": ("prefix_organization", "account", "prefix_Organization"),
    "prefix_encounteridentifier": ("prefix_encounter", "msemr_encounter", "prefix_Encounter"),
    "prefix_careplanidentifier": ("prefix_careplan", "msemr_careplan", "prefix_Careplan"),
}
ADDRESS = {"line1", "line2", "line3", "city", "county", "stateorprovince", "postalcode", "country"}
STANDARD = {
    "createdby",
    "createdon",
    "createdonbehalfby",
    "importsequencenumber",
    "modifiedby",
    "modifiedon",
    "modifiedonbehalfby",
    "overriddencreatedon",
    "ownerid",
    "owningbusinessunit",
    "owningteam",
    "owninguser",
    "timezoneruleversionnumber",
    "utcconversiontimezonecode",
    "versionnumber",
}
ADDED = {
    ("contact", "address1_addresstypecode"),
    *((table, f"address1_{part}") for table in ("contact", "account") for part in ADDRESS),
    *((table, column) for table in ("contact", "account", "msemr_encounter", "msemr_careplan") for column in STANDARD),
    ("msemr_codeableconcept", "versionnumber"),
}
"""Columns that the model's documents of the table do not carry."""
TARGETS_LEFT_OPEN = {
    ("contact", "accountid"),
    ("contact", "parentcontactid"),
    *(
        (table, column)
        for table in ("contact", "account")
        for column in ("createdbyexternalparty", "modifiedbyexternalparty")
    ),
}
"""Lookups whose target the model leaves out."""


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    path = next((folder / NAME for folder in (DATA, DATA.parent) if (folder / NAME).exists()), None)
    if path is None:
        pytest.skip(f"no {NAME} here: set RELAY_TEST_DATA to the folder that holds it")
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


@pytest.mark.parametrize("table", HEALTHCARE)
def test_columns_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """Every column of the model is there, and every other one is named as added."""
    ours, theirs = set(FACTS["tables"][table]["columns"]), set(model["tables"][table]["columns"])
    assert theirs <= ours
    assert {(table, column) for column in ours - theirs} == {pair for pair in ADDED if pair[0] == table}


@pytest.mark.parametrize("table", HEALTHCARE)
def test_types_lengths_options_and_targets_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """A column's type, length, range, options and lookup targets are the model's."""
    columns = FACTS["tables"][table]["columns"]
    for name, theirs in model["tables"][table]["columns"].items():
        ours = columns[name]
        for fact in ("type", "maxLength", "min", "max", "options", "required"):
            assert ours.get(fact) == theirs.get(fact), f"{table}.{name}: {fact}"
        if (table, name) in TARGETS_LEFT_OPEN:
            assert theirs["targets"] == []
            assert len(ours["targets"]) == 1
        else:
            assert ours.get("targets") == theirs.get("targets"), f"{table}.{name}: targets"


@pytest.mark.parametrize("table", HEALTHCARE)
def test_standard_columns_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """The columns every table has carry the model's types, ranges and targets."""
    columns = FACTS["tables"][table]["columns"]
    for name in STANDARD & set(columns):
        for fact in ("type", "min", "max", "targets"):
            assert columns[name].get(fact) == model["standardColumns"][name].get(fact), f"{table}.{name}: {fact}"


@pytest.mark.parametrize("table", HEALTHCARE)
def test_table_facts_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """A table's names, primary columns and ownership are the model's."""
    ours, theirs = FACTS["tables"][table], model["tables"][table]
    for fact in ("schemaName", "displayName", "primaryId", "primaryName", "ownership"):
        assert ours[fact] == theirs[fact], f"{table}: {fact}"


@pytest.mark.parametrize("table", FACTS["tables"])
def test_every_lookup_names_a_navigation_property_per_target(table: str) -> None:
    """Lookups name one navigation property for each target; other columns name none."""
    for name, column in FACTS["tables"][table]["columns"].items():
        if column["type"] in {"Lookup", "Customer", "Owner"}:
            assert list(column["navigation"]) == column["targets"], f"{table}.{name}"
            assert all(column["navigation"].values()), f"{table}.{name}"
        else:
            assert "navigation" not in column, f"{table}.{name}"


@pytest.mark.parametrize("table", FACTS["tables"])
def test_every_date_column_says_whether_it_has_a_time(table: str) -> None:
    """A DateTime column is DateOnly or DateAndTime."""
    for name, column in FACTS["tables"][table]["columns"].items():
        if column["type"] == "DateTime":
            assert column["format"] in {"DateOnly", "DateAndTime"}, f"{table}.{name}"


@pytest.mark.parametrize("table", IDENTIFIERS)
def test_identifier_tables_have_system_value_and_parent(table: str) -> None:
    """An identifier table has a system, a value and a lookup to the table it identifies."""
    lookup, parent, navigation = IDENTIFIERS[table]
    facts = FACTS["tables"][table]
    assert facts["entitySet"] == f"{table}s"
    assert (facts["primaryId"], facts["primaryName"]) == (f"{table}id", "prefix_system")
    assert facts["columns"]["prefix_system"]["maxLength"] == 1024
    assert facts["columns"]["prefix_value"]["maxLength"] == 1024
    assert facts["columns"][lookup]["navigation"] == {parent: navigation}


def test_no_other_tables() -> None:
    """The facts cover the mapped tables and nothing else."""
    assert tuple(FACTS["tables"]) == (*HEALTHCARE, *IDENTIFIERS)


def test_the_source_is_credited() -> None:
    """The file names the repository, commit and licence it is adapted from."""
    source = FACTS["source"]
    assert source["repository"] == "https://github.com/microsoft/CDM"
    assert source["license"] == "CC-BY-4.0"
    assert len(source["commit"]) == 40

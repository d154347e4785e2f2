"""The shipped column facts say what the Common Data Model says, and name everything they add to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.mapping.document import plain, read_document

REPO = Path(__file__).parents[2]
FACTS: dict[str, Any] = json.loads((REPO / "maps/metadata.json").read_text("utf-8"))
TABLES: dict[str, Any] = FACTS["tables"]
MAPS = sorted(path.name for path in (REPO / "maps").iterdir() if path.suffix in {".yaml", ".yml"})
DATA = Path(os.environ.get("RELAY_TEST_DATA") or REPO.parent / "shared" / "data")
NAME = "msemr-schema.json"

TOOLKIT = frozenset(
    {
        "msind_attributevaluemap",
        "msind_azurefhirresource",
        "msind_syncagentlog",
        "msind_updateserviceattributemap",
        "msind_updateserviceentitymap",
    }
)
"""Tables of the model in which Microsoft's toolkit keeps its own maps and log: no map of the relay names them."""

IDENTIFIED = {
    "AllergyIntolerance": "msemr_allergyintolerance",
    "Appointment": "msemr_appointmentemr",
    "BodyStructure": "msemr_bodysite",
    "CarePlan": "msemr_careplan",
    "CareTeam": "msemr_careteam",
    "Claim": "msemr_claim",
    "Communication": "msemr_communication",
    "Condition": "msemr_condition",
    "Coverage": "msemr_coverage",
    "Device": "msemr_device",
    "DiagnosticReport": "msemr_diagnosticreport",
    "Encounter": "msemr_encounter",
    "Endpoint": "msemr_endpoint",
    "EpisodeOfCare": "msemr_episodeofcare",
    "Goal": "msemr_goal",
    "HealthcareService": "msemr_healthcareservice",
    "Location": "msemr_location",
    "Medication": "msemr_medication",
    "MedicationAdministration": "msemr_medicationadministration",
    "MedicationRequest": "msemr_medicationrequest",
    "Observation": "msemr_observation",
    "Organization": "account",
    "Patient": "contact",
    "Practitioner": "contact",
    "PractitionerRole": "msemr_practitionerrole",
    "Procedure": "msemr_procedure",
    "RelatedPerson": "msemr_relatedperson",
    "RiskAssessment": "msemr_riskassessment",
    "Schedule": "msemr_schedule",
    "ServiceRequest": "msemr_procedurerequest",
    "Slot": "msemr_slot",
    "Specimen": "msemr_specimen",
    "Task": "task",
}
"""Resource type → the table whose rows its identifier table hangs on."""
IDENTIFIERS = {f"prefix_{kind.lower()}identifier": kind for kind in IDENTIFIED}

FHIR_COLUMNS: dict[str, dict[str, Any]] = {
    "prefix_fhirid": {"type": "String", "maxLength": 64},
    "prefix_fhirversion": {"type": "String", "maxLength": 64},
    "prefix_fhirlastupdatedon": {"type": "DateTime", "format": "DateAndTime"},
}
"""What tables get that are mapped and have no msemr_azurefhirid."""
WITHOUT_AZURE_FHIR_ID = frozenset(
    {
        "msemr_bodysite",
        "msemr_communication",
        "msemr_coverage",
        "msemr_endpoint",
        "msemr_episodeofcare",
        "msemr_goal",
        "msemr_healthcareservice",
        "msemr_medicationadministration",
        "msemr_practitionerrole",
        "msemr_procedurerequest",
        "msemr_riskassessment",
        "msemr_specimen",
        "task",
    }
)

AZURE_FHIR_COLUMNS: dict[str, dict[str, Any]] = {
    "msemr_azurefhirid": {"type": "String", "maxLength": 38},
    "msemr_azurefhirversion": {"type": "String", "maxLength": 50},
    "msemr_azurefhirlastupdatedon": {"type": "DateTime", "format": "DateAndTime"},
}
STATES = {
    "statecode": {"type": "State", "options": [[0, "Active"], [1, "Inactive"]], "required": "systemrequired"},
    "statuscode": {"type": "Status", "options": [[1, "Active", 0], [2, "Inactive", 1]]},
}


def _key(table: str) -> dict[str, dict[str, Any]]:
    return {f"{table}id": {"type": "Uniqueidentifier", "required": "systemrequired"}}


def _text(length: int) -> dict[str, Any]:
    return {"type": "String", "maxLength": length}


def _lookup(table: str) -> dict[str, Any]:
    return {"type": "Lookup", "targets": [table]}


FROM_THE_COLUMNS_LIST: dict[str, dict[str, dict[str, Any]]] = {
    "msemr_careteamparticipantrole": {
        **_key("msemr_careteamparticipantrole"),
        "msemr_code": _text(100),
        "msemr_display": _text(100),
        "msemr_system": _text(1024),
        # the list has no parent link, but rows of the table hang on a participant: its name is assumed
        "msemr_careteamparticipant": {**_lookup("msemr_careteamparticipant"), "navigationAssumed": True},
        # named by the toolkit's page on expansion maps
        "msemr_codeableconceptid": {**_lookup("msemr_codeableconcept"), "navigationAssumed": True},
        **STATES,
    },
    "msemr_appointmentemrslot": {
        **_key("msemr_appointmentemrslot"),
        "msemr_appointmentemr": _lookup("msemr_appointmentemr"),
        "msemr_name": _text(100),
        "msemr_slot": _lookup("msemr_slot"),
        **AZURE_FHIR_COLUMNS,
        **STATES,
    },
}
"""Tables that the model's documents lack, as Microsoft's list of the healthcare columns has them."""

ADDRESS = ("line1", "line2", "line3", "city", "county", "stateorprovince", "postalcode", "country")
ADDED = {
    "contact": {f"address1_{part}" for part in ADDRESS} | {"address1_addresstypecode"},
    "account": {f"address1_{part}" for part in ADDRESS},
    "task": {"activityid", "subject"},
}
"""Columns, besides the standard ones and those for FHIR, that the model's documents of the table do not carry."""
ORGANIZATION_HAS = {"timezoneruleversionnumber", "utcconversiontimezonecode", "versionnumber"}
"""Standard columns of tables without owner, as far as they have no owner to name."""

CORRECTED = {
    ("task", "primaryId"): "activityid",  # the model says taskid; an activity's key is activityid in the Web API
    ("msemr_careplanactivity", "primaryName"): "msemr_activitydescription",  # the model names none
}
TARGETS_LEFT_OPEN = {
    ("contact", "accountid"): ["account"],
    ("contact", "parentcontactid"): ["contact"],
    ("contact", "createdbyexternalparty"): ["externalparty"],
    ("contact", "modifiedbyexternalparty"): ["externalparty"],
    ("account", "createdbyexternalparty"): ["externalparty"],
    ("account", "modifiedbyexternalparty"): ["externalparty"],
}
"""Lookups whose target the model leaves out."""
SAME = ("type", "maxLength", "min", "max", "options", "required", "label")


def schema() -> dict[str, Any] | None:
    """Read the extract of the model; None where it is absent."""
    path = next((folder / NAME for folder in (DATA, DATA.parent) if (folder / NAME).exists()), None)
    if path is None:
        return None
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    document = schema()
    if document is None:
        pytest.skip(f"no {NAME} here: set RELAY_TEST_DATA to the folder that holds it")
    return document


OWN = tuple(name for name in TABLES if name in IDENTIFIERS or name in FROM_THE_COLUMNS_LIST)
OF_THE_MODEL = tuple(name for name in TABLES if name not in OWN)


def test_the_tables_are_those_of_the_model_and_the_ones_named_here(model: dict[str, Any]) -> None:
    """Every table of the model but the toolkit's own is there; every other one is named as added."""
    assert set(OF_THE_MODEL) == set(model["tables"]) - TOOLKIT
    assert set(OWN) == IDENTIFIERS.keys() | FROM_THE_COLUMNS_LIST.keys()


@pytest.mark.parametrize("table", OF_THE_MODEL)
def test_columns_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """Every column of the model is there, and every other one is standard or named as added."""
    ours, theirs = set(TABLES[table]["columns"]), set(model["tables"][table]["columns"])
    standard = set(model["standardColumns"])
    assert theirs <= ours
    fhir = FHIR_COLUMNS.keys() if table in WITHOUT_AZURE_FHIR_ID else set()
    assert ours - theirs - standard == ADDED.get(table, set()) | fhir
    if TABLES[table]["ownership"] == "UserOwned":
        assert standard <= ours
    else:
        assert "ownerid" not in ours
        assert ours & standard - theirs <= ORGANIZATION_HAS


@pytest.mark.parametrize("table", OF_THE_MODEL)
def test_facts_of_columns_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """A column's type, length, range, options, requirement, label and lookup targets are the model's."""
    columns = TABLES[table]["columns"]
    for name, theirs in model["tables"][table]["columns"].items():
        ours = columns[name]
        for fact in SAME:
            assert ours.get(fact) == theirs.get(fact), f"{table}.{name}: {fact}"
        if (table, name) in TARGETS_LEFT_OPEN:
            assert theirs["targets"] == []
            assert ours["targets"] == TARGETS_LEFT_OPEN[table, name]
        else:
            assert ours.get("targets") == theirs.get("targets"), f"{table}.{name}: targets"
        assert ours.get("schemaName") == theirs.get("schemaName", ours.get("schemaName")), f"{table}.{name}: schemaName"
        if theirs["type"] == "DateTime" and "format" in theirs:
            assert ours["format"] == theirs["format"], f"{table}.{name}: format"


@pytest.mark.parametrize("table", TABLES)
def test_standard_columns_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """The columns every table has carry the model's types, ranges and targets."""
    columns = TABLES[table]["columns"]
    for name, theirs in model["standardColumns"].items():
        if name in columns:
            for fact in ("type", "min", "max", "targets"):
                assert columns[name].get(fact) == theirs.get(fact), f"{table}.{name}: {fact}"


@pytest.mark.parametrize("table", OF_THE_MODEL)
def test_table_facts_are_those_of_the_model(model: dict[str, Any], table: str) -> None:
    """A table's names, primary columns and ownership are the model's, but for the corrections named here."""
    ours, theirs = TABLES[table], model["tables"][table]
    for fact in ("schemaName", "displayName", "primaryId", "primaryName", "ownership"):
        if (table, fact) in CORRECTED:
            assert ours[fact] == CORRECTED[table, fact] != theirs[fact]
        else:
            assert ours[fact] == theirs[fact], f"{table}: {fact}"


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_its_primary_columns(table: str) -> None:
    """The primary key is a unique identifier, the primary name is text, and both are columns of the table."""
    facts = TABLES[table]
    assert facts["columns"][facts["primaryId"]]["type"] == "Uniqueidentifier"
    assert facts["columns"][facts["primaryName"]]["type"] in {"String", "Memo"}


def test_an_activity_has_the_columns_of_an_activity() -> None:
    """The columns of task that the model's documents leave to the activity are the Web API's."""
    columns = TABLES["task"]["columns"]
    assert columns["activityid"] | _key("task")["taskid"] == columns["activityid"]
    assert columns["subject"] | {"type": "String", "maxLength": 200, "required": "required"} == columns["subject"]
    assert "taskid" not in columns


@pytest.mark.parametrize("table", sorted(WITHOUT_AZURE_FHIR_ID))
def test_mapped_tables_without_a_column_for_the_fhir_id_get_one(model: dict[str, Any], table: str) -> None:
    """The column for the FHIR id holds the 64 characters that FHIR allows; version and time stand beside it."""
    assert "msemr_azurefhirid" not in model["tables"][table]["columns"]
    for name, facts in FHIR_COLUMNS.items():
        assert TABLES[table]["columns"][name] | facts == TABLES[table]["columns"][name], f"{table}.{name}"


@pytest.mark.parametrize("table", FROM_THE_COLUMNS_LIST)
def test_tables_from_the_columns_list_have_what_it_lists(model: dict[str, Any], table: str) -> None:
    """The two tables that the model lacks have the listed columns, the standard ones and no other."""
    columns, listed = TABLES[table]["columns"], FROM_THE_COLUMNS_LIST[table]
    assert set(columns) == listed.keys() | model["standardColumns"].keys()
    for name, facts in listed.items():
        assert columns[name] | facts == columns[name], f"{table}.{name}"


@pytest.mark.parametrize("table", IDENTIFIERS)
def test_identifier_tables_have_system_value_and_parent(model: dict[str, Any], table: str) -> None:
    """An identifier table has a system, a value, a lookup to the table it identifies, and no other column of its own."""
    kind = IDENTIFIERS[table]
    lookup, facts = f"prefix_{kind.lower()}", TABLES[table]
    columns = facts["columns"]
    assert facts["entitySet"] == f"{table}s"
    assert (facts["primaryId"], facts["primaryName"]) == (f"{table}id", "prefix_system")
    own = {f"{table}id", "prefix_system", "prefix_value", lookup, *STATES}
    assert set(columns) == own | model["standardColumns"].keys()
    assert columns["prefix_system"]["maxLength"] == 1024
    assert columns["prefix_value"]["maxLength"] == 1024
    assert list(columns[lookup]["navigation"]) == columns[lookup]["targets"] == [IDENTIFIED[kind]]
    (navigation,) = columns[lookup]["navigation"].values()
    assert navigation.lower() == lookup


@pytest.mark.parametrize("table", TABLES)
def test_every_lookup_names_a_navigation_property_per_target(table: str) -> None:
    """Lookups name one navigation property for each target; other columns name none."""
    for name, column in TABLES[table]["columns"].items():
        if column["type"] in {"Lookup", "Customer", "Owner"}:
            assert list(column["navigation"]) == column["targets"], f"{table}.{name}"
            assert all(column["navigation"].values()), f"{table}.{name}"
        else:
            assert "navigation" not in column, f"{table}.{name}"


@pytest.mark.parametrize("table", TABLES)
def test_every_date_column_says_whether_it_has_a_time(table: str) -> None:
    """A DateTime column is DateOnly or DateAndTime."""
    for name, column in TABLES[table]["columns"].items():
        if column["type"] == "DateTime":
            assert column["format"] in {"DateOnly", "DateAndTime"}, f"{table}.{name}"


def test_the_source_is_credited_and_the_additions_are_named() -> None:
    """The file names the repository, commit and licence it is adapted from, and what it adds."""
    source = FACTS["source"]
    assert source["repository"] == "https://github.com/microsoft/CDM"
    assert source["license"] == "CC-BY-4.0"
    assert len(source["commit"]) == 40
    named = [*FROM_THE_COLUMNS_LIST, *FHIR_COLUMNS, "task.subject", "task.activityid", "msemr_careteamparticipant"]
    for name in (*named, "msemr_codeableconceptid", "address1_*", "prefix_*identifier", "externalparty"):
        assert name in source["additions"], name


class Use(NamedTuple):
    """A column that a map names: the values it is given, and the tables it is pointed to."""

    table: str
    column: str
    values: tuple[Any, ...] = ()
    targets: tuple[str, ...] = ()


def _uses(entity: dict[str, Any]) -> Iterator[Use]:
    """Yield every column that a map names, those of its expansions included."""
    table = entity["table"]
    yield from (Use(table, entity[key]) for key in ("key", "version", "last_updated") if key in entity)
    for key in ("where", "writeback_when"):
        yield from (Use(table, name, (value,)) for name, value in entity.get(key, {}).items())
    if block := entity.get("identifier"):
        yield from (Use(block["table"], block[key]) for key in ("system_column", "value_column"))
        yield Use(block["table"], block["lookup"], targets=(table,))
    yield from _line_uses(entity["attributes"], table, entity.get("expansions", {}))


def _line_uses(lines: list[dict[str, Any]], table: str, named: dict[str, Any]) -> Iterator[Use]:
    for line in lines:
        if "expand" in line:
            definition = named[line["using"]] if "using" in line else line
            yield Use(definition["table"], definition["lookup"], targets=(table,))
            yield from _line_uses(definition["attributes"], definition["table"], named)
            continue
        constants = [line["default"]] if "default" in line else []
        kind, _, fallback = str(line.get("unmapped", "")).partition(":")
        constants += [plain(fallback)] if kind == "default" else []
        yield Use(
            table, line["column"], (*line.get("values", {}).values(), *constants), (*line.get("targets", {}).values(),)
        )
        yield from (Use(table, column, (value,)) for column, value in line.get("beside", {}).items())
        if "concept" in line:
            yield Use(table, line["column"], targets=("msemr_codeableconcept",))
            yield Use("msemr_codeableconcept", "msemr_type", (line["type"],))


def _known(model: dict[str, Any], table: str) -> dict[str, Any]:
    """Return the columns of a table that the model has or that are named here as added."""
    if table in FROM_THE_COLUMNS_LIST:
        return {**FROM_THE_COLUMNS_LIST[table], **model["standardColumns"]}
    if kind := IDENTIFIERS.get(table):
        own = {f"prefix_{kind.lower()}": _lookup(IDENTIFIED[kind])}
        return {**own, "prefix_system": _text(1024), "prefix_value": _text(1024)}
    added = {name: {"type": "added"} for name in ADDED.get(table, ())}
    fhir = FHIR_COLUMNS if table in WITHOUT_AZURE_FHIR_ID else {}
    return {**model["tables"][table]["columns"], **added, **fhir}


@pytest.mark.parametrize("file", MAPS)
def test_maps_name_what_the_model_has(model: dict[str, Any], file: str) -> None:
    """Every column, option and lookup target that a shipped map names is the model's own, or named here as added."""
    for use in _uses(read_document(REPO / "maps" / file).data):
        at = f"{file}: {use.table}.{use.column}"
        columns = _known(model, use.table)
        assert use.column in columns, f"{at} is no column of the model"
        column = columns[use.column]
        if column["type"] in {"Picklist", "State", "Status"}:
            options = {value for value, *_ in column["options"]}
            labels = {label for _, label, *_ in column["options"]} if use.column == "msemr_type" else set()
            assert {*use.values} <= options | labels, at
        valid = {*column.get("targets", ()), *TARGETS_LEFT_OPEN.get((use.table, use.column), ())}
        assert {*use.targets} <= valid, at

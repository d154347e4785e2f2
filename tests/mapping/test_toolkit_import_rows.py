"""Rows of the toolkit's tables: how an export may be cut into files, what columns may be called, what hangs on what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_kit import MAPS
from toolkit_kit import (
    ACTIONS,
    FORMATTED,
    IDENTIFIERS,
    PATIENT,
    Export,
    Imported,
    care_teams,
    guid,
    patients,
    run_import,
    small,
)

from relay.mapping.metadata import load_metadata
from relay.mapping.toolkit.convert import convert
from relay.mapping.toolkit.records import Records

Capsys = pytest.CaptureFixture[str]
TABLES = load_metadata(MAPS / "metadata.json")
ODD = [
    "{",
    "$",
    "$..",
    '{"s": 1}',
    '{"s": "$.a", "c": {"a": [[1]]}}',
    [],
    {},
    [{}],
    {"msind_name": []},
    "a <-> b",
    "²",
    "1e9",
]


def test_one_file_for_each_table_is_one_export(tmp_path: Path, capsys: Capsys) -> None:
    """Answers of the Web API say by their context, or by their columns, whose rows they are."""
    export = patients()
    context = {"@odata.context": "https://org/api/data/v9.2/$metadata#msind_updateserviceentitymaps(msind_name)"}
    documents = ({**context, "value": export.entities}, {"value": export.attributes}, export.values)
    parted = run_import(capsys, tmp_path, *documents)
    (tmp_path / "whole").mkdir()
    whole = run_import(capsys, tmp_path / "whole", export.document())
    assert (parted.code, parted.losses()) == (0, {})
    assert parted.text("patient.yaml") == whole.text("patient.yaml")


def test_expanded_rows_are_read_where_they_stand(tmp_path: Path, capsys: Capsys) -> None:
    """$expand puts the type's row into the entity map, the attribute maps into a list, their values into theirs."""
    export = small()
    (entity,) = export.entities
    entity |= {"_msind_azurefhirresource_value": guid("t"), f"_msind_azurefhirresource_value{FORMATTED}": None}
    entity["msind_AzureFHIRResource"] = {"msind_azurefhirresourceid": guid("t"), "msind_code": "Patient"}
    entity["msind_msind_updateserviceentitymap_attributemap"] = export.attributes
    for row in export.attributes:
        name = row["msind_updateserviceattributemapid"]
        row["values"] = [each for each in export.values if each["_msind_updateserviceattributemap_value"] == name]
        for key in [key for key in row if key.startswith("_msind_updateserviceentitymap")]:
            del row[key]
    imported = run_import(capsys, tmp_path, {"value": [entity]})
    assert (imported.code, imported.losses()) == (0, {})
    assert "values: {male: 1, female: 2}" in imported.text("patient.yaml")
    assert "where: {msemr_contacttype: 935000000}" in imported.text("patient.yaml")


def test_lookups_may_be_expanded_rows_alone(tmp_path: Path, capsys: Capsys) -> None:
    """The row that a lookup was expanded to has the id and the name that the column itself may lack."""
    export = small()
    for row in export.attributes:
        parent = row.pop("_msind_updateserviceentitymap_value")
        name = row.pop(f"_msind_updateserviceentitymap_value{FORMATTED}")
        row["msind_UpdateServiceEntityMap"] = {"msind_updateserviceentitymapid": parent, "msind_name": name}
    imported = run_import(capsys, tmp_path, export.document())
    assert (imported.code, imported.losses()) == (0, {})


def test_a_row_in_two_files_is_one_row(tmp_path: Path, capsys: Capsys) -> None:
    """Pages may overlap."""
    document = small().document()
    imported = run_import(capsys, tmp_path, document, document)
    assert (imported.code, len(imported.report["rows"])) == (0, 1 + 3 + 3)


def test_formatted_values_are_not_needed(tmp_path: Path, capsys: Capsys) -> None:
    """Ids and numbers say all, also that an action without a published number expands."""
    document = patients().document()
    for part in document.values():
        for row in part["value"]:
            for key in [key for key in row if key.endswith(FORMATTED)]:
                del row[key]
    imported = run_import(capsys, tmp_path, document)
    assert (imported.code, imported.losses()) == (0, {})
    assert "{expand: link, using: link}" in imported.text("patient.yaml")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"@odata.nextLink": "https://org/next", "value": []}, "export0.json: is one page of several"),
        ({"error": {"code": "0x80040217"}}, "export0.json: error holds no rows"),
        ({"value": [{"name": "Contoso"}]}, "export0.json: the rows are of no toolkit table that is read"),
        ([1], "export0.json: holds no rows"),
        ({"accounts": {"value": [{"name": "Contoso"}]}}, "export0.json: accounts: the rows are of no toolkit table"),
        ([], "there is no entity map of a resource in the export"),
    ],
)
def test_input_that_cannot_be_read_is_told(document: Any, problem: str, tmp_path: Path, capsys: Capsys) -> None:
    """A part of the export that is missing is as bad as a row that is not carried."""
    imported = run_import(capsys, tmp_path, document)
    assert imported.code == 1
    assert imported.report["problems"][0].startswith(problem)


@pytest.mark.parametrize(
    "names",
    [
        {"msind_isexpand": "msind_isexpansionmap", "msind_parentlinkattribute": "mshlt_parentlinklookup"},
        {
            "msind_enablewriteback": "mshlt_enablewritebacktofhir",
            "_msind_expansionentitymap_value": "_mshlt_expandmap_value",
        },
        {"msind_usedinrecordmatching": "msind_recordmatching"},
    ],
    ids=["entity", "attribute", "match"],
)
def test_columns_that_are_not_published_are_known_by_likeness(
    names: dict[str, str], tmp_path: Path, capsys: Capsys
) -> None:
    """The publisher's prefix and the exact spelling may be others."""
    plain = run_import(capsys, tmp_path, patients().document())
    document = patients().document()
    for part in document.values():
        part["value"] = [
            {
                next((key.replace(a, b) for a, b in names.items() if key.startswith(a)), key): value
                for key, value in row.items()
            }
            for row in part["value"]
        ]
    (tmp_path / "renamed").mkdir()
    imported = run_import(capsys, tmp_path / "renamed", document)
    assert imported.report["columns_not_found"] == []
    assert imported.text("patient.yaml") == plain.text("patient.yaml")


def without(document: dict[str, Any], *columns: str) -> dict[str, Any]:
    for part in document.values():
        for row in part["value"]:
            for key in [key for key in row if key.startswith(columns)]:
                del row[key]
    return document


def test_columns_that_are_not_found_are_told_and_inferred(tmp_path: Path, capsys: Capsys) -> None:
    """Without them, an expansion is what an Expand line fits, its parent link the one column that can be it."""
    gone = (
        "msind_isexpand",
        "msind_parentlinkattribute",
        "_msind_expansionentitymap_value",
        "msind_usedinrecordmatching",
    )
    imported = run_import(capsys, tmp_path, without(care_teams().document(), *gone, "msind_tag"))
    assert imported.report["columns_not_found"] == [
        "Update Service Entity Map: Tag",
        "Update Service Entity Map: Expand",
        "Update Service Entity Map: Parent Link Attribute",
        "Update Service Attribute Map: Expansion Entity Map",
        "Update Service Attribute Map: Used in Record Matching",
    ]
    told = imported.row("msemr_careteam <-> CareTeam / expand participant")
    assert told["losses"] == ["the Expansion Entity Map is not in the export"], "a root map that nothing marks"


def test_an_expansion_is_known_by_its_parent_link(tmp_path: Path, capsys: Capsys) -> None:
    """Expand, the link to the expansion and the match flags are inferred where the parent link is there."""
    gone = ("msind_isexpand", "_msind_expansionentitymap_value", "msind_usedinrecordmatching")
    imported = run_import(capsys, tmp_path, without(care_teams().document(), *gone))
    assert (imported.code, imported.losses()) == (0, {})
    text = imported.text("careteam.yaml")
    assert "      - expand: role\n        table: msemr_careteamparticipantrole\n" in text
    told = imported.row("msemr_careteamparticipant <-> CareTeam")["changes"]
    assert any(each.startswith("no line is Used in Record Matching: rows are told apart by all of") for each in told)


def test_the_caller_may_say_what_a_column_is_called(tmp_path: Path, capsys: Capsys) -> None:
    """--column NAME=LOGICALNAME wins over every likeness; the name is that on the form, in any spelling."""
    document = patients().document()
    for part in document.values():
        part["value"] = [
            {
                key.replace("msind_isexpand", "new_flag").replace("msind_usedinrecordmatching", "new_key"): value
                for key, value in row.items()
            }
            for row in part["value"]
        ]
    arguments = ("--column", "expand=new_flag", "--column", "Used in record-matching=new_key")
    imported = run_import(capsys, tmp_path, document, arguments=arguments)
    assert (imported.code, imported.report["columns_not_found"]) == (0, [])
    assert "column: msemr_value, copy: $.value, match: true" in imported.text("patient.yaml")


def test_columns_that_nobody_knows_are_told_when_they_say_something(tmp_path: Path, capsys: Capsys) -> None:
    """Empty ones and those of every Dataverse table are not."""
    export = small()
    export.entities[0] |= {"new_priority": 3, "new_empty": None, "versionnumber": 5, "modifiedon": "2022-01-01"}
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.report["columns_not_read"] == ["Update Service Entity Map: new_priority"]


def test_attribute_maps_alone_make_maps_of_their_names(tmp_path: Path, capsys: Capsys) -> None:
    """The name of the entity map says table and type; that its own row is missing is told as a loss."""
    document = small().document()
    del document["msind_updateserviceentitymaps"]
    imported = run_import(capsys, tmp_path, document)
    assert imported.code == 1
    assert list(imported.losses()) == [PATIENT]
    assert "resource: Patient\ntable: contact\n" in imported.text("patient.yaml")


def test_rows_that_hang_on_nothing_are_lost_and_told(tmp_path: Path, capsys: Capsys) -> None:
    """An attribute map of no entity map, a value map of no attribute map, an expansion that nothing runs."""
    export = patients()
    export.attributes = [row for row in export.attributes if row["msind_fhirelementmap"] != "identifier"]
    export.attributes[0] |= {"_msind_updateserviceentitymap_value": guid("gone")}
    del export.attributes[0][f"_msind_updateserviceentitymap_value{FORMATTED}"]
    export.values[1] |= {"_msind_updateserviceattributemap_value": guid("gone")}
    del export.values[1][f"_msind_updateserviceattributemap_value{FORMATTED}"]
    imported = run_import(capsys, tmp_path, export.document())
    losses = imported.losses()
    assert imported.code == 1
    assert losses[IDENTIFIERS] == ["no Expand line of a map that is carried runs this expansion"]
    assert f"{IDENTIFIERS} / msemr_value" in losses
    assert f"{IDENTIFIERS} / msemr_type / MR" in losses
    assert ["its entity map is not in the export"] in losses.values()
    assert any(why[0].startswith("its attribute map") for why in losses.values())


@pytest.mark.parametrize(
    ("table", "given", "written"),
    [
        ("msemr_careteam <-> CareTeam", "", "key: msemr_azurefhirid\nversion: msemr_azurefhirversion"),
        ("msemr_goal <-> Goal", "", "key: prefix_fhirid\nversion: prefix_fhirversion"),
        ("msemr_careteam <-> CareTeam", "msemr_careteamnumber", "key: msemr_careteamnumber\n"),
    ],
)
def test_the_key_is_what_copies_the_id_else_what_is_usual(
    table: str, given: str, written: str, tmp_path: Path, capsys: Capsys
) -> None:
    """A map needs a key; one that no line names is told."""
    export = Export()
    export.entity(table)
    if given:
        export.attribute(table, given, "Copy Data", {"s": "$.id"})
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 0
    (file,) = [each["file"] for each in imported.report["written"]]
    assert written in imported.text(file)
    assert any("by convention" in each for each in imported.row(table)["changes"])


def test_two_root_maps_of_one_type_cannot_be(tmp_path: Path, capsys: Capsys) -> None:
    """The one that is live is carried; the other is told with all its rows."""
    export = small()
    export.entity("account <-> Patient", msind_disabled=False)
    export.attribute("account <-> Patient", "name", "Copy Data", {"s": "$.name[0].text"})
    export.entities[0]["msind_disabled"] = True
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 1
    assert "table: account\n" in imported.text("patient.yaml")
    lost = imported.losses()
    assert lost[PATIENT] == ["a resource type has one map, and Patient has account <-> Patient already"]
    assert len(lost) == len(imported.report["rows"]) - 2


def test_constants_that_tell_maps_of_one_table_apart_become_where(tmp_path: Path, capsys: Capsys) -> None:
    """Any table may be shared, as contact is; a constant that both maps have alike tells nothing."""
    export = Export()
    for kind, option in (("Organization", 935000001), ("Location", 935000000)):
        name = f"account <-> {kind}"
        export.entity(name)
        export.attribute(name, "donotemail", "Set Default Value", "", constant="1")
        export.attribute(name, "msemr_accounttype", "Set Default Value", "", constant=option)
    imported = run_import(capsys, tmp_path, export.document())
    assert (imported.code, imported.losses()) == (0, {})
    assert "where: {msemr_accounttype: 935000001}\n" in imported.text("organization.yaml")
    assert "- {column: donotemail, default: true}" in imported.text("location.yaml")


def test_archived_and_tagged_maps(tmp_path: Path, capsys: Capsys) -> None:
    """An archived map is a disabled one, an archived line a disabled line, a tag a comment."""
    export = small()
    export.entities[0] |= {"statecode": 1, "msind_tag": "pilot"}
    export.attributes[2] |= {"statecode": 1}
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("patient.yaml")
    assert text.splitlines()[1] == "# Tag: pilot"
    assert "\ndisabled: true\n" in text
    assert "unmapped: keep, disabled: true}" in text
    told = imported.row(PATIENT)["changes"]
    assert {"is archived: disabled", "Tag became a comment: its effect is not documented"} < set(told)


def test_write_back_of_child_rows_is_lost_and_told(tmp_path: Path, capsys: Capsys) -> None:
    """The relay writes identifier rows back and whole new resources, not later changes of other child rows."""
    export = patients()
    export.entities[2] |= {"msind_writeback": True, "msind_supportedmessages": "440670001"}
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.losses() == {
        "msemr_contactlink <-> Patient": [
            "Enable Write Back to FHIR: changes of child rows do not go to FHIR, only whole new resources"
        ]
    }


def test_expansions_nest_two_deep(tmp_path: Path, capsys: Capsys) -> None:
    """An item's items are the last to expand: what hangs below is told with all its rows."""
    export = care_teams()
    deeper = "msemr_contactlink <-> Participant"
    export.entity(deeper, msind_isexpand=True, msind_parentlinkattribute="msemr_patient")
    export.attribute(deeper, "msemr_name", "Copy Data", {"s": "$.x"}, match=True)
    export.attribute("msemr_careteamparticipantrole <-> Participant", "Not Applicable", "Expand", "x", expansion=deeper)
    imported = run_import(capsys, tmp_path, export.document())
    assert imported.code == 1
    assert len(imported.losses()) == 3
    assert imported.maps()


def test_a_constant_that_matches_is_part_of_every_look_up(tmp_path: Path, capsys: Capsys) -> None:
    """On a root map that is `where`; a child row is not told apart by what all of them have."""
    export = patients()
    export.attribute(PATIENT, "donotemail", "Set Default Value", "", constant=1, match=True)
    export.attribute(IDENTIFIERS, "msemr_use", "Set Default Value", "", constant=935000001, match=True)
    imported = run_import(capsys, tmp_path, export.document())
    text = imported.text("patient.yaml")
    assert "where: {donotemail: true, msemr_contacttype: 935000000}" in text
    assert "- {column: msemr_use, default: 935000001}" in text
    assert list(imported.losses()) == [f"{IDENTIFIERS} / msemr_use"]
    assert imported.maps()


def test_old_plug_in_steps_are_told(tmp_path: Path, capsys: Capsys) -> None:
    """They would go on writing to FHIR beside the relay."""
    export = small()
    export.entities[0]["msind_sdkmessagestepidforcreate"] = guid("step")
    imported: Imported = run_import(capsys, tmp_path, export.document())
    assert any("plug-in steps" in each for each in imported.row(PATIENT)["changes"])


def test_every_published_action_has_its_number() -> None:
    """The kit's numbers are those of the Common Data Model."""
    from relay.mapping.toolkit.rows import ACTIONS as OURS

    assert list(ACTIONS.values())[:5] == [440670000 + number for number in range(5)]
    assert len(OURS) == len(ACTIONS)


@given(data=st.data())
def test_no_cell_breaks_an_import(data: st.DataObject) -> None:
    """Whatever stands in a cell, every row is told and the maps are written."""
    export = data.draw(st.sampled_from([patients, care_teams]))()
    document = export.document()
    rows = [row for part in document.values() for row in part["value"]]
    for _ in range(data.draw(st.integers(1, 5))):
        row = data.draw(st.sampled_from(rows))
        odd = st.text(max_size=9) | st.integers() | st.booleans() | st.none() | st.floats() | st.sampled_from(ODD)
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(odd)
    records = Records()
    records.add_json(json.loads(json.dumps(document)), "export.json")
    made = convert(records, TABLES, {})
    assert len(made.report.entries) >= sum(len(part["value"]) for part in document.values()) - len(
        document["msind_azurefhirresources"]["value"]
    )
    assert all(entry.file or entry.losses for entry in made.report.entries)
    assert list(made.report.to_text())
    assert json.dumps(made.report.to_json())
    assert {each.name for each in made.maps} == set(made.texts)

"""`relay maps metadata`: an org's table definitions become the facts of metadata.json."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from mapping_kit import MAPS
from maps_kit import FACTS, PATIENT_TABLES, WHOLE, folder_of, relay

from devstack.dataverse import create_app
from relay.cli import main
from relay.cli.maps_org import read_definitions
from relay.dataverse.client import DataverseClient
from relay.errors import Transient
from relay.mapping.definitions import facts_text, table_facts
from support.served import org

CHUNKS = [sorted(FACTS["tables"])[start::10] for start in range(10)]


def known(table: str) -> dict[str, Any]:
    """Return the shipped facts of a table as an org would tell them: every name written out, nothing assumed."""
    facts = json.loads(json.dumps(FACTS["tables"][table]))
    for name, column in facts["columns"].items():
        column.setdefault("schemaName", name)
        column.setdefault("label", name)
        column.pop("navigationAssumed", None)
    return facts


@pytest.mark.parametrize("tables", CHUNKS, ids=range(10))
async def test_what_an_org_tells_is_what_it_was_given(tables: list[str], tmp_path: Path) -> None:
    """For every shipped table: the facts, through the emulator's Web API and back, are the same facts."""
    folder = folder_of(tmp_path, tables=tables)
    async with create_app(metadata=folder / "metadata.json") as app:
        transport = httpx.ASGITransport(app)
        async with DataverseClient("http://dataverse", transport=transport) as client:
            found = await read_definitions(client, [*tables, "new_nothing"])
    assert found == {table: known(table) for table in tables}


def test_the_tables_of_the_maps_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed loads as metadata.json: every table that a map names, and those asked for."""
    monkeypatch.setenv("RELAY_DATAVERSE_AUTH", "none")
    folder = folder_of(tmp_path / "maps", WHOLE)
    with org(folder / "metadata.json") as url:
        assert relay("maps", "metadata", "--from", url, "--maps", folder) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["source"] == {"title": "Dataverse organization", "url": url}
        assert set(document["tables"]) == {"contact", "prefix_patientidentifier"}
        out = tmp_path / "new.json"
        arguments = ("--maps", folder, "--table", "msemr_codeableconcept", "--out", out)
        assert relay("maps", "metadata", "--from", url, *arguments) == 0
        assert capsys.readouterr().out == f"written: {out}, 3 tables\n"
    assert json.loads(out.read_text(encoding="utf-8"))["tables"] == {table: known(table) for table in PATIENT_TABLES}
    out.replace(folder / "metadata.json")
    assert main(["maps", "check", str(folder), "--strict"]) == 0


def test_a_table_the_org_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts of the others are written, and the exit code says that some are missing."""
    monkeypatch.setenv("RELAY_DATAVERSE_AUTH", "none")
    folder = folder_of(tmp_path, WHOLE)
    out = tmp_path / "new.json"
    with org(folder / "metadata.json") as url:
        arguments = ("--maps", folder, "--table", "new_nothing", "--out", out, "--json")
        assert relay("maps", "metadata", "--from", url, *arguments) == 1
    shown, err = capsys.readouterr()
    assert err == "relay maps metadata: the org has no table new_nothing\n"
    assert json.loads(shown) == {
        "written": str(out),
        "tables": ["contact", "prefix_patientidentifier"],
        "missing": ["new_nothing"],
    }


def test_a_folder_without_tables_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked for when no map says what to ask for."""
    assert main(["maps", "metadata", "--from", "http://127.0.0.1:9", "--maps", str(folder_of(tmp_path))]) == 1
    assert "no map names a table" in capsys.readouterr().err


def test_the_shipped_facts_are_written_as_they_stand() -> None:
    """The form is the shipped one, so that a refresh shows as a difference of facts alone."""
    assert facts_text(FACTS) == (MAPS / "metadata.json").read_text(encoding="utf-8")


def label(text: str | None) -> dict[str, Any]:
    return {"UserLocalizedLabel": None if text is None else {"Label": text}}


def attribute(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """Return a column as an org tells it."""
    return {
        "LogicalName": name,
        "SchemaName": f"new_{name.title()}",
        "AttributeTypeName": {"Value": f"{kind}Type"},
        "AttributeOf": None,
        "RequiredLevel": {"Value": "None"},
        "DisplayName": label(name.title()),
        **more,
    }


DEFINITION = {
    "LogicalName": "new_thing",
    "SchemaName": "new_Thing",
    "DisplayName": label(None),
    "EntitySetName": "new_things",
    "PrimaryIdAttribute": "new_thingid",
    "PrimaryNameAttribute": None,
    "OwnershipType": "UserOwned",
    "IsOptimisticConcurrencyEnabled": True,
    "ManyToOneRelationships": [],
    "Keys": [{"SchemaName": "new_key", "KeyAttributes": ["a", "b"], "DisplayName": label("Key")}],
}


def columns(*attributes: dict[str, Any], relationships: tuple[tuple[str, str, str], ...] = ()) -> dict[str, Any]:
    names = ("ReferencingAttribute", "ReferencedEntity", "ReferencingEntityNavigationPropertyName")
    many = [dict(zip(names, each, strict=True)) for each in relationships]
    facts = table_facts({**DEFINITION, "ManyToOneRelationships": many}, attributes, {})
    return {
        name: {key: each[key] for key in each if key not in ("label", "schemaName")}
        for name, each in facts["columns"].items()
    }


def test_a_table_without_a_name_column_or_a_label() -> None:
    """What an org may leave out has a plain stand-in."""
    facts = table_facts(DEFINITION, [], {})
    assert (facts["primaryName"], facts["displayName"]) == ("", "new_thing")
    assert facts["keys"] == [{"name": "new_key", "columns": ["a", "b"], "label": "Key"}]


def test_parts_of_columns_are_no_columns() -> None:
    """The name of a lookup's row, and what no table stores, are left out."""
    found = columns(
        attribute("a", "String", MaxLength=5),
        attribute("aname", "String", AttributeOf="a"),
        attribute("v", "Virtual"),
        attribute("atype", "EntityName"),
    )
    assert found == {"a": {"type": "String", "maxLength": 5}}


def test_the_behaviour_of_a_date_decides() -> None:
    """A column that shows only dates, and is kept with a time, travels with a time."""
    found = columns(
        attribute("a", "DateTime", Format="DateOnly", DateTimeBehavior={"Value": "DateOnly"}),
        attribute("b", "DateTime", Format="DateOnly", DateTimeBehavior={"Value": "UserLocal"}),
        attribute("c", "DateTime", Format="DateOnly"),
        attribute("d", "DateTime", Format="DateAndTime", DateTimeBehavior={"Value": "TimeZoneIndependent"}),
    )
    assert [each["format"] for each in found.values()] == ["DateOnly", "DateAndTime", "DateOnly", "DateAndTime"]


def test_precision_is_known_where_the_column_has_its_own() -> None:
    """Money may take the precision of the currency or of the organization, which is no fact of the column."""
    found = columns(
        attribute("a", "Decimal", Precision=2, MinValue=Decimal("-1E+2"), MaxValue=Decimal("0.5")),
        attribute("b", "Money", Precision=4, PrecisionSource=0),
        attribute("c", "Money", Precision=2, PrecisionSource=2),
    )
    assert found == {
        "a": {"type": "Decimal", "min": -100, "max": 0.5, "precision": 2},
        "b": {"type": "Money", "precision": 4},
        "c": {"type": "Money"},
    }


def test_formats_of_text_and_required_levels() -> None:
    """Plain text has no format; application-required is `required`."""
    found = columns(
        attribute("a", "String", FormatName={"Value": "Text"}, RequiredLevel={"Value": "ApplicationRequired"}),
        attribute("b", "String", FormatName={"Value": "Email"}, RequiredLevel={"Value": "SystemRequired"}),
        attribute("c", "Memo", FormatName={"Value": "TextArea"}, RequiredLevel={"Value": "Recommended"}),
    )
    assert found == {
        "a": {"type": "String", "required": "required"},
        "b": {"type": "String", "format": "Email", "required": "systemrequired"},
        "c": {"type": "Memo", "required": "recommended"},
    }


def test_owners_share_one_navigation_property() -> None:
    """The relationship of an owner leads to the table of both users and teams; other lookups have one for each target."""
    found = columns(
        attribute("ownerid", "Owner", Targets=["systemuser", "team"]),
        attribute("who", "Customer", Targets=["account", "contact", "lead"]),
        attribute("one", "Lookup", Targets=[]),
        relationships=(
            ("ownerid", "owner", "ownerid"),
            ("who", "account", "who_account"),
            ("who", "contact", "who_contact"),
            ("one", "contact", "new_One"),
            ("one", "account", ""),
        ),
    )
    assert found["ownerid"]["navigation"] == {"systemuser": "ownerid", "team": "ownerid"}
    assert found["who"]["navigation"] == {"account": "who_account", "contact": "who_contact"}
    assert found["who"]["targets"] == ["account", "contact"]
    assert found["one"]["navigation"] == {"contact": "new_One"}


async def test_options_of_a_shared_set() -> None:
    """A column whose options stand in a global set is asked for that set."""
    options = [{"Value": 1, "Label": label("One")}]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url).partition("/v9.2/")[2])
        if "expand=GlobalOptionSet" in asked[-1]:
            return httpx.Response(200, json={"LogicalName": "a", "GlobalOptionSet": {"Options": options}})
        if "expand=OptionSet" in asked[-1]:
            return httpx.Response(200, json={"value": [{"LogicalName": "a", "OptionSet": None}]})
        if asked[-1].endswith("/Attributes"):
            return httpx.Response(200, json={"value": [attribute("a", "Picklist")]})
        return httpx.Response(200, json=DEFINITION)

    async with DataverseClient("http://dataverse", transport=httpx.MockTransport(answer)) as client:
        found = await read_definitions(client, ["new_thing"])
    assert found["new_thing"]["columns"]["a"]["options"] == [[1, "One"]]
    assert "Attributes(LogicalName='a')/Microsoft.Dynamics.CRM.PicklistAttributeMetadata?" in asked[-1]


@pytest.mark.parametrize("body", [{}, {"value": [{}]}, []])
async def test_a_definition_that_cannot_be_read_is_told(body: Any) -> None:
    """An answer of another shape names the table."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    async with DataverseClient("http://dataverse", transport=transport) as client:
        with pytest.raises(Transient, match="definition of contact cannot be read"):
            await read_definitions(client, ["contact"])


async def test_a_refusal_is_no_lack_of_a_table() -> None:
    """Only 404 means that the table is not there."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(403, json={"error": {"code": "0x80040220", "message": "no"}})
    )
    async with DataverseClient("http://dataverse", transport=transport) as client:
        with pytest.raises(Exception, match="403"):
            await read_definitions(client, ["contact"])

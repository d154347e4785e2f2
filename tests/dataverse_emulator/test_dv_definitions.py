"""Definitions can be read: enough to learn sets, columns, options, keys and navigation properties (docs: webapi/create-update-entity-definitions-using-web-api.md)."""

from __future__ import annotations

import httpx
import pytest

CONTACT = "EntityDefinitions(LogicalName='contact')"


async def test_a_table_tells_its_names(api: httpx.AsyncClient) -> None:
    """A definition has the entity set, the primary columns and whether versions are kept."""
    options = "$select=LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,IsOptimisticConcurrencyEnabled"
    found = (await api.get(f"{CONTACT}?{options}")).json()
    assert found["EntitySetName"] == "contacts"
    assert (found["PrimaryIdAttribute"], found["PrimaryNameAttribute"]) == ("contactid", "fullname")
    assert found["IsOptimisticConcurrencyEnabled"] is True
    assert "SchemaName" not in found
    by_id = (await api.get(f"EntityDefinitions({found['MetadataId']})?$select=LogicalName")).json()
    assert by_id["LogicalName"] == "contact"


async def test_all_tables_can_be_listed_and_filtered(api: httpx.AsyncClient) -> None:
    """The list of definitions takes eq, ne, and, or, not on plain properties."""
    url = "EntityDefinitions?$select=LogicalName,EntitySetName"
    listed = (await api.get(url)).json()["value"]
    assert {"contact", "prefix_patientidentifier", "serviceendpoint"} <= {each["LogicalName"] for each in listed}
    text = "LogicalName eq 'contact' or (LogicalName eq 'account' and IsActivity eq false)"
    found = (await api.get(f"{url}&$filter={text}")).json()["value"]
    assert sorted(each["EntitySetName"] for each in found) == ["accounts", "contacts"]


async def test_expanded_parts(api: httpx.AsyncClient) -> None:
    """Attributes, relationships and keys can be expanded with their own $select and $filter."""
    options = (
        "$select=LogicalName&$expand=Attributes($select=LogicalName,AttributeType;$filter=LogicalName eq 'gendercode'),"
        "ManyToOneRelationships($select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName),"
        "Keys($select=LogicalName,KeyAttributes,EntityKeyIndexStatus)"
    )
    found = (await api.get(f"{CONTACT}?{options}")).json()
    assert [each["AttributeType"] for each in found["Attributes"]] == ["Picklist"]
    names = {
        (each["ReferencingAttribute"], each["ReferencedEntity"]): each["ReferencingEntityNavigationPropertyName"]
        for each in found["ManyToOneRelationships"]
    }
    assert names["parentcustomerid", "account"] == "parentcustomerid_account"
    assert names["msemr_generalpractioner", "contact"] == "msemr_generalpractioner"
    assert found["Keys"][0]["KeyAttributes"] == ["msemr_azurefhirid"]
    assert found["Keys"][0]["EntityKeyIndexStatus"] == "Active"


async def test_attributes_of_one_kind_with_their_options(api: httpx.AsyncClient) -> None:
    """A cast lists one kind of column; its options can be expanded."""
    kind = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
    found = (await api.get(f"{CONTACT}/Attributes/{kind}?$select=LogicalName&$expand=OptionSet")).json()["value"]
    options = next(each for each in found if each["LogicalName"] == "gendercode")["OptionSet"]["Options"]
    assert {each["Value"]: each["Label"]["UserLocalizedLabel"]["Label"] for each in options}[1] == "Male"
    one = await api.get(f"{CONTACT}/Attributes(LogicalName='lastname')/Microsoft.Dynamics.CRM.StringAttributeMetadata")
    assert one.json()["MaxLength"] == 50


async def test_facts_by_type(api: httpx.AsyncClient) -> None:
    """Lengths, ranges, date formats, targets and states are told per column."""
    found = {each["LogicalName"]: each for each in (await api.get(f"{CONTACT}/Attributes")).json()["value"]}
    assert found["birthdate"]["Format"] == "DateOnly"
    assert found["parentcustomerid"]["Targets"] == ["contact", "account"]
    assert found["numberofchildren"]["MinValue"] == 0
    assert found["createdon"]["IsValidForCreate"] is False
    assert found["contactid"]["IsPrimaryId"] is True
    assert found["entityimageid"]["AttributeType"] == "Uniqueidentifier"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("EntityDefinitions(LogicalName='nothing')", 404),
        (f"{CONTACT}/Attributes(LogicalName='nothing')", 404),
        (f"{CONTACT}/Nothing", 404),
        (f"{CONTACT}?$select=Nothing", 400),
        (f"{CONTACT}?$expand=Nothing", 400),
        ("EntityDefinitions(1)", 400),
        ("EntityDefinitions?$filter=startswith(LogicalName,'c')", 501),
        ("EntityDefinitions?$top=1", 501),
        ("EntityDefinitions?$filter=Nothing eq 'x'", 400),
        ("EntityDefinitions?$filter=not (IsPrivate eq false)", 200),
        ("EntityDefinitions?$select=LogicalName&$expand=OptionSet", 400),
        ("EntityDefinitions/Attributes", 404),
        (f"{CONTACT}/SchemaName", 501),
        (f"{CONTACT}/ManyToOneRelationships(SchemaName='x')", 501),
        (f"{CONTACT}/Attributes(LogicalName='lastname')/Microsoft.Dynamics.CRM.MemoAttributeMetadata", 404),
        ("GlobalOptionSetDefinitions", 501),
        ("$metadata", 501),
    ],
)
async def test_what_is_not_there(api: httpx.AsyncClient, path: str, status: int) -> None:
    """Unknown names are 404 or 400, reads that are not emulated 501."""
    assert (await api.get(path)).status_code == status

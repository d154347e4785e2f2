"""The columns that every table of one's own has, whoever made it."""

from __future__ import annotations

from typing import Any

from devstack.dataverse.facts import column
from devstack.dataverse.metadata import Column


def standard_columns(name: str, schema_name: str, label: str, ownership: str) -> dict[str, Column]:
    """Make them for a table: its primary key, its states, who made and owns its rows and when."""
    facts: dict[str, dict[str, Any]] = {
        f"{name}id": {"type": "Uniqueidentifier", "required": "systemrequired", "label": label}
        | {"schemaName": f"{schema_name}Id"},
        "createdby": _people("CreatedBy", "Created By"),
        "createdon": _time("CreatedOn", "Created On"),
        "createdonbehalfby": _people("CreatedOnBehalfBy", "Created By (Delegate)"),
        "importsequencenumber": _whole("ImportSequenceNumber", "Import Sequence Number", -(2**31)),
        "modifiedby": _people("ModifiedBy", "Modified By"),
        "modifiedon": _time("ModifiedOn", "Modified On"),
        "modifiedonbehalfby": _people("ModifiedOnBehalfBy", "Modified By (Delegate)"),
        "overriddencreatedon": _time("OverriddenCreatedOn", "Record Created On") | {"format": "DateOnly"},
        "statecode": {"type": "State", "options": [[0, "Active"], [1, "Inactive"]], "required": "systemrequired"}
        | {"schemaName": "statecode", "label": "Status"},
        "statuscode": {"type": "Status", "options": [[1, "Active", 0], [2, "Inactive", 1]]}
        | {"schemaName": "statuscode", "label": "Status Reason"},
        "timezoneruleversionnumber": _whole("TimeZoneRuleVersionNumber", "Time Zone Rule Version Number", -1),
        "utcconversiontimezonecode": _whole("UTCConversionTimeZoneCode", "UTC Conversion Time Zone Code", -1),
        "versionnumber": {"type": "BigInt", "schemaName": "VersionNumber", "label": "Version Number"},
    }
    if ownership == "UserOwned":
        facts["ownerid"] = _lookup("OwnerId", "Owner", "systemuser", "team") | {"type": "Owner"}
        facts["ownerid"]["required"] = "systemrequired"
        facts["owningbusinessunit"] = _lookup("OwningBusinessUnit", "Owning Business Unit", "businessunit")
        facts["owningteam"] = _lookup("OwningTeam", "Owning Team", "team")
        facts["owninguser"] = _lookup("OwningUser", "Owning User", "systemuser")
    else:
        facts["organizationid"] = _lookup("OrganizationId", "Organization Id", "organization")
    return {each: column(each, facts[each]) for each in sorted(facts)}


def _lookup(schema_name: str, label: str, *targets: str) -> dict[str, Any]:
    name = schema_name.lower()
    return {
        "type": "Lookup",
        "targets": list(targets),
        "navigation": dict.fromkeys(targets, name),
        "schemaName": schema_name,
        "label": label,
    }


def _people(schema_name: str, label: str) -> dict[str, Any]:
    return _lookup(schema_name, label, "systemuser")


def _time(schema_name: str, label: str) -> dict[str, Any]:
    return {"type": "DateTime", "format": "DateAndTime", "schemaName": schema_name, "label": label}


def _whole(schema_name: str, label: str, low: int) -> dict[str, Any]:
    return {"type": "Integer", "min": low, "max": 2**31 - 1, "schemaName": schema_name, "label": label}

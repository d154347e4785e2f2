"""The organization's own tables: people, business unit, service endpoints, steps, messages, system jobs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from devstack.dataverse import solutions
from devstack.dataverse.facts import table
from devstack.dataverse.metadata import Metadata, Table, metadata_id

USER: Final = metadata_id("systemuser", "emulator")
TEAM: Final = metadata_id("team", "emulator")
BUSINESS_UNIT: Final = metadata_id("businessunit", "emulator")
ORGANIZATION: Final = metadata_id("organization", "emulator")
ORGANIZATION_NAME: Final = "emulator"
MESSAGES: Final = ("Create", "Update", "Delete")
BULK_MESSAGES: Final = ("CreateMultiple", "UpdateMultiple")
"""A table that has both takes UpsertMultiple too, which is never listed."""
WEBHOOK, WEBHOOK_KEY, PRE_OPERATION, POST_OPERATION = 8, 4, 20, 40
SYNCHRONOUS, ASYNCHRONOUS = 0, 1


def _text(length: int, **more: Any) -> dict[str, Any]:
    return {"type": "String", "maxLength": length, **more}


def _choice(*options: tuple[Any, ...]) -> dict[str, Any]:
    return {"type": "Picklist", "options": [list(option) for option in options]}


def _lookup(*targets: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "Lookup", "targets": list(targets), "navigation": dict.fromkeys(targets, name), **more}


def _polymorphic(name: str, *targets: str, **more: Any) -> dict[str, Any]:
    return {"type": "Lookup", "targets": list(targets), "navigation": {to: f"{name}_{to}" for to in targets}, **more}


_WHOLE: Final = {"type": "Integer", "min": -(2**31), "max": 2**31 - 1}
_YES_NO: Final = {"type": "Boolean"}
_MEMO: Final = {"type": "Memo", "maxLength": 1048576}
_TIME: Final = {"type": "DateTime", "format": "DateAndTime"}
_ID: Final = {"type": "Uniqueidentifier"}
_STATES: Final = {"statecode": ((0, "Active"), (1, "Inactive")), "statuscode": ((1, "Active", 0), (2, "Inactive", 1))}
_STEP_STATES: Final = {
    "statecode": ((0, "Enabled"), (1, "Disabled")),
    "statuscode": ((1, "Enabled", 0), (2, "Disabled", 1)),
}
_JOB_STATES: Final = {
    "statecode": ((0, "Ready"), (1, "Suspended"), (2, "Locked"), (3, "Completed")),
    "statuscode": (
        (0, "Waiting For Resources", 0),
        (10, "Waiting", 1),
        (20, "In Progress", 2),
        (21, "Pausing", 2),
        (22, "Canceling", 2),
        (30, "Succeeded", 3),
        (31, "Failed", 3),
        (32, "Canceled", 3),
    ),
}


def _table(name: str, primary_name: str, columns: dict[str, dict[str, Any]], **more: Any) -> Table:
    states = more.pop("states", {})
    standard = {
        f"{name}id": {"type": "Uniqueidentifier", "required": "systemrequired"},
        "createdon": _TIME,
        "modifiedon": _TIME,
        "createdby": _lookup("systemuser", name="createdby"),
        "modifiedby": _lookup("systemuser", name="modifiedby"),
        "versionnumber": {"type": "BigInt"},
        **{
            column: {"type": column.removesuffix("code").capitalize(), "options": [list(each) for each in options]}
            for column, options in states.items()
        },
    }
    facts = {
        "schemaName": name,
        "displayName": name,
        "entitySet": f"{name}s",
        "primaryId": f"{name}id",
        "primaryName": primary_name,
        "ownership": "OrganizationOwned",
        "optimisticConcurrency": False,
        "changeTracking": False,
        "columns": standard | columns,
        **more,
    }
    return table(name, facts)


def tables(mapped: list[str]) -> list[Table]:
    """Build the system tables; `mapped` are the other tables, which system jobs may be about."""
    return [
        _table(
            "systemuser",
            "fullname",
            {
                "fullname": _text(200),
                "firstname": _text(256),
                "lastname": _text(256),
                "domainname": _text(1024),
                "internalemailaddress": _text(100),
                "azureactivedirectoryobjectid": _ID,
                "applicationid": _ID,
                "isdisabled": _YES_NO,
                "businessunitid": _lookup("businessunit", name="businessunitid"),
            },
            keyInUrl="ownerid",
        ),
        _table(
            "team",
            "name",
            {"name": _text(160), "businessunitid": _lookup("businessunit", name="businessunitid")},
            keyInUrl="ownerid",
        ),
        _table("businessunit", "name", {"name": _text(160)}),
        _table("organization", "name", {"name": _text(160)}),
        _table(
            "serviceendpoint",
            "name",
            {
                "name": _text(160),
                "url": _text(2000),
                "description": _text(100),
                "path": _text(160),
                "contract": _choice(
                    (1, "OneWay"),
                    (2, "Queue"),
                    (3, "Rest"),
                    (4, "TwoWay"),
                    (5, "Topic"),
                    (6, "Queue (Persistent)"),
                    (7, "Event Hub"),
                    (8, "Webhook"),
                    (9, "Event Grid"),
                    (10, "Managed Data Lake"),
                ),
                "authtype": _choice(
                    (2, "SASKey"),
                    (3, "SASToken"),
                    (4, "WebhookKey"),
                    (5, "HttpHeader"),
                    (6, "HttpQueryString"),
                    (7, "ConnectionString"),
                    (8, "AccessKey"),
                ),
                "messageformat": _choice((1, "Binary XML"), (2, "Json"), (3, "Text XML")),
                "messagecharset": _choice((0, "Default"), (1, "UTF8")),
                "connectionmode": _choice((1, "Normal"), (2, "Federated")),
                "userclaim": _choice((1, "None"), (2, "UserId"), (3, "UserInfo")),
                "authvalue": _text(2048, secret=True),
                "isauthvalueset": {"type": "Boolean", "readOnly": True},
            },
        ),
        _table("sdkmessage", "name", {"name": _text(256)}),
        _table(
            "sdkmessagefilter",
            "name",
            {
                "name": _text(256),
                "primaryobjecttypecode": _text(64),
                "sdkmessageid": _lookup("sdkmessage", name="sdkmessageid"),
            },
        ),
        _table("sdkmessageprocessingstep", "name", _STEP, states=_STEP_STATES),
        _table(
            "sdkmessageprocessingstepimage",
            "name",
            {
                "name": _text(256),
                "entityalias": _text(256),
                "attributes": _text(100000),
                "messagepropertyname": _text(256),
                "imagetype": _choice((0, "PreImage"), (1, "PostImage"), (2, "Both")),
                "sdkmessageprocessingstepid": _lookup(
                    "sdkmessageprocessingstep", name="sdkmessageprocessingstepid", delete="Cascade"
                ),
            },
        ),
        _table(
            "asyncoperation",
            "name",
            {
                "name": _text(256),
                "operationtype": _choice((1, "System Event"), (13, "Bulk Delete")),
                "messagename": _text(160),
                "primaryentitytype": _text(64),
                "correlationid": _ID,
                "requestid": _ID,
                "depth": _WHOLE,
                "retrycount": _WHOLE,
                "errorcode": _WHOLE,
                "message": _MEMO,
                "friendlymessage": _MEMO,
                "startedon": _TIME,
                "completedon": _TIME,
                "owningextensionid": _lookup("sdkmessageprocessingstep", name="owningextensionid"),
                "regardingobjectid": _polymorphic("regardingobjectid", *mapped),
            },
            states=_JOB_STATES,
        ),
        *solutions.tables(),
    ]


_STEP: Final[dict[str, dict[str, Any]]] = {
    "name": _text(256),
    "description": _text(256),
    "configuration": _MEMO,
    "filteringattributes": _text(100000),
    "stage": _choice((10, "Pre-validation"), (20, "Pre-operation"), (40, "Post-operation")),
    "mode": _choice((0, "Synchronous"), (1, "Asynchronous")),
    "rank": {"type": "Integer", "min": 0, "max": 2**31 - 1},
    "supporteddeployment": _choice((0, "Server Only"), (1, "Outlook Client Only"), (2, "Both")),
    "invocationsource": _choice((-1, "Internal"), (0, "Parent"), (1, "Child")),
    "asyncautodelete": _YES_NO,
    "sdkmessageid": _lookup("sdkmessage", name="sdkmessageid"),
    "sdkmessagefilterid": _lookup("sdkmessagefilter", name="sdkmessagefilterid"),
    "eventhandler": _polymorphic(
        "eventhandler",
        "serviceendpoint",
        collections={"serviceendpoint": "serviceendpoint_sdkmessageprocessingstep"},
        delete="Restrict",
    ),
}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "serviceendpoint": {"messageformat": 2, "messagecharset": 1, "connectionmode": 1, "userclaim": 1},
    "sdkmessageprocessingstep": {"rank": 1, "supporteddeployment": 0, "invocationsource": 0, "asyncautodelete": 0},
}

NAMES: Final = frozenset(each.name for each in tables([]))
"""The system tables; what happens to their rows is told to nobody."""


def rows(metadata: Metadata, no_bulk: Collection[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """List what an empty organization holds, as (table, kept values); `no_bulk` are tables without bulk messages."""
    found: list[tuple[str, dict[str, Any]]] = [
        ("organization", {"organizationid": ORGANIZATION, "name": ORGANIZATION_NAME}),
        ("businessunit", {"businessunitid": BUSINESS_UNIT, "name": ORGANIZATION_NAME}),
        ("team", {"teamid": TEAM, "name": ORGANIZATION_NAME, "businessunitid": BUSINESS_UNIT}),
        (
            "systemuser",
            {
                "systemuserid": USER,
                "fullname": "The Relay",
                "firstname": "The",
                "lastname": "Relay",
                "isdisabled": 0,
                "businessunitid": BUSINESS_UNIT,
            },
        ),
    ]
    found += [("sdkmessage", {"sdkmessageid": _message(name), "name": name}) for name in (*MESSAGES, *BULK_MESSAGES)]
    found += solutions.rows()
    for name in metadata.tables:
        if name not in NAMES:
            found += rows_of_table(name, bulk=name not in no_bulk)
    return found


def _message(name: str) -> str:
    return metadata_id("sdkmessage", name)


def rows_of_table(name: str, *, bulk: bool = True) -> list[tuple[str, dict[str, Any]]]:
    """List what the organization keeps about a table: which messages it has, in bulk too, and its main form."""
    filters = [
        {
            "sdkmessagefilterid": metadata_id("sdkmessagefilter", message, name),
            "primaryobjecttypecode": name,
            "sdkmessageid": _message(message),
        }
        for message in (*MESSAGES, *(BULK_MESSAGES if bulk else ()))
    ]
    return [*(("sdkmessagefilter", each) for each in filters), solutions.form(name)]


def complete(name: str, values: dict[str, Any], *, creating: bool) -> None:
    """Add the defaults of a system table's row to the values being written."""
    if creating:
        for column, value in _DEFAULTS.get(name, {}).items():
            if values.get(column) is None:
                values[column] = value
    if name == "serviceendpoint" and (creating or "authvalue" in values):
        values["isauthvalueset"] = int(bool(values.get("authvalue")))
    solutions.complete(name, values, creating=creating)

"""The RemoteExecutionContext: what Dataverse posts to a webhook about one event."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from devstack.dataverse import system
from devstack.dataverse.columns import formatted, render
from devstack.dataverse.metadata import CHOICES, LOOKUPS, Column, Table
from devstack.dataverse.records import Event
from devstack.dataverse.rows import Row
from devstack.dataverse.wire import exact

MAX_BYTES: Final = 256 * 1024
DROPPED: Final = ("ParentContext", "InputParameters", "PreEntityImages", "PostEntityImages")
"""Members left out of a message that would be larger than MAX_BYTES."""
_CONTRACTS: Final = "http://schemas.microsoft.com/xrm/2011/Contracts"
_PARENT_STAGE: Final = 30
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_ESCAPE: Final = re.compile(rb"\\(.)")
_NUMBERED: Final = {b"n": b"\\u000a", b"r": b"\\u000d", b"t": b"\\u0009", b"b": b"\\u0008", b"f": b"\\u000c"}
_ADDED: Final = ("ownerid", "statecode", "statuscode")
Pair = dict[str, Any]


def body(event: Event, step: Row, images: Iterable[Row], operation: str, *, iso: bool = False) -> tuple[bytes, bool]:
    """Write the message for a step; the flag says that it was too large and lost its larger members.

    `operation` is the system job's id; `iso` writes dates in ISO 8601, as recent traces have them, for `/Date(ms)/`.
    """
    moment = datetime.now(UTC)
    created = _iso(moment) if iso else f"/Date({_milliseconds(moment)}+0000)/"
    context = _context(event, step, list(images), operation, created)
    text = _json(context, iso=iso)
    if len(text) <= MAX_BYTES:
        return text, False
    return _json({name: value for name, value in context.items() if name not in DROPPED}, iso=iso), True


def _json(context: dict[str, Any], *, iso: bool) -> bytes:
    """Write JSON as the platform's serializer does: every slash escaped, control characters by their numbers."""

    def other(value: object) -> Any:
        if isinstance(value, datetime):
            return _iso(value) if iso else f"/Date({_milliseconds(value)})/"
        return exact(value)

    text = orjson.dumps(context, default=other, option=orjson.OPT_PASSTHROUGH_DATETIME)
    if b"\\" in text:
        text = _ESCAPE.sub(lambda found: _NUMBERED.get(found[1], found[0]), text)
    return text.replace(b"/", b"\\/")


def _context(event: Event, step: Row, images: list[Row], operation: str, created: str) -> dict[str, Any]:
    sent = dict(event.changed)
    full = {name: value for name, value in event.after.items() if value is not None and "@" not in name}
    full.pop("versionnumber", None)
    if event.message == "Create":
        target = full | {name: value for name, value in sent.items() if value is None} | {"modifiedonbehalfby": None}
        parent = sent | {name: event.after[name] for name in _ADDED if event.after.get(name) is not None}
    else:
        stamped = {name: event.after.get(name) for name in ("modifiedon", "modifiedby") if name in event.after}
        target = {event.table.primary_id: event.id} | sent | stamped
        parent = {event.table.primary_id: event.id} | sent
    shared = [_pair("IsAutoTransact", value=True)]
    if event.origin.changeset:
        shared.append(_pair("IsODataTransaction", value=True))
        shared.append(_pair("ODataChangesetRequestCount", value=event.origin.changeset))
    if event.message == "Create":
        shared.append(_pair("DefaultsAddedFlag", value=True))
    if event.origin.tag is not None:
        shared.append(_pair("tag", event.origin.tag))
    common = {
        "BusinessUnitId": system.BUSINESS_UNIT,
        "CorrelationId": event.origin.correlation,
        "Depth": 1,
        "InitiatingUserAzureActiveDirectoryObjectId": NOBODY,
        "InitiatingUserId": system.USER,
        "IsExecutingOffline": False,
        "IsInTransaction": step["mode"] == system.SYNCHRONOUS,
        "IsOfflinePlayback": False,
        "IsolationMode": 1,
        "MessageName": event.message,
        "OperationCreatedOn": created,
        "OrganizationId": system.ORGANIZATION,
        "OrganizationName": system.ORGANIZATION_NAME,
        "PreEntityImages": [],
        "PrimaryEntityId": event.id,
        "PrimaryEntityName": event.table.name,
        "RequestId": str(uuid.uuid4()),
        "SecondaryEntityName": "none",
        "SharedVariables": shared,
        "UserAzureActiveDirectoryObjectId": NOBODY,
        "UserId": event.origin.user,
    }
    before = step["stage"] == system.PRE_OPERATION
    output = [_pair("id", event.id)] if event.message == "Create" and not before else []
    parent_context = common | {
        "InputParameters": [*_input(event, parent), _pair("SuppressDuplicateDetection", value=False)],
        "Mode": 0,
        "OperationId": NOBODY,
        "OutputParameters": [],
        "OwningExtension": None,
        "ParentContext": None,
        "PostEntityImages": [],
        "Stage": _PARENT_STAGE,
    }
    return common | {
        "InputParameters": _input(event, target),
        "Mode": step["mode"],
        "OperationId": operation,
        "OutputParameters": output,
        "OwningExtension": _reference("sdkmessageprocessingstep", step["sdkmessageprocessingstepid"], typed=False),
        "ParentContext": dict(sorted(parent_context.items())),
        "PostEntityImages": [] if before else _post_images(event, images, step["mode"]),
        "PreEntityImages": _pre_images(event, images),
        "Stage": step["stage"],
    }


def _pair(key: str, value: Any) -> Pair:
    return {"key": key, "value": value}


def _input(event: Event, values: Row) -> list[Pair]:
    if event.message == "Delete":
        return [_pair("Target", _reference(event.table.name, event.id))]
    return [_pair("Target", _entity(event.table, event.id, values, event.after))]


def _post_images(event: Event, images: list[Row], mode: int) -> list[Pair]:
    if not event.after:
        return []
    shown = [_image(event, image, event.after) for image in images if image["imagetype"] in (1, 2)]
    if mode == system.SYNCHRONOUS:
        return shown
    names = (event.table.primary_name, event.table.primary_id)
    named = {name: event.after.get(name) for name in names}
    found = [_pair("AsynchronousStepPrimaryName", _entity(event.table, event.id, named, event.after, typed=False))]
    return found + shown


def _pre_images(event: Event, images: list[Row]) -> list[Pair]:
    if not event.before:
        return []
    return [_image(event, image, event.before) for image in images if image["imagetype"] in (0, 2)]


def _image(event: Event, image: Row, row: Row) -> Pair:
    wanted = {name.strip() for name in (image.get("attributes") or "").split(",") if name.strip()}
    values = {
        name: value
        for name, value in row.items()
        if value is not None and "@" not in name and (not wanted or name in wanted)
    }
    values[event.table.primary_id] = event.id
    return _pair(image["entityalias"], _entity(event.table, event.id, values, row, typed=False))


def _entity(table: Table, row_id: str, values: Row, row: Row, *, typed: bool = True) -> dict[str, Any]:
    attributes, shown = [], []
    for name, value in values.items():
        column = table.columns.get(name)
        if column is None or not column.stored or column.secret:
            continue
        attributes.append(_pair(name, _value(column, value, row)))
        text = formatted(column, value) if value is not None and column.type not in LOOKUPS else None
        if text is not None:
            shown.append(_pair(name, text))
    entity = {
        "Attributes": attributes,
        "EntityState": None,
        "FormattedValues": shown,
        "Id": row_id,
        "KeyAttributes": [],
        "LogicalName": table.name,
        "RelatedEntities": [],
        "RowVersion": None,
    }
    return {"__type": f"Entity:{_CONTRACTS}", **entity} if typed else entity


def _reference(table: str, row: str, *, typed: bool = True) -> dict[str, Any]:
    reference: dict[str, Any] = {"Id": row, "KeyAttributes": [], "LogicalName": table, "Name": None, "RowVersion": None}
    return {"__type": f"EntityReference:{_CONTRACTS}", **reference} if typed else reference


def _value(column: Column, value: Any, row: Row) -> Any:
    if value is None:
        return None
    if column.type in CHOICES:
        return {"__type": f"OptionSetValue:{_CONTRACTS}", "Value": value}
    if column.type == "Money":
        return {"__type": f"Money:{_CONTRACTS}", "Value": Decimal(value)}
    if column.type in LOOKUPS:
        target = row.get(f"{column.name}@table") if len(column.targets) > 1 else column.targets[0]
        return _reference(str(target), value)
    if column.type == "DateTime":
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return render(column, value)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

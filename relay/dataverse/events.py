"""Dataverse's event messages (RemoteExecutionContext), as webhooks and Service Bus bring them.

Only the standard library is used here, so that the first event after a cold start is not kept waiting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from relay.errors import Refused

_GUID: Final = re.compile(r"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?")
_EMPTY_GUID: Final = "00000000-0000-0000-0000-000000000000"
_TABLE: Final = re.compile(r"[a-z0-9_]{1,128}")
_DATE: Final = re.compile(r"/Date\((-?[0-9]{1,17})(?:[+-][0-9]{4})?\)/")
_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,27}(?:Z|[+-][0-9]{2}:?[0-9]{2})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_PARENTS: Final = 32


@dataclass(frozen=True, slots=True)
class IdentifierEvent:
    """One event of one row; `id`, `organization_id` and `operation_id` are lower-case GUIDs ("" if not sent).

    `attributes` are the Target's: lookups as the GUID (`tables` has the table it points to), options and money as
    numbers, `/Date(…)/` as UTC datetime, collections as tuples. They are empty when the message was too large and
    Dataverse `stripped` it: read the row instead. `tag` is the shared variable of the write that caused the event,
    looked for in the parent contexts as well.
    """

    message: str
    table: str
    id: str
    organization_id: str
    operation_id: str
    tag: str
    stage: int
    depth: int
    occurred: datetime | None
    attributes: Mapping[str, Any] = field(repr=False)
    stripped: bool
    tables: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_event(body: bytes | str | Mapping[str, Any]) -> IdentifierEvent:
    """Read an event; unknown members are passed over. Raises Refused 400, naming the member, for anything else."""
    try:
        return _read(body if isinstance(body, Mapping) else _parse_json(body))
    except RecursionError:
        raise _refused("the body is nested too deep") from None


def _read(context: Mapping[str, Any]) -> IdentifierEvent:
    message, table = context.get("MessageName"), context.get("PrimaryEntityName")
    if not isinstance(message, str) or not message:
        raise _refused("MessageName is missing: this is not a RemoteExecutionContext")
    if not isinstance(table, str) or not _TABLE.fullmatch(table.lower()):
        raise _refused("PrimaryEntityName is missing or not a table's logical name")
    inputs = _pairs(context.get("InputParameters"))
    target = inputs.get("Target")
    row = (
        _guid(context.get("PrimaryEntityId"))
        or _guid(_pairs(context.get("OutputParameters")).get("id"))
        or _guid(target.get("Id") if isinstance(target, Mapping) else None)
    )
    if not row:
        raise _refused("PrimaryEntityId is missing: register the step on Create or Update of one row")
    attributes = _pairs(target.get("Attributes")) if isinstance(target, Mapping) else {}
    return IdentifierEvent(
        message=message,
        table=table.lower(),
        id=row,
        organization_id=_guid(context.get("OrganizationId")),
        operation_id=_guid(context.get("OperationId")),
        tag=_tag(context),
        stage=_integer(context.get("Stage"), 0),
        depth=_integer(context.get("Depth"), 1),
        occurred=_moment(context.get("OperationCreatedOn")),
        attributes={name: _unwrap(value) for name, value in attributes.items()},
        stripped="Target" not in inputs,
        tables={
            name: value["LogicalName"]
            for name, value in attributes.items()
            if isinstance(value, Mapping) and isinstance(value.get("LogicalName"), str)
        },
    )


def _parse_json(body: bytes | str) -> Mapping[str, Any]:
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body.removeprefix("\ufeff")
        context = json.loads(text, parse_float=Decimal)
    except ValueError:
        raise _refused("the body is not JSON") from None
    if not isinstance(context, dict):
        raise _refused("the body is not a JSON object")
    return context


def _refused(message: str) -> Refused:
    return Refused(f"event: {message}", code="not-an-event")


def _pairs(value: Any) -> dict[str, Any]:
    """Read `[{"key":…,"value":…}]`, or the plain object that some serialisers make of it."""
    if isinstance(value, Mapping):
        return {name: each for name, each in value.items() if isinstance(name, str)}
    pairs: dict[str, Any] = {}
    for each in value if isinstance(value, list | tuple) else ():
        if isinstance(each, Mapping):
            name = each.get("key", each.get("Key"))
            if isinstance(name, str):
                pairs[name] = each.get("value", each.get("Value"))
    return pairs


def _tag(context: Mapping[str, Any]) -> str:
    here: Any = context
    for _ in range(_MAX_PARENTS):
        if not isinstance(here, Mapping):
            break
        tag = _pairs(here.get("SharedVariables")).get("tag")
        if isinstance(tag, str) and tag:
            return tag
        here = here.get("ParentContext")
    return ""


def _guid(value: Any) -> str:
    match = _GUID.fullmatch(value) if isinstance(value, str) else None
    text = match[1].lower() if match else ""
    return "" if text == _EMPTY_GUID else text


def _integer(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _moment(value: Any) -> datetime | None:
    """Read `/Date(ms)/`, whose offset is for display only, or ISO 8601; without an offset it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        if match := _DATE.fullmatch(value):
            return _EPOCH + timedelta(milliseconds=int(match[1]))
        if not _ISO_DATE.fullmatch(value):
            return None
        # .NET writes seven digits of a second, Python reads six
        when = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value))
    except (ValueError, OverflowError):
        return None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def _unwrap(value: Any) -> Any:
    if isinstance(value, str):
        return (_moment(value) or value) if value.startswith("/Date(") else value
    if isinstance(value, list | tuple):
        return tuple(map(_unwrap, value))
    return _unwrap_object(value) if isinstance(value, Mapping) else value


def _unwrap_object(value: Mapping[str, Any]) -> Any:
    """Tell the contract types apart by their members, since `__type` may be missing."""
    if "Entities" in value:  # EntityCollection
        return _unwrap(value["Entities"] or ())
    if "Attributes" in value:  # Entity
        return {name: _unwrap(each) for name, each in _pairs(value["Attributes"]).items()}
    if "Id" in value and "LogicalName" in value:  # EntityReference
        return _guid(value["Id"]) or None
    if "Value" in value:  # OptionSetValue, Money
        return _unwrap(value["Value"])
    return {name: _unwrap(each) for name, each in value.items()}

"""A change that a FHIR server, or what stands between, tells of: which resource, and its body where that came along. Pure.

However it is told (a Subscription, Event Grid, Pub/Sub), this is what it becomes; JSON so that it can be kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from relay.errors import Refused
from relay.fhir.answers import FHIR_ID, FHIR_TYPE

Op = Literal["create", "update", "delete", "unknown"]

_OPS = get_args(Op)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: who told it, of which resource, to which version; `resource` is the body (JSON, UTF-8) if it was told.

    Raises Refused `invalid-id` for what is no FHIR type and id: everything else about a change is a hint, and who it
    is about becomes a URL.
    """

    source: str
    type: str
    id: str
    version: str | None
    op: Op
    resource: bytes | None

    def __post_init__(self) -> None:
        if not FHIR_TYPE.fullmatch(self.type) or not FHIR_ID.fullmatch(self.id):
            raise Refused("a change is of no FHIR type and id", code="invalid-id")

    @property
    def key(self) -> tuple[str, str]:
        """The resource's type and id."""
        return self.type, self.id

    @property
    def bare(self) -> Change:
        """The change without what was told of it: the resource as it is when it is read."""
        return replace(self, version=None, op="unknown", resource=None)


def collapse(changes: Sequence[Change]) -> list[Change]:
    """Leave one change for each resource, in the order in which they were told of first.

    Several that differ become one without a body: the newest version is the one that the server has.
    """
    kept: dict[tuple[str, str], Change] = {}
    for each in changes:
        known = kept.setdefault(each.key, each)
        if known != each:
            kept[each.key] = known.bare
    return list(kept.values())


def dump_changes(changes: Sequence[Change]) -> bytes:
    """Write changes as JSON, their bodies as text."""
    rows = [[each.source, each.type, each.id, each.version, each.op, _text(each.resource)] for each in changes]
    return json.dumps({"changes": rows}, separators=(",", ":")).encode()


def load_changes(data: bytes) -> list[Change]:
    """Read what `dump_changes` wrote; raises Refused `bad-message`."""
    try:
        rows = json.loads(data)["changes"]
        return [_change(each) for each in rows]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused("not a list of changes", code="bad-message") from error


def _text(resource: bytes | None) -> str | None:
    return None if resource is None else resource.decode()


def _change(row: Sequence[Any]) -> Change:
    source, kind, fhir_id, version, op, resource = row
    if op not in _OPS:
        raise ValueError
    return Change(source, kind, fhir_id, version, op, resource.encode() if resource is not None else None)

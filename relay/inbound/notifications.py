"""What a FHIR server sends to a Subscription's endpoint, read for the changes it tells of. Pure.

Told apart by what they are, not by who sends them:

- R4 rest-hook with a payload: one resource; HAPI sends `PUT {endpoint}/{Type}/{id}`, and `DELETE` of the same for a
  deletion. Without a payload: an empty POST, which says nothing but that something changed.
- Topic-based (hl7.org/fhir/uv/subscriptions-backport; R5 subscriptions.html): a Bundle of type `history` (R4, R4B) or
  `subscription-notification` (R5) whose first entry is a Parameters (R4) or a SubscriptionStatus.
- Any other Bundle, as HAPI sends for a payload search: each entry is a change.

References are hints of a sender that may be hostile: only `Type/id`, alone or below RELAY_FHIR_URL, names a resource.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from relay.errors import Refused
from relay.fhir.answers import FHIR_ID
from relay.fhir.pages import instant
from relay.inbound.change import Change, Op
from relay.inbound.entries import Entry, Incoming
from relay.inbound.intake import read_bundle
from relay.inbound.limits import read_text
from relay.inbound.references import References
from relay.inbound.sent import SentBodies
from relay.mapping.model import ByFhirId
from relay.settings import Settings

SOURCE = "subscription"
Kind = Literal["handshake", "heartbeat", "event-notification", "query-status", "query-event"]

_KINDS = get_args(Kind)
_OPS: Mapping[str, Op] = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_TYPES = re.compile(r"[A-Z][A-Za-z]{1,63}(?:,[A-Z][A-Za-z]{1,63}){0,63}")
_ADDRESS = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notification:
    """What was told: `changes`, or with `unsaid` that something changed, of the `types` if the path names any.

    `bundle` is whether it came as a Bundle, which HAPI wants to be answered with one. Of a topic-based one `subscription`
    is the reference to it, `total` how many events there were since it started, and `events` the numbers of those that
    are told of here; otherwise they are empty. `happened` is when the first of these happened, by the server's clock, if it
    says so.
    """

    kind: Kind
    changes: tuple[Change, ...] = ()
    unsaid: bool = False
    types: tuple[str, ...] = ()
    bundle: bool = False
    subscription: str = ""
    total: int | None = None
    events: tuple[int, ...] = ()
    happened: datetime | None = None


def read_notification(
    method: str, path: str, body: bytes, *, content_type: str, content_encoding: str, limits: Settings
) -> Notification:
    """Read one request to the endpoint; `path` is what follows it: nothing, `Type/id`, or types to query (`Patient,Encounter`).

    Raises Refused: what `read_bundle` raises, `bad-path` for a path that is none of these or names another resource
    than the body, `no-body` for a PUT of nothing, `not-a-notification` for a status that cannot be read,
    `too-many-entries` 413 for one of more events than a bundle may have entries,
    `foreign-reference` when all that is told of is on another server than RELAY_FHIR_URL.
    """
    address, types = _read_path(path)
    if method == "DELETE":
        if address is None:
            raise Refused("a DELETE names its resource in the path: Type/id", code="bad-path")
        return Notification("event-notification", (Change(SOURCE, *address, None, "delete", None),))
    if not body.strip():
        return _empty(method, address, types)
    said = {"content_type": content_type, "content_encoding": content_encoding, "limits": limits}
    incoming = read_bundle(body, **said)  # type: ignore[arg-type]  # the keys are the parameters' names
    bodies = SentBodies(read_text(body, **said), incoming)  # type: ignore[arg-type]  # as above
    reader = _Reader(incoming, bodies, limits.fhir_url)
    if incoming.type == "resource":
        return Notification("event-notification", (reader.alone(method, address),))
    if address is not None:
        raise Refused("the path names a resource, the body is a Bundle", code="bad-path")
    status = incoming.entries[0] if incoming.entries else None
    if status is None or status.skip != "subscription-status":
        return Notification("event-notification", tuple(reader.entries(incoming.entries)), bundle=True)
    return reader.notification(_status(status.resource or {}, limits.max_entries), types)


def _read_path(path: str) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    path = path.strip("/")
    if match := _ADDRESS.fullmatch(path):
        return (match[1], match[2]), ()
    if not path or _TYPES.fullmatch(path):
        return None, tuple(dict.fromkeys(path.split(","))) if path else ()
    raise Refused("the path is none of: nothing, Type/id, types with commas", code="bad-path")


def _empty(method: str, address: tuple[str, str] | None, types: tuple[str, ...]) -> Notification:
    if method == "POST" and address is None:
        return Notification("event-notification", unsaid=True, types=types)
    if method == "POST" and address is not None:
        return Notification("event-notification", (Change(SOURCE, *address, None, "unknown", None),))
    raise Refused("a PUT brings the resource", code="no-body")


@dataclass(frozen=True, slots=True)
class _Status:
    kind: Kind
    subscription: str
    total: int | None
    events: tuple[int, ...]
    focuses: tuple[str, ...]
    happened: datetime | None


class _Reader:
    """Makes changes of entries and references."""

    def __init__(self, incoming: Incoming, bodies: SentBodies, fhir_url: str) -> None:
        self._bodies = bodies
        self._resolve = References(Incoming("resource", ()), fhir_url=fhir_url).resolver(Entry(0, None))
        self._incoming = incoming

    def alone(self, method: str, address: tuple[str, str] | None) -> Change:
        """Return the change that one resource is; raises Refused."""
        (entry,) = self._incoming.entries
        if entry.key is None and entry.problem is not None:
            raise Refused(entry.problem.message, code=entry.problem.code)
        if entry.key is not None and address not in (None, entry.key):
            raise Refused("the path names another resource than the body", code="bad-path")
        return self._told(entry, "update" if method == "PUT" else "unknown")

    def entries(self, entries: Iterable[Entry]) -> list[Change]:
        """Return the changes of a bundle's entries; raises Refused when there are some and none can be read."""
        return self._each([entry for entry in entries if not entry.skip])

    def _each(self, told: Iterable[Entry | str]) -> list[Change]:
        """Return the changes of entries and of references; one that cannot be read is passed over if others can be."""
        found: list[Change] = []
        bad: Refused | None = None
        for each in told:
            try:
                found.append(self._named(each, "unknown") if isinstance(each, str) else self._change(each))
            except Refused as refused:
                log.warning("a notification tells of something that is no change: %s", refused.code)
                bad = refused
        if bad is not None and not found:
            raise bad
        return found

    def notification(self, status: _Status, types: tuple[str, ...]) -> Notification:
        """Return a topic-based notification: entries as they are, and what is in focus without an entry."""
        entries = [entry for entry in self._incoming.entries[1:] if not entry.skip]
        there = {entry.full_url for entry in entries}
        changes = self._each([*entries, *(focus for focus in status.focuses if focus not in there)])
        told = status.kind in ("event-notification", "query-event")
        return Notification(
            status.kind,
            tuple(changes) if told else (),
            unsaid=status.kind == "event-notification" and not changes,
            types=types,
            bundle=True,
            subscription=status.subscription,
            total=status.total,
            events=status.events,
            happened=status.happened,
        )

    def _change(self, entry: Entry) -> Change:
        op = _OPS.get(entry.method, "unknown")
        if op == "delete" or entry.sent is None:
            return self._named(_address(entry), op)
        return self._told(entry, op)

    def _told(self, entry: Entry, op: Op) -> Change:
        """Return the change with its body.

        What has a problem, such as a part or two versions of one age, is no body; nor is what names neither its
        version nor when it was written, so that it could not be told from a newer one, or what another server calls its own.
        """
        if entry.key is None:
            raise Refused("what was sent is no resource that can be told apart", code="not-a-resource")
        meta = (entry.resource or {}).get("meta")
        version = meta.get("versionId") if isinstance(meta, dict) else None
        legal = version if isinstance(version, str) and FHIR_ID.fullmatch(version) else None
        dated = legal is not None or (isinstance(meta, dict) and instant(meta.get("lastUpdated")) is not None)
        usable = entry.problem is None and dated and not self._is_foreign(entry)
        return Change(SOURCE, *entry.key, legal, op, self._bodies.text(entry).encode() if usable else None)

    def _is_foreign(self, entry: Entry) -> bool:
        """Tell whether an entry's fullUrl is an address, and not one of its resource on our server."""
        meant = self._resolve({"reference": entry.full_url})
        address = entry.full_url.lower().startswith(("http://", "https://"))
        return address and not (isinstance(meant, ByFhirId) and (meant.type, meant.id) == entry.key)

    def _named(self, reference: str, op: Op) -> Change:
        meant = self._resolve({"reference": reference})
        if not isinstance(meant, ByFhirId):
            raise Refused(
                "what changed is no Type/id on the server that RELAY_FHIR_URL names", code="foreign-reference"
            )
        return Change(SOURCE, meant.type, meant.id, None, op, None)


def own_id(subscription: str, fhir_url: str) -> str:
    """Return the id of a Subscription on the FHIR server that RELAY_FHIR_URL names; empty for any other reference."""
    resolve = References(Incoming("resource", ()), fhir_url=fhir_url).resolver(Entry(0, None))
    meant = resolve({"reference": subscription})
    return meant.id if isinstance(meant, ByFhirId) and meant.type == "Subscription" else ""


def _address(entry: Entry) -> str:
    """Return what names an entry's resource: its request's URL if that is an address, else its fullUrl."""
    return entry.url if _ADDRESS.fullmatch(entry.url) or not entry.full_url else entry.full_url


def _status(resource: Mapping[str, Any], most: int) -> _Status:
    """Read a SubscriptionStatus, or the Parameters that stand for it in R4.

    Raises Refused: `not-a-notification`, or `too-many-entries` for more than `most` events: each may cost a read.
    """
    said = _of_parameters(resource) if resource.get("resourceType") == "Parameters" else resource
    kind, listed = said.get("type"), said.get("notificationEvent")
    if kind not in _KINDS:
        raise Refused(f"the status has no known type (valid: {', '.join(_KINDS)})", code="not-a-notification")
    events = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    if len(events) > most:
        raise Refused(f"{len(events)} events are more than {most}", code="too-many-entries", status=413)
    numbers = [_number(each.get("eventNumber")) for each in events]
    return _Status(
        cast("Kind", kind),
        _reference(said.get("subscription")),
        _number(said.get("eventsSinceSubscriptionStart")),
        tuple(number for number in numbers if number is not None),
        tuple(focus for each in events if (focus := _reference(each.get("focus")))),
        min((at for each in events if (at := instant(each.get("timestamp")))), default=None),
    )


_NAMES = {
    "events-since-subscription-start": "eventsSinceSubscriptionStart",
    "notification-event": "notificationEvent",
    "event-number": "eventNumber",
}


def _of_parameters(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return Parameters as the SubscriptionStatus that they stand for."""
    said: dict[str, Any] = {}
    for name, parameter in _named(resource.get("parameter")):
        if name == "notificationEvent":
            event = {part: _value(value) for part, value in _named(parameter.get("part"))}
            said.setdefault(name, []).append(event)
        else:
            said[name] = _value(parameter)
    return said


def _named(listed: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Name each parameter as the element of SubscriptionStatus is named."""
    found = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return [(_NAMES.get(str(each.get("name")), str(each.get("name"))), each) for each in found]


def _value(parameter: Mapping[str, Any]) -> Any:
    return next((value for name, value in parameter.items() if name.startswith("value")), None)


def _reference(value: object) -> str:
    reference = value.get("reference") if isinstance(value, Mapping) else None
    return reference if isinstance(reference, str) else ""


def _number(value: object) -> int | None:
    """Read an integer64, which JSON may hold as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if _NUMBER.fullmatch(str(value)) else None

"""The interactions of FHIR R4 on one resource or type, whether they came by HTTP or in a bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote
from uuid import uuid4

from devstack.fhir.errors import FhirError, invalid, not_supported, precondition
from devstack.fhir.search import Query, check_format, find, parse_instant, parse_query
from devstack.fhir.store import Store, Version
from devstack.fhir.types import R4_TYPES

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG: Final = re.compile(r'W/"([A-Za-z0-9\-.]{1,64})"')


@dataclass(slots=True)
class Call:
    """One interaction: `segments` of the path below the base, the query string, the conditions and the resource.

    `new_id` is the id that a create takes, so that a bundle can know it beforehand.
    """

    method: str
    segments: list[str]
    query: str = ""
    resource: Any = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_none_exist: str | None = None
    new_id: str = field(default_factory=lambda: str(uuid4()))

    @classmethod
    def of_url(cls, method: str, url: str, **more: Any) -> Call:
        """Build a call from a URL relative to the base, as bundles have it; raises FhirError (400)."""
        path, _, query = url.partition("?")
        return cls(method, [unquote(part) for part in path.strip("/").split("/")] if path else [], query, **more)


@dataclass(slots=True)
class Reply:
    """How an interaction went: a version, a page of versions (search, history), or neither (nothing to delete)."""

    status: int
    version: Version | None = None
    page: list[Version] | None = None
    kind: Literal["searchset", "history"] = "searchset"
    query: Query = field(default_factory=Query)


@dataclass(frozen=True, slots=True)
class Options:
    """The ways in which servers differ: the status of a stale If-Match, that of a guarded PUT of what nobody ever had, and the most entries of a bundle."""

    conflict_status: Literal[409, 412] = 412
    lost_put: Literal[201, 404] = 404
    entry_limit: int | None = None


def conditional(store: Store, type_: str, query: str) -> list[Version]:
    """Return what a conditional interaction or reference means; raises FhirError (412) when it has no criteria."""
    parsed = parse_query(query)
    if not parsed.has_criteria or parsed.count is not None or parsed.offset:
        raise precondition(f"the condition on {type_} is not selective: give _id or identifier")
    return find(store, type_, parsed)


def carry_out(store: Store, options: Options, call: Call) -> Reply:
    """Do one interaction; raises FhirError, and has changed nothing then."""
    if not call.segments:
        raise not_supported(f"{call.method} on the base (valid: POST of a batch or transaction)")
    type_, *rest = call.segments
    for segment in call.segments:
        if segment.startswith("$"):
            raise not_supported(f"operation {segment}")
    if type_ == "_history" and not rest and call.method == "GET":
        return _history(call, store.log)
    if type_ == "_search":
        raise not_supported("a search of all types")
    if type_ not in R4_TYPES:
        raise FhirError(404, "not-supported", f"{type_} is not a resource type of FHIR R4")
    if not rest:
        return _on_type(store, options, call, type_)
    if "_search" in rest or "_history" in rest:
        return _on_past_or_search(store, call, type_, rest)
    if len(rest) > 1:
        raise not_supported(f"the path {'/'.join(call.segments)}")
    return _on_resource(store, options, call, type_, rest[0])


def _on_past_or_search(store: Store, call: Call, type_: str, rest: list[str]) -> Reply:
    match call.method, rest:
        case "POST", ["_search"]:
            return _search(store, call, type_)
        case "GET", ["_history"]:
            return _history(call, [each for each in store.log if each.type == type_])
        case "GET", [id_, "_history"]:
            versions = store.versions(type_, _checked_id(id_))
            if not versions:
                raise _unknown(type_, id_)
            return _history(call, versions)
        case "GET" | "HEAD", [id_, "_history", number]:
            return _vread(store, call, type_, id_, number)
    raise FhirError(405, "not-supported", f"{call.method} is not allowed on {'/'.join(call.segments)}")


def target(call: Call, store: Store) -> tuple[str, str] | None:
    """Return the type and id that a write will have, None where that is not known before it is done."""
    match call.method, call.segments:
        case "POST", [type_]:
            found = _already_there(store, call, type_)
            return (type_, found[0].id if found else call.new_id)
        case "PUT", [type_]:
            found = conditional(store, type_, call.query)
            given = call.resource.get("id") if isinstance(call.resource, dict) else None
            return (type_, found[0].id if found else given if isinstance(given, str) else call.new_id)
        case "PUT" | "DELETE", [type_, id_]:
            return (type_, id_)
        case "DELETE", [type_]:
            found = conditional(store, type_, call.query)
            return (type_, found[0].id) if found else None
    return None


def _on_type(store: Store, options: Options, call: Call, type_: str) -> Reply:
    if call.method in ("GET", "HEAD"):
        return _search(store, call, type_)
    if call.method == "POST":
        return _create(store, call, type_)
    if call.method == "PUT":
        found = conditional(store, type_, call.query)
        if len(found) > 1:
            raise precondition(f"{len(found)} resources of {type_} match the condition")
        resource = _checked(call.resource, type_)
        given = resource.get("id")
        if found and given is not None and given != found[0].id:
            raise invalid(f"the body's id is not the id of the {type_} that matches the condition")
        id_ = found[0].id if found else call.new_id if given is None else _checked_id(given)
        if not found and given is not None and store.live(type_).get(id_):
            raise FhirError(409, "conflict", f"{type_}/{id_} exists and does not match the condition")
        return _update(store, options, call, resource, id_)
    if call.method == "DELETE":
        found = conditional(store, type_, call.query)
        if len(found) > 1:
            raise precondition(f"{len(found)} resources of {type_} match the condition")
        if not found:
            return Reply(204)
        return _delete(store, options, call, found[0])
    raise not_supported(f"{call.method} on a type")


def _on_resource(store: Store, options: Options, call: Call, type_: str, id_: str) -> Reply:
    _checked_id(id_)
    if call.method == "PUT":
        _no_query(call)
        resource = _checked(call.resource, type_)
        if resource.get("id") != id_:
            raise invalid(f"the body's id must be {id_}, the id in the URL")
        return _update(store, options, call, resource, id_)
    if call.method == "DELETE":
        _no_query(call)
        return _delete(store, options, call, store.current(type_, id_))
    if call.method not in ("GET", "HEAD"):
        raise not_supported(f"{call.method} on a resource")
    _no_query(call)
    version = store.current(type_, id_)
    if version is None:
        raise _unknown(type_, id_)
    return _read(call, version)


def _read(call: Call, version: Version) -> Reply:
    if version.body is None:
        raise FhirError(410, "deleted", f"{version.type}/{version.id} is deleted", etag=version.etag)
    if call.if_none_match and version.etag in [each.strip() for each in call.if_none_match.split(",")]:
        return Reply(304, version)
    return Reply(200, version)


def _vread(store: Store, call: Call, type_: str, id_: str, number: str) -> Reply:
    _no_query(call)
    for version in store.versions(type_, _checked_id(id_)):
        if str(version.number) == number:
            return _read(call, version)
    raise FhirError(404, "not-found", f"{type_}/{id_}/_history/{number} is not known")


def _search(store: Store, call: Call, type_: str) -> Reply:
    query = parse_query(call.query)
    return Reply(200, page=find(store, type_, query), query=query)


def _history(call: Call, versions: list[Version]) -> Reply:
    """Return versions newest first, narrowed by `_since`."""
    rest, since = [], None
    for pair in call.query.split("&"):
        if pair.startswith("_since="):
            since = parse_instant(unquote(pair.removeprefix("_since=")))[0]
        elif pair:
            rest.append(pair)
    query = parse_query("&".join(rest))
    if query.has_criteria:
        raise not_supported("a search parameter on _history (valid: _since, _count, _offset)")
    chosen = [each for each in reversed(versions) if since is None or each.updated >= since]
    return Reply(200, page=chosen, kind="history", query=query)


def _create(store: Store, call: Call, type_: str) -> Reply:
    _no_query(call)
    resource = _checked(call.resource, type_)
    if call.if_match is not None:
        raise not_supported("If-Match on a create (valid: If-None-Exist)")
    found = _already_there(store, call, type_)
    if len(found) > 1:
        raise precondition(f"{len(found)} resources of {type_} match If-None-Exist")
    if found:
        return Reply(200, found[0])
    return Reply(201, store.write(resource, call.new_id, "POST"))


def _already_there(store: Store, call: Call, type_: str) -> list[Version]:
    """Return what If-None-Exist means; an empty one is a condition without criteria, not none."""
    return [] if call.if_none_exist is None else conditional(store, type_, call.if_none_exist.strip().lstrip("?"))


def _update(store: Store, options: Options, call: Call, resource: dict[str, Any], id_: str) -> Reply:
    type_ = resource["resourceType"]
    if call.if_none_exist is not None:
        raise not_supported("If-None-Exist on an update (valid: on a create)")
    current = store.current(type_, id_)
    _check_if_match(options, call, current, f"{type_}/{id_}")
    exists = current is not None and current.body is not None
    if call.if_none_match is not None:
        if call.if_none_match != "*":
            raise not_supported(f"If-None-Match: {call.if_none_match} on an update (valid: *)")
        if exists:
            raise precondition(f"{type_}/{id_} exists")
    version = store.write(resource, id_, "PUT")
    return Reply(200 if exists else 201, version)


def _delete(store: Store, options: Options, call: Call, current: Version | None) -> Reply:
    if current is None or current.body is None:
        return Reply(204, current)
    _check_if_match(options, call, current, f"{current.type}/{current.id}")
    return Reply(204, store.delete(current))


def _check_if_match(options: Options, call: Call, current: Version | None, name: str) -> None:
    if call.if_match is None:
        return
    match = _ETAG.fullmatch(call.if_match.strip())
    if match is None:
        raise invalid(f'If-Match must read W/"<versionId>", not {call.if_match}')
    if current is None:
        if options.lost_put == 201:  # noqa: PLR2004 - Created
            return
        raise FhirError(404, "not-found", f"{name} is not known, so no version of it matches If-Match")
    if match[1] != str(current.number):
        message = f"{name} is at version {current.number}, If-Match says {match[1]}"
        raise FhirError(options.conflict_status, "conflict", message, etag=current.etag)


def _checked(resource: Any, type_: str) -> dict[str, Any]:
    if not isinstance(resource, dict):
        raise invalid("the body is not a resource: a JSON object is wanted")
    given = resource.get("resourceType")
    if not isinstance(given, str) or given not in R4_TYPES:
        raise invalid(f"resourceType {given!r} is not a resource type of FHIR R4")
    if given != type_:
        raise invalid(f"resourceType is {given}, the URL says {type_}")
    return resource


def _checked_id(id_: Any) -> str:
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise invalid("an id has 1 to 64 characters of A-Z, a-z, 0-9, - and .")
    return id_


def _no_query(call: Call) -> None:
    for pair in call.query.split("&"):
        name, _, value = pair.partition("=")
        if name == "_format":
            check_format(unquote(value))
        elif name:
            raise not_supported(f"parameter {unquote(name)} on this interaction")


def _unknown(type_: str, id_: str) -> FhirError:
    return FhirError(404, "not-found", f"{type_}/{id_} is not known")

"""Batch and transaction: many interactions in one request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from devstack.fhir import render
from devstack.fhir.errors import FhirError, invalid, not_supported, precondition
from devstack.fhir.interactions import Call, Options, Reply, carry_out, conditional, target
from devstack.fhir.store import Store
from devstack.fhir.types import R4_TYPES

_ORDER: Final = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?(.+)", re.DOTALL)


def run_bundle(store: Store, options: Options, bundle: Any, *, base: str, representation: bool) -> dict[str, Any]:
    """Carry out a batch or transaction and return the bundle of answers, in the order of the entries.

    Raises FhirError for a bundle that is none; a transaction raises for any entry that fails, and has changed
    nothing then. Written resources are in the answers with `representation`, read ones always.
    """
    type_, entries = _opened(bundle, options)
    if type_ == "transaction":
        answers = _transaction(store, options, entries, base, representation)
    else:
        answers = _batch(store, options, entries, base, representation)
    response: dict[str, Any] = {"resourceType": "Bundle", "type": f"{type_}-response"}
    response["link"] = [{"relation": "self", "url": base}]
    if answers:
        response["entry"] = answers
    return response


def _opened(bundle: Any, options: Options) -> tuple[str, list[Any]]:
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise invalid("a POST to the base wants a Bundle")
    type_, entries = bundle.get("type"), bundle.get("entry", [])
    if type_ not in ("batch", "transaction"):
        raise invalid(f"Bundle.type is {type_!r}, a POST to the base wants batch or transaction")
    if not isinstance(entries, list):
        raise invalid("Bundle.entry is not an array")
    if options.entry_limit is not None and len(entries) > options.entry_limit:
        raise FhirError(400, "too-costly", f"{len(entries)} entries; this server takes {options.entry_limit} at most")
    return type_, entries


def _batch(store: Store, options: Options, entries: list[Any], base: str, representation: bool) -> list[Any]:
    calls: list[Call | FhirError] = []
    ids: dict[str, str] = {}
    for entry in entries:
        try:
            call = _read_entry(entry, base)
        except FhirError as error:
            calls.append(error)
            continue
        calls.append(call)
        with suppress(FhirError):  # a condition that cannot be met is told when the entry is carried out
            _remember(ids, entry, target(call, store))
    answers: list[Any] = []
    for entry, read in zip(entries, calls, strict=True):
        try:
            if isinstance(read, FhirError):
                raise read
            mark = len(store.log)
            reply = carry_out(store, options, read)
            if reply.version is not None:
                _remember(ids, entry, (reply.version.type, reply.version.id))
                reply.version = store.resolve_references(mark, ids.get).get(reply.version, reply.version)
            answers.append(_answer(read, reply, base, representation))
        except FhirError as error:
            answers.append({"response": {"status": render.status_line(error.status), "outcome": error.outcome()}})
    return answers


def _transaction(store: Store, options: Options, entries: list[Any], base: str, representation: bool) -> list[Any]:
    mark = len(store.log)
    try:
        calls = []
        for position, entry in enumerate(entries):
            with _named(position):
                calls.append(_read_entry(entry, base))
        ids = _targets(store, entries, calls)
        order = sorted(range(len(calls)), key=lambda index: _ORDER[calls[index].method])
        writes = [index for index in order if calls[index].method not in ("GET", "HEAD")]
        replies: dict[int, Reply] = {}
        for position in writes:
            with _named(position):
                reply = replies[position] = carry_out(store, options, calls[position])
            if reply.version is not None:
                _remember(ids, entries[position], (reply.version.type, reply.version.id))
        changed = store.resolve_references(mark, _resolver(store, ids))
        for reply in replies.values():
            reply.version = changed.get(reply.version, reply.version) if reply.version else None
        for position in order[len(writes) :]:
            with _named(position):
                replies[position] = carry_out(store, options, calls[position])
    except BaseException:
        store.undo(mark)
        raise
    return [_answer(call, replies[index], base, representation) for index, call in enumerate(calls)]


@contextmanager
def _named(position: int) -> Iterator[None]:
    """Say in an error of the block which entry it was."""
    try:
        yield
    except FhirError as error:
        raise FhirError(error.status, error.code, f"entry[{position}]: {error}") from error


def _targets(store: Store, entries: list[Any], calls: list[Call]) -> dict[str, str]:
    """Return what each fullUrl will mean; raises FhirError (400) when two entries mean to write one resource."""
    ids: dict[str, str] = {}
    seen: dict[tuple[str, str], int] = {}
    for position, (entry, call) in enumerate(zip(entries, calls, strict=True)):
        with _named(position):
            known = target(call, store)
        _remember(ids, entry, known)
        if known and call.if_none_exist is None and seen.setdefault(known, position) != position:
            raise invalid(f"entry[{position}]: {'/'.join(known)} is in entry[{seen[known]}] already")
    return ids


def _read_entry(entry: Any, base: str) -> Call:
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict):
        raise invalid("an entry of a batch or transaction wants a request")
    method, url = request.get("method"), request.get("url")
    if method == "PATCH":
        raise not_supported("PATCH")
    if not isinstance(method, str) or method not in _ORDER:
        raise invalid(f"request.method {method!r} is none of {', '.join(_ORDER)}, PATCH")
    if not isinstance(url, str) or not url:
        raise invalid("request.url is missing")
    url = url.removeprefix(f"{base}/")
    if re.match(r"[a-z]+:", url):
        raise invalid(f"request.url is not below {base}")
    conditions = {name: request.get(name) for name in ("ifMatch", "ifNoneMatch", "ifNoneExist")}
    for name, value in conditions.items():
        if value is not None and not isinstance(value, str):
            raise invalid(f"request.{name} is not a string")
    return Call.of_url(
        method,
        url,
        resource=entry.get("resource"),
        if_match=conditions["ifMatch"],
        if_none_match=conditions["ifNoneMatch"],
        if_none_exist=conditions["ifNoneExist"],
    )


def _remember(ids: dict[str, str], entry: Any, known: tuple[str, str] | None) -> None:
    """Note which resource an entry's fullUrl means.

    The URL of an entry that names its own id is left out: references to it are right as they are.
    """
    full_url = entry.get("fullUrl")
    if known and isinstance(full_url, str) and not full_url.endswith(f"/{known[0]}/{known[1]}"):
        ids[full_url] = "/".join(known)


def _resolver(store: Store, ids: dict[str, str]) -> Callable[[str], str | None]:
    """Resolve references to entries, and conditional ones to the resource that exists once; others stay."""

    def resolve(reference: str) -> str | None:
        if reference in ids:
            return ids[reference]
        match = _CONDITIONAL.fullmatch(reference)
        if match is None or match[1] not in R4_TYPES:
            return None
        found = conditional(store, match[1], match[2])
        if len(found) != 1:
            raise precondition(f"{len(found)} resources of {match[1]} match a conditional reference to it")
        ids[reference] = f"{match[1]}/{found[0].id}"
        return ids[reference]

    return resolve


def _answer(call: Call, reply: Reply, base: str, representation: bool) -> dict[str, Any]:
    url = "/".join(call.segments) + (f"?{call.query}" if call.query else "")
    shown = reply.status != 304 and (call.method == "GET" or representation)  # noqa: PLR2004 - Not Modified
    return render.answer_entry(reply, base=base, url=url, with_resource=shown)

"""From a request's body to entries: what was sent, one Entry per resource, with what cannot be carried out marked.

A bundle is read for what it says about resources, not for the interaction it was made for: entries without `request`,
with POST and with PUT are alike, identity is type and id. Nothing here is lost silently: an entry is carried on, or
has a `problem`, or says in `skip` why it is passed over. Messages hold places and codes, never content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from relay.errors import Refused
from relay.fhir.answers import FHIR_TYPE
from relay.fhir.subset import is_subset
from relay.inbound.duplicates import age_of, settle, settle_versions
from relay.inbound.entries import Entry, Incoming
from relay.inbound.limits import NDJSON_TYPES, parse, read_text
from relay.inbound.lines import Line
from relay.inbound.pieces import Piece, Pieces, scan, value_start
from relay.settings import Settings

__all__ = ["BUNDLE_TYPES", "Entry", "Incoming", "read_bundle", "read_lines", "read_ndjson"]

BUNDLE_TYPES = (
    "batch",
    "batch-response",
    "collection",
    "document",
    "history",
    "message",
    "searchset",
    "subscription-notification",
    "transaction",
    "transaction-response",
)

_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9\-.]{1,64}")  # `.` and `..` are legal ids, but no URL can hold them
_SUCCESS = re.compile(r"2\d\d(?!\d)")
_RESPONSES = {"batch-response", "transaction-response"}


LARGE = 1024 * 1024  # characters of a text from which on its entries are decoded when they are asked for


def read_bundle(
    body: bytes, *, content_type: str, content_encoding: str, limits: Settings, tag: str = "", large: int = LARGE
) -> Incoming:
    """Read a FHIR Bundle or one resource; `tag` is the sender's mark, handed on as it is.

    A text of `large` characters or more is decoded entry by entry, now to check it, and each again when it is asked for.

    Raises Refused when nothing of it can be taken: 400 (not JSON, not FHIR, too deep, …), 413 (too large, ratio, too
    many entries) or 415 (content type or encoding). What concerns one entry is that entry's problem.
    """
    text = read_text(body, content_type=content_type, content_encoding=content_encoding, limits=limits)
    sent = scan(text, limits) if len(text) >= large else None
    if sent is None or sent.get("resourceType") != "Bundle":
        sent = parse(text, limits)
    kind = sent.get("resourceType") if isinstance(sent, dict) else None
    if not isinstance(kind, str) or not FHIR_TYPE.fullmatch(kind):
        raise Refused("the JSON is not a FHIR resource: it has no valid resourceType", code="not-fhir")
    if kind == "Bundle":
        return replace(_bundle(sent, limits, tag), size=len(text))
    return Incoming("resource", (_resource_entry(Entry(0, sent, key=_key(sent)), at=kind),), tag, len(text))


def read_ndjson(
    body: bytes, *, content_type: str, content_encoding: str, limits: Settings, tag: str = "", large: int = LARGE
) -> Incoming:
    """Read one resource a line, blank lines passed over; a line that cannot be read is the problem of its entry alone.

    Raises Refused when nothing of it can be taken: 400 (gzip, UTF-8), 413 (too large, ratio, too many lines) or 415.
    """
    text = read_text(
        body, content_type=content_type, content_encoding=content_encoding, limits=limits, accept=NDJSON_TYPES
    )
    lines = list(_lines(text))
    _check_count(len(lines), limits)
    entries: list[Entry] = []
    for index, (number, start, end) in enumerate(lines):
        entry = _line_entry(index, number, text[start:end], limits)
        if len(text) >= large and entry.sent is not None:
            entry = replace(entry, sent=Piece(text, value_start(text, start), wrapped=False))
        entries.append(entry)
    return Incoming("ndjson", settle(entries), tag, len(text))


def read_lines(lines: Sequence[Line], limits: Settings, *, large: int = LARGE) -> Incoming:
    """Read a window of an NDJSON file, one resource a line; a line that cannot be read is the problem of its entry alone.

    From `large` bytes on a line is decoded to check it, and again when it is asked for.
    """
    later = sum(len(line.data or b"") for line in lines) >= large
    entries: list[Entry] = []
    size = 0
    for index, line in enumerate(lines):
        at = f"line {line.number}"
        if line.data is None:
            entries.append(Entry(index, None).failed("line-too-long", f"longer than {limits.max_line_bytes} bytes", at))
            continue
        try:
            text = line.data.decode()
        except UnicodeDecodeError as error:
            entries.append(Entry(index, None).failed("encoding", f"not UTF-8 at byte {error.start} of the line", at))
            continue
        size += len(text)
        entry = _line_entry(index, line.number, text, limits)
        if later and entry.sent is not None:
            entry = replace(entry, sent=Piece(text, value_start(text, 0), wrapped=False))
        entries.append(entry)
    return Incoming("ndjson", settle(entries), size=size)


def _line_entry(index: int, number: int, text: str, limits: Settings) -> Entry:
    try:
        sent = parse(text, limits)
    except Refused as error:
        return Entry(index, None).failed(error.code, str(error), f"line {number}")
    return _resource_entry(Entry(index, sent, key=_key(sent)), at=f"line {number}")


def _lines(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each line that is not blank."""
    start = 0
    for number in count(1):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else None]
        if line.strip():
            yield number, start, start + len(line)
        if end < 0:
            return
        start = end + 1


def _bundle(bundle: Mapping[str, Any], limits: Settings, tag: str) -> Incoming:
    kind = bundle.get("type")
    if kind not in BUNDLE_TYPES:
        raise Refused(
            f"Bundle.type is missing or unknown (valid: {', '.join(BUNDLE_TYPES)})", code="unknown-bundle-type"
        )
    sent = bundle.get("entry")
    if sent is None:
        sent = []
    if not isinstance(sent, list | Pieces):
        raise Refused("Bundle.entry is not an array", code="not-fhir")
    _check_count(len(sent), limits)
    notification = kind == "subscription-notification" or (kind == "history" and _is_status(sent[0] if sent else None))
    partial = is_subset(bundle)
    entries: list[Entry] = []
    for index, each in enumerate(sent):
        entry = _entry(index, each, kind, notification=notification)
        if isinstance(sent, Pieces) and entry.sent is not None:
            entry = replace(entry, sent=sent.piece(index))
        if partial and not entry.skip and not entry.problem:
            entry = entry.failed("subsetted", "the bundle holds parts of resources only", "Bundle.meta.tag")
        entries.append(entry)
    history = kind == "history"
    if not history and not notification:
        return Incoming(kind, settle(entries), tag)
    ages = [age_of(each) for each in sent]
    return Incoming(kind, settle_versions(entries, ages, newest_first=history and not notification), tag)


def _check_count(count: int, limits: Settings) -> None:
    if count > limits.max_entries:
        raise Refused(f"{count} entries are more than {limits.max_entries}", code="too-many-entries", status=413)


def _is_status(sent: object) -> bool:
    """Tell whether a notification's first entry is its status: SubscriptionStatus, or in R4 a Parameters."""
    resource = sent.get("resource") if isinstance(sent, dict) else None
    return isinstance(resource, dict) and resource.get("resourceType") in ("SubscriptionStatus", "Parameters")


def _entry(index: int, sent: object, bundle_type: str, *, notification: bool) -> Entry:
    at = f"Bundle.entry[{index}]"
    if not isinstance(sent, dict):
        return Entry(index, None).failed("not-a-resource", "the entry is not an object", at)
    resource = sent.get("resource")
    request = None if bundle_type in _RESPONSES else sent.get("request")
    said: Mapping[str, Any] = request if isinstance(request, dict) else {}
    entry = Entry(
        index,
        resource if isinstance(resource, dict) else None,
        full_url=_text(sent.get("fullUrl")),
        method=_text(said.get("method")).upper(),
        url=_text(said.get("url")),
        if_none_exist=_text(said.get("ifNoneExist")),
        if_match=_text(said.get("ifMatch")),
        if_none_match=_text(said.get("ifNoneMatch")),
        key=_key(resource),
    )
    if why := _skip(entry, sent, bundle_type, notification=notification):
        return entry.skipped(why)
    if request is None and resource is None and bundle_type == "history" and not notification:
        return _deleted_entry(entry, at)  # a history holds no other entry without a resource
    if request is not None and not said.get("method"):
        return entry.failed("invalid-element", "the request has no method", f"{at}.request.method")
    return _requested(entry, at, bundle_type)


def _skip(entry: Entry, sent: Mapping[str, Any], bundle_type: str, *, notification: bool) -> str:
    """Say why an entry is no change of a resource; empty if it may be one."""
    if notification and entry.index == 0 and _is_status(sent):
        return "subscription-status"
    if entry.method in {"GET", "HEAD"}:
        return "read"
    if bundle_type in _RESPONSES:
        if sent.get("resource") is None:
            return "no-resource"
        response = sent.get("response")
        if not isinstance(response, dict) or not _SUCCESS.match(_text(response.get("status"))):
            return "not-successful"
    search = sent.get("search")
    if isinstance(search, dict) and search.get("mode") == "outcome":
        return "outcome"
    return "outcome" if entry.resource_type == "OperationOutcome" else ""


def _requested(entry: Entry, at: str, bundle_type: str) -> Entry:
    """Judge what the entry asks for, then the resource."""
    match entry.method:
        case "DELETE":
            return _deleted_entry(entry, at)
        case "PATCH" if bundle_type != "history":  # in a history the entry holds what the patch made of the resource
            entry = replace(entry, key=_key_of_url(entry.url))
            return entry.failed("unsupported", "PATCH entries are not carried out", f"{at}.request.method")
        case "" | "POST" | "PUT" | "PATCH":
            entry = _resource_entry(entry, at=f"{at}.resource")
        case _:
            valid = "DELETE, GET, HEAD, PATCH, POST, PUT"
            return entry.failed("invalid-element", f"the method is unknown (valid: {valid})", f"{at}.request.method")
    if entry.method == "PUT" and entry.url and entry.key and not entry.problem and not _agrees(entry.url, entry.key):
        return entry.failed(
            "invalid-element", "the URL names another resource than the entry holds", f"{at}.request.url"
        )
    return entry


def _deleted_entry(entry: Entry, at: str) -> Entry:
    """Judge a deletion: its URL names one resource, or says nothing and the fullUrl does; a body would mean nothing."""
    entry = replace(entry, sent=None, method="DELETE", key=_key_of_url(entry.url or entry.full_url))
    if "?" in entry.url:
        return replace(entry, key=None).failed(
            "unsupported", "conditional DELETE entries are not carried out", f"{at}.request.url"
        )
    if entry.key is None:
        return entry.failed("invalid-element", "the URL names no resource to be deleted", f"{at}.request.url")
    return entry


def _resource_entry(entry: Entry, *, at: str) -> Entry:
    """Judge the resource alone: is it one, a whole one, and which."""
    resource = entry.resource
    if not isinstance(resource, dict):
        return replace(entry, sent=None).failed("not-a-resource", "the entry has no resource", at)
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not FHIR_TYPE.fullmatch(kind):
        return entry.failed("not-a-resource", "the resource has no valid resourceType", f"{at}.resourceType")
    if kind == "OperationOutcome":
        return entry.skipped("outcome")
    if kind == "Bundle":
        return entry.failed("unsupported", "a Bundle inside a bundle is not carried out", at)
    return _identified_entry(entry, resource, at)


def _identified_entry(entry: Entry, resource: Mapping[str, Any], at: str) -> Entry:
    if resource.get("id") is None:
        return entry.failed("no-id", "the resource has no id", f"{at}.id")
    if not entry.key:
        return entry.failed("invalid-id", "the id is not a FHIR id (1 to 64 of A-Z, a-z, 0-9, - and .)", f"{at}.id")
    if is_subset(resource):
        return entry.failed(
            "subsetted", "the resource is tagged SUBSETTED: it is not the whole of it", f"{at}.meta.tag"
        )
    return entry


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _key(resource: object) -> tuple[str, str] | None:
    if not isinstance(resource, dict):
        return None
    return _legal(_text(resource.get("resourceType")), _text(resource.get("id")))


def _legal(kind: str, fhir_id: str) -> tuple[str, str] | None:
    return (kind, fhir_id) if FHIR_TYPE.fullmatch(kind) and _ID.fullmatch(fhir_id) else None


def _key_of_url(url: str) -> tuple[str, str] | None:
    """Read `Type/id`, with a base before it or a version after it; None for anything else, a search included."""
    parts = url.strip("/").split("/")
    if len(parts) > 3 and parts[-2] == "_history":  # noqa: PLR2004  # Type/id/_history/version
        parts = parts[:-2]
    return _legal(parts[-2], parts[-1]) if len(parts) > 1 else None


def _agrees(url: str, key: tuple[str, str]) -> bool:
    """Tell whether a PUT's URL names the resource it holds; a conditional one (`Type?…`) need only name the type."""
    path, conditional, _query = url.partition("?")
    return path.rpartition("/")[2] == key[0] if conditional else _key_of_url(path) == key

"""What a FHIR server's answers mean: statuses, versions, issue codes and waits, alone or inside a bundle.

Facts of servers: ETag may be missing (then it is built from meta.versionId), or in batch answers bare (HAPI: `3` for
`W/"3"`) or left out (Medplum). A create may name what it made by Location, absolute or relative, with or without the version, or by the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from relay.errors import Failed, Transient
from relay.fhir import json_text
from relay.fhir.json_text import Span

FHIR_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9\-.]{1,64}")  # `.` and `..` would name another resource in a URL
FHIR_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_ETAG = re.compile(r'(W/)?"[^"\r\n]*"')
_TAGGED = re.compile(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"')
MADE = re.compile(r"(?:.*/)?([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?/?")

# hl7.org/fhir/R4/valueset-issue-type.html; any other code is a server's own word, which may be about a patient
_ISSUE_CODES = frozenset(
    [
        "invalid",
        "structure",
        "required",
        "value",
        "invariant",
        "security",
        "login",
        "unknown",
        "expired",
        "forbidden",
        "suppressed",
        "processing",
        "not-supported",
        "duplicate",
        "multiple-matches",
        "not-found",
        "deleted",
        "too-long",
        "code-invalid",
        "extension",
        "too-costly",
        "business-rule",
        "conflict",
        "transient",
        "lock-error",
        "no-store",
        "exception",
        "timeout",
        "incomplete",
        "throttled",
        "informational",
    ]
)


@dataclass(frozen=True, slots=True)
class Read:
    """One answer to a read: `text` is the resource to the letter (200 only).

    `etag` is what guards a PUT of it, empty when the server names no version: then it must not be put.
    """

    status: int
    text: str = ""
    etag: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """One answer to a PUT; `etag` guards the next one, if the server told; `codes` are the issue codes of an OperationOutcome, never its diagnostics."""

    status: int
    etag: str = ""
    codes: tuple[str, ...] = ()
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """One answer to a create: 201 made it, 200 found one there, 412 found several; `codes` are those of a refusal.

    With 201 and 200 `id` is never empty; `etag` and `version` are, when the server names no version.
    """

    status: int
    id: str = ""
    etag: str = ""
    version: str = ""
    codes: tuple[str, ...] = ()
    retry_after: float | None = None


def read_of(text: str, span: Span, kind: str, fhir_id: str) -> Read:
    """Read one entry of the answer to a batch of reads; raises Transient `bad-answer`."""
    try:
        entry = json_text.members(text, span.start)
    except Failed as failure:
        raise Transient("the FHIR server's answer to a batch cannot be read", code="bad-answer") from failure
    response = json_text.value_at(text, entry["response"]) if "response" in entry else {}
    status = status_of(response)
    if status != httpx.codes.OK:
        return Read(status)
    if "resource" not in entry:
        raise Transient("the FHIR server answered a read without the resource", code="bad-answer")
    start, end = entry["resource"]
    resource = json_text.value_at(text, entry["resource"])
    check_is(resource, (kind, fhir_id))
    return Read(status, text[start:end], etag_of(response.get("etag", ""), resource))


def written_of(entry: Any) -> Written:
    """Read one entry of the answer to a batch of PUTs; raises Transient `bad-answer`."""
    response = entry.get("response") if isinstance(entry, dict) else None
    response = response if isinstance(response, dict) else {}
    resource = entry.get("resource") if isinstance(entry, dict) else None
    status = status_of(response)
    codes = () if 200 <= status < 300 else issue_codes(response.get("outcome") or resource)  # noqa: PLR2004 - success
    return Written(status, etag_of(response.get("etag", ""), resource), codes)


def created_of(answer: httpx.Response, kind: str) -> Created:
    """Read the answer to a create; after a success that does not say which resource it means, the id is empty."""
    body = json_of(answer)
    if not answer.is_success:
        return Created(answer.status_code, codes=issue_codes(body), retry_after=retry_after(answer.headers))
    resource = body if isinstance(body, dict) and body.get("resourceType") == kind else {}
    fhir_id, version = _made(answer.headers, kind)
    given = resource.get("id")
    if not fhir_id and isinstance(given, str) and FHIR_ID.fullmatch(given):
        fhir_id = given
    etag = etag_of(answer.headers.get("etag", ""), resource or {"meta": {"versionId": version}})
    return Created(answer.status_code, fhir_id, etag, version or version_of(etag))


def check_is(resource: Any, named: tuple[str, str]) -> None:
    """Raise Transient `bad-answer` for another resource than the (type, id) that was asked for."""
    if not isinstance(resource, dict) or (resource.get("resourceType"), resource.get("id")) != named:
        raise Transient("the FHIR server answered a read with another resource", code="bad-answer")


def text_of(answer: httpx.Response) -> str:
    """Return the body as text, without byte order mark; raises Transient `bad-answer`."""
    try:
        return answer.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Transient("the FHIR server's answer is not UTF-8", code="bad-answer") from error


def json_of(answer: httpx.Response) -> Any:
    """Return the body as JSON, None if it is none."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return None


def etag_of(header: object, resource: Any) -> str:
    """Return what If-Match must say: the ETag as it came, else one built from the version (bare ones are HAPI's)."""
    header = header if isinstance(header, str) else ""
    if _ETAG.fullmatch(header):
        return header
    meta = resource.get("meta") if isinstance(resource, dict) else None
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if isinstance(version, str) and FHIR_ID.fullmatch(version):
        return f'W/"{version}"'
    if FHIR_ID.fullmatch(header):
        return f'W/"{header}"'
    return ""


def version_of(etag: str) -> str:
    """Return the version id that an ETag holds, empty if it is a server's own kind of tag."""
    match = _TAGGED.fullmatch(etag)
    return match[1] if match else ""


def instant_of(said: object) -> str:
    """Return a FHIR instant as it was said, empty if it is none."""
    if not isinstance(said, str) or not _INSTANT.fullmatch(said):
        return ""
    try:
        datetime.fromisoformat(said)
    except ValueError:  # the 31st of a month that has none
        return ""
    return said


def issue_codes(outcome: Any) -> tuple[str, ...]:
    """Return the issue codes of an OperationOutcome; its diagnostics may hold patient data."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    found = [each.get("code") for each in issues if isinstance(each, dict)] if isinstance(issues, list) else []
    return tuple(code for code in found if isinstance(code, str) and code in _ISSUE_CODES)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds from `x-ms-retry-after-ms`, or from `Retry-After`, be it seconds or a date.

    A date is counted from the answer's own Date: the clocks of two machines differ. Without one our own back-off decides.
    """
    if re.fullmatch(r"\d{1,9}", headers.get("x-ms-retry-after-ms", "")):
        return int(headers["x-ms-retry-after-ms"]) / 1000
    named = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", named):
        return float(named)
    at, sent = _instant(named), _instant(headers.get("date", ""))
    return max((at - sent).total_seconds(), 0.0) if at is not None and sent is not None else None


def _instant(text: str) -> datetime | None:
    """Read an HTTP date; None for what is none."""
    try:
        time = parsedate_to_datetime(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def status_of(response: Any) -> int:
    """Read the status of an entry's `response`; raises Transient `bad-answer`."""
    text = str(response.get("status", "")) if isinstance(response, dict) else ""
    match = re.match(r"\s*(\d{3})\b", text)
    if not match:
        raise Transient("the FHIR server answered an entry without a status", code="bad-answer")
    return int(match[1])


def _made(headers: Mapping[str, str], kind: str) -> tuple[str, str]:
    """Read (id, version) out of the URL of what was made; its host is not asked, since proxies write their own."""
    for name in ("location", "content-location"):
        match = MADE.fullmatch(re.split(r"[?#]", headers.get(name, ""), maxsplit=1)[0].strip())
        if match and match[1] == kind and FHIR_ID.fullmatch(match[2]):
            return match[2], match[3] or ""
    return "", ""

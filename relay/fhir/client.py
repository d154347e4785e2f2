"""The FHIR server as the relay needs it: read many resources as text, put many back under If-Match.

Facts of servers: ETag may be missing (then it is built from meta.versionId), bare in batch answers (HAPI: `3` for
`W/"3"`), and a version conflict is 412 or 409.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from relay.errors import Failed, Terminal, Transient
from relay.fhir import json_text
from relay.fhir.json_text import Span
from relay.telemetry import current_meter

FHIR_JSON = "application/fhir+json"
BUSY = frozenset({401, 408, 425, 429, 500, 502, 503, 504})

_TOO_MUCH = frozenset({400, 413, 422})

T = TypeVar("T")
A = TypeVar("A")

_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9\-.]{1,64}")  # `.` and `..` would name another resource in a URL
_TYPE = re.compile(r"[A-Za-z]{1,64}")
_ETAG = re.compile(r'(W/)?"[^"\r\n]*"')

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
class Put:
    """One resource to put: its type, id, text, and the ETag it was read with."""

    type: str
    id: str
    text: str
    etag: str


@dataclass(frozen=True, slots=True)
class Written:
    """One answer to a PUT; `codes` are the issue codes of an OperationOutcome, never its diagnostics."""

    status: int
    etag: str = ""
    codes: tuple[str, ...] = ()
    retry_after: float | None = None


class _BatchRefused(Terminal):
    """The server takes no such batch: too many entries for it (400, 413), or none at all (404, 405, 501)."""

    def __init__(self, status: int, codes: Sequence[str]) -> None:
        super().__init__(f"the FHIR server refused a batch ({status} {', '.join(codes)})", code="fhir-batch-refused")
        self.status = status


class FhirClient:
    """An async client of one FHIR server: no cookies, no redirects, nothing logged but counts.

    Every method raises Transient when the server is away or busy and Terminal when it refuses the whole call.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float = 100,
        batch_entries: int = 500,
    ) -> None:
        self._base = url.rstrip("/") + "/"
        self._batch_entries = batch_entries
        self._http = httpx.AsyncClient(auth=auth, transport=transport, timeout=timeout, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def read(self, ids: Sequence[tuple[str, str]]) -> list[Read]:
        """Read resources by (type, id): one alone by GET, many by batches of GETs; answers in the same order."""

        def entry(each: tuple[str, str]) -> str:
            return f'{{"request":{{"method":"GET","url":"{_address(*each)}"}}}}'

        def answer(text: str, span: Span, each: tuple[str, str]) -> Read:
            return _read_of(text, span, *each)

        return await self._each(ids, entry, answer, self._read_one)

    async def write(self, puts: Sequence[Put]) -> list[Written]:
        """Put resources under If-Match: one alone by PUT, many by batches; answers in the same order."""

        def answer(text: str, span: Span, _: Put) -> Written:
            return _written_of(json_text.value_at(text, span))

        return await self._each(puts, _entry, answer, self._write_one)

    async def _each(
        self,
        items: Sequence[T],
        entry: Callable[[T], str],
        answer: Callable[[str, Span, T], A],
        one: Callable[[T], Awaitable[A]],
    ) -> list[A]:
        """Do something to each item, in batches the server takes: a refused one is halved, or done one by one."""
        if not items:
            return []
        if len(items) > self._batch_entries:
            runs = (items[start : start + self._batch_entries] for start in range(0, len(items), self._batch_entries))
            return [each for run in runs for each in await self._each(run, entry, answer, one)]
        if len(items) == 1:
            return [await one(items[0])]
        try:
            text, spans = await self._batch([entry(each) for each in items])
        except _BatchRefused as refused:
            if refused.status not in _TOO_MUCH:
                return [await one(each) for each in items]
            middle = len(items) // 2
            first = await self._each(items[:middle], entry, answer, one)
            return first + await self._each(items[middle:], entry, answer, one)
        return [answer(text, span, each) for span, each in zip(spans, items, strict=True)]

    async def metadata(self) -> int:
        """Ask for the CapabilityStatement and return the status; not metered."""
        return (await self._call("GET", "metadata", metered=False)).status_code

    async def _read_one(self, named: tuple[str, str]) -> Read:
        answer = await self._call("GET", _address(*named))
        if answer.status_code != httpx.codes.OK:
            return Read(answer.status_code, retry_after=_retry_after(answer.headers))
        text = _text(answer)
        try:
            resource = json_text.value_at(text, json_text.document(text))
        except Failed as failure:
            raise Transient("the FHIR server's answer to a read cannot be read", code="bad-answer") from failure
        _check_is(resource, named)
        return Read(200, text, _etag(answer.headers.get("etag", ""), resource))

    async def _write_one(self, put: Put) -> Written:
        headers = {"Content-Type": FHIR_JSON, "If-Match": put.etag, "Prefer": "return=minimal"}
        answer = await self._call("PUT", _address(put.type, put.id), content=put.text.encode(), headers=headers)
        etag = answer.headers.get("etag", "")
        codes = () if answer.is_success else _issue_codes(_json(answer))
        return Written(answer.status_code, etag, codes, _retry_after(answer.headers))

    async def _batch(self, entries: Sequence[str]) -> tuple[str, list[Span]]:
        body = f'{{"resourceType":"Bundle","type":"batch","entry":[{",".join(entries)}]}}'
        headers = {"Content-Type": FHIR_JSON}
        answer = await self._call("POST", "", content=body.encode(), headers=headers)
        if answer.status_code in BUSY:
            raise Transient(
                f"the FHIR server answered {answer.status_code} to a batch",
                code=f"fhir-{answer.status_code}",
                retry_after=_retry_after(answer.headers),
            )
        if answer.status_code != httpx.codes.OK:
            raise _BatchRefused(answer.status_code, _issue_codes(_json(answer)))
        text = _text(answer)
        try:
            listed = json_text.member(text, json_text.document(text), "entry")
            spans = json_text.elements(text, listed.start) if listed else []
        except Failed as failure:
            raise Transient("the FHIR server's answer to a batch cannot be read", code="bad-answer") from failure
        if len(spans) != len(entries):
            raise Transient("the FHIR server answered a batch with another number of entries", code="bad-answer")
        return text, spans

    async def _call(
        self,
        method: str,
        address: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        metered: bool = True,
    ) -> httpx.Response:
        url = self._base + address if address else self._base.rstrip("/")
        if metered:
            current_meter().fhir += 1
        try:
            answer = await self._http.request(
                method, url, content=content, headers={"Accept": FHIR_JSON, **(headers or {})}
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise Transient(
                f"the FHIR server does not answer ({type(error).__name__})", code="fhir-unavailable"
            ) from error
        finally:
            self._http.cookies.clear()
        return answer


def _check_is(resource: Any, named: tuple[str, str]) -> None:
    if not isinstance(resource, dict) or (resource.get("resourceType"), resource.get("id")) != named:
        raise Transient("the FHIR server answered a read with another resource", code="bad-answer")


def _address(kind: str, fhir_id: str) -> str:
    if not _TYPE.fullmatch(kind) or not _ID.fullmatch(fhir_id):
        raise Failed("not a FHIR type and id", code="invalid-id", at="id")
    return f"{kind}/{fhir_id}"


def _entry(put: Put) -> str:
    address = json.dumps(_address(put.type, put.id))
    return f'{{"resource":{put.text},"request":{{"method":"PUT","url":{address},"ifMatch":{json.dumps(put.etag)}}}}}'


def _text(answer: httpx.Response) -> str:
    try:
        return answer.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Transient("the FHIR server's answer is not UTF-8", code="bad-answer") from error


def _json(answer: httpx.Response) -> Any:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return None


def _read_of(text: str, span: Span, kind: str, fhir_id: str) -> Read:
    try:
        entry = json_text.members(text, span.start)
    except Failed as failure:
        raise Transient("the FHIR server's answer to a batch cannot be read", code="bad-answer") from failure
    response = json_text.value_at(text, entry["response"]) if "response" in entry else {}
    status = _status(response)
    if status != httpx.codes.OK:
        return Read(status)
    if "resource" not in entry:
        raise Transient("the FHIR server answered a read without the resource", code="bad-answer")
    start, end = entry["resource"]
    resource = json_text.value_at(text, entry["resource"])
    _check_is(resource, (kind, fhir_id))
    return Read(status, text[start:end], _etag(response.get("etag", ""), resource))


def _written_of(entry: Any) -> Written:
    response = entry.get("response") if isinstance(entry, dict) else None
    response = response if isinstance(response, dict) else {}
    outcome = response.get("outcome") or (entry.get("resource") if isinstance(entry, dict) else None)
    status = _status(response)
    codes = () if 200 <= status < 300 else _issue_codes(outcome)  # noqa: PLR2004 - success
    return Written(status, str(response.get("etag", "")), codes)


def _status(response: Any) -> int:
    text = str(response.get("status", "")) if isinstance(response, dict) else ""
    match = re.match(r"\s*(\d{3})\b", text)
    if not match:
        raise Transient("the FHIR server answered an entry without a status", code="bad-answer")
    return int(match[1])


def _etag(header: object, resource: Any) -> str:
    """Return what If-Match must say: the ETag as it came, else one built from the version (bare ones are HAPI's)."""
    header = header if isinstance(header, str) else ""
    if _ETAG.fullmatch(header):
        return header
    meta = resource.get("meta") if isinstance(resource, dict) else None
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if isinstance(version, str) and _ID.fullmatch(version):
        return f'W/"{version}"'
    if _ID.fullmatch(header):
        return f'W/"{header}"'
    return ""


def _issue_codes(outcome: Any) -> tuple[str, ...]:
    """Return the issue codes of an OperationOutcome; its diagnostics may hold patient data."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    found = [each.get("code") for each in issues if isinstance(each, dict)] if isinstance(issues, list) else []
    return tuple(code for code in found if isinstance(code, str) and code in _ISSUE_CODES)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds from `x-ms-retry-after-ms` or a numeric `Retry-After`; a date is left to our own back-off."""
    if re.fullmatch(r"\d{1,9}", headers.get("x-ms-retry-after-ms", "")):
        return int(headers["x-ms-retry-after-ms"]) / 1000
    if re.fullmatch(r"\d{1,9}", headers.get("retry-after", "")):
        return float(headers["retry-after"])
    return None

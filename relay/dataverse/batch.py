"""The `$batch` codec: requests and change sets to a multipart body, and the answer back to responses in order."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from relay.dataverse.errors import DataverseError, DataverseNotReached, read_error
from relay.dataverse.json_text import dumps, loads
from relay.dataverse.multipart import Headers, is_multipart, split_head, split_parts
from relay.errors import Transient

MAX_OPERATIONS: Final = 1000
"""Most operations that Dataverse takes in one batch, those inside change sets counted one by one."""

MAX_URL: Final = 65_536
"""Longest URL inside a batch; outside it is half of that."""

MAX_URL_ALONE: Final = 32_768

OK: Final = frozenset({200, 201, 204, 304})

_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_OWN_HEADERS: Final = frozenset({"content-id", "content-length", "content-type", "host", "transfer-encoding"})
_URL: Final = re.compile(r"[!-~]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")


@dataclass(frozen=True)
class Request:
    """One operation; `url` is relative to the API root and percent-encoded, `body` is sent as JSON."""

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChangeSet:
    """Writes that succeed together or not at all."""

    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Response:
    """The answer to one operation; `body` is parsed JSON (fractions as Decimal), text, or None.

    `error` is None for 200, 201, 204 and 304. An operation that a stopped batch never reached has status 0 and the
    error DataverseNotReached.
    """

    status: int
    headers: Mapping[str, str]
    body: Any
    error: DataverseError | None = None


Item = Request | ChangeSet


def count(items: Sequence[Item]) -> int:
    """Return the number of operations, those inside change sets one by one."""
    return sum(len(item.requests) if isinstance(item, ChangeSet) else 1 for item in items)


def absolute_url(root: str, url: str, longest: int = MAX_URL) -> str:
    """Return the URL below the API root; raises ValueError, without the URL, if it would leave or break it."""
    relative = url.removeprefix(root)
    path = relative.partition("?")[0]
    if not _URL.fullmatch(relative) or "#" in relative:
        raise ValueError("a request's URL must be percent-encoded ASCII without a fragment")
    if ":" in path or "\\" in path or relative.startswith("/") or {".", ".."} & set(path.split("/")):
        raise ValueError("a request's URL must be relative to the API root")
    if len(root) + len(relative) > longest:
        raise ValueError(f"a request's URL is longer than {longest} characters: ask for fewer values at once")
    return root + relative


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ValueError for a header that would break the request's structure or that the codec itself writes."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"header {name!a} has characters that a header cannot have")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {name} is written by the relay itself")


def check_method(method: str) -> None:
    """Raise ValueError for a method that the Web API does not have."""
    if method not in _METHODS:
        raise ValueError(f"method {method!a} (valid: {', '.join(_METHODS)})")


def encode(items: Sequence[Item], root: str) -> tuple[str, bytes]:
    """Return the Content-Type and the body of a batch; `root` is the API root with its closing slash.

    Raises ValueError for what would break the structure: no items, an empty change set, a GET inside one, a bad
    method, URL or header.
    """
    if not items:
        raise ValueError("a batch needs at least one item")
    numbers = iter(range(1, count(items) + 1))
    blocks = [_block(item, root, numbers) for item in items]
    boundary = _unused("batch_", "".join(blocks))
    body = "".join(f"--{boundary}\r\n{block}" for block in blocks)
    return f'multipart/mixed; boundary="{boundary}"', f"{body}--{boundary}--\r\n".encode("ascii")


def _block(item: Item, root: str, numbers: Iterator[int]) -> str:
    if isinstance(item, Request):
        return _part(item, root, None)
    if not item.requests:
        raise ValueError("a change set needs at least one request")
    if any(request.method == "GET" for request in item.requests):
        raise ValueError("a change set cannot hold a GET")
    parts = [_part(request, root, next(numbers)) for request in item.requests]
    boundary = _unused("changeset_", "".join(parts))
    inner = "".join(f"--{boundary}\r\n{part}" for part in parts)
    return f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n{inner}--{boundary}--\r\n\r\n'


def _part(request: Request, root: str, content_id: int | None) -> str:
    check_method(request.method)
    check_headers(request.headers)
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"{request.method} {absolute_url(root, request.url)} HTTP/1.1", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    body = ""
    if request.body is not None:
        body = dumps(request.body)
        # without a length one client met "stream not readable" errors
        lines += ["Content-Type: application/json; type=entry", f"Content-Length: {len(body)}"]
    lines += ["", body, ""]
    return "\r\n".join(lines)


def _unused(prefix: str, content: str) -> str:
    """Return a random boundary that does not occur in the content."""
    while (boundary := prefix + secrets.token_hex(16)) in content:
        pass
    return boundary


def decode(content_type: str, body: bytes, items: Sequence[Item]) -> list[list[Response]]:
    """Return one list per item, in order: one response for a request; for a change set one per request, or its error.

    Items after the failure that stopped a batch get DataverseNotReached. Raises Transient for an answer that is not
    whole and well-formed: what it says was done may or may not have been, so the operations are to be asked again.
    """
    try:
        return _read_all(split_parts(content_type, body), items)
    except ValueError as error:
        raise Transient(f"Dataverse's answer to a batch cannot be read: {error}", code="bad-answer") from None


def _read_all(parts: Sequence[tuple[Headers, bytes]], items: Sequence[Item]) -> list[list[Response]]:
    results = [_read(item, *part) for item, part in zip(items, parts, strict=False)]
    stopped = bool(results) and results[-1][-1].error is not None
    if len(parts) > len(items) or (len(parts) < len(items) and not stopped):
        raise ValueError(f"{len(parts)} parts for {len(items)} items")
    missing = Response(0, Headers(), None, DataverseNotReached(0))
    return results + [[missing] for _ in range(len(items) - len(results))]


def _read(item: Item, headers: Headers, content: bytes) -> list[Response]:
    kind = headers.get("content-type", "")
    if kind.lower().startswith("application/http"):
        response = _read_http(content)
        if isinstance(item, ChangeSet) and response.error is None:
            raise ValueError("a change set was answered by one success")
        return [response]
    if not isinstance(item, ChangeSet) or not is_multipart(kind):
        raise ValueError("a part is neither an HTTP answer nor the answer to a change set")
    return _read_change_set(item, split_parts(kind, content))


def _read_change_set(item: ChangeSet, parts: Sequence[tuple[Headers, bytes]]) -> list[Response]:
    if not all(headers.get("content-type", "").lower().startswith("application/http") for headers, _ in parts):
        raise ValueError("a part of a change set is not an HTTP answer")
    responses = [_read_http(content) for _, content in parts]
    failures = [response for response in responses if response.error is not None]
    if failures:
        if len(responses) > 1:
            raise ValueError("a change set that failed has more than one answer")
        return failures
    if len(responses) != len(item.requests):
        raise ValueError(f"{len(responses)} answers to a change set of {len(item.requests)}")
    ids = [headers.get("content-id", "") for headers, _ in parts]
    numbered = all(re.fullmatch(r"[0-9]{1,9}", each) for each in ids)
    if numbered and any(int(later) <= int(earlier) for earlier, later in pairwise(ids)):
        raise ValueError("the answers to a change set are out of order")
    return responses


def _read_http(content: bytes) -> Response:
    line, _, rest = content.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ValueError("a part has no status line")
    headers, body = split_head(rest)
    return read_response(int(match[1]), headers, body.strip(b"\r\n"))


def read_response(status: int, headers: Mapping[str, str], content: bytes) -> Response:
    """Make a response of an HTTP answer; raises ValueError if a success says JSON and is not."""
    body: Any = None
    if content:
        kind = (headers.get("content-type") or "").lower()
        if "json" not in kind:
            body = content.decode("utf-8", "replace")
        elif status in OK:
            body = loads(content)
        else:
            try:
                body = loads(content)
            except ValueError:
                body = None
    if status in OK:
        return Response(status, headers, body)
    return Response(status, headers, body, read_error(status, headers, body))

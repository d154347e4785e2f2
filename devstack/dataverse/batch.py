"""`$batch`: a multipart body of requests in, a multipart body of answers out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from typing import Final
from urllib.parse import urlsplit

from devstack.dataverse.errors import BadSyntax, DataverseError
from devstack.dataverse.keys import segments
from devstack.dataverse.pipeline import Pipeline
from devstack.dataverse.wire import NO_WORK, ONE_OPERATION, ROOT, Answer, Call, refusal

MAX_REQUESTS: Final = 1000
MAX_URL: Final = 65536
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"\r\n]{1,200})"|([^\s";,]{1,200}))', re.IGNORECASE)
_REQUEST: Final = re.compile(r"([A-Z]+) (\S|\S.*?\S)(?: HTTP/\d(?:\.\d)?)?")
"""A request line; its URL may have blanks, which Microsoft's own SDK leaves as they are in filters."""
_METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a batch; `content_id` None where it has none."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    content_id: str | None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Requests that take effect together or not at all."""

    parts: tuple[Part, ...]


@dataclass(slots=True)
class _Written:
    """Answers being written: each item is one answer or the answers of a change set."""

    items: list[tuple[str | None, Answer] | list[tuple[str | None, Answer]]] = field(default_factory=list)


class Batches:
    """Carries out batches; `strike` is asked before each operation and returns the fault that it meets, if any."""

    def __init__(self, pipeline: Pipeline, strike: Callable[[Call], DataverseError | None]) -> None:
        self._strike = strike
        self._pipeline = pipeline

    async def answer(self, call: Call) -> Answer:
        """Carry out a batch.

        A body that cannot be read is answered with plain JSON. Without `odata.continue-on-error` the first failure
        ends the batch and lends it its status.
        """
        try:
            go_on = "odata.continue-on-error" in call.preferences
            items = parse(call.headers.get("content-type", ""), call.body)
        except DataverseError as error:
            return refusal(error, NO_WORK)
        written, status, work = _Written(), 200, NO_WORK
        for item in items:
            if isinstance(item, Part):
                answered = await self._alone(call, item)
                written.items.append((item.content_id, answered))
                failed = answered
                work += answered.work
            else:
                answers = await self._together(call, item)
                written.items.append(answers)
                failed = answers[-1][1] if answers else Answer(200)
                work += sum((each.work for _, each in answers), NO_WORK)
            if failed.status >= HTTPStatus.BAD_REQUEST and not go_on:
                status = failed.status
                break
        body, content_type = _render(written)
        return Answer(status, {"Content-Type": content_type, "OData-Version": "4.0"}, body, work)

    async def _alone(self, batch: Call, part: Part) -> Answer:
        async def work() -> Answer:
            return await self._one(_call(batch, part, {}))

        try:
            return await self._pipeline.transact(work)
        except DataverseError as error:
            return refusal(error)

    async def _one(self, call: Call) -> Answer:
        if (struck := self._strike(call)) is not None:
            raise struck
        return await self._pipeline.step(call)

    async def _together(self, batch: Call, changes: ChangeSet) -> list[tuple[str | None, Answer]]:
        """Do all requests of a change set, or none and answer with the one that failed."""
        answers: list[tuple[str | None, Answer]] = []
        part: Part | None = None

        async def work() -> None:
            nonlocal part
            references: dict[str, str] = {}
            answers.clear()
            for part in changes.parts:
                call = _call(batch, part, references)
                call.changeset = len(changes.parts)
                answered = await self._one(call)
                answers.append((part.content_id, answered))
                uri = answered.headers.get("OData-EntityId") or answered.headers.get("Location")
                if uri is not None and part.content_id is not None:
                    references[part.content_id] = uri

        try:
            await self._pipeline.transact(work)
        except DataverseError as error:
            done = sum((each.work for _, each in answers), ONE_OPERATION)
            return [(part.content_id if part else None, refusal(error, done))]
        return answers


def parse(content_type: str, body: bytes) -> list[Part | ChangeSet]:
    """Read a batch; raises BadSyntax for anything but well-formed parts within the limits."""
    if not content_type.lower().startswith("multipart/mixed"):
        raise BadSyntax("The content type of a $batch request is 'multipart/mixed; boundary=…'.")
    items: list[Part | ChangeSet] = []
    count = 0
    for headers, content in _split(content_type, body):
        kind = headers.get("content-type", "").lower()
        if kind.startswith("multipart/mixed"):
            parts = [_part(inner, text, changing=True) for inner, text in _split(headers["content-type"], content)]
            if len({part.content_id for part in parts}) < len(parts):
                raise BadSyntax("A Content-ID occurs twice in one change set.")
            items.append(ChangeSet(tuple(parts)))
            count += len(parts)
        else:
            items.append(_part(headers, content, changing=False))
            count += 1
    if count > MAX_REQUESTS:
        raise BadSyntax(f"The number of requests in the batch exceeds the limit of {MAX_REQUESTS}.")
    if not items:
        raise BadSyntax("The batch holds no request.")
    return items


def _split(content_type: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Split a multipart body at its boundary into headers and content."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise BadSyntax("The multipart content type has no boundary.")
    boundary = (match[1] or match[2]).encode("latin-1", "replace")
    mark = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|$)")
    marks = list(mark.finditer(body))
    if not marks or marks[-1][1] is None or any(each[1] for each in marks[:-1]):
        raise BadSyntax(f"The multipart body does not end with '--{match[1] or match[2]}--'.")
    parts = []
    for here, there in pairwise(marks):
        content = body[here.end() : there.start()]
        parts.append(_headers(re.sub(rb"^\r?\n", b"", content, count=1)))
    return parts


def _headers(content: bytes) -> tuple[dict[str, str], bytes]:
    headers: dict[str, str] = {}
    position = 0
    while True:
        end = content.find(b"\n", position)
        line = content[position:] if end < 0 else content[position:end]
        text = line.rstrip(b"\r").decode("latin-1")
        position = len(content) if end < 0 else end + 1
        if not text:
            return headers, content[position:]
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or name != name.strip():
            raise BadSyntax(f"'{text[:80]}' is not a header of a batch part.")
        headers[name.lower()] = value.strip()
        if end < 0:
            return headers, b""


def _part(headers: Mapping[str, str], content: bytes, *, changing: bool) -> Part:
    if not headers.get("content-type", "").lower().startswith("application/http"):
        raise BadSyntax(
            "The content type of a batch part is 'application/http' or, for a change set, 'multipart/mixed'."
        )
    encoding = headers.get("content-transfer-encoding", "")
    if encoding.lower() != "binary":
        raise BadSyntax("The Content-Transfer-Encoding of a batch part is 'binary'.")
    content_id = headers.get("content-id") or None
    if changing and content_id is None:
        raise BadSyntax("The Content-ID header is required for every request in a change set.")
    line, _, rest = content.lstrip(b"\r\n").partition(b"\n")
    match = _REQUEST.fullmatch(line.rstrip(b"\r").decode("latin-1"))
    if match is None or match[1] not in _METHODS:
        raise BadSyntax(f"'{line[:80].decode('latin-1').strip()}' is not a request line.")
    if len(match[2]) > MAX_URL:
        raise BadSyntax(f"The URL of a batch part exceeds {MAX_URL} characters.")
    if changing and match[1] == "GET":
        raise BadSyntax("A change set cannot hold GET requests.")
    inner, body = _headers(rest)
    if "content-length" in inner:
        if not inner["content-length"].isdigit():
            raise BadSyntax("The Content-Length of a batch part is not a number.")
        body = body[: int(inner["content-length"][:12])]
    return Part(match[1], match[2], inner, body.strip(b"\r\n"), content_id)


def _call(batch: Call, part: Part, references: Mapping[str, str]) -> Call:
    """Make a part a call of its own; raises BadSyntax for nested batches and unknown Content-IDs."""
    target = part.url
    if target.startswith("$"):
        name, slash, rest = target[1:].partition("/")
        if name == "batch":
            raise BadSyntax("A batch cannot hold another batch.")
        if name not in references:
            raise BadSyntax(f"Content-ID Reference: '${name}' does not exist in the batch context.")
        target = references[name] + slash + rest
    if re.match(r"https?://", target, re.IGNORECASE):
        try:
            parts = urlsplit(target)
        except ValueError:
            raise BadSyntax(f"'{target[:80]}' is not a URL.") from None
        target = parts.path + (f"?{parts.query}" if parts.query else "")
    if target.startswith("/"):
        if not target.startswith(ROOT):
            raise BadSyntax(f"The URL of a batch part begins with '{ROOT}': '{target[:80]}'.")
        target = target.removeprefix(ROOT)
    inherited = {
        name: value for name, value in batch.headers.items() if name.startswith("mscrm") or name == "callerobjectid"
    }
    call = Call(
        part.method, target, inherited | dict(part.headers), part.body, batch.root, references, batch.correlation
    )
    if segments(call.path)[0].name == "$batch":
        raise BadSyntax("A batch cannot hold another batch.")
    return call


def _render(written: _Written) -> tuple[bytes, str]:
    boundary = f"batchresponse_{uuid.uuid4()}"
    lines: list[bytes] = []
    for item in written.items:
        lines.append(f"--{boundary}\r\n".encode())
        if isinstance(item, tuple):
            lines.append(_one(*item))
            continue
        inner = f"changesetresponse_{uuid.uuid4()}"
        lines.append(f"Content-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode())
        for content_id, answered in item:
            lines += [f"--{inner}\r\n".encode(), _one(content_id, answered)]
        lines.append(f"--{inner}--\r\n".encode())
    lines.append(f"--{boundary}--\r\n".encode())
    return b"".join(lines), f"multipart/mixed; boundary={boundary}"


def _one(content_id: str | None, answered: Answer) -> bytes:
    head = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        head.append(f"Content-ID: {content_id}")
    head += ["", f"HTTP/1.1 {answered.status} {HTTPStatus(answered.status).phrase}"]
    head += [f"{name}: {value}" for name, value in answered.headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + answered.body + b"\r\n"

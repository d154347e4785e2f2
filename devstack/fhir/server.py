"""The HTTP side of the embedded FHIR server."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final, Literal

import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devstack.control import Control
from devstack.fhir import render
from devstack.fhir.bundles import run_bundle
from devstack.fhir.capability import capability_statement
from devstack.fhir.errors import FhirError, invalid, not_supported, outcome
from devstack.fhir.interactions import Call, Options, Reply, carry_out
from devstack.fhir.store import Store
from devstack.fhir.subscriptions import Subscriptions, read_hook
from devstack.fhir.text import parse

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_JSON_TYPES: Final = ("application/fhir+json", "application/json", "text/json")
_MEDIA_TYPE: Final = "application/fhir+json; charset=utf-8"
_LARGEST: Final = 512 * 1024 * 1024  # of a decompressed body: far over any bundle, far under a machine's memory


class FhirServer(Control):
    """The server with its control side.

    `on_change` listeners get a dict of `type`, `id`, `versionId` and `op` (create, update, delete) after each commit.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        *,
        base_url: str | None,
        transport: httpx.AsyncBaseTransport | None,
        call_ms: float,
        entry_ms: float,
    ) -> None:
        self.store = store
        self.call_ms, self.entry_ms = call_ms, entry_ms
        self.subscriptions = Subscriptions(store, transport)
        self.on_change: list[Callable[[dict[str, str]], None]] = []
        self._options = options
        self._base_url = base_url.rstrip("/") if base_url else None
        app = Starlette(routes=[Route("/{path:path}", self._serve, methods=_METHODS)], lifespan=self._lifespan)
        super().__init__(app, reset=self._forget, snapshot=store.snapshot, restore=store.restore)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.subscriptions.cancel()
        await self.subscriptions.delivered()

    def _forget(self) -> None:
        self.subscriptions.cancel()
        self.store.clear()

    async def _serve(self, request: Request) -> Response:
        base = self._base_url or str(request.base_url).rstrip("/")
        try:
            _check_headers(request)
            body = await _body(request)
            mark = len(self.store.log)
            response, entries = self._answer(request, body, base)
        except FhirError as error:
            response = _respond(error.outcome(), error.status)
            if error.etag is not None:
                response.headers["ETag"] = error.etag
            return response
        self._tell(mark)
        if pause := self.call_ms + entries * self.entry_ms:
            await asyncio.sleep(pause / 1000)
        return response

    def _tell(self, mark: int) -> None:
        """Tell listeners and subscriptions what was logged from `mark` on, and what they cause."""
        while mark < len(self.store.log):
            version = self.store.log[mark]
            mark += 1
            change = {"type": version.type, "id": version.id, "versionId": str(version.number), "op": version.op}
            for listener in self.on_change:
                listener(change)
            self.subscriptions.committed(version)

    def _answer(self, request: Request, body: bytes, base: str) -> tuple[Response, int]:
        """Carry out a request; returns its answer and the number of interactions in it."""
        preference = _preference(request)
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        url = raw.decode("latin-1").strip("/")
        if request.method in ("GET", "HEAD") and url == "metadata":
            return _respond(capability_statement(base), 200), 1
        if request.method == "POST" and not url:
            representation = preference != "minimal"
            answers = run_bundle(self.store, self._options, parse(body), base=base, representation=representation)
            return _respond(answers, 200), len(answers.get("entry", ()))
        query = request.url.query
        resource = None
        shown_url = url
        if request.method == "POST" and url.rpartition("/")[2] == "_search":
            query = "&".join(part for part in (query, _form(body)) if part)
            shown_url = url.removesuffix("/_search")  # links are followed by GET
        elif request.method in ("POST", "PUT"):
            resource = parse(body)
        call = Call.of_url(
            request.method,
            f"{url}?{query}" if query else url,
            resource=resource,
            if_match=request.headers.get("If-Match"),
            if_none_match=request.headers.get("If-None-Match"),
            if_none_exist=request.headers.get("If-None-Exist"),
        )
        reply = carry_out(self.store, self._options, call)
        shown_url += f"?{query}" if query else ""
        return _reply(reply, base=base, url=shown_url, preference=preference, method=request.method), 1


def create_app(
    *,
    base_url: str | None = None,
    identical_put: Literal["version", "same"] = "version",
    conflict_status: Literal[409, 412] = 412,
    lost_put: Literal[201, 404] = 404,
    entry_limit: int | None = None,
    clock: Callable[[], datetime] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    call_ms: float = 0,
    entry_ms: float = 0,
) -> FhirServer:
    """Make an empty server.

    `base_url` is what its own URLs begin with (default: what the request was sent to). `identical_put`: whether a
    PUT that changes nothing makes a version. `conflict_status`: the answer to a stale If-Match. `lost_put`: that to
    a guarded PUT of what nobody ever had (201: it is made). `entry_limit`: a bundle with more entries is answered 400.
    `clock` gives `meta.lastUpdated`. `transport` carries notifications to the hooks of Subscriptions (default: the
    network). `call_ms` and `entry_ms` are the time each call takes and, on top, each
    entry of a bundle (one for a call that is no bundle).
    """
    if identical_put not in ("version", "same"):
        raise ValueError(f"identical_put: {identical_put!r} is not one of version, same")
    if conflict_status not in (409, 412):
        raise ValueError(f"conflict_status: {conflict_status!r} is not one of 409, 412")
    if lost_put not in (201, 404):
        raise ValueError(f"lost_put: {lost_put!r} is not one of 201, 404")
    store = Store(clock=clock, keep_identical=identical_put == "same", check=_check)
    options = Options(conflict_status=conflict_status, lost_put=lost_put, entry_limit=entry_limit)
    return FhirServer(store, options, base_url=base_url, transport=transport, call_ms=call_ms, entry_ms=entry_ms)


def _check(resource: dict[str, Any]) -> None:
    """Refuse a Subscription that could not be served; raises FhirError."""
    if resource["resourceType"] == "Subscription":
        read_hook(resource)


def _check_headers(request: Request) -> None:
    accept = request.headers.get("Accept", "*/*")
    if not any(part in accept for part in ("json", "*/*", "application/*")):
        raise FhirError(406, "not-supported", f"Accept: {accept} is not supported (valid: {_JSON_TYPES[0]})")
    if "X-Provenance" in request.headers:
        raise not_supported("header X-Provenance")
    if request.method == "PATCH":
        raise not_supported("PATCH")
    content_type = request.headers.get("Content-Type", _JSON_TYPES[0]).split(";")[0].strip().lower()
    is_search = request.url.path.endswith("/_search")
    valid = ("application/x-www-form-urlencoded",) if is_search else _JSON_TYPES
    if request.method in ("POST", "PUT") and content_type not in valid:
        raise FhirError(415, "not-supported", f"Content-Type {content_type} is not supported (valid: {valid[0]})")


async def _body(request: Request) -> bytes:
    body = await request.body()
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise FhirError(415, "not-supported", f"Content-Encoding {encoding} is not supported (valid: gzip)")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, _LARGEST)
    except zlib.error as error:
        raise invalid(f"the body is not gzip: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise invalid("the gzip body is cut short, too large, or not one whole")
    return plain


def _form(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"the form is not UTF-8: {error.reason} at byte {error.start}") from error


def _preference(request: Request) -> str:
    """Return what `Prefer: return=` asks for; representation when it does not."""
    for part in ",".join(request.headers.getlist("Prefer")).replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "return":
            if value not in ("minimal", "representation", "OperationOutcome"):
                raise invalid(f"Prefer: return={value} (valid: minimal, representation, OperationOutcome)")
            return value
    return "representation"


def _reply(reply: Reply, *, base: str, url: str, preference: str, method: str) -> Response:
    version = reply.version
    shown = render.resource(reply, base=base, url=url)
    if reply.status == 304:  # noqa: PLR2004 - Not Modified
        shown = None
    elif method in ("POST", "PUT") and reply.page is None and preference != "representation":
        done = outcome("information", "informational", render.status_line(reply.status))
        shown = done if preference == "OperationOutcome" else None
    response = _respond(shown, reply.status)
    if version is not None:
        response.headers["ETag"] = version.etag
        response.headers["Last-Modified"] = format_datetime(version.updated, usegmt=True)
        if method in ("POST", "PUT"):
            response.headers["Location"] = render.location(version, base)
    return response


def _respond(content: Any, status: int) -> Response:
    if content is None:
        return Response(status_code=status)
    return Response(orjson.dumps(content), status, media_type=_MEDIA_TYPE)

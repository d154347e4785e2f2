"""The HTTP side of the host, as an ASGI app: functions below the prefix, and the admin routes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote

from devstack.host.admin import Admin, Backend
from devstack.host.answer import Answer, from_typed_data
from devstack.host.errors import FunctionFailed, NotServed
from devstack.host.function import Function
from devstack.host.keys import Keys
from devstack.host.protos import Message
from devstack.host.routes import Route, find
from devstack.host.webhooks import Receiver, Webhooks

LARGEST_BODY = 100 * 1024 * 1024
"""Bytes of a request body that the platform takes."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)


class HttpBackend(Backend, Receiver, Protocol):
    """What the HTTP side needs of the host."""


class Http:
    """An ASGI app; it never raises for what a function does."""

    def __init__(self, backend: HttpBackend, routes: list[Route], keys: Keys) -> None:
        self._backend = backend
        self._routes = routes
        self._keys = keys
        self._admin = Admin(backend)
        self._webhooks = Webhooks(backend)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; lifespan events are acknowledged, websockets closed."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        else:
            answer = await self._answer(scope, receive)
            await _send(send, answer, scope["method"])

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: PLR0911 - one for each way to refuse
        headers, query = _headers(scope), _query(scope)
        given = headers.get("x-functions-key"), query.get("code")
        path = _raw_path(scope)
        if path == "/admin" or path.startswith(("/admin/", "/runtime/")):
            if refused := self._keys.refusal("admin", "", *given):
                return Answer(refused)
            sent = await _read(receive, headers) or b""
            if self._webhooks.serves(path):
                return await self._webhooks.answer(scope["method"], path, query, headers, sent)
            return self._admin.answer(scope["method"], path, sent)
        found = find(self._routes, scope["method"], path)
        if found is None:
            return Answer(HTTPStatus.NOT_FOUND)
        function, parameters = found
        if refused := self._keys.refusal(function.auth_level, function.name, *given):
            return Answer(refused)
        body = await _read(receive, headers)
        if body is None:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        request = Message(
            method=scope["method"],
            url=f"{scope.get('scheme', 'http')}://{headers.get('host', 'localhost')}{path}{_question(scope)}",
            headers=headers,
            query=query,
            params=parameters,
            body=Message(bytes=body),
        )
        return await self._call(function, request, headers)

    async def _call(self, function: Function, request: Message, headers: Mapping[str, str]) -> Answer:
        try:
            result = await self._backend.run(
                function, Message(http=request), trace_parent=headers.get("traceparent", "")
            )
        except NotServed as error:
            return Answer.text(HTTPStatus.NOT_IMPLEMENTED, str(error))
        except FunctionFailed as error:
            _log.error("%s\n%s", error, error.stack_trace)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        name = next((name for name, each in function.outputs.items() if each["type"] == "http"), "$return")
        value = result.value if name == "$return" else result.outputs.get(name)
        try:
            return from_typed_data(value)
        except ValueError as error:
            _log.error("%s: %s", function.name, error)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)


def _headers(scope: Scope) -> dict[str, str]:
    """Join repeated headers as the platform does: cookies by `; `, the others by a comma."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in headers:
            value = headers[name] + ("; " if name == "cookie" else ",") + value
        headers[name] = value
    return headers


def _query(scope: Scope) -> dict[str, str]:
    """Join repeated parameters by a comma, as the platform does."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    return query


def _raw_path(scope: Scope) -> str:
    """Give the path as it was sent, still encoded and without its query."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"])
    return str(path).partition("?")[0]


def _question(scope: Scope) -> str:
    text = scope["query_string"].decode("latin-1")
    return f"?{text}" if text else ""


async def _read(receive: Receive, headers: Mapping[str, str]) -> bytes | None:
    """Read the body; None when it is larger than the platform takes."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > LARGEST_BODY:
        return None
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _send(send: Send, answer: Answer, method: str) -> None:
    bodiless = answer.status in {204, 304} or answer.status < HTTPStatus.OK
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if not bodiless:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if bodiless or method == "HEAD" else answer.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

"""A server in front of another one: what goes through can be counted, and made to go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devstack.control import Control

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


@asynccontextmanager
async def reverse_proxy(url: str, *, auth: httpx.Auth | None = None) -> AsyncIterator[Control]:
    """Pass every request on to the host of `url`, its path and query as they are; gives an ASGI app with a control side.

    `auth` signs each request in.
    """
    root = httpx.URL(url)

    async def serve(request: Request) -> Response:
        raw: bytes = request.scope["raw_path"]
        query: bytes = request.scope["query_string"]
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        target = root.copy_with(raw_path=raw + (b"?" + query if query else b""))
        answer = await client.request(request.method, target, headers=headers, content=await request.body())
        back = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return Response(answer.content, answer.status_code, headers=back)

    def nothing_here(*_: object) -> NoReturn:
        raise ValueError("the state is the other server's")

    app = Starlette(routes=[Route("/{path:path}", serve, methods=_METHODS)])
    async with httpx.AsyncClient(timeout=100, auth=auth) as client:
        yield Control(app, reset=nothing_here, snapshot=nothing_here, restore=nothing_here)

"""A FHIR server on a port of this machine that does to chosen requests what servers and proxies do on bad days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.connections import listening
from support.world import FHIR

CUT = b""
"""The connection ends without an answer."""
SLOW = None
"""No answer comes as long as the client waits for one."""

DRIP = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 90000\r\n\r\n{"
"""An answer that begins, and goes on a byte at a time, well within any client's patience for the next one."""

Answer = bytes | None


def answer(status: int, body: str | bytes = "", kind: str = "application/fhir+json", **headers: str) -> bytes:
    """Write one HTTP answer; a header's underscores are hyphens."""
    content = body.encode() if isinstance(body, str) else body
    given = {"Content-Type": kind, "Content-Length": str(len(content))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in given.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


@dataclass
class Misbehaving:
    """Does a good server's work but for the requests that have an answer in `plan`, by their number."""

    good: httpx.AsyncClient | None = None
    plan: dict[int, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until one side ends it."""
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            number = len(self.requests)
            self.requests.append(first.rpartition(" ")[0])
            told = self.plan[number] if number in self.plan else await self._done(first, headers, body)
            if told is SLOW:
                await reader.read()  # until the client has had enough
                break
            writer.write(told or b"")
            await writer.drain()
            while told == DRIP:
                await asyncio.sleep(0.05)
                writer.write(b" ")
                await writer.drain()
            if told == CUT:
                break

    async def _done(self, first: str, headers: dict[str, str], body: bytes) -> bytes:
        """Have the good server do it."""
        method, path, _ = first.split(" ")
        if self.good is None:
            return answer(200, "{}")
        kept = {name: value for name, value in headers.items() if name in ("content-type", "if-match", "prefer")}
        got = await self.good.request(method, path, headers=kept, content=body)
        passed = {name: got.headers[name] for name in ("etag", "location") if name in got.headers}
        return answer(got.status_code, got.content, **passed)


@asynccontextmanager
async def misbehaving() -> AsyncIterator[Misbehaving]:
    """Give a server on a port of this machine."""
    server = Misbehaving()
    async with listening(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


def front(server: Misbehaving, app: Any) -> httpx.AsyncClient:
    """Let the server do its work by an app."""
    server.good = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=FHIR)
    return server.good

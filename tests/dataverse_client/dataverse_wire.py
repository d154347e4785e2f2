"""What the tests of the Dataverse client share: a server's side of $batch, and time that costs none."""

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from relay.dataverse.multipart import split_head, split_parts

ROOT = "http://dataverse/api/data/v9.2/"
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def http_part(
    status: int, *, headers: dict[str, str] | None = None, body: object = None, content_id: str = ""
) -> bytes:
    """Write one application/http part as a server does."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {content_id}"] if content_id else []
    lines += ["", f"HTTP/1.1 {status} Reason"]
    lines += ["Content-Type: application/json; odata.metadata=minimal"] if data else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def multipart(parts: Sequence[bytes], boundary: str = "batchresponse_1") -> tuple[str, bytes]:
    """Write a whole multipart body of such parts."""
    mark = f"--{boundary}".encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return f"multipart/mixed; boundary={boundary}", body


def change_set(parts: Sequence[bytes], boundary: str = "changesetresponse_1") -> bytes:
    """Write a change set's answer as a part of a batch's."""
    kind, body = multipart(parts, boundary)
    return f"Content-Type: {kind}\r\n\r\n".encode() + body


def failure(status: int, code: str, message: str = "") -> bytes:
    """Write one error part."""
    return http_part(status, body={"error": {"code": code, "message": message}})


def read_requests(content_type: str, body: bytes) -> list[object]:
    """Read a batch as a server does: a request is (method, url, headers, body), a change set a list of them."""
    items: list[object] = []
    for headers, content in split_parts(content_type, body):
        kind = headers["content-type"]
        if kind == "application/http":
            line, _, rest = content.partition(b"\r\n")
            match = re.fullmatch(rb"([A-Z]+) (\S+) HTTP/1\.1", line)
            assert match is not None
            fields, data = split_head(rest)
            if "content-length" in fields:
                data = data[: int(fields["content-length"])]
            fields["content-id"] = headers.get("content-id", "")
            items.append((match[1].decode(), match[2].decode(), fields, data.rstrip(b"\r\n")))
        else:
            items.append(read_requests(kind, content))
    return items


class VirtualTime:
    """A clock that moves only while everybody sleeps; `slept` are the sleeps asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._ticking: asyncio.Task[None] | None = None

    def clock(self) -> float:
        """Return the seconds now."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has moved that far."""
        self.slept.append(seconds)
        until = self.now + seconds
        while self.now < until:  # noqa: ASYNC110 - letting others run is what moves the clock
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking

    async def _tick(self) -> None:
        while True:
            for _ in range(5):
                await asyncio.sleep(0)
            self.now += 0.01

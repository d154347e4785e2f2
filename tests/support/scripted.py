"""A storage service that gives the answers a test wrote down, on a port of this machine."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from devstack.host.azure import AzureStorage
from relay.store.azure.account import Account, read_account
from support.connections import listening

LEFT_OPEN = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""For tests of what cannot be read: the collector may come by before they end."""

CANARY = "lindqvist-ana"


def answer(status: int, body: str = "", kind: str = "application/xml", **headers: str) -> bytes:
    """Write one HTTP answer; a header's underscores are hyphens."""
    given = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in given.items())]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def refusal(status: int, code: str) -> bytes:
    """Write what the service answers when it refuses; its message repeats what was asked, as Azure's may."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{CANARY}</Message></Error>"
    return answer(status, body, x_ms_error_code=code)


@dataclass
class Server:
    """A service that gives these answers, the last one ever after; an empty one cuts the connection."""

    answers: list[bytes]
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until the client ends it."""
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            length = [
                line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")
            ]
            await reader.readexactly(int(length[0]) if length else 0)
            self.requests.append(head.partition(" HTTP/")[0])
            told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not told:
                break
            writer.write(told)
            await writer.drain()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[AzureStorage, Server]]:
    """Give a store on a service that answers so."""
    server = Server(list(answers))
    async with listening(server.serve) as port:
        store = AzureStorage(account(port))
        try:
            yield store, server
        finally:
            await store.close()
    collect()


def collect() -> None:
    """Leave what Microsoft's clients left open to the garbage collector now, and not in some later test.

    They do not close a connection whose answer they could not read; requests' pool forgets it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def account(port: int) -> Account:
    parts = [f"{each}Endpoint=http://127.0.0.1:{port}/x" for each in ("Blob", "Queue", "Table")]
    return read_account({"AzureWebJobsStorage": ";".join(["AccountName=x", "AccountKey=c2VjcmV0", *parts])})

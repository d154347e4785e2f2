"""A storage service that gives the answers a test wrote down, on a port of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from devstack.host.azure import AzureStorage
from relay.store.azure.account import Account, read_account

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
    serving: dict[asyncio.StreamWriter, asyncio.Task[None]] = field(default_factory=dict)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until the client ends it."""
        self.serving[writer] = asyncio.create_task(self.serve(reader, writer))

    async def end(self) -> None:
        """Cut every connection: a client may keep one open whose answer it did not read to the end."""
        for writer, task in self.serving.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self.serving.values(), return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
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
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[AzureStorage, Server]]:
    """Give a store on a service that answers so."""
    server = Server(list(answers))
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    store = AzureStorage(account(listening.sockets[0].getsockname()[1]))
    try:
        yield store, server
    finally:
        await store.close()
        listening.close()
        await server.end()


def account(port: int) -> Account:
    parts = [f"{each}Endpoint=http://127.0.0.1:{port}/x" for each in ("Blob", "Queue", "Table")]
    return read_account({"AzureWebJobsStorage": ";".join(["AccountName=x", "AccountKey=c2VjcmV0", *parts])})

"""A server's connections, which all end with its test, also one that is being accepted just then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Serve connections at a free port of this machine until the block ends; gives the port.

    A client may keep a connection open whose answer it did not read to the end: each is cut. The sockets are our own:
    asyncio's server leaves one open that it accepts while it is being closed.
    """
    loop = asyncio.get_running_loop()
    serving: dict[socket.socket, asyncio.Task[None]] = {}

    async def run(connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 20)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def accept() -> None:
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = listener.accept()
            connection.settimeout(0)
            serving[connection] = asyncio.create_task(run(connection))

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    loop.add_reader(listener, accept)
    try:
        yield listener.getsockname()[1]
    finally:
        loop.remove_reader(listener)
        listener.close()
        for task in serving.values():
            task.cancel()
        await asyncio.gather(*serving.values(), return_exceptions=True)
        for _ in range(5):  # what was aborted gets closed
            await asyncio.sleep(0)
        for connection in serving:
            connection.close()

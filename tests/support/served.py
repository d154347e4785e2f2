"""Servers on a port of this machine, in a thread of their own, so that a command can run in the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

from devstack.dataverse import create_app
from devstack.host.serve import serving


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[str]:
    """Serve an app from a thread of its own, so that a command can run in this one; gives its root."""
    addresses: Queue[str] = Queue()
    ended: Future[None] = Future()

    async def serve() -> None:
        async with make() as app, serving(app) as url:
            addresses.put(url)
            await asyncio.wrap_future(ended)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, serve())
        try:
            yield addresses.get(timeout=30)
        finally:
            ended.set_result(None)
            running.result()


def org(metadata: Path) -> AbstractContextManager[str]:
    """Serve an org with the tables of a facts file; gives its root."""
    return served(lambda: create_app(metadata=metadata))

"""Runs the host from the command line: `python -m devstack.host --port 7071`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from devstack.host.app import Host
from devstack.host.errors import StartError
from devstack.host.function import Function
from devstack.host.serve import serving
from devstack.host.settings import STORAGE, connection_settings, read_local_settings
from devstack.host.storage import open_storage
from relay.errors import SettingsError
from relay.store.local import LocalStore

_STORE = ".relay"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; 0 when stopped so, 1 when the app cannot be started, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m devstack.host", description="Serves function_app.py locally.")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of function_app.py (default: this one)")
    parser.add_argument("--port", type=int, default=7071, help="port; 0 picks a free one (default: %(default)s)")
    parser.add_argument("--store", type=Path, help=f"folder of the local store (default: {STORAGE}, else {_STORE})")
    parser.add_argument(
        "--keys",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="check keys; NAME is master, host or a function; repeat it for several",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("azure.functions").setLevel(logging.WARNING)  # two lines for each invocation
    keys: dict[str, list[str]] = {}
    for each in options.keys:
        name, equals, key = each.partition("=")
        if not (name and equals and key):
            parser.error(f"--keys takes NAME=KEY (NAME: master, host or a function), not {name!r}")
        keys.setdefault(name, []).append(key)
    try:
        asyncio.run(_serve(options.root, options.port, options.store, keys or None))
    except (StartError, SettingsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    return 0


async def _serve(root: Path, port: int, folder: Path | None, keys: dict[str, list[str]] | None) -> None:
    environ = read_local_settings(root) | os.environ
    if folder is None and not connection_settings(STORAGE, environ):
        folder = root / _STORE
    store = open_storage(folder, environ, root=root)
    settings: dict[str, str] = {}
    if isinstance(store, LocalStore):
        settings = {name: f"file:{store.folder}" for name in (STORAGE, "RELAY_STORE") if not environ.get(name)}
    host = Host(root, store=store, keys=keys, settings=settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopped.set)
    where = str(store.folder) if isinstance(store, LocalStore) else STORAGE
    try:
        await host.start()
        async with serving(host.asgi, port=port) as url:
            for function in host.functions:
                print(_line(function), flush=True)  # noqa: T201 - a command prints
            print(f"listening on {url}, store in {where}", flush=True)  # noqa: T201 - a command prints
            await stopped.wait()
    finally:
        await host.stop()
        await store.close()


def _line(function: Function) -> str:
    trigger = function.trigger
    what = trigger.get("queueName") or trigger.get("path") or trigger.get("schedule") or function.route or ""
    return f"  {function.name}: {function.kind} {what} {'(' + function.unserved + ')' if function.unserved else ''}".rstrip()


if __name__ == "__main__":
    sys.exit(main())

"""Run the whole stack on this machine until Ctrl-C: Dataverse emulator, FHIR server, the app in its host."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from relay.store.azure.account import CONNECTION
from relay.store.open import local_folder

_LAST_PORT = 65535


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--port", type=port, default=7071, help="port of the functions; 0 picks a free one (7071)")
    parser.add_argument("--dataverse", default="emulator", metavar="URL|emulator", help="org to use (emulator)")
    parser.add_argument("--fhir", default="embedded", metavar="URL|embedded|hapi", help="FHIR server to use (embedded)")
    parser.add_argument(
        "--store", type=Path, help="folder of the local store (RELAY_STORE, AzureWebJobsStorage, else a new one)"
    )
    parser.add_argument(
        "--keys", action="append", default=[], metavar="FUNCTION=KEY", help="check function keys as Azure does"
    )


def port(text: str) -> int:
    """Read a port; 0 stands for a free one."""
    if not text.isascii() or not text.isdigit() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (valid: 0 to {_LAST_PORT})")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Start, print the addresses as one JSON line, and stop on SIGINT or SIGTERM."""
    keys: dict[str, list[str]] = {}
    for each in options.keys:
        name, equals, key = each.partition("=")
        if not (name and equals and key):
            print("relay up: --keys takes FUNCTION=KEY (or host=KEY, master=KEY)", file=sys.stderr)
            return 2
        keys.setdefault(name, []).append(key)
    for name, choices in (("dataverse", ("emulator",)), ("fhir", ("embedded", "hapi"))):
        choice = getattr(options, name)
        if choice not in choices and not choice.startswith(("http://", "https://")):
            print(f"relay up: --{name} takes {', '.join(choices)} or an http(s) URL", file=sys.stderr)
            return 2
    with ExitStack() as stack:
        folder = options.store or _named_store()
        storage = {name: value for name, value in os.environ.items() if name.partition("__")[0] == CONNECTION and value}
        if folder is None and not storage:
            scratch = tempfile.TemporaryDirectory(prefix="relay-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(scratch))
        asyncio.run(_serve(options, folder.resolve() if folder else None, storage, keys or None))
    return 0


def _named_store() -> Path | None:
    """Return the folder that RELAY_STORE or AzureWebJobsStorage names, None when neither names one."""
    text = os.environ.get("RELAY_STORE", "").strip()
    connection = os.environ.get(CONNECTION, "").strip()
    if not text and not connection.startswith("file:"):
        return None
    return local_folder(text or connection)


async def _serve(
    options: argparse.Namespace, folder: Path | None, storage: dict[str, str], keys: dict[str, list[str]] | None
) -> None:
    from devstack.stack import running

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(
        folder=folder, storage=storage, port=options.port, dataverse=options.dataverse, fhir=options.fhir, keys=keys
    ) as stack:
        print(json.dumps(stack.urls), flush=True)
        if not options.json:
            print(f"POST a bundle to {stack.functions_url}/api/bundle, or drop it as a file into", file=sys.stderr)
            print(f"{folder / 'bundles' if folder else 'the blob container bundles'} ; Ctrl-C stops", file=sys.stderr)
        await stopped.wait()

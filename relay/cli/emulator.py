"""Run the Dataverse emulator alone on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from relay.cli.up import port


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--port", type=port, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument("--database", default=":memory:", metavar="FILE", help="SQLite file that outlives the command")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="facts of further tables, as metadata.json",
    )
    parser.add_argument("--call-ms", type=_number, default=0.0, help="milliseconds that each call takes")
    parser.add_argument("--operation-ms", type=_number, default=0.0, help="milliseconds more for each operation in it")
    parser.add_argument(
        "--bulk-row-ms", type=_number, help="milliseconds for each row of a bulk action (as an operation)"
    )
    parser.add_argument("--dop-hint", type=_whole, help="what x-ms-dop-hint recommends (the header is not sent)")
    parser.add_argument(
        "--key-ms", type=_number, default=100.0, help="milliseconds until a new alternate key is usable"
    )
    parser.add_argument(
        "--customization-ms",
        type=_number,
        default=0.0,
        help="milliseconds that a customization takes, while others are refused",
    )


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 3_600_000:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text!r} is no number of milliseconds (valid: 0 to 3600000)")
    return number


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1000:  # noqa: PLR2004 - more is no recommendation
        raise argparse.ArgumentTypeError(f"{text!r} is no degree of parallelism (valid: 1 to 1000)")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Start, print the address as one JSON line, and stop on SIGINT or SIGTERM."""
    return asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> int:
    import logging
    import sqlite3

    from devstack.dataverse import create_app
    from devstack.dataverse.protection import Protection
    from devstack.host.serve import serving

    # Dataverse itself posts to ports 80 and 443 only; here it has to be any free one.
    logging.getLogger("devstack.dataverse.webhooks").setLevel(logging.ERROR)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        app = create_app(
            database=options.database,
            extra=options.metadata,
            call_ms=options.call_ms,
            operation_ms=options.operation_ms,
            bulk_row_ms=options.bulk_row_ms,
            protection=Protection(dop_hint=options.dop_hint),
            key_ms=options.key_ms,
            customization_ms=options.customization_ms,
        )
    except (ValueError, sqlite3.Error) as error:
        print(f"relay emulator: {error}", file=sys.stderr)
        return 1
    async with app, serving(app, port=options.port) as url:
        print(json.dumps({"dataverse": url}), flush=True)
        if not options.json:
            print(
                f"The Web API is at {url}/api/data/v9.2/ , the control side at {url}/_emulator/ ; Ctrl-C stops",
                file=sys.stderr,
            )
        await stopped.wait()
    return 0

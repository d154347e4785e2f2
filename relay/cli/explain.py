"""Tell which bundle, and which line and path of which map, wrote a column of a row."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("table", metavar="TABLE", help="logical name of the table, such as contact")
    parser.add_argument("guid", metavar="GUID", help="primary key of the row")
    parser.add_argument("column", metavar="COLUMN", help="logical name of the column")


def run(options: argparse.Namespace) -> int:
    """Print every time the column was written that is on record, the newest first; 1 if there is none."""
    found = asyncio.run(_find(options))
    if options.json:
        print(json.dumps({"written": found}, indent=1))
    elif not found:
        print(
            f"relay explain: no bundle on record wrote {options.table}({options.guid}).{options.column}: a user did, "
            "an older bundle, or a relay with another RELAY_LOG_KEY or RELAY_STORE",
            file=sys.stderr,
        )
    for each in found if not options.json else ():
        print(f"{each['at']}  bundle {each['bundle']}  {each['file']}:{each['line']}  {each['path'] or '(a constant)'}")
    return 0 if found else 1


async def _find(options: argparse.Namespace) -> list[dict[str, Any]]:
    from relay.app import Relay
    from relay.settings import load_settings

    relay = Relay(load_settings())
    try:
        return [asdict(each) for each in await relay.written.find(options.table, options.guid, options.column)]
    finally:
        await relay.aclose()

"""Read the column facts of the maps' tables from an org and print them in the form of metadata.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from relay.cli.maps_files import MAPS, org_url
from relay.errors import MapError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--from", dest="org", type=org_url, required=True, metavar="URL", help="root of the org")
    parser.add_argument(
        "--maps", type=Path, default=MAPS, help="folder of maps whose tables to read (the default pack)"
    )
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="read this table, too")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the facts to this file instead of printing them"
    )


def run(options: argparse.Namespace) -> int:
    """Print or write the facts; 1 if the org lacks a table, whose facts are then missing."""
    from relay.cli.maps_org import read_org
    from relay.mapping.definitions import facts_text
    from relay.mapping.outline import read_outlines

    outlines = read_outlines(options.maps)
    wanted = sorted({*options.table, *(table for each in outlines if not each.disabled for table in each.tables)})
    if not wanted:
        raise MapError(f"{options.maps}: no map names a table")
    facts = read_org(options.org, wanted)
    source = {"title": "Dataverse organization", "url": options.org.rstrip("/")}
    text = facts_text({"source": source, "tables": facts})
    missing = [table for table in wanted if table not in facts]
    for table in missing:
        print(f"relay maps metadata: the org has no table {table}", file=sys.stderr)
    if options.out is None:
        print(text, end="")
        return 1 if missing else 0
    options.out.write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps({"written": str(options.out), "tables": list(facts), "missing": missing}))
    else:
        print(f"written: {options.out}, {len(facts)} tables")
    return 1 if missing else 0

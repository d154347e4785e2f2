"""Tell what two folders of maps (or two map files) say differently: maps, keys, lines by column."""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from relay.dataverse.json_text import dumps


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("before", type=Path, metavar="A", help="folder of maps, or one map file")
    parser.add_argument("after", type=Path, metavar="B", help="what to compare it with")


def run(options: argparse.Namespace) -> int:
    """Print the differences; 1 if there are any."""
    from relay.mapping.diff import diff
    from relay.mapping.outline import read_outlines

    found = list(diff(read_outlines(options.before), read_outlines(options.after)))
    if options.json:
        differences: list[dict[str, Any]] = [each.as_json() for each in found]
        print(json.dumps(json.loads(dumps({"differences": differences})), indent=1))
        return 1 if found else 0
    for resource, differences_of_one in groupby(found, key=lambda each: each.resource):
        print(resource)
        for each in differences_of_one:
            print(f"  {_SIGNS[each.change]} {each}")
    if not found:
        print("no difference")
    return 1 if found else 0


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}

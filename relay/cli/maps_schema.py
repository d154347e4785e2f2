"""Print the JSON Schema of map files, for editors; --write puts it beside the maps."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from relay.cli.maps_files import MAPS


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--write", action="store_true", help="write schema.json into the folder of maps")
    parser.add_argument("--maps", type=Path, default=MAPS, help="folder of maps (the default pack)")


def run(options: argparse.Namespace) -> int:
    """Print or write the schema."""
    from relay.mapping.outline import SCHEMA_FILE
    from relay.mapping.schema import schema_text

    text = schema_text()
    if not options.write:
        print(text, end="")
        return 0
    path = options.maps / SCHEMA_FILE
    path.write_text(text, encoding="utf-8")
    print(json.dumps({"written": str(path)}) if options.json else f"written: {path}")
    return 0

"""Count what maps read of FHIR files: elements that no line reads, columns that nothing fills; never a value."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from relay.cli.maps_files import MAPS, fhir_files, read_file
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.mapping.coverage import Coverage


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    files = "files or folders: bundles, resources or NDJSON, plain or .gz"
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=files)
    parser.add_argument("--maps", type=Path, default=MAPS, help="folder of maps (the default pack)")
    parser.add_argument("--all", action="store_true", help="print the elements of types without a map, too")


def run(options: argparse.Namespace) -> int:
    """Print the counts by type; 1 if a file cannot be read or holds no FHIR."""
    from relay.mapping.coverage import Coverage
    from relay.mapping.load import load_maps

    coverage = Coverage(load_maps(options.maps))
    failed = seen = 0
    for path in fhir_files(options.paths):
        seen += 1
        try:
            _add(coverage, path)
        except (RelayError, OSError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
    if not seen:
        print("relay maps coverage: no FHIR files there", file=sys.stderr)
    types = coverage.report()
    if options.json:
        print(json.dumps({"files": seen, "failed": failed, "types": types}, indent=1))
    else:
        _tell(types, everything=options.all)
    return 1 if failed or not seen else 0


def _add(coverage: Coverage, path: Path) -> None:
    from relay.inbound.references import References

    incoming = read_file(path, unlimited=True)
    references = References(incoming, fhir_url="")
    for entry in incoming.entries:
        if entry.resource is not None:
            coverage.add(entry.resource, references.resolver(entry))


def _tell(types: list[dict[str, Any]], *, everything: bool) -> None:
    print(f"{'type':<28}{'resources':>9}  {'map':<9}{'table':<32}{'unread':>6}{'unfilled':>9}{'failed':>7}")
    for each in types:
        numbers = f"{len(each['unread']):>6}{len(each['unfilled']):>9}{each['failed']:>7}"
        print(f"{each['type']:<28}{each['resources']:>9}  {each['map']:<9}{each['table'] or '-':<32}{numbers}")
    for each in types:
        if (each["map"] == "mapped" or everything) and (each["unread"] or each["unfilled"] or each["issues"]):
            print(f"\n{each['type']}")
            for issue, count in each["issues"].items():
                print(f"  told     {count:>8}           {issue}")
            for element in each["unread"]:
                print(f"  not read {element['resources']:>8} {element['percent']:>6.1f} %  {element['element']}")
            if each["unfilled"]:
                columns = ", ".join(each["unfilled"])
                print(fill(columns, 120, initial_indent="  not filled ", subsequent_indent=" " * 13))

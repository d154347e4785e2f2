"""Show the rows that FHIR files would become, offline: each column, each child, and what no map reads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from relay.cli.maps_files import MAPS, read_file
from relay.errors import RelayError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    files = "a bundle, one resource or NDJSON, plain or .gz"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=files)
    parser.add_argument("--maps", type=Path, default=MAPS, help="folder of maps (the default pack)")


def run(options: argparse.Namespace, *, sources: bool = False) -> int:
    """Print the rows, with `sources` what line and path each column came from.

    1 if a file cannot be read or a resource cannot be mapped.
    """
    from relay.mapping.load import load_maps

    maps = load_maps(options.maps)
    resources: list[dict[str, Any]] = []
    failed = False
    for path in options.files:
        try:
            resources += _preview(maps, path, sources=sources)
        except (RelayError, OSError) as error:
            failed = True
            print(f"{path}: {error}", file=sys.stderr)
    failed = failed or any(issue["severity"] == "error" for each in resources for issue in each["issues"])
    if options.json:
        print(json.dumps({"resources": resources}, indent=1, default=str))
    else:
        for each in resources:
            _tell(each)
    return 1 if failed else 0


def _preview(maps: Any, path: Path, *, sources: bool) -> list[dict[str, Any]]:
    from relay.inbound.references import References
    from relay.mapping.preview import preview

    incoming = read_file(path)
    references = References(incoming, fhir_url="")
    found: list[dict[str, Any]] = []
    for entry in incoming.entries:
        if entry.problem is not None:
            issue = entry.problem
            shown = {"severity": issue.severity, "code": issue.code, "message": issue.message, "at": issue.at}
            name = "/".join(entry.key) if entry.key else entry.resource_type
            empty: dict[str, Any] = {"table": None, "columns": {}, "children": [], "unmapped": []}
            found.append({"resource": name, **empty, "issues": [shown]})
        elif not entry.skip and entry.resource is not None:
            found += preview(maps, [entry.resource], references.resolver(entry), sources=sources)["resources"]
    return found


def _tell(each: dict[str, Any]) -> None:
    print(f"{each['resource']} -> {each['table'] or 'no map'}")
    if "sources" in each:
        _tell_columns(each, "  ")
    else:
        for column, value in each["columns"].items():
            print(f"  {column} = {value}")
    for child in each["children"]:
        _tell_child(child, "  ")
    if each["unmapped"]:
        print(f"  not mapped: {', '.join(each['unmapped'])}")
    for issue in each["issues"]:
        at = f" ({issue['at']})" if issue["at"] else ""
        print(f"  {issue['severity']}: {issue['code']}: {issue['message']}{at}")


def _tell_columns(row: dict[str, Any], indent: str) -> None:
    for column, value in row["columns"].items():
        print(f"{indent}{column} = {value}    [{row['sources'][column]}]")


def _tell_child(child: dict[str, Any], indent: str) -> None:
    if "sources" in child:
        print(f"{indent}+ {child['table']}")
        _tell_columns(child, f"{indent}    ")
    else:
        print(f"{indent}+ {child['table']}: {', '.join(f'{k} = {v}' for k, v in child['columns'].items())}")
    for below in child.get("children", ()):
        _tell_child(below, f"{indent}  ")

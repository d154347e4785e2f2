"""Show the rows that FHIR files would become, offline: each column, each child, and what no map reads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from relay.errors import RelayError

MAPS = Path(__file__).resolve().parent.parent.parent / "maps"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a bundle or one resource, JSON or .gz")
    parser.add_argument("--maps", type=Path, default=MAPS, help="folder of maps (the default pack)")


def run(options: argparse.Namespace) -> int:
    """Print the rows; 1 if a file cannot be read or a resource cannot be mapped."""
    from relay.mapping.load import load_maps

    maps = load_maps(options.maps)
    resources: list[dict[str, Any]] = []
    failed = False
    for path in options.files:
        try:
            resources += _preview(maps, path)
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


def _preview(maps: Any, path: Path) -> list[dict[str, Any]]:
    from relay.inbound.intake import read_bundle
    from relay.inbound.references import References
    from relay.mapping.preview import preview
    from relay.settings import load_settings

    incoming = read_bundle(
        path.read_bytes(), content_type="application/fhir+json", content_encoding="", limits=load_settings()
    )
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
            found += preview(maps, [entry.resource], references.resolver(entry))["resources"]
    return found


def _tell(each: dict[str, Any]) -> None:
    print(f"{each['resource']} -> {each['table'] or 'no map'}")
    for column, value in each["columns"].items():
        print(f"  {column} = {value}")
    for child in each["children"]:
        print(f"  + {child['table']}: {', '.join(f'{k} = {v}' for k, v in child['columns'].items())}")
    if each["unmapped"]:
        print(f"  not mapped: {', '.join(each['unmapped'])}")
    for issue in each["issues"]:
        print(f"  {issue['severity']}: {issue['code']}: {issue['message']} ({issue['at']})")

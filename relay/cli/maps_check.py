"""Check a folder of maps: what is refused, what has no effect, and with --from what an org says otherwise."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.maps_files import MAPS, org_url

if TYPE_CHECKING:
    from relay.mapping.findings import Finding, Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "information")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", nargs="?", type=Path, default=MAPS, metavar="DIR", help="folder of maps")
    parser.add_argument("--strict", action="store_true", help="warnings fail, too")
    parser.add_argument("--all", action="store_true", help="print informations, too, instead of their number")
    parser.add_argument("--from", dest="org", type=org_url, metavar="URL", help="compare with this org's definitions")


def run(options: argparse.Namespace) -> int:
    """Print the findings; 1 if there is an error among them (with --strict, or a warning)."""
    from relay.mapping.check import check_folder

    found = list(check_folder(options.folder))
    if options.org:
        found += _against(options.folder, options.org)
    count = Counter(finding.severity for finding in found)
    if options.json:
        print(json.dumps({"findings": [finding.as_json() for finding in found]}, indent=1))
    else:
        for finding in found:
            if options.all or finding.severity != "information":
                print(finding)
        print(", ".join(f"{count[name]} {name}{'s' * (count[name] != 1)}" for name in SEVERITIES))
    return 1 if count["error"] or (options.strict and count["warning"]) else 0


def _against(folder: Path, org: str) -> list[Finding]:
    from relay.cli.maps_org import read_org
    from relay.mapping.drift import drift
    from relay.mapping.metadata import METADATA_FILE
    from relay.mapping.outline import read_outlines

    outlines = read_outlines(folder, lenient=True)
    tables = sorted({table for outline in outlines if not outline.disabled for table in outline.tables})
    try:
        ours = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8-sig"))["tables"]
    except (ValueError, KeyError):
        print("relay maps check: the org was not read: metadata.json cannot be compared with it", file=sys.stderr)
        return []
    return list(drift(outlines, ours, read_org(org, tables)))

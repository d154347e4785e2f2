"""Check, try out, compare and describe maps; each of these commands works on files unless --from names an org."""

from __future__ import annotations

import argparse
from importlib import import_module

SUBCOMMANDS = ("check", "preview", "coverage", "diff", "schema", "metadata", "import")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands: one file each, `maps_<name>.py`, with `add` and `run`."""
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name in SUBCOMMANDS:
        module = import_module(f"relay.cli.maps_{name}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        # left as it is where it is not given, so that it may also stand before the subcommand
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs")
        module.add(command)
        command.set_defaults(work=module.run, command=f"maps {name}")


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    code: int = options.work(options)
    return code

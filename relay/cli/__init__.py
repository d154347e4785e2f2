"""The `relay` command: one file per command, each with `add` (its options) and `run` (its work).

Exit codes: 0 done, 1 something failed, 2 wrong use.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from relay import __version__
from relay.errors import RelayError

COMMANDS = ("demo", "up", "emulator", "preview", "maps", "explain")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="relay", description="Keeps a FHIR server and Microsoft Dataverse in step.")
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"relay.cli.{name}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print JSON for programs")
        module.add(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        code: int = options.run(options)
    except RelayError as error:
        print(f"relay {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"relay {options.command}: {error.strerror or error}", file=sys.stderr)
        return 1
    return code

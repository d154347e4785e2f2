"""Show the rows that FHIR files would become, offline, and for each column the line and path it came from."""

from __future__ import annotations

import argparse

from relay.cli import preview


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of `relay preview`."""
    preview.add(parser)


def run(options: argparse.Namespace) -> int:
    """Print the rows with their sources; 1 if a file cannot be read or a resource cannot be mapped."""
    return preview.run(options, sources=True)

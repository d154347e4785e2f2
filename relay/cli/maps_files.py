"""What the commands on maps have in common: the default folder, and FHIR files as entries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.inbound.entries import Incoming

MAPS = Path(__file__).resolve().parent.parent.parent / "maps"

_FHIR_FILES = (".json", ".json.gz", ".ndjson", ".ndjson.gz")
_ORG = re.compile(r"https?://[^\s/?#@]+/?")


def org_url(text: str) -> str:
    """Read an org's root for argparse."""
    if not _ORG.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no org's root (valid: https://org.crm.dynamics.com)")
    return text


def fhir_files(paths: list[Path]) -> Iterator[Path]:
    """List the FHIR files among files and folders, those in folders by name and with all that is below."""
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.name.endswith(_FHIR_FILES) and each.is_file())
        else:
            yield path


def read_file(path: Path, *, unlimited: bool = False) -> Incoming:
    """Read a bundle, one resource, or NDJSON, each plain or gzipped; raises Refused and OSError.

    `unlimited` takes files that are larger or hold more entries than the app would take at once.
    """
    from relay.inbound.intake import read_bundle, read_ndjson
    from relay.settings import load_settings

    limits = load_settings()
    if unlimited:
        most = 2**40
        limits = limits.model_copy(update={"max_body_bytes": most, "max_entries": most, "max_ratio": most})
    lines = path.name.removesuffix(".gz").endswith(".ndjson")
    kind = "application/fhir+ndjson" if lines else "application/fhir+json"
    read = read_ndjson if lines else read_bundle
    return read(path.read_bytes(), content_type=kind, content_encoding="", limits=limits)

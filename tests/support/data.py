"""The optional folder of real FHIR data: gzipped JSON and NDJSON files, found by `RELAY_TEST_DATA` or beside the checkout."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_BESIDE: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "fhir"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JSON: Final = json.JSONDecoder(parse_float=lambda text: text)


def fhir_data() -> Path | None:
    """Return the folder of real FHIR data; None where it is absent.

    `RELAY_TEST_DATA` is that folder, or one that holds it as `fhir`.
    """
    given = os.environ.get("RELAY_TEST_DATA")
    root = Path(given) if given else _BESIDE
    for folder in (root / "fhir", root):
        if folder.is_dir() and (folder / "MANIFEST.tsv").is_file():
            return folder
    return None


def need_fhir_data() -> Path:
    """Return the folder of real FHIR data, or skip the test that asks."""
    folder = fhir_data()
    if folder is None:
        pytest.skip("no real FHIR data here: set RELAY_TEST_DATA to its folder")
    return folder


def files(pattern: str = "*/*.gz") -> Iterator[tuple[str, bytes]]:
    """Yield (name without .gz, content as published) of the data files that match, by name; none where there are none."""
    folder = fhir_data()
    for path in sorted(folder.glob(pattern)) if folder else []:
        yield str(path.relative_to(folder or path)).removesuffix(".gz"), gzip.decompress(path.read_bytes())


def bundles(pattern: str = "*/*.json.gz") -> Iterator[tuple[str, bytes]]:
    """Yield (name, text in UTF-8 without byte order mark) of every readable Bundle among the files that match."""
    for name, content in files(pattern):
        text = content.decode("utf-8-sig")
        try:
            document = json.loads(text)
        except ValueError:
            continue  # published samples that are not JSON are what `files` is for
        if isinstance(document, dict) and document.get("resourceType") == "Bundle":
            yield name, text.encode()


def resources(pattern: str = "*/*.gz") -> Iterator[tuple[str, bytes]]:
    """Yield (name, JSON text) of every resource in the files that match: plain ones, NDJSON lines, bundle entries.

    The text is the published one, byte for byte. A batch or transaction is taken apart into its entries (one level);
    any other bundle is a resource itself.
    """
    for name, content in files(pattern):
        text = content.decode("utf-8-sig")
        if name.endswith(".ndjson"):
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    yield f"{name}:{number}", line.encode()
            continue
        try:
            document = json.loads(text)
        except ValueError:
            continue
        if not isinstance(document, dict) or "resourceType" not in document:
            continue
        if document["resourceType"] == "Bundle" and document.get("type") in ("batch", "transaction"):
            for number, part in enumerate(_entry_resources(text)):
                yield f"{name}#{number}", part.encode()
        else:
            yield name, text.encode()


def _entry_resources(text: str) -> Iterator[str]:
    """Cut the text of each entry's resource out of a bundle."""
    for entry in _members(text, _value_of(text, 0, "entry")):
        at = _value_of(text, entry, "resource")
        if at is not None:
            yield text[at : _end(text, at)]


def _members(text: str, at: int | None) -> Iterator[int]:
    """Yield where each element of the array at `at` begins."""
    if at is None or text[at] != "[":
        return
    at = _skip(text, at + 1)
    while text[at] != "]":
        yield at
        at = _skip(text, _end(text, at))
        if text[at] == ",":
            at = _skip(text, at + 1)


def _value_of(text: str, at: int, key: str) -> int | None:
    """Return where the value of a key begins in the object at `at`."""
    at = _skip(text, _skip(text, at) + 1)
    while text[at] != "}":
        name, after = _JSON.raw_decode(text, at)
        value = _skip(text, _skip(text, after) + 1)
        if name == key:
            return value
        at = _skip(text, _end(text, value))
        if text[at] == ",":
            at = _skip(text, at + 1)
    return None


def _end(text: str, at: int) -> int:
    return _JSON.raw_decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()

"""JSON that keeps number text: 1.10, 1e3, -0.0 and 17 digits are written as they were read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from devstack.fhir.errors import invalid

_SAFE_DIGITS: Final = (
    15  # a Python int of so many digits is written as it was read; -0 and longer ones are kept as text
)
_REFERENCE: Final = re.compile(rb'(?<!\\)"reference":("(?:[^"\\]|\\.)*")')


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _SAFE_DIGITS and text != "-0" else orjson.Fragment(text)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=orjson.Fragment, parse_int=_integer, parse_constant=_constant)


def parse(body: bytes) -> Any:
    """Read JSON in UTF-8, with or without a byte order mark; raises FhirError (400).

    Numbers with a fraction or exponent, and integers that could lose text, are `orjson.Fragment`.
    """
    try:
        return _DECODER.decode(body.decode("utf-8-sig"))
    except RecursionError as error:
        raise invalid("the body is nested too deep") from error
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from error


def dump(document: Any) -> bytes:
    """Write what `parse` read, compact; raises FhirError (400) for nesting over 250 and for lone surrogates."""
    try:
        return orjson.dumps(document)
    except TypeError as error:  # orjson's only error
        raise invalid(f"the resource cannot be stored: {error}") from error


def same_content(one: bytes, other: bytes) -> bool:
    """Say whether two stored resources differ in nothing but key order, `meta.versionId` and `meta.lastUpdated`."""
    return _content(one) == _content(other)


def _content(body: bytes) -> bytes:
    resource = parse(body)
    meta = {key: value for key, value in resource["meta"].items() if key not in ("versionId", "lastUpdated")}
    return orjson.dumps({**resource, "meta": meta}, option=orjson.OPT_SORT_KEYS)


def stamp(resource: dict[str, Any], *, id_: str, version: str, updated: str) -> dict[str, Any]:
    """Return the resource with its id, `meta.versionId` and `meta.lastUpdated` set, every other thing and key order kept."""
    meta = resource.get("meta", {})
    if not isinstance(meta, dict):
        raise invalid("meta is not an object")
    stamped: dict[str, Any] = {}
    for key, value in resource.items():
        stamped[key] = value
        if key == "resourceType":  # where a resource usually has them, if it has none
            for missing in [name for name in ("id", "meta") if name not in resource]:
                stamped[missing] = None
    stamped["id"] = id_
    stamped["meta"] = {**meta, "versionId": version, "lastUpdated": updated}
    return stamped


def rewrite_references(body: bytes, resolve: Callable[[str], str | None]) -> bytes:
    """Replace each `reference` in what `dump` wrote by what `resolve` returns; None leaves it."""

    def replace(match: re.Match[bytes]) -> bytes:
        resolved = resolve(orjson.loads(match[1]))
        return match[0] if resolved is None else b'"reference":' + orjson.dumps(resolved)

    return _REFERENCE.sub(replace, body)

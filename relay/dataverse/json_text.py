"""JSON as Dataverse reads and writes it, with decimals exact in both directions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any


class _DecimalInside(Exception):
    """The standard encoder met a number that it cannot write exactly."""


def dumps(value: Any) -> str:
    """Write JSON in ASCII, a Decimal as its own digits; raises ValueError for NaN and infinity."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_default)
    except _DecimalInside:
        return _exact(value)


def loads(text: bytes | str) -> Any:
    """Read JSON, fractions as Decimal; raises ValueError, without the text, for anything else."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("the text is not JSON") from None


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        raise _DecimalInside
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _exact(value: Any) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a number that is not finite cannot be written as JSON")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_exact(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_exact, value)) + "]"
    return json.dumps(value, allow_nan=False, default=_default)


def _refuse_constant(_: str) -> Any:
    raise ValueError("NaN and infinity are not JSON")

"""What the relay tells about itself: a meter of calls per unit of work, and ids as keyed hashes. Never patient data."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

# These write URLs (INFO) and headers (DEBUG) to the log, and a URL can hold a patient's identifier.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(slots=True)
class Meter:
    """HTTP requests made to each side, token and metadata reads apart, and milliseconds waited for throttling.

    `begun` says that Dataverse has answered a call: to do the work anew would be to make that again.
    """

    dataverse: int = 0
    fhir: int = 0
    waits_ms: int = 0
    begun: bool = field(default=False, compare=False)

    def add(self, more: Meter) -> None:
        """Count what another meter has counted, too."""
        self.dataverse += more.dataverse
        self.fhir += more.fhir
        self.waits_ms += more.waits_ms


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered(meter: Meter | None = None) -> Iterator[Meter]:
    """Count every request made inside the block, onto `meter` if given; blocks nest, the innermost counts."""
    meter = meter or Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def current_meter() -> Meter:
    """Return the meter of the running unit of work, or one that nobody reads."""
    return _meter.get() or Meter()


def current_work() -> int:
    """Return what tells the running unit of work from every other that runs now; 0 outside of any."""
    return id(meter) if (meter := _meter.get()) is not None else 0


class Pseudonyms:
    """Turns ids into HMAC-SHA256 words of 16 hex digits that logs and tables may hold."""

    def __init__(self, key: str) -> None:
        self._key = key.encode() or secrets.token_bytes(32)

    def __call__(self, *parts: str) -> str:
        """Return the word for these parts; the same parts give the same word under the same key."""
        return hmac.new(self._key, "\x1f".join(parts).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]

"""What is known of each kind of FHIR server, and how a server's kind is told. Pure.

Nothing depends on it for correctness: every answer is read for what it says, whoever gives it. A profile saves calls (a
batch that is not refused first), and tells more (an order of versions). Sources: docs/servers.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

DEFAULT_ENTRIES: Final = 500
"""Entries of one batch to a server whose limit is not known; a refused batch is halved."""

RetryForm = Literal["seconds", "date", "milliseconds"]
"""How a server says when to come back: Retry-After in seconds or as a date, or x-ms-retry-after-ms."""


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """One kind of server; None stands for what is not known of it.

    `conflict`: statuses of a stale If-Match. `lost_put`: the status of a guarded PUT of what was never there (201: made).
    `ordered`: whether versions are integers that grow. `identical_put`: whether a PUT that changes nothing makes a
    version. `digits`: whether a PUT may create an id that is all digits. `put_create`: the status of a PUT that creates.
    `after_delete`: the status of a read of what was deleted. `entries`: most entries of one batch. `batch_etag`: how an entry of a
    batch names the version, as an ETag, bare (`3` for `W/"3"`), or in the resource alone. `cached_search`: whether a
    search may be answered from a cache. `escapes`: whether a search finds a value with a bar in it, escaped. `number_text`: whether numbers keep their digits. `retry`: how it says when to come back, empty if it never does.
    `how` is how all this is known: `tested` by tests/contract/fhir, `documented` by its maker, or `unknown`.
    """

    name: str
    how: Literal["tested", "documented", "unknown"]
    conflict: frozenset[int] = frozenset({409, 412})
    lost_put: int | None = None
    ordered: bool = False
    identical_put: Literal["version", "same"] | None = None
    digits: bool | None = None
    put_create: int | None = None
    after_delete: int | None = None
    entries: int | None = None
    batch_etag: Literal["etag", "bare", "none"] | None = None
    cached_search: bool | None = None
    escapes: bool | None = None
    number_text: bool | None = None
    retry: tuple[RetryForm, ...] | None = None

    @property
    def batch_entries(self) -> int:
        """How many entries the relay puts into one batch for such a server."""
        return min(self.entries or DEFAULT_ENTRIES, DEFAULT_ENTRIES)


GENERIC: Final = ServerProfile("any other", "unknown")

EMBEDDED: Final = ServerProfile(
    "embedded (`relay up`)",
    "tested",
    conflict=frozenset({412}),
    lost_put=404,
    ordered=True,
    identical_put="version",
    digits=True,
    put_create=201,
    after_delete=410,
    batch_etag="etag",
    cached_search=False,
    escapes=True,
    number_text=True,
    retry=(),
)

HAPI: Final = ServerProfile(
    "HAPI FHIR JPA",
    "tested",
    conflict=frozenset({409}),
    lost_put=201,
    ordered=True,
    identical_put="same",
    digits=False,
    put_create=201,
    after_delete=410,
    batch_etag="bare",
    cached_search=True,
    escapes=True,
    number_text=False,
    retry=(),
)

MEDPLUM: Final = ServerProfile(
    "Medplum (@medplum/fhir-router)",
    "tested",
    conflict=frozenset({412}),
    lost_put=404,
    identical_put="version",
    digits=True,
    put_create=200,
    after_delete=404,
    batch_etag="none",
    cached_search=False,
    escapes=False,
    number_text=False,
)

AZURE: Final = ServerProfile(
    "Azure Health Data Services",
    "documented",
    conflict=frozenset({412}),
    lost_put=404,
    ordered=True,
    identical_put="same",
    put_create=201,
    after_delete=410,
    entries=500,
    retry=("seconds", "milliseconds"),
)

GOOGLE: Final = ServerProfile("Google Cloud Healthcare", "documented", conflict=frozenset({412}))

HEALTHLAKE: Final = ServerProfile("AWS HealthLake", "documented", entries=160)

PROFILES: Final = (EMBEDDED, HAPI, MEDPLUM, AZURE, GOOGLE, HEALTHLAKE, GENERIC)

LEAST_ENTRIES: Final = min(each.batch_entries for each in PROFILES)
"""A batch of so many is refused for its size by none of them: whose it is need not be asked for it."""

# Hosts that are the maker's own, and what the software calls itself in a CapabilityStatement.
_HOSTS: Final = (
    (re.compile(r".+\.azurehealthcareapis\.com"), AZURE),
    (re.compile(r"healthcare\.googleapis\.com"), GOOGLE),
    (re.compile(r"healthlake\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"), HEALTHLAKE),
)
_NAMES: Final = (
    (re.compile(r"relay embedded FHIR server", re.IGNORECASE), EMBEDDED),
    (re.compile(r"HAPI FHIR\b.*", re.IGNORECASE), HAPI),
    (re.compile(r"medplum\b.*", re.IGNORECASE), MEDPLUM),
    (re.compile(r"(microsoft|azure)\b.*\b(fhir|healthcare apis|health data services)\b.*", re.IGNORECASE), AZURE),
    (re.compile(r".*\bhealthlake\b.*", re.IGNORECASE), HEALTHLAKE),
)


def by_host(url: str) -> ServerProfile | None:
    """Tell the kind of a server whose host is its maker's own; None for any other."""
    host = urlsplit(url).hostname or ""
    return next((profile for pattern, profile in _HOSTS if pattern.fullmatch(host)), None)


def by_statement(statement: Any) -> ServerProfile:
    """Tell the kind of a server from its CapabilityStatement (`software.name`); generic when it does not say."""
    if not isinstance(statement, Mapping) or statement.get("resourceType") != "CapabilityStatement":
        return GENERIC
    software = statement.get("software")
    name = software.get("name") if isinstance(software, Mapping) else None
    if not isinstance(name, str):
        return GENERIC
    return next((profile for pattern, profile in _NAMES if pattern.fullmatch(name.strip())), GENERIC)

"""The nouns of intake: one entry, and everything that came in one body."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from relay.inbound.pieces import Piece
from relay.mapping.model import Issue


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a bundle, in its order; a single resource is entry 0.

    `key` is (type, id), None when the entry names none. `method` is upper case, "" when the entry has no request.
    With a `problem` the entry cannot be carried out; with a `skip` (a stable word) it need not be; never both: `read`, `outcome`,
    `subscription-status`, `no-resource`, `not-successful`, `older-version`, `same-as-entry-<index>`.
    """

    index: int
    sent: dict[str, Any] | Piece | None
    full_url: str = ""
    method: str = ""
    url: str = ""
    if_none_exist: str = ""
    if_match: str = ""
    if_none_match: str = ""
    key: tuple[str, str] | None = None
    problem: Issue | None = None
    skip: str = ""

    @property
    def resource(self) -> dict[str, Any] | None:
        """The resource as parsed JSON; of a large bundle it is decoded anew each time, so ask once."""
        return self.sent.decode() if isinstance(self.sent, Piece) else self.sent

    @property
    def resource_type(self) -> str:
        """The type as it is known: of the key, else of the resource, else empty."""
        if self.key:
            return self.key[0]
        resource = self.resource
        named = resource.get("resourceType") if resource else None
        return named if isinstance(named, str) else ""

    def failed(self, code: str, message: str, at: str) -> Entry:
        """Return this entry with a problem."""
        return replace(self, problem=Issue("error", code, message, at))

    def skipped(self, why: str) -> Entry:
        """Return this entry as one to pass over, whatever its problem was."""
        return replace(self, problem=None, skip=why)


@dataclass(frozen=True, slots=True)
class Incoming:
    """What came in one body; `type` is Bundle.type, `resource` for a single resource, or `ndjson`.

    `size` is that of its text, in characters: what a gzip body says of itself may be wrong.
    """

    type: str
    entries: tuple[Entry, ...]
    tag: str = ""
    size: int = 0

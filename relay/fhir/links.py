"""What a write-back is about: one resource, one row, and what became of it. Plain data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

WriteBackState = Literal["written", "present", "queued", "none", "failed"]


@dataclass(frozen=True, slots=True)
class Link:
    """A row's GUID that belongs in a resource's `identifier`, under the map's URN.

    `sent` is the resource's own text and `etag` its version when the sender is trusted to forward the server's bodies.
    `posted` is whether the resource may never have reached the server (a bundle entry without PUT).
    """

    type: str
    id: str
    table: str
    row_id: str
    system: str
    posted: bool = False
    sent: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class LinkResult:
    """What became of one link; `code` says why it failed or was queued, or that the resource is not on the server."""

    state: WriteBackState
    code: str = ""
    message: str = ""
    retry_after: float | None = None


WriteBack = Callable[[Sequence[Link]], Awaitable[list[LinkResult]]]
"""Carries links out, all of them together; a transient failure is queued before it returns."""

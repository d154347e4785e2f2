"""From changes to a bundle: what was told without a body is read, and a resource that is not there becomes a DELETE entry."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.errors import MapError, Refused, StoreUnavailable
from relay.fhir.answers import Read
from relay.fhir.client import raise_if_busy
from relay.inbound.change import Change, collapse
from relay.inbound.entries import Entry, Incoming
from relay.inbound.intake import read_bundle
from relay.inbound.sent import SentBodies
from relay.mapping.load import MapSet
from relay.mapping.model import Issue
from relay.settings import Settings

UNRESOLVED = "unresolved-reference"
UNKNOWN = "unknown-on-server"

_OK = 200
_NOT_THERE, _GONE = 404, 410
_WRAPPED = 3  # levels of nesting that a bundle is around a resource

ReadMany = Callable[[Sequence[tuple[str, str]]], Awaitable[list[Read]]]


@dataclass(frozen=True, slots=True)
class _Part:
    """One entry to be: the resource's text, None for a deletion; with a `problem` it has neither."""

    key: tuple[str, str]
    text: str | None
    problem: Issue | None = None

    def entry(self) -> str:
        method = "DELETE" if self.text is None and self.problem is None else "PUT"
        request = json.dumps({"method": method, "url": "/".join(self.key)})
        return f'{{"resource":{self.text},"request":{request}}}' if self.text else f'{{"request":{request}}}'


class Gatherer:
    """Makes bundles of changes, with the bodies as the FHIR server has them now where none was told that counts."""

    def __init__(
        self,
        read: ReadMany,
        maps: Callable[[], MapSet],
        settings: Settings,
        *,
        ordered_versions: Callable[[], Awaitable[bool]],
    ) -> None:
        """`ordered_versions` tells whether versions are integers that grow; asked only for bodies that were told."""
        self._read = read
        self._maps = maps
        self._settings = settings
        self._ordered_versions = ordered_versions

    def mapped(self, kind: str) -> bool:
        """Tell whether a map speaks for a resource type; while the maps cannot be used, each may have one."""
        try:
            return self._maps().for_resource(kind) is not None
        except (MapError, StoreUnavailable):
            return True

    async def gather(self, changes: Sequence[Change]) -> tuple[Incoming, SentBodies | None]:
        """Read what has to be read and return entries, one a resource, and the bodies that a PUT may go by.

        What was read here is whole and the server's own, so the write-back need not read it once more. A body that was
        told is taken where versions tell which is the newer one: elsewhere two of one second may overtake each other,
        so the resource is read. Raises Transient while the server is away or busy.
        """
        taken = [each for each in collapse(changes) if self.mapped(each.type)]
        if any(each.resource is not None for each in taken) and not await self._ordered_versions():
            taken = [each.bare if each.resource is not None else each for each in taken]
        wanted = [each.key for each in taken if each.resource is None and each.op != "delete"]
        read = dict(zip(wanted, await self._read(wanted), strict=True))
        parts = [_part(each, read.get(each.key)) for each in taken]
        text, incoming = self._bundle(parts)
        if self._settings.writeback != "inline":
            return incoming, None
        trusted = {at for at, part in enumerate(parts) if part.key in read or self._settings.trust_sent_bodies}
        return incoming, SentBodies(text, incoming, only=trusted)

    def _bundle(self, parts: list[_Part]) -> tuple[str, Incoming]:
        """Read the parts as one bundle; what cannot be read is the problem of its entry alone."""
        try:
            text = _text(parts)
            incoming = self._incoming(text)
        except Refused:
            parts = [self._checked(part) for part in parts]
            text = _text(parts)
            incoming = self._incoming(text)
        entries = (
            replace(entry, problem=part.problem or entry.problem, key=part.key)
            for entry, part in zip(incoming.entries, parts, strict=True)
        )
        return text, replace(incoming, entries=tuple(entries))

    def _checked(self, part: _Part) -> _Part:
        if part.text is None:
            return part
        try:
            self._incoming(_text([part]))
        except Refused as refused:
            return replace(part, text=None, problem=_problem(part.key, refused.code, str(refused)))
        return part

    def _incoming(self, text: str) -> Incoming:
        body = text.encode()
        # How many and how large they may be was asked where they came in.
        depth = self._settings.max_depth + _WRAPPED
        room = {"max_body_bytes": len(body), "max_entries": len(body), "max_depth": depth}
        limits = self._settings.model_copy(update=room)
        return read_bundle(body, content_type="", content_encoding="", limits=limits)


def _part(change: Change, read: Read | None) -> _Part:
    if change.resource is not None:
        return _Part(change.key, change.resource.decode())
    if read is None or read.status == _GONE:
        return _Part(change.key, None)
    if read.status == _NOT_THERE:  # told before a replica has it, or gone without a trace: neither is a deletion
        message = "the FHIR server was said to have changed this resource, and knows no such"
        return _Part(change.key, None, _problem(change.key, UNKNOWN, message))
    if read.status == _OK:
        return _Part(change.key, read.text)
    raise_if_busy(read)
    problem = _problem(change.key, f"fhir-{read.status}", f"the FHIR server refused a read ({read.status})")
    return _Part(change.key, None, problem)


def _problem(key: tuple[str, str], code: str, message: str) -> Issue:
    return Issue("error", code, message, key[0])


def _text(parts: Iterable[_Part]) -> str:
    return f'{{"resourceType":"Bundle","type":"batch","entry":[{",".join(part.entry() for part in parts)}]}}'


def left_over(
    entries: Sequence[Entry], outcome: Mapping[str, Any], source: str
) -> tuple[dict[Change, str], dict[Change, str]]:
    """Return what is to be tried again since it, or what it refers to, may be there later, and what failed for good; each with the code why."""
    waiting: dict[Change, str] = {}
    failed: dict[Change, str] = {}
    for entry, said in zip(entries, outcome["entries"], strict=True):
        if said["result"] != "failed" or entry.key is None:
            continue
        change = Change(source, *entry.key, None, "delete" if entry.method == "DELETE" else "unknown", None)
        codes = [issue["code"] for issue in said["issues"] if issue["severity"] == "error"]
        passes = {UNRESOLVED} if change.op == "delete" else {UNRESOLVED, UNKNOWN}
        if codes and passes.issuperset(codes):
            waiting[change] = codes[0]
        else:
            failed[change] = codes[0] if codes else "failed"
    return waiting, failed

"""The resources of a bundle as their sender wrote them, to the letter."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from relay.fhir import json_text
from relay.fhir.json_text import Span
from relay.inbound.entries import Entry, Incoming

_VERSION = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class SentBodies:
    """Finds an entry's resource in the text of its bundle; built only when sent bodies are trusted or forwarded.

    `only` are the entries, by their place, whose bodies are: all of them if it is left out.
    """

    def __init__(self, text: str, incoming: Incoming, *, only: Container[int] | None = None) -> None:
        self._only = only
        self._text = text
        self._single = json_text.document(text)
        self._entries: Sequence[Span] | None = None
        if incoming.type != "resource":  # a List has an `entry` of its own
            listed = json_text.member(text, self._single, "entry")
            self._entries = json_text.elements(text, listed.start) if listed and text[listed.start] == "[" else []

    def of(self, entry: Entry) -> tuple[str, str]:
        """Return the resource's text and the ETag its `meta.versionId` means; empty texts when it has no legal version."""
        if self._only is not None and entry.index not in self._only:
            return "", ""
        meta = (entry.resource or {}).get("meta")
        version = meta.get("versionId") if isinstance(meta, dict) else None
        text = self.text(entry)
        if not isinstance(version, str) or not _VERSION.fullmatch(version) or not text:
            return "", ""  # so it is read from the server: what a sender calls a version goes into a header
        return text, f'W/"{version}"'

    def text(self, entry: Entry) -> str:
        """Return the resource's text, empty when the entry has none."""
        span = self._single if self._entries is None else self._resource(entry.index)
        return self._text[span.start : span.end] if span else ""

    def _resource(self, index: int) -> Span | None:
        return json_text.member(self._text, self._entries[index], "resource") if self._entries else None

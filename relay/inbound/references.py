"""What a FHIR Reference means: which resource, by id or by identifier. Nothing is ever fetched.

A Reference is read against the bundle it came in (fullUrl, conditional and logical identifiers) and the configured FHIR
server. What it says is a hostile sender's text until it has become a legal type and id; what cannot mean a row
(contained, another server, another search) is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from relay.fhir.answers import FHIR_TYPE
from relay.inbound.entries import Entry, Incoming
from relay.mapping.model import ByFhirId, ByIdentifier, Resolve
from relay.mapping.translate import is_replaced

_LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_VERSION = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}\Z")
_SEARCH = re.compile(r"([A-Z][A-Za-z]{1,63})\?identifier=([^&]*)")
_TYPE_BASE = "http://hl7.org/fhir/StructureDefinition/"
_UNSAFE = re.compile(r"[\x00-\x20\x7f#]")  # white space is no URI, a fragment is no whole resource
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_TOKEN = re.compile(r"((?:[^\\|,$]|\\.)*)\|((?:[^\\|,$]|\\.)*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PORTS = {"http": 80, "https": 443}

Key = tuple[str, str]
_AMBIGUOUS: Key = ("", "")


class References:
    """The references of one bundle; build once, ask for a resolver per entry."""

    def __init__(self, incoming: Incoming, *, fhir_url: str) -> None:
        self._server = _base(fhir_url)
        self._urls: dict[str, Key] = {}
        self._identifiers: dict[tuple[str, str, str], Key] | None = None
        self._entries = incoming.entries
        for entry in incoming.entries:
            if entry.key and may_name(entry.full_url, entry.key):
                url = same_urn(entry.full_url)
                self._urls[url] = entry.key if self._urls.get(url, entry.key) == entry.key else _AMBIGUOUS

    def resolver(self, entry: Entry) -> Resolve:
        """Return what reads References inside this entry; relative ones are read against its own fullUrl."""
        base = _own_base(entry)
        own_server = _base(base) if base else None

        def resolve(element: Any) -> ByFhirId | ByIdentifier | None:
            if not isinstance(element, Mapping):
                return None
            reference = element.get("reference")
            if reference is None:
                return self._logical(element)
            if not isinstance(reference, str) or _UNSAFE.search(reference):
                return None
            return self._read(reference, base, own_server)

        return resolve

    def _read(self, reference: str, base: str, own_server: _Base | None) -> ByFhirId | ByIdentifier | None:
        # Almost every reference is found by its exact text or is `Type/id`, so these come first.
        if key := self._urls.get(same_urn(reference)):
            return _by_id(key)
        if local := _LOCAL.fullmatch(reference):
            key = self._urls.get(f"{base}{local[1]}/{local[2]}") if base else None
            return _by_id(key or (local[1], local[2]))
        if key := self._urls.get(_VERSION.sub("", reference)):
            return _by_id(key)
        # On the server that the entry itself came from, a URL is what the relative reference would be.
        rest = reference
        if _ABSOLUTE.match(reference):
            rest = _below(reference, self._server) or _below(reference, own_server)
        if local := _LOCAL.fullmatch(rest):
            return ByFhirId(local[1], local[2])
        search = _SEARCH.fullmatch(rest)
        return self._conditional(search[1], search[2]) if search else None

    def _conditional(self, kind: str, query: str) -> ByFhirId | ByIdentifier | None:
        """Read the token `system|value`; without both it could mean several rows, so it means none."""
        try:
            token = _TOKEN.fullmatch(unquote_plus(query, errors="strict"))
        except UnicodeDecodeError:
            return None
        if not token or not token[1] or not token[2]:
            return None
        return self._identified(kind, _ESCAPE.sub(r"\1", token[1]), _ESCAPE.sub(r"\1", token[2]))

    def _logical(self, element: Mapping[str, Any]) -> ByFhirId | ByIdentifier | None:
        kind, identifier = element.get("type"), element.get("identifier")
        if not isinstance(kind, str) or not isinstance(identifier, Mapping):
            return None
        kind = kind.removeprefix(_TYPE_BASE)
        system, value = identifier.get("system"), identifier.get("value")
        if not FHIR_TYPE.fullmatch(kind) or not isinstance(system, str) or not isinstance(value, str):
            return None
        return self._identified(kind, system, value) if system and value else None

    def _identified(self, kind: str, system: str, value: str) -> ByFhirId | ByIdentifier | None:
        """Prefer the one resource of the bundle with this identifier: its row may not be there to be found yet."""
        if _CONTROL.search(system) or _CONTROL.search(value):
            return None
        if self._identifiers is None:
            self._identifiers = _identifiers(self._entries)
        key = self._identifiers.get((kind, system, value), _AMBIGUOUS)
        return ByIdentifier(kind, system, value) if key is _AMBIGUOUS else ByFhirId(*key)


_Base = tuple[str, str, int | None, str]


def _base(url: str) -> _Base | None:
    """Read a server's base as (scheme, host, port, path with a slash at its end); None if it is not one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    return parts.scheme, host, port or _PORTS[parts.scheme], f"{parts.path.rstrip('/')}/"


def _below(url: str, server: _Base | None) -> str:
    """Return what follows the server's base in the URL; nothing if it is on another server."""
    path, mark, query = url.partition("?")
    target = _base(path) if server else None
    if server is None or target is None or target[:3] != server[:3] or not target[3].startswith(server[3]):
        return ""
    return f"{target[3][len(server[3]) :].rstrip('/')}{mark}{query}"


def _own_base(entry: Entry) -> str:
    """Return the base of the entry's own fullUrl, if that is a server's `base/Type/id`; else nothing."""
    full = _VERSION.sub("", entry.full_url)
    if not entry.key or _UNSAFE.search(full) or not full.startswith(("http://", "https://")):
        return ""
    return (
        full.removesuffix(f"{entry.key[0]}/{entry.key[1]}") if full.endswith(f"/{entry.key[0]}/{entry.key[1]}") else ""
    )


def may_name(full_url: str, key: Key) -> bool:
    """Tell whether a fullUrl may stand for the entry: a URN may, a URL only if it ends in the entry's own type and id.

    Otherwise a sender's slip would make references mean another patient.
    """
    if full_url[:4].lower() == "urn:":
        return True
    return ":" in full_url and _VERSION.sub("", full_url).endswith(f"/{key[0]}/{key[1]}")


def same_urn(url: str) -> str:
    """Spell a UUID in lower case: its case means nothing."""
    return url.lower() if url[:9].lower() == "urn:uuid:" else url


def _by_id(key: Key) -> ByFhirId | None:
    return None if key is _AMBIGUOUS else ByFhirId(*key)


def _identifiers(entries: tuple[Entry, ...]) -> dict[tuple[str, str, str], Key]:
    """Index the resources of a bundle by type, system and value; two resources with one identifier are ambiguous.

    Of one that another replaces and the other, which may have got its identifiers, the other is meant.
    """
    found: dict[tuple[str, str, str], Key] = {}
    replaced: dict[tuple[str, str, str], Key] = {}
    for entry in entries:
        if entry.skip or not entry.key or entry.sent is None:
            continue
        resource = entry.resource or {}
        into = replaced if is_replaced(resource) else found
        listed = resource.get("identifier")
        for identifier in listed if isinstance(listed, list) else [listed]:
            system = identifier.get("system") if isinstance(identifier, dict) else None
            value = identifier.get("value") if isinstance(identifier, dict) else None
            if isinstance(system, str) and isinstance(value, str):
                name = (entry.key[0], system, value)
                into[name] = entry.key if into.get(name, entry.key) == entry.key else _AMBIGUOUS
    return replaced | found

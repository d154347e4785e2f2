"""Primary keys the relay chooses, so that a retry, a rival relay and the event path all mean the same row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha1
from uuid import UUID

# Chosen once for this project; changing it would give every row a second key.
NAMESPACE = UUID("5b0f2b1e-0c0a-5d0c-9b5e-7c1c7a1f0d36")

CHOICES = 4

_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}
_SEPARATOR = "\x1f"  # cannot occur in FHIR ids, table names or GUIDs, so joined parts stay apart


def _key(namespace: bytes, parts: Iterable[str]) -> str:
    """Return what `uuid.uuid5` does (RFC 9562, 5.5), in half the time: it is asked for every row."""
    word = sha1(namespace + _SEPARATOR.join(parts).encode(), usedforsecurity=False).hexdigest()
    return f"{word[:8]}-{word[8:12]}-5{word[13:16]}-{_VARIANT[word[16]]}{word[17:20]}-{word[20:32]}"


def row_key(source_name: str, resource_type: str, fhir_id: str) -> str:
    """Return the key of the row for one resource; `source_name` outlives a move of the FHIR server."""
    return _key(NAMESPACE.bytes, (source_name, resource_type, fhir_id))


def child_keys(parent: str, table: str, match_values: Iterable[object]) -> Iterator[str]:
    """Yield the keys of the child row that these match values tell apart under this parent, in order of choice.

    The first is the key. The others are for when a user has made another row of the one that stands under it.
    """
    parts = (table, *("" if value is None else f"={value}" for value in match_values))
    return _choices(bytes.fromhex(parent.replace("-", "")), parts)


def concept_keys(concept_type: int, code: str) -> Iterator[str]:
    """Yield the keys of the codeable concept (type, code), shared by every source, in order of choice."""
    return _choices(NAMESPACE.bytes, ("msemr_codeableconcept", str(concept_type), code))


def _choices(namespace: bytes, parts: tuple[str, ...]) -> Iterator[str]:
    yield _key(namespace, parts)  # nearly always the one that is taken, so the others are not made
    for number in range(2, CHOICES + 1):
        yield _key(namespace, (*parts, f"#{number}"))

"""Primary keys the relay chooses, so that a retry, a rival relay and the event path all mean the same row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID, uuid5

# Chosen once for this project; changing it would give every row a second key.
NAMESPACE = UUID("5b0f2b1e-0c0a-5d0c-9b5e-7c1c7a1f0d36")

CHOICES = 4

_SEPARATOR = "\x1f"  # cannot occur in FHIR ids, table names or GUIDs, so joined parts stay apart


def _key(namespace: UUID, parts: Iterable[str]) -> str:
    return str(uuid5(namespace, _SEPARATOR.join(parts)))


def row_key(source_name: str, resource_type: str, fhir_id: str) -> str:
    """Return the key of the row for one resource; `source_name` outlives a move of the FHIR server."""
    return _key(NAMESPACE, (source_name, resource_type, fhir_id))


def child_keys(parent: str, table: str, match_values: Iterable[object]) -> Iterator[str]:
    """Yield the keys of the child row that these match values tell apart under this parent, in order of choice.

    The first is the key. The others are for when a user has made another row of the one that stands under it.
    """
    parts = (table, *("" if value is None else f"={value}" for value in match_values))
    return _choices(UUID(parent), parts)


def concept_keys(concept_type: int, code: str) -> Iterator[str]:
    """Yield the keys of the codeable concept (type, code), shared by every source, in order of choice."""
    return _choices(NAMESPACE, ("msemr_codeableconcept", str(concept_type), code))


def _choices(namespace: UUID, parts: tuple[str, ...]) -> Iterator[str]:
    yield _key(namespace, parts)  # nearly always the one that is taken, so the others are not made
    for number in range(2, CHOICES + 1):
        yield _key(namespace, (*parts, f"#{number}"))

"""Primary keys the relay chooses, so that a retry, a rival relay and the event path all mean the same row."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID, uuid5

# Chosen once for this project; changing it would give every row a second key.
NAMESPACE = UUID("5b0f2b1e-0c0a-5d0c-9b5e-7c1c7a1f0d36")

_SEPARATOR = "\x1f"  # cannot occur in FHIR ids, table names or GUIDs, so joined parts stay apart


def _key(namespace: UUID, parts: Iterable[str]) -> str:
    return str(uuid5(namespace, _SEPARATOR.join(parts)))


def row_key(source_name: str, resource_type: str, fhir_id: str) -> str:
    """Return the key of the row for one resource; `source_name` outlives a move of the FHIR server."""
    return _key(NAMESPACE, (source_name, resource_type, fhir_id))


def child_key(parent: str, table: str, match_values: Iterable[object]) -> str:
    """Return the key of the child row that these match values tell apart under this parent."""
    return _key(UUID(parent), (table, *("" if value is None else f"={value}" for value in match_values)))


def concept_key(concept_type: int, code: str) -> str:
    """Return the key of the codeable concept (type, code), shared by every source."""
    return _key(NAMESPACE, ("msemr_codeableconcept", str(concept_type), code))

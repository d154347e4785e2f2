"""What the server says that it can do: its CapabilityStatement."""

from __future__ import annotations

from typing import Any, Final

from devstack.fhir.types import R4_TYPES

_INTERACTIONS: Final = (
    "read",
    "vread",
    "update",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)


def capability_statement(base: str) -> dict[str, Any]:
    """Return the CapabilityStatement of the server at `base`."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2025-01-01",
        "kind": "instance",
        "software": {"name": "Relay embedded FHIR server"},
        "implementation": {"description": "Embedded FHIR R4 server for development and tests", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(each) for each in sorted(R4_TYPES)],
                "interaction": [{"code": each} for each in ("transaction", "batch", "history-system")],
            }
        ],
    }


def _resource(type_: str) -> dict[str, Any]:
    return {
        "type": type_,
        "interaction": [{"code": each} for each in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "not-match",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "logical"],
        "searchParam": [
            {"name": "_id", "type": "token"},
            {"name": "_lastUpdated", "type": "date"},
            {"name": "identifier", "type": "token"},
        ],
    }

"""A small FHIR R4 server in memory, for development and tests: it keeps what it was sent, number text included."""

from devstack.fhir.server import FhirServer, create_app

__all__ = ["FhirServer", "create_app"]

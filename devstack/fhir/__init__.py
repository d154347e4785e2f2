"""A small FHIR R4 server, for development and tests."""

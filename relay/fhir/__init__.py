"""The FHIR side: client, identifier merging, JSON that keeps every number as it was written."""

"""Keeps a FHIR server and Microsoft Dataverse in step and writes record ids back to FHIR."""

__version__ = "0.1.0"

"""What the benches carry: patients made by rule, and the largest published bundle where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from figures import ROOT

LARGEST = "4b86befa-fa7e-9285-615f-e081dab3f93c.json.gz"
BEFORE = ("0-hospitalInformation1625911868739.json.gz", "0-practitionerInformation1625911868739.json.gz")
"""The bundles that the largest one refers to."""


def patient(number: int, prefix: str = "bench") -> dict[str, Any]:
    """Return a patient who fills 20 columns of the default map beside key, type and time stamps, with 4 identifiers."""
    fhir_id = f"{prefix}-{number}"
    return {
        "resourceType": "Patient",
        "id": fhir_id,
        "identifier": [
            {
                "use": "usual",
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
                "system": "https://site.example/mrn",
                "value": f"MRN-{fhir_id}",
            },
            {"system": "https://site.example/member", "value": f"M-{fhir_id}"},
            {"system": "https://site.example/passport", "value": f"P-{fhir_id}"},
            {"system": "https://site.example/account", "value": f"A-{fhir_id}"},
        ],
        "name": [
            {
                "use": "official",
                "family": f"Family {number}",
                "given": ["Given", "Middle"],
                "prefix": ["Ms."],
                "suffix": ["MD"],
            },
        ],
        "telecom": [
            {"system": "phone", "value": "+1 555 0117", "use": "mobile"},
            {"system": "phone", "value": "+1 555 0118", "use": "work"},
            {"system": "phone", "value": "+1 555 0119", "use": "home"},
            {"system": "fax", "value": "+1 555 0120"},
            {"system": "email", "value": "someone@example.org", "use": "home"},
        ],
        "gender": "female",
        "birthDate": "1984-03-09",
        "maritalStatus": {"coding": [{"code": "M"}]},
        "address": [
            {
                "line": ["22 Alder Road", "Second floor"],
                "city": "Port Ellery",
                "state": "MA",
                "postalCode": "02101",
                "country": "US",
            }
        ],
    }


def bundle_of(*resources: dict[str, Any]) -> bytes:
    """Return a transaction that puts the resources."""
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
        for each in resources
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


def patients(count: int, prefix: str = "bench") -> list[dict[str, Any]]:
    """Return so many patients, all of them new to a server that knows no other of this prefix."""
    return [patient(number, prefix) for number in range(count)]


def folder() -> Path | None:
    """Return the folder of published FHIR data (RELAY_TEST_DATA, or beside the checkout); None where absent."""
    given = os.environ.get("RELAY_TEST_DATA")
    root = Path(given) if given else ROOT.parent / "shared" / "data" / "fhir"
    return next((each for each in (root / "fhir", root) if (each / "MANIFEST.tsv").is_file()), None)


def published(name: str) -> Path | None:
    """Return a file of the published Synthea bundles; None where absent."""
    data = folder()
    path = data / "synthea-blaze" / name if data else None
    return path if path and path.is_file() else None

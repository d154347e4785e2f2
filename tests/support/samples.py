"""Small resources and bundles, made by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

PATIENT = 935000000
PRACTITIONER = 935000001
GUID = "6f9619ff-8b86-4d11-b42d-00c04fc964ff"


def patient(fhir_id: str = "p1", *, identifiers: int = 2, **more: Any) -> Json:
    """Return a patient with that many identifiers of other systems."""
    return {
        "resourceType": "Patient",
        "id": fhir_id,
        "identifier": [{"system": f"https://site.example/{n}", "value": f"{fhir_id}-{n}"} for n in range(identifiers)],
        "name": [{"use": "official", "family": f"Family {fhir_id}", "given": ["Given"]}],
        "gender": "female",
        "birthDate": "1980-02-29",
        **more,
    }


def practitioner(fhir_id: str = "d1", **more: Any) -> Json:
    """Return a practitioner."""
    name = [{"use": "official", "family": f"Doctor {fhir_id}", "given": ["Given"]}]
    identifier = [{"system": "http://hl7.org/fhir/sid/us-npi", "value": f"npi-{fhir_id}"}]
    return {"resourceType": "Practitioner", "id": fhir_id, "identifier": identifier, "name": name, **more}


def organization(fhir_id: str = "o1", **more: Any) -> Json:
    """Return an organization."""
    identifier = [{"system": "https://site.example/org", "value": f"org-{fhir_id}"}]
    return {"resourceType": "Organization", "id": fhir_id, "identifier": identifier, "name": f"Org {fhir_id}", **more}


def encounter(fhir_id: str = "e1", subject: str = "Patient/p1", **more: Any) -> Json:
    """Return an encounter of a patient."""
    return {
        "resourceType": "Encounter",
        "id": fhir_id,
        "identifier": [{"system": "https://site.example/visit", "value": f"visit-{fhir_id}"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": subject},
        **more,
    }


def care_plan(fhir_id: str = "c1", subject: str = "Patient/p1", **more: Any) -> Json:
    """Return a care plan of a patient."""
    plan = {"resourceType": "CarePlan", "id": fhir_id, "status": "active", "intent": "plan", "title": f"Plan {fhir_id}"}
    return {**plan, "subject": {"reference": subject}, **more}


def family() -> list[Json]:
    """Return one resource of each mapped type, tied together."""
    return [
        care_plan(encounter={"reference": "Encounter/e1"}),
        encounter(),
        patient(
            generalPractitioner=[{"reference": "Practitioner/d1"}],
            managingOrganization={"reference": "Organization/o1"},
        ),
        organization(partOf={"reference": "Organization/o2"}),
        organization("o2"),
        practitioner(),
    ]


def bundle(*resources: Mapping[str, Any], kind: str = "batch", method: str = "PUT") -> Json:
    """Return a bundle of these resources, each with a request."""
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {"resource": each, "request": {"method": method, "url": f"{each['resourceType']}/{each['id']}"}}
            for each in resources
        ],
    }


def results(outcome: Mapping[str, Any]) -> dict[str, str]:
    """Return resource → result of an outcome."""
    return {each["resource"]: each["result"] for each in outcome["entries"]}


def codes(outcome: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return resource → issue codes of an outcome, those of severity error."""
    return {
        each["resource"]: [issue["code"] for issue in each["issues"] if issue["severity"] == "error"]
        for each in outcome["entries"]
    }

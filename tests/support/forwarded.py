"""What tests send through the FHIR server: new resources, a visit that ties them, refusals of a talkative server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support.samples import encounter, patient, practitioner
from support.world import World

URNS = {name: f"urn:uuid:00000000-0000-4000-8000-00000000000{number}" for number, name in enumerate("pdeo", 1)}
Json = dict[str, Any]


def new(resource: Mapping[str, Any], name: str = "", **request: str) -> Json:
    """Return an entry that creates a resource, which has no id yet."""
    without = {key: value for key, value in resource.items() if key != "id"}
    entry = {"resource": without, "request": {"method": "POST", "url": str(resource["resourceType"]), **request}}
    return {"fullUrl": URNS[name], **entry} if name else entry


def visit(kind: str = "transaction") -> Json:
    """Return an encounter of a patient by a practitioner, all of them new, the one that refers first."""
    seen = encounter(subject=URNS["p"], participant=[{"individual": {"reference": URNS["d"]}}])
    entries = [new(seen, "e"), new(patient(), "p"), new(practitioner(), "d")]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def of_type(it: World, kind: str) -> list[Json]:
    """Return the resources of a type on the FHIR server."""
    return [each for address, each in it.newest().items() if address.startswith(f"{kind}/")]


def refusal(status: str, *diagnostics: str) -> Json:
    """Return an OperationOutcome that says more than may be told on."""
    issues = [
        {"severity": "error", "code": "value", "diagnostics": each, "expression": ["Patient.birthDate"]}
        for each in diagnostics
    ]
    return {"response": {"status": status, "outcome": {"resourceType": "OperationOutcome", "issue": issues}}}

"""Resources that are deleted or replaced on the FHIR server, and the bundles that tell of it."""

from __future__ import annotations

from typing import Any

from support.samples import Json, bundle, patient, results
from support.world import World

_PATIENT = """
resource: Patient
table: contact
where: {msemr_contacttype: 935000000}
key: msemr_azurefhirid
"""
_VERSIONS = """\
version: msemr_azurefhirversion
last_updated: msemr_azurefhirlastupdatedon
"""
_IDENTIFIER = """\
identifier:
  system: urn:oid:org.d365.mc4h.patient.id
  table: prefix_patientidentifier
  lookup: prefix_patient
  system_column: prefix_system
  value_column: prefix_value
"""
_NAME = """\
attributes:
  - {column: lastname, copy: "$.name[0].family"}
"""
MERGED_INTO = "merged_into: msemr_link1\n"

GONE = {"statecode": 1, "statuscode": 2}
IN_USE = {"statecode": 0, "statuscode": 1}


def patient_map(policy: str = "", *, versions: bool = True, identifier: bool = True) -> str:
    """Return a map of patients by which these lines (`deletes: delete`) say what becomes of rows."""
    lines = f"{policy.rstrip()}\n" if policy else ""
    return _PATIENT + (_VERSIONS if versions else "") + lines + (_IDENTIFIER if identifier else "") + _NAME


async def known(it: World, *resources: Json) -> None:
    """Have resources on both sides."""
    await it.put(*resources)
    await carried(it, bundle(*resources))


def deletion(*addresses: str, kind: str = "batch") -> Json:
    """Return a bundle that deletes these resources (`Type/id`)."""
    entries = [{"request": {"method": "DELETE", "url": address}} for address in addresses]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


async def remove(it: World, *addresses: str) -> None:
    """Delete resources on the FHIR server, as their owner."""
    for address in addresses:
        answer = await it.fhir_http.delete(f"/{address}")
        assert answer.is_success, answer.text


async def carried(it: World, sent: Json, status: int = 200) -> Json:
    """Send a bundle to the relay and return the outcome."""
    reply = await it.post(sent)
    assert reply.body is not None
    assert reply.status == status, reply.body
    return dict(reply.body)


async def removed(it: World, *addresses: str) -> Json:
    """Delete resources on the FHIR server and tell the relay; returns the outcome."""
    await remove(it, *addresses)
    return await carried(it, deletion(*addresses))


def told(outcome: Json, resource: str = "") -> list[tuple[str, list[str]]]:
    """Return (result, issue codes) of each entry, or of those of one resource."""
    return [
        (each["result"], [issue["code"] for issue in each["issues"]])
        for each in outcome["entries"]
        if resource in ("", each["resource"])
    ]


async def state(it: World, entity_set: str = "contacts") -> dict[str, int | None]:
    """Return FHIR id → statecode of the rows of a table."""
    return {row["msemr_azurefhirid"]: row["statecode"] for row in await it.rows(entity_set)}


def replaced(fhir_id: str, by: str, **more: Any) -> Json:
    """Return a patient that another one replaces."""
    link = {"type": "replaced-by", "other": {"reference": f"Patient/{by}"}}
    return patient(fhir_id, active=False, link=[link], **more)


def version(resource: Json, number: int) -> Json:
    """Return the resource as version `number` of it, one a minute."""
    meta = {"versionId": str(number), "lastUpdated": f"2026-05-01T10:{number:02}:00Z"}
    return {**resource, "meta": meta}


__all__ = [
    "GONE",
    "IN_USE",
    "MERGED_INTO",
    "carried",
    "deletion",
    "known",
    "patient_map",
    "remove",
    "removed",
    "replaced",
    "results",
    "state",
    "told",
    "version",
]

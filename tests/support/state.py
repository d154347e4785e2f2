"""What the two databases hold, without what may differ between two runs that mean the same: versions and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support.world import World

SETS = (
    "contacts",
    "accounts",
    "msemr_encounters",
    "msemr_careplans",
    "msemr_codeableconcepts",
    "prefix_patientidentifiers",
    "prefix_practitioneridentifiers",
    "prefix_organizationidentifiers",
    "prefix_encounteridentifiers",
    "prefix_careplanidentifiers",
)
VOLATILE = {
    "createdon",
    "modifiedon",
    "versionnumber",
    "@odata.etag",
    "msemr_azurefhirlastupdatedon",
    "msemr_azurefhirversion",
}


async def state(world: World, *, times: bool = False) -> dict[str, Any]:
    """Return rows by entity set and resources by address; `times` keeps the FHIR version and time columns."""
    volatile = VOLATILE - {"msemr_azurefhirlastupdatedon", "msemr_azurefhirversion"} if times else VOLATILE
    found: dict[str, Any] = {}
    for entity_set in SETS:
        rows = [{k: v for k, v in row.items() if k not in volatile} for row in await world.rows(entity_set)]
        found[entity_set] = sorted(rows, key=lambda row: str(sorted(row.items(), key=str)))
    found["fhir"] = {address: _plain(resource) for address, resource in resources(world).items()}
    return found


def resources(world: World) -> dict[str, Mapping[str, Any]]:
    """Return the newest version of each resource on the FHIR server, by `Type/id`."""
    return world.newest()


def _plain(resource: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in resource.items() if name != "meta"}
    identifiers = plain.get("identifier")
    if isinstance(identifiers, list):
        plain["identifier"] = sorted(identifiers, key=str)
    return plain

"""An identifier that relatives share names none of them: only the systems that the map lists find a row's resource."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ways_kit import PATIENT, create, open_world, resources, update

from support.world import World

INSURANCE = {"system": "http://example.org/insurance", "value": "F-1"}
MOTHER: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "mother",
    "name": [{"use": "official", "family": "L"}],
    "identifier": [INSURANCE],
}
LOOKED_FOR = "  value_column: prefix_value\n  writeback: true\n"


def maps(search: str) -> dict[str, dict[str, str]]:
    top = "create: always\ncreate_in_fhir: true\nwriteback_when: {msemr_azurefhirsyncenabled: true}\n"
    return {"patient.yaml": {"create: always\n": top, LOOKED_FOR: LOOKED_FOR + search}}


async def child(w: World) -> tuple[str, dict[str, Any]]:
    """Let a user enter the child with the family's number; returns its GUID and its row afterwards."""
    await w.put(MOTHER)
    guid = await create(w, "contacts", {"lastname": "L", "firstname": "Kid", "msemr_contacttype": 935000000})
    bind = {"prefix_Patient@odata.bind": f"/contacts({guid})"}
    row = {"prefix_system": INSURANCE["system"], "prefix_value": INSURANCE["value"]}
    await create(w, "prefix_patientidentifiers", row | bind)
    await update(w, "contacts", guid, {"msemr_azurefhirsyncenabled": True})
    await w.settle()
    (contact,) = await w.rows("contacts")
    return guid, contact


async def test_a_listed_system_leaves_the_others_out(tmp_path: Path) -> None:
    """The child becomes a patient of its own, and carries the family's number too."""
    async with open_world(tmp_path, maps('  search: ["http://example.org/mrn"]\n')) as w:
        guid, contact = await child(w)
        assert contact["msemr_azurefhirid"] not in ("mother", None)
        (kid,) = [each for each in await resources(w, "Patient") if each["id"] != "mother"]
        assert kid["identifier"] == [INSURANCE, {"system": PATIENT, "value": guid}]
        assert (await w.read("Patient", "mother"))["identifier"] == [INSURANCE]

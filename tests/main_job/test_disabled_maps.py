"""A disabled map carries nothing: its resources are passed over with a warning, and references to them stay empty."""

from __future__ import annotations

from pathlib import Path

from support.made_up import PATIENT, PRACTITIONER, maps_folder
from support.samples import bundle, patient, practitioner, results
from support.world import world

DISABLED = PRACTITIONER + "disabled: true\n"
WITH_DOCTOR = (
    PATIENT
    + """  - column: msemr_generalpractioner
    reference: "$.generalPractitioner[0]"
    targets: {Practitioner: contact}
"""
)


async def test_resources_of_a_disabled_map_are_skipped_loudly(tmp_path: Path) -> None:
    """Unlike a type without a map it is a warning, which names the file; nothing is written."""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, DISABLED)) as it:
        nameless = {"resourceType": "Practitioner", "name": [{"family": "No id"}]}
        unknown = {"resourceType": "Basic", "id": "b1"}
        sent = bundle(practitioner(), patient(), unknown)
        sent["entry"].append({"resource": nameless})
        reply = await it.post(sent)
        assert reply.body is not None
        assert reply.status == 200
        assert reply.body["status"] == "succeeded"
        assert results(reply.body)["Patient/p1"] == "created"
        told = [[(i["severity"], i["code"], i["message"]) for i in each["issues"]] for each in reply.body["entries"]]
        disabled = ("warning", "map-disabled", "the map in map1.yaml is disabled")
        assert told[0] == told[3] == [disabled]
        assert [issue[:2] for issue in told[2]] == [("information", "no-map")]
        assert len(await it.rows("contacts")) == 1


async def test_a_reference_to_a_disabled_type_stays_empty(tmp_path: Path) -> None:
    """As with a type that has no map, the resource is written without it."""
    async with world(tmp_path, maps=maps_folder(tmp_path, WITH_DOCTOR, DISABLED)) as it:
        referring = patient(generalPractitioner=[{"reference": "Practitioner/d1"}])
        reply = await it.post(bundle(referring, practitioner()))
        assert reply.body is not None
        assert results(reply.body) == {"Patient/p1": "created", "Practitioner/d1": "skipped"}
        (row,) = await it.rows("contacts")
        assert row["_msemr_generalpractioner_value"] is None

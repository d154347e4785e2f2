"""A row that a user makes in Dataverse becomes a FHIR resource, once, and carries its id from then on."""

from __future__ import annotations

from pathlib import Path

from ways_kit import CARE_PLAN, create, open_world, resources

ON = {"careplan.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n"}}
PLAN = {"msemr_title": "Walk every day", "msemr_planstatus": 935000001, "msemr_planintent": 935000001}
ANA = {"resourceType": "Patient", "id": "ana", "name": [{"use": "official", "family": "Lindqvist"}]}


async def test_a_care_plan_of_a_user_appears_with_its_identifier(tmp_path: Path) -> None:
    """The row's columns and references become a resource with the Dynamics identifier, its id lands on the row, then silence."""
    async with open_world(tmp_path, ON) as w:
        await w.put(ANA)
        await w.post(ANA)
        await w.settle()
        (contact,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
        bind = {"msemr_PatientIdentifier@odata.bind": f"/contacts({contact['contactid']})"}
        guid = await create(w, "msemr_careplans", PLAN | bind)
        await w.settle()
        (plan,) = await resources(w, "CarePlan")
        assert {name: value for name, value in plan.items() if name not in ("id", "meta")} == {
            "resourceType": "CarePlan",
            "title": "Walk every day",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": "Patient/ana"},
            "identifier": [{"system": CARE_PLAN, "value": guid}],
        }
        (row,) = await w.rows("msemr_careplans")
        assert row["msemr_azurefhirid"] == plan["id"]
        w.forget_calls()
        await w.settle()
        assert w.calls() == {"dataverse": 0, "fhir": 0}
        assert await w.dead() == []

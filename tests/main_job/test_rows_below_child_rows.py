"""Rows that hang on child rows: an item's items are made, changed, retired and brought back with the row they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.keys import child_keys, row_key
from support.made_up import CARE_PLAN, PATIENT, PRACTITIONER, care_team, maps_folder
from support.samples import bundle, codes, patient, practitioner, results
from support.users import deletes, makes, saves
from support.world import URN, World, world

TEAMS, MEMBERS, ROLES = "msemr_careteams", "msemr_careteamparticipants", "msemr_careteamparticipantroles"
TEAM, DOCTOR = row_key("fhir", "CareTeam", "t1"), row_key("fhir", "Practitioner", "d1")

Json = dict[str, Any]


def role(code: str, text: str = "") -> Json:
    """Return a role of a participant."""
    return {"coding": [{"code": code}], **({"text": text} if text else {})}


def member(reference: str, *roles: Json, **more: Any) -> Json:
    """Return a participant."""
    return {"member": {"reference": reference}, **({"role": list(roles)} if roles else {}), **more}


def team(*participants: Json, fhir_id: str = "t1", **more: Any) -> Json:
    """Return a care team."""
    return {
        "resourceType": "CareTeam",
        "id": fhir_id,
        "name": "Team",
        **({"participant": list(participants)} if participants else {}),
        **more,
    }


FULL = team(member("Practitioner/d1", role("a"), role("b")), member("Patient/p1", role("a")))


def maps(folder: Path, vanished: str = "keep") -> Path:
    """Return the folder of maps of people and their care teams."""
    return maps_folder(folder, PATIENT, PRACTITIONER, care_team(vanished))


async def send(it: World, *resources: Json) -> Json:
    """Send a bundle with the people that teams are made of, and return its outcome."""
    await it.put(*resources)
    reply = await it.post(bundle(*resources, practitioner(), patient()))
    assert reply.body is not None
    assert reply.status == 200, reply.body
    return dict(reply.body)


def keys(parent: str, code: str) -> list[str]:
    """Return the keys that the relay chooses among for a role below a participant."""
    return list(child_keys(parent, "msemr_careteamparticipantrole", (code,)))


async def doctor_row(it: World) -> Json:
    """Return the one row of the doctor's participation."""
    (row,) = await it.rows(MEMBERS, f"_msemr_memberpractioner_value eq {DOCTOR}")
    return row


async def roles(it: World, participant: str) -> dict[str, int]:
    """Return code → statecode of the roles below a participant."""
    rows = await it.rows(ROLES, f"_msemr_careteamparticipant_value eq {participant}")
    assert len({row["msemr_code"] for row in rows}) == len(rows), "no role twice"
    return {row["msemr_code"]: row["statecode"] for row in rows}


async def raw(it: World) -> list[Json]:
    """Return every row with its version: two alike mean that nothing was written."""
    sets = (TEAMS, MEMBERS, ROLES, "contacts", "msemr_codeableconcepts", "prefix_careteamidentifiers")
    return [row for entity_set in sets for row in sorted(await it.rows(entity_set), key=str)]


async def test_a_whole_tree_is_made_in_one_write(tmp_path: Path) -> None:
    """Participants hang on the team, roles on participants, all under derived keys; the outcome lists every row."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        outcome = await send(it, FULL)
        assert it.calls()["dataverse"] == 2
        doctor = await doctor_row(it)
        (patients,) = await it.rows(MEMBERS, "_msemr_memberpractioner_value eq null")
        assert {row["_msemr_careteam_value"] for row in (doctor, patients)} == {TEAM}
        assert doctor["msemr_careteamparticipantid"] == next(
            child_keys(TEAM, "msemr_careteamparticipant", (None, DOCTOR))
        )
        assert await roles(it, doctor["msemr_careteamparticipantid"]) == {"a": 0, "b": 0}
        assert await roles(it, patients["msemr_careteamparticipantid"]) == {"a": 0}
        below = keys(doctor["msemr_careteamparticipantid"], "a")[0]
        assert below in {row["msemr_careteamparticipantroleid"] for row in await it.rows(ROLES)}
        children = outcome["entries"][0]["children"]
        assert sorted(each["table"] for each in children if each["result"] == "created") == [
            "msemr_careteamparticipant",
            "msemr_careteamparticipant",
            "msemr_careteamparticipantrole",
            "msemr_careteamparticipantrole",
            "msemr_careteamparticipantrole",
            "prefix_careteamidentifier",
        ]


async def test_sending_again_writes_nothing(tmp_path: Path) -> None:
    """One read finds rows and what hangs on their children, whatever the order of items, and all are unchanged."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        await it.settle()
        before = await raw(it)
        it.forget_calls()
        turned = team(member("Patient/p1", role("a")), member("Practitioner/d1", role("a"), role("b")))
        outcome = await send(it, turned)
        assert it.calls()["dataverse"] == 1
        assert results(outcome)["CareTeam/t1"] == "unchanged"
        assert {each["result"] for each in outcome["entries"][0]["children"]} == {"unchanged"}
        assert await raw(it) == before


async def test_a_change_of_an_items_item_is_an_update(tmp_path: Path) -> None:
    """Only the row that differs is written, and the resource counts as updated."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        outcome = await send(
            it, team(member("Practitioner/d1", role("a", "Surgeon"), role("b")), FULL["participant"][1])
        )
        assert results(outcome)["CareTeam/t1"] == "updated"
        changed = [each for each in outcome["entries"][0]["children"] if each["result"] != "unchanged"]
        assert [(each["table"], each["result"]) for each in changed] == [("msemr_careteamparticipantrole", "updated")]
        (row,) = await it.rows(ROLES, "msemr_display eq 'Surgeon'")
        assert row["msemr_careteamparticipantroleid"] == changed[0]["id"]


async def test_a_lookup_of_a_child_row_is_cleared(tmp_path: Path) -> None:
    """`null: clear` on a child's lookup empties it when the item says nothing (any more), and then is at rest."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        assert (await doctor_row(it))["_msemr_role_value"] is not None
        without = team(member("Practitioner/d1"), FULL["participant"][1])
        await send(it, without)
        assert (await doctor_row(it))["_msemr_role_value"] is None
        assert results(await send(it, without))["CareTeam/t1"] == "unchanged"


@pytest.mark.parametrize(
    ("vanished", "left"), [("keep", {"a": 0, "b": 0}), ("deactivate", {"a": 0, "b": 1}), ("delete", {"a": 0})]
)
async def test_an_items_item_that_vanished(tmp_path: Path, vanished: str, left: dict[str, int]) -> None:
    """What the relay wrote for it is dealt with as the nested expansion says, and comes back under the same key."""
    async with world(tmp_path, maps=maps(tmp_path, vanished)) as it:
        await send(it, FULL)
        before = {row["msemr_careteamparticipantroleid"] for row in await it.rows(ROLES)}
        fewer = team(member("Practitioner/d1", role("a")), FULL["participant"][1])
        await send(it, fewer)
        doctor = (await doctor_row(it))["msemr_careteamparticipantid"]
        assert await roles(it, doctor) == left
        assert results(await send(it, fewer))["CareTeam/t1"] == "unchanged"
        await send(it, FULL)
        assert await roles(it, doctor) == {"a": 0, "b": 0}
        assert {row["msemr_careteamparticipantroleid"] for row in await it.rows(ROLES)} == before


@pytest.mark.parametrize("vanished", ["deactivate", "delete"])
async def test_what_hangs_on_a_vanished_item_follows_it(tmp_path: Path, vanished: str) -> None:
    """Its rows are retired with it if the relay wrote them; a user's stays; all come back with the item."""
    async with world(tmp_path, maps=maps(tmp_path, vanished)) as it:
        await send(it, FULL)
        doctor = (await doctor_row(it))["msemr_careteamparticipantid"]
        bind = {"msemr_CareTeamParticipant@odata.bind": f"/{MEMBERS}({doctor})"}
        by_hand = await makes(it, ROLES, msemr_code="by hand", **bind)
        alone = team(FULL["participant"][1])
        outcome = await send(it, alone)
        gone = [each for each in outcome["entries"][0]["children"] if each["result"] != "unchanged"]
        word = {"deactivate": "deactivated", "delete": "deleted"}[vanished]
        assert [each["result"] for each in gone] == [word] * 3
        assert gone[-1]["id"] == doctor, "what hangs on it goes first"
        (kept,) = await it.rows(ROLES, "msemr_code eq 'by hand'")
        assert (kept["msemr_careteamparticipantroleid"], kept["statecode"]) == (by_hand, 0)
        if vanished == "deactivate":
            assert (await doctor_row(it))["statecode"] == 1
            assert await roles(it, doctor) == {"a": 1, "b": 1, "by hand": 0}
        else:
            assert len(await it.rows(MEMBERS)) == 1
        assert results(await send(it, alone))["CareTeam/t1"] == "unchanged"
        await send(it, FULL)
        assert ((await doctor_row(it))["msemr_careteamparticipantid"], (await doctor_row(it))["statecode"]) == (
            doctor,
            0,
        )
        assert {code: state for code, state in (await roles(it, doctor)).items() if code != "by hand"} == {
            "a": 0,
            "b": 0,
        }
        assert results(await send(it, FULL))["CareTeam/t1"] == "unchanged"


async def test_a_vanished_item_that_is_kept_keeps_what_hangs_on_it(tmp_path: Path) -> None:
    """With `vanished: keep` nothing of it is touched."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        before = await it.rows(ROLES)
        assert results(await send(it, team(FULL["participant"][1])))["CareTeam/t1"] == "unchanged"
        assert await it.rows(ROLES) == before


@pytest.mark.parametrize("what", ["participant", "team", "member", "role"])
async def test_rows_that_a_user_deleted(tmp_path: Path, what: str) -> None:
    """What is left behind without its parent, or without its member, is taken back; nothing is there twice."""
    async with world(tmp_path, maps=maps(tmp_path, "deactivate")) as it:
        await send(it, FULL)
        await it.settle()
        before = sorted(row["msemr_careteamparticipantroleid"] for row in await it.rows(ROLES))
        doctor = await doctor_row(it)
        if what == "participant":
            await deletes(it, MEMBERS, doctor["msemr_careteamparticipantid"])
        elif what == "team":
            await deletes(it, TEAMS, TEAM)
        elif what == "member":
            await deletes(it, "contacts", DOCTOR)
        else:
            await deletes(it, ROLES, before[0])
        await send(it, FULL)
        assert (await doctor_row(it))["msemr_careteamparticipantid"] == doctor["msemr_careteamparticipantid"]
        assert len(await it.rows(MEMBERS)) == 2
        assert sorted(row["msemr_careteamparticipantroleid"] for row in await it.rows(ROLES)) == before
        assert await roles(it, doctor["msemr_careteamparticipantid"]) == {"a": 0, "b": 0}
        await it.settle()
        rows = await raw(it)
        assert results(await send(it, FULL))["CareTeam/t1"] == "unchanged"
        assert await raw(it) == rows


async def test_a_left_behind_item_is_retired_below_at_once(tmp_path: Path) -> None:
    """A participant that lost its team is taken back with its roles, of which one vanished meanwhile: one send settles it."""
    async with world(tmp_path, maps=maps(tmp_path, "deactivate")) as it:
        await send(it, FULL)
        doctor = (await doctor_row(it))["msemr_careteamparticipantid"]
        await deletes(it, TEAMS, TEAM)
        fewer = team(member("Practitioner/d1", role("a")), FULL["participant"][1])
        await send(it, fewer)
        assert await roles(it, doctor) == {"a": 0, "b": 1}
        assert results(await send(it, fewer))["CareTeam/t1"] == "unchanged"


async def test_a_role_that_a_user_corrected(tmp_path: Path) -> None:
    """The corrected row is the user's now, and the item gets the next key below the same participant."""
    async with world(tmp_path, maps=maps(tmp_path, "deactivate")) as it:
        await send(it, FULL)
        doctor = (await doctor_row(it))["msemr_careteamparticipantid"]
        first, second, *_ = keys(doctor, "b")
        await saves(it, ROLES, first, msemr_code="by hand")
        await send(it, FULL)
        assert await roles(it, doctor) == {"a": 0, "b": 0, "by hand": 0}
        (again,) = await it.rows(ROLES, f"msemr_code eq 'b' and _msemr_careteamparticipant_value eq {doctor}")
        assert again["msemr_careteamparticipantroleid"] == second
        assert results(await send(it, FULL))["CareTeam/t1"] == "unchanged"


async def test_a_role_that_a_user_moved_fails_its_resource(tmp_path: Path) -> None:
    """A row given to another participant is not taken back: the resource fails whole, and says where."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        doctor = (await doctor_row(it))["msemr_careteamparticipantid"]
        other = await makes(it, MEMBERS, msemr_description="another")
        bind = {"msemr_CareTeamParticipant@odata.bind": f"/{MEMBERS}({other})"}
        await saves(it, ROLES, keys(doctor, "b")[0], **bind)
        reply = await it.post(bundle({**FULL, "name": "New name"}))
        assert reply.body is not None
        assert (reply.status, codes(reply.body)) == (422, {"CareTeam/t1": ["identity-conflict"]})
        assert reply.body["entries"][0]["issues"][-1]["at"] == "msemr_careteamparticipant"
        assert (await it.rows(TEAMS))[0]["msemr_name"] == "Team"


async def test_a_row_found_by_its_dynamics_identifier(tmp_path: Path) -> None:
    """What hangs on its children is read as well although no FHIR id led there, so nothing is made twice."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, FULL)
        await it.settle()
        claimed = await it.read("CareTeam", "t1")
        assert claimed["identifier"] == [{"system": URN.format("careteam"), "value": TEAM}]
        await saves(it, TEAMS, TEAM, msemr_azurefhirid=None)
        outcome = await send(it, {**claimed, "participant": FULL["participant"]})
        assert results(outcome)["CareTeam/t1"] == "updated"
        assert {each["result"] for each in outcome["entries"][0]["children"]} == {"unchanged"}
        assert (len(await it.rows(MEMBERS)), len(await it.rows(ROLES))) == (2, 3)


async def test_teams_of_many_do_not_mix(tmp_path: Path) -> None:
    """Roles of several teams with the same members are told apart by the row they hang on."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        teams = [team(member("Practitioner/d1", role("a"), role(f"only {n}")), fhir_id=f"t{n}") for n in range(5)]
        await send(it, *teams)
        for number in range(5):
            parent = row_key("fhir", "CareTeam", f"t{number}")
            (row,) = await it.rows(MEMBERS, f"_msemr_careteam_value eq {parent}")
            assert await roles(it, row["msemr_careteamparticipantid"]) == {"a": 0, f"only {number}": 0}
        again = await send(it, *reversed(teams))
        assert {results(again)[f"CareTeam/t{n}"] for n in range(5)} == {"unchanged"}


# --- lookups of rows two levels down


def care_plan(fhir_id: str, *outcomes: str) -> Json:
    """Return a care plan of one activity with these outcomes."""
    activity = {"progress": [{"text": "One"}], "outcomeReference": [{"reference": each} for each in outcomes]}
    return {"resourceType": "CarePlan", "id": fhir_id, "title": fhir_id, "activity": [activity]}


@pytest.mark.parametrize("backwards", [False, True])
async def test_what_they_point_to_is_written_first(tmp_path: Path, backwards: bool) -> None:
    """A reference two levels down is found in the bundle in any order; a missing one refuses the resource."""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, CARE_PLAN)) as it:
        sent = [patient(), care_plan("c1", "Patient/p1")]
        reply = await it.post(bundle(*(reversed(sent) if backwards else sent)))
        assert reply.status == 200
        (row,) = await it.rows("msemr_careplanactivities")
        assert row["_msemr_patient_value"] == row_key("fhir", "Patient", "p1")
        reply = await it.post(bundle(care_plan("c2", "Patient/p1", "Patient/nobody")))
        assert reply.body is not None
        assert codes(reply.body) == {"CarePlan/c2": ["unresolved-reference"]}
        assert len(await it.rows("msemr_careplans")) == 1


async def test_a_circle_through_them_is_closed_at_the_end(tmp_path: Path) -> None:
    """Two plans that point to each other two levels down both hold the other, and are then at rest."""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, CARE_PLAN)) as it:
        sent = bundle(care_plan("c1", "CarePlan/c2"), care_plan("c2", "CarePlan/c1"), care_plan("c3", "CarePlan/c3"))
        reply = await it.post(sent)
        assert reply.status == 200
        one, two, three = (row_key("fhir", "CarePlan", each) for each in ("c1", "c2", "c3"))
        rows = await it.rows("msemr_careplanactivities")
        assert {row["_msemr_careplan_value"] for row in rows} == {one, two, three}
        again = await it.post(sent)
        assert again.body is not None
        assert set(results(again.body).values()) == {"unchanged"}
        assert len(await it.rows("msemr_careplanactivities")) == 3


async def test_a_circle_that_was_not_closed_is_closed_later(tmp_path: Path) -> None:
    """A row whose lookup was still to come when the work was cut short is completed, not made a second time."""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, CARE_PLAN)) as it:
        sent = bundle(care_plan("c1", "CarePlan/c2"), care_plan("c2", "CarePlan/c1"))
        await it.post(sent)
        rows = await it.rows("msemr_careplanactivities")
        for row in rows:
            await saves(
                it, "msemr_careplanactivities", row["msemr_careplanactivityid"], **{"msemr_careplan@odata.bind": None}
            )
        assert (await it.post(sent)).status == 200
        after = await it.rows("msemr_careplanactivities")
        names = ("msemr_careplanactivityid", "_msemr_careplan_value")
        assert sorted([row[name] for name in names] for row in after) == sorted(
            [row[name] for name in names] for row in rows
        )


async def test_a_circle_that_a_user_deleted(tmp_path: Path) -> None:
    """The plans are made anew and take back what hung on them; what still has to come is told to the right rows."""
    async with world(tmp_path, maps=maps_folder(tmp_path, PATIENT, CARE_PLAN)) as it:
        sent = bundle(care_plan("c1", "CarePlan/c2"), care_plan("c2", "CarePlan/c1"))
        await it.post(sent)
        sets = ("msemr_careplans", "msemr_careplangoals", "msemr_careplanactivities")
        volatile = ("versionnumber", "@odata.etag", "createdon", "modifiedon")

        async def held() -> list[Json]:
            rows = [row for entity_set in sets for row in await it.rows(entity_set)]
            return sorted(({k: v for k, v in row.items() if k not in volatile} for row in rows), key=str)

        before = await held()
        for fhir_id in ("c1", "c2"):
            await deletes(it, "msemr_careplans", row_key("fhir", "CarePlan", fhir_id))
        reply = await it.post(sent)
        assert reply.body is not None
        assert set(results(reply.body).values()) == {"created"}
        assert await held() == before
        children = [child["result"] for entry in reply.body["entries"] for child in entry["children"]]
        assert children == ["updated"] * 4

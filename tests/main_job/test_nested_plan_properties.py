"""`plan` with rows below child rows: sent again, in any order, after any user's edit, it comes to rest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.dataverse.keys import child_keys
from relay.inbound.operations import Planned
from relay.inbound.plan import PlanOptions, plan
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, Draft
from relay.mapping.translate import translate
from support.made_up import PATIENT, PRACTITIONER, care_team, made_up
from support.memory import Memory

Json = dict[str, Any]

MEMBER, ROLE = "msemr_careteamparticipant", "msemr_careteamparticipantrole"
TEAM_OF, MEMBER_OF = "_msemr_careteam_value", "_msemr_careteamparticipant_value"
OPTIONS = PlanOptions()
# Of codes with two texts the first makes the concept, and the first role is the participant's.
ORDER_MATTERS = (
    '      - {column: msemr_role, concept: "$.role[0]", type: Participant Role, null: clear}\n',
    '          - {column: msemr_codeableconceptid, concept: "$", type: Participant Role}\n',
)

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
policies = pytest.mark.parametrize("vanished", ["keep", "deactivate", "delete"])


@cache
def maps(vanished: str) -> MapSet:
    """Return the maps of people and teams; no line of them depends on the order of items."""
    text = care_team(vanished)
    for line in ORDER_MATTERS:
        assert line in text
        text = text.replace(line, "")
    with tempfile.TemporaryDirectory() as folder:
        return made_up(Path(folder), PATIENT, PRACTITIONER, text)


# --- what is sent

roles = st.lists(
    st.builds(
        lambda code, text: {"coding": [{"code": code}], "text": text}, st.sampled_from("abc"), st.sampled_from("xy")
    ),
    max_size=3,
    unique_by=lambda role: role["coding"][0]["code"],
)
people = st.sampled_from(["Patient/a", "Patient/b", "Practitioner/a", "Practitioner/b"])
participants = st.lists(
    st.builds(lambda who, held: {"member": {"reference": who}, "role": held}, people, roles),
    max_size=3,
    unique_by=lambda participant: participant["member"]["reference"],
)


@st.composite
def bundles(draw: st.DrawFn) -> list[Json]:
    """Draw the four people, and one or two teams of them."""
    sent: list[Json] = [
        {"resourceType": kind, "id": fhir_id, "name": [{"family": fhir_id}]}
        for kind in ("Patient", "Practitioner")
        for fhir_id in "ab"
    ]
    sent += [
        {"resourceType": "CareTeam", "id": fhir_id, "name": "T", "participant": draw(participants)}
        for fhir_id in draw(st.sampled_from(["a", "ab"]))
    ]
    return draw(st.permutations(sent))


def drafts(sent: Sequence[Mapping[str, Any]], known: MapSet) -> dict[int, Draft]:
    """Return the drafts of resources, by their place."""

    def resolve(element: Mapping[str, Any]) -> ByFhirId:
        kind, _, fhir_id = str(element["reference"]).partition("/")
        return ByFhirId(kind, fhir_id)

    made: dict[int, Draft] = {}
    for number, resource in enumerate(sent):
        entity_map = known.for_resource(resource["resourceType"])
        assert entity_map is not None
        made[number] = translate(entity_map, resource, resolve)
    return made


# --- what users do

places = st.integers(min_value=0, max_value=30)
edits = st.tuples(
    st.sampled_from(
        ["correct", "move", "retire", "delete role", "delete member", "delete team", "delete person", "double"]
    ),
    places,
    places,
)


def user_does(memory: Memory, what: str, which: int, other: int) -> None:
    """Do one thing to one row, if there is one."""
    tables = {"delete member": MEMBER, "delete team": "msemr_careteam", "delete person": "contact"}
    table = tables.get(what, MEMBER if what == "retire" and other % 2 else ROLE)
    rows = sorted(memory.rows(table))
    if not rows:
        return
    guid = rows[which % len(rows)]
    members = sorted(memory.rows(MEMBER))
    match what:
        case "correct":
            memory.save(table, guid, {"msemr_code": "abx"[other % 3]})
        case "move" if members:
            memory.save(table, guid, {MEMBER_OF: members[other % len(members)]})
        case "retire":
            memory.save(table, guid, {"statecode": 1, "statuscode": 2})
        case "double":
            twin = f"00000000-0000-4000-8000-{which:012}"
            memory.save(table, twin, {**memory.rows(table)[guid], f"{ROLE}id": twin})
        case "delete role" | "delete member" | "delete team" | "delete person":
            memory.delete(table, guid)


History = list[tuple[list[Json], list[tuple[str, int, int]]]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw three bundles with users' edits after each; some are sent again as they were."""
    first = draw(bundles())
    later = [draw(st.one_of(st.just(first), bundles())) for _ in range(2)]
    return [(sent, draw(st.lists(edits, max_size=4))) for sent in (first, *later)]


# --- the properties


def at_rest(memory: Memory, made: Mapping[int, Draft], refused: bool) -> None:
    """Assert that sending again writes nothing; a plan may try again what was refused."""
    again = plan(made, memory.locate(list(made.values())), memory.maps, OPTIONS)
    assert refused or not any(each.operations or each.afterwards for each in again.resources)
    before = deepcopy(memory.tables)
    memory.send(made, OPTIONS)
    assert memory.tables == before


def tree_is_right(memory: Memory, done: Mapping[int, Planned], vanished: str) -> None:
    """Assert that each team has an active row per participant and role, and retired ones only where the map says so."""
    for each in done.values():
        if each.draft.map.resource != "CareTeam" or each.result == "failed":
            continue
        members = {guid: row for guid, row in memory.rows(MEMBER).items() if row.get(TEAM_OF) == each.row_id}
        wanted: set[str] = set()
        for child in each.draft.children:
            held = [
                ("_msemr_memberpatient_value", "msemr_memberpatient"),
                ("_msemr_memberpractioner_value", "msemr_memberpractioner"),
            ]
            found = [
                guid
                for guid, row in members.items()
                if row["statecode"] == 0
                and all((row.get(wire) is None) == (name not in child.lookups) for wire, name in held)
            ]
            roles = {grandchild.columns["msemr_code"] for grandchild in child.children}
            fitting = [
                guid
                for guid in found
                if roles
                <= {
                    row["msemr_code"]
                    for row in memory.rows(ROLE).values()
                    if row.get(MEMBER_OF) == guid and row["statecode"] == 0
                }
            ]
            assert fitting, "a participant with all its roles"
            wanted |= set(found)
        for guid, row in members.items():
            match = (row.get("_msemr_memberpatient_value"), row.get("_msemr_memberpractioner_value"))
            if guid in child_keys(each.row_id, MEMBER, match) and guid not in wanted:
                assert vanished == "keep" or (vanished, row["statecode"]) == ("deactivate", 1)
                for below, held_role in memory.rows(ROLE).items():
                    ours = below in child_keys(guid, ROLE, (held_role["msemr_code"],))
                    if held_role.get(MEMBER_OF) == guid and ours:
                        assert vanished == "keep" or held_role["statecode"] == 1


@policies
@quick
@given(sent=bundles())
def test_what_is_made_is_left_alone(vanished: str, sent: list[Json]) -> None:
    """Planned over what a plan made of nothing, the same drafts need no write; nor does any of them lose a race."""
    memory = Memory(maps(vanished))
    made = drafts(sent, memory.maps)
    assert memory.carry_out(plan(made, memory.locate(list(made.values())), memory.maps, OPTIONS)) == {}
    at_rest(memory, made, refused=False)


@policies
@quick
@given(history=histories())
def test_whatever_was_there_before(vanished: str, history: History) -> None:
    """After other versions and users' edits of all kinds a bundle comes to an end, and then needs no write."""
    memory = Memory(maps(vanished))
    for sent, changes in history:
        made = drafts(sent, memory.maps)
        done = memory.send(made, OPTIONS)
        tree_is_right(memory, done, vanished)
        at_rest(memory, made, refused=any(each.result == "failed" for each in done.values()))
        for edit in changes:
            user_does(memory, *edit)


@quick
@given(first=bundles(), sent=bundles(), data=st.data())
def test_order_means_nothing(first: list[Json], sent: list[Json], data: st.DataObject) -> None:
    """Entries, participants and roles in any order end in the same rows and the same results."""
    ends = []
    for turn in (False, True):
        order = deepcopy(sent)
        if turn:
            order = data.draw(st.permutations(order))
            for resource in order:
                items = data.draw(st.permutations(resource.get("participant", [])))
                resource["participant"] = [{**each, "role": data.draw(st.permutations(each["role"]))} for each in items]
        memory = Memory(maps("deactivate"))
        memory.send(drafts(first, memory.maps), OPTIONS)
        results = memory.send(drafts(order, memory.maps), OPTIONS)
        told = {(each.draft.map.resource, each.draft.id): each.result for each in results.values()}
        rows = deepcopy(memory.tables)
        for table in rows.values():
            for row in table.values():
                del row["@odata.etag"]
        ends.append((told, {name: table for name, table in rows.items() if table}))
    assert ends[0] == ends[1]

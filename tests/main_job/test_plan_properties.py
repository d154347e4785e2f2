"""`plan` as a pure function: whatever was sent and whatever users did, what it makes is what it would leave alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.dataverse.keys import child_keys, row_key
from relay.inbound.operations import Planned
from relay.inbound.plan import PlanOptions, plan
from relay.mapping.model import ByFhirId, Draft
from relay.mapping.translate import translate
from support.memory import Memory
from support.samples import PATIENT, PRACTITIONER
from support.world import URN, shipped_maps

MAPS = shipped_maps()
IDS = ("a", "b", "c")
TYPES = ("Patient", "Patient", "Encounter", "Encounter", "Practitioner", "Organization")
CHILD = "prefix_patientidentifier"
PARENT = "_prefix_patient_value"

Json = dict[str, Any]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- what is sent

ids = st.sampled_from(IDS)
identifiers = st.lists(
    st.builds(lambda system, value: {"system": system, "value": value}, st.sampled_from("st"), st.sampled_from("123")),
    max_size=3,
)


def reference(kind: str) -> st.SearchStrategy[Json]:
    """Draw a reference to one of the few resources of a type."""
    return st.builds(lambda fhir_id: {"reference": f"{kind}/{fhir_id}"}, ids)


def claims(kind: str, fhir_id: str) -> st.SearchStrategy[list[Json]]:
    """Draw Dynamics identifiers: mostly none, else that of the resource's own row or of another one's."""
    system = URN.format(kind.lower())
    own = row_key("fhir", kind, fhir_id)
    values = st.sampled_from([own, own, row_key("fhir", kind, "a")])
    return st.one_of(st.just([]), st.just([]), st.builds(lambda value: [{"system": system, "value": value}], values))


@st.composite
def resources(draw: st.DrawFn, kind: str, fhir_id: str) -> Json:
    """Draw one version of a resource."""
    parts: dict[str, st.SearchStrategy[Any]] = {
        "Patient": st.fixed_dictionaries(
            {"name": st.just([{"family": "F"}]), "birthDate": st.sampled_from(["1980-01-01", "1990-01-01"])},
            optional={
                "generalPractitioner": st.lists(reference("Practitioner"), min_size=1, max_size=1),
                "managingOrganization": reference("Organization"),
            },
        ),
        "Practitioner": st.fixed_dictionaries({"name": st.just([{"family": "D"}])}),
        "Organization": st.fixed_dictionaries({"name": st.just("O")}, optional={"partOf": reference("Organization")}),
        "Encounter": st.fixed_dictionaries(
            {"status": st.sampled_from(["planned", "finished"])},
            optional={
                "subject": reference("Patient"),
                "partOf": reference("Encounter"),
                "priority": st.builds(lambda code: {"coding": [{"code": code}]}, st.sampled_from(["EM", "R"])),
            },
        ),
    }
    body: Json = {"resourceType": kind, "id": fhir_id, **draw(parts[kind])}
    return body | {"identifier": draw(identifiers) + draw(claims(kind, fhir_id))}


@st.composite
def bundles(draw: st.DrawFn) -> list[Json]:
    """Draw up to six resources, each once."""
    names = draw(st.lists(st.tuples(st.sampled_from(TYPES), ids), min_size=1, max_size=6, unique=True))
    return [draw(resources(kind, fhir_id)) for kind, fhir_id in names]


@st.composite
def circles(draw: st.DrawFn) -> list[Json]:
    """Draw encounters that are parts of each other in any way, in any order."""
    whole = {"resourceType": "Encounter", "status": "planned"}
    return [{**whole, "id": each, "partOf": draw(reference("Encounter"))} for each in draw(st.permutations(IDS))]


def drafts(sent: Sequence[Mapping[str, Any]]) -> dict[int, Draft]:
    """Return the drafts of resources, by their place."""

    def resolve(element: Mapping[str, Any]) -> ByFhirId:
        kind, _, fhir_id = str(element["reference"]).partition("/")
        return ByFhirId(kind, fhir_id)

    made: dict[int, Draft] = {}
    for number, resource in enumerate(sent):
        entity_map = MAPS.for_resource(resource["resourceType"])
        assert entity_map is not None
        made[number] = translate(entity_map, resource, resolve)
    return made


options = st.builds(PlanOptions, row_gone=st.sampled_from(["fail", "recreate"]), identifier_rows=st.booleans())


# --- what users do

places = st.integers(min_value=0, max_value=30)
edits = st.tuples(
    st.sampled_from(
        ["correct", "move", "retire", "delete child", "delete row", "clear id", "other id", "type", "double", "concept"]
    ),
    places,
    places,
)


def user_does(memory: Memory, what: str, which: int, other: int) -> None:
    """Do one thing to one row, if there is one."""
    table = {"concept": "msemr_codeableconcept"}.get(what, CHILD)
    if what in ("delete row", "clear id", "other id", "double", "type"):
        table = ("contact", "contact", "msemr_encounter", "account")[other % 4]
    rows = sorted(memory.rows(table))
    if not rows:
        return
    guid = rows[which % len(rows)]
    contacts = sorted(memory.rows("contact"))
    match what:
        case "correct":
            memory.save(table, guid, {"prefix_value": "123x"[other % 4]})
        case "move" if contacts:
            memory.save(table, guid, {PARENT: contacts[other % len(contacts)]})
        case "retire":
            memory.save(table, guid, {"statecode": 1, "statuscode": 2})
        case "delete child" | "delete row":
            memory.delete(table, guid)
        case "clear id":
            memory.save(table, guid, {"msemr_azurefhirid": None})
        case "other id":
            memory.save(table, guid, {"msemr_azurefhirid": IDS[which % 3]})
        case "type" if table == "contact":
            memory.save(table, guid, {"msemr_contacttype": (PATIENT, PRACTITIONER, None)[which % 3]})
        case "double":
            twin = f"00000000-0000-4000-8000-{which:012}"
            memory.save(table, twin, {**memory.rows(table)[guid], MAPS.tables[table].primary_id: twin})
        case "concept":
            memory.save(table, guid, {"msemr_code": ("EM", "R", "X")[other % 3]})


History = list[tuple[list[Json], list[tuple[str, int, int]]]]
"""Bundles, and what users do after each."""


@st.composite
def tied(draw: st.DrawFn) -> list[Json]:
    """Draw two patients with identifiers and the encounters of one, which are parts of each other or not."""
    sent: list[Json] = []
    for fhir_id in ("a", "b"):
        birth = draw(st.sampled_from(["1980-01-01", "1990-01-01"]))
        items = [{"system": "s", "value": "1"}, *draw(identifiers)][draw(st.integers(0, 1)) :]
        named = {"name": [{"family": "F"}], "birthDate": birth, "identifier": items}
        sent.append({"resourceType": "Patient", "id": fhir_id, **named})
        parent = draw(st.sampled_from([{}, {"partOf": {"reference": "Encounter/a"}}]))
        code = draw(st.sampled_from(["EM", "R"]))
        told = {"status": "planned", "subject": {"reference": "Patient/a"}, "priority": {"coding": [{"code": code}]}}
        sent.append({"resourceType": "Encounter", "id": fhir_id, **told, **parent})
    return draw(st.permutations(sent))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw three bundles with users' edits between them; some are sent again as they were."""
    first = draw(tied())
    later = [draw(st.one_of(st.just(first), tied(), bundles())) for _ in range(2)]
    return [(sent, draw(st.lists(edits, min_size=1, max_size=4))) for sent in (first, *later)]


# --- the properties


def settled(memory: Memory, sent: Mapping[int, Draft], chosen: PlanOptions, refused: Collection[int] = ()) -> None:
    """Assert that planning over what is there now plans nothing, and that sending again writes nothing.

    What was `refused` may be found so only after its key turns out to be taken; then that is all that happens.
    """
    again = plan(sent, memory.locate(list(sent.values())), memory.maps, chosen)
    written = {each.number for each in again.resources if each.operations or each.afterwards}
    assert written <= set(refused)
    assert refused or again.concepts == ()
    before = deepcopy(memory.tables)
    memory.send(sent, chosen)
    assert memory.tables == before


def children_are_right(memory: Memory, done: Mapping[int, Planned]) -> None:
    """Assert that a patient has an active row for each identifier, and none that the relay made for another one."""
    for each in done.values():
        if each.draft.map.resource != "Patient" or each.result in ("failed", "skipped"):
            continue
        wanted = {(child.columns["prefix_system"], child.columns["prefix_value"]) for child in each.draft.children}
        rows = memory.rows(CHILD)
        active = {guid: row for guid, row in rows.items() if row.get(PARENT) == each.row_id and row["statecode"] == 0}
        found = {(row["prefix_system"], row["prefix_value"]): guid for guid, row in active.items()}
        assert wanted <= found.keys()
        for guid, row in active.items():
            match = (row["prefix_system"], row["prefix_value"])
            ours = match[0] != URN.format("patient") and guid in child_keys(each.row_id, CHILD, match)
            assert match in wanted or not ours


@quick
@given(sent=bundles(), chosen=options)
def test_what_is_made_is_left_alone(sent: list[Json], chosen: PlanOptions) -> None:
    """Planned over what a plan made of nothing, the same drafts need no write; nor does any of them lose a race."""
    memory = Memory(MAPS)
    made = drafts(sent)
    first = plan(made, memory.locate(list(made.values())), MAPS, chosen)
    assert memory.carry_out(first) == {}
    settled(memory, made, chosen)


@quick
@given(history=histories(), chosen=options)
def test_whatever_was_there_before(history: History, chosen: PlanOptions) -> None:
    """After other versions and users' edits of all kinds a bundle comes to an end, and then needs no write."""
    memory = Memory(MAPS)
    for sent, changes in history:
        made = drafts(sent)
        done = memory.send(made, chosen)
        children_are_right(memory, done)
        settled(memory, made, chosen, [number for number, each in done.items() if each.result == "failed"])
        for edit in changes:
            user_does(memory, *edit)


@quick
@given(sent=bundles(), data=st.data())
def test_order_in_the_bundle_means_nothing(sent: list[Json], data: st.DataObject) -> None:
    """Entries in any order end in the same rows and the same results."""
    ends = []
    for order in (sent, data.draw(st.permutations(sent))):
        memory = Memory(MAPS)
        made = drafts(order)
        results = memory.send(made, PlanOptions())
        told = {(each.draft.map.resource, each.draft.id): each.result for each in results.values()}
        rows = deepcopy(memory.tables)
        for table in rows.values():
            for row in table.values():
                del row["@odata.etag"]
        ends.append((told, {name: table for name, table in rows.items() if table}))
    assert ends[0] == ends[1]


def waits_for(sent: Mapping[int, Draft], number: int) -> set[int]:
    """Return the drafts that this one points to, and those that these point to, to the end."""
    numbers = {ByFhirId(draft.map.resource, draft.id): each for each, draft in sent.items()}
    found: set[int] = set()
    ahead = [number]
    while ahead:
        new = {numbers[target] for target in sent[ahead.pop()].lookups.values() if target in numbers} - found
        found |= new
        ahead += new
    return found


@quick
@given(sent=st.one_of(bundles(), circles()), chosen=options)
def test_operations_are_in_order(sent: list[Json], chosen: PlanOptions) -> None:
    """Every bind names an earlier row, one that was there, or waits for the end; whoever is refused writes nothing."""
    memory = Memory(MAPS)
    made = drafts(sent)
    planned = plan(made, memory.locate(list(made.values())), MAPS, chosen)
    there = {concept.id for concept in planned.concepts}
    keys: list[str] = []
    for each in planned.resources:
        assert bool(each.operations) == (each.result == "created")
        for operation in each.operations:
            keys.append(operation.id)
            there.add(operation.id)
            for name, value in operation.body.items():
                assert not name.endswith("@odata.bind") or value.rpartition("(")[2].rstrip(")") in there
    assert len(keys) == len(set(keys))
    for each in planned.resources:
        if each.afterwards:
            assert each.number in waits_for(made, each.number), "only members of a circle wait"
    late = {bind for each in planned.resources for after in each.afterwards for bind in after.body.values()}
    assert all(value.rpartition("(")[2].rstrip(")") in there for value in late)


@quick
@given(sent=bundles())
def test_plan_is_pure(sent: list[Json]) -> None:
    """The same drafts and rows give the same plan, and neither is changed."""
    memory = Memory(MAPS)
    made = drafts(sent)
    memory.send(drafts(sent[:1]), PlanOptions())
    located = memory.locate(list(made.values()))
    copy = deepcopy((located, memory.tables))
    one, two = (plan(made, located, MAPS, PlanOptions()) for _ in range(2))
    assert one == two
    assert (located, memory.tables) == copy

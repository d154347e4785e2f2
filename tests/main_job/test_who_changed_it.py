"""Every combination of what was agreed on, what the row holds and what comes in: which side is followed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import pytest

from relay.inbound.located import Agreements, Located, Row
from relay.inbound.plan import PlanOptions, plan
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, Column
from relay.mapping.translate import translate
from relay.store.agreed import canonical
from support.made_up import made_up, two_writers

Json = dict[str, Any]
Rule = Literal["park", "fhir", "dataverse"]


class Kind(NamedTuple):
    """A kind of column: its name, the element that gives it a value, and the value as the wire has it, by letter."""

    column: str
    elements: Mapping[str, Json]
    wire: Mapping[str, Any]


GUIDS = {each: f"{each * 8}-0000-4000-8000-000000000000" for each in "abc"}
KINDS = {
    "text": Kind("nickname", {x: {"name": [{"text": x}]} for x in "abc"}, {x: x for x in "abc"}),
    "option": Kind(
        "gendercode", {"a": {"gender": "male"}, "b": {"gender": "female"}, "c": {}}, {"a": 1, "b": 2, "c": 3}
    ),
    "lookup": Kind(
        "msemr_generalpractioner",
        {x: {"generalPractitioner": [{"reference": f"Practitioner/{x}"}]} for x in "abc"},
        GUIDS,
    ),
}

Follow = Literal["alike", "fhir", "dataverse", "conflict"]

# What was agreed on (None: nothing ever was, "": that it is empty), what the row holds, what comes in ("": nothing).
COMBINATIONS: list[tuple[str | None, str, str, Follow]] = [
    (None, "", "", "alike"),
    (None, "a", "a", "alike"),
    (None, "", "a", "fhir"),
    (None, "a", "", "dataverse"),
    (None, "a", "b", "conflict"),
    ("", "", "", "alike"),
    ("", "a", "a", "alike"),
    ("", "", "a", "fhir"),
    ("", "a", "", "dataverse"),
    ("", "a", "b", "conflict"),
    ("a", "a", "a", "alike"),
    ("a", "b", "b", "alike"),
    ("a", "", "", "alike"),
    ("a", "a", "b", "fhir"),
    ("a", "a", "", "fhir"),
    ("a", "b", "a", "dataverse"),
    ("a", "", "a", "dataverse"),
    ("a", "c", "b", "conflict"),
    ("a", "", "b", "conflict"),
    ("a", "b", "", "conflict"),
]


def mark(table: str, guid: str, column: Column, value: Any) -> str:
    """Mark a value so that a test can read it."""
    return f"{table} {guid} {column.name} {canonical(column, value)}"


@cache
def loaded(rule: Rule) -> MapSet:
    """Return the maps with this rule."""
    with TemporaryDirectory() as folder:
        return made_up(Path(folder), *two_writers(rule))


@pytest.mark.parametrize("rule", ["park", "fhir", "dataverse"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    ("agreed", "holds", "comes", "follow"),
    COMBINATIONS,
    ids=[
        "-".join(("never" if each[0] is None else each[0] or "empty", *(part or "empty" for part in each[1:3])))
        for each in COMBINATIONS
    ],
)
def test_who_is_followed(  # noqa: PLR0917 - a table
    rule: Rule, kind: Kind, agreed: str | None, holds: str, comes: str, follow: Follow
) -> None:
    """One side changed: it is followed. Both did: the map's rule. What stays out gets no mark, all else a new one."""
    known = loaded(rule)
    entity_map = known.for_resource("Patient")
    assert entity_map is not None
    column = entity_map.table.columns[kind.column]
    wire = f"_{kind.column}_value" if column.targets else kind.column
    value = kind.wire.get(holds)
    guid = "00000000-0000-4000-8000-00000000000a"
    row = Row(guid, 'W/"1"', {"contactid": guid, "msemr_contacttype": 935000000, "msemr_azurefhirid": "p", wire: value})
    located = Located()
    located.keyed["Patient", "p"].append(row)
    for letter, target in GUIDS.items():
        located.keyed["Practitioner", letter].append(Row(target, "", {}))
    marks = {} if agreed is None else {kind.column: mark("contact", guid, column, kind.wire.get(agreed))}
    located.agreed = Agreements(mark, {("contact", guid): marks})
    resource = {"resourceType": "Patient", "id": "p", "meta": {"versionId": "2"}, **kind.elements.get(comes, {})}
    draft = translate(entity_map, resource, lambda element: ByFhirId(*str(element["reference"]).split("/")))

    (planned,) = plan({0: draft}, located, known, PlanOptions()).resources

    decided = follow if follow != "conflict" else {"park": "dataverse"}.get(rule, rule)
    if decided == "fhir":
        (operation,) = planned.operations
        name = next(iter(column.navigation.values())) + "@odata.bind" if column.targets else kind.column
        wanted = kind.wire.get(comes)
        assert operation.body[name] == (f"/contacts({wanted})" if column.targets and wanted else wanted)
        assert planned.result == "updated"
    else:
        assert (planned.result, planned.operations) == ("unchanged", [])
    told = {
        ("dataverse", "park"): [("information", "kept-dataverse")],
        ("dataverse", "fhir"): [("information", "kept-dataverse")],
        ("dataverse", "dataverse"): [("information", "kept-dataverse")],
        ("conflict", "park"): [("warning", "conflict")],
        ("conflict", "fhir"): [("information", "conflict")],
        ("conflict", "dataverse"): [("information", "conflict")],
    }.get((follow, rule), [])
    assert [(issue.severity, issue.code) for issue in planned.issues] == told
    assert all(issue.at == kind.column and kind.column in issue.message for issue in planned.issues)
    after = None if decided == "dataverse" else mark("contact", guid, column, kind.wire.get(comes))
    assert planned.marks.get(kind.column) == (after if after != marks.get(kind.column) else None)


def test_the_table_is_whole() -> None:
    """Every combination of the same, another and nothing on the three sides is in the table above, up to names."""

    def shape(agreed: str | None, holds: str, comes: str) -> tuple[Any, ...]:
        letters: dict[str, int] = {}
        return tuple(
            each if not each else letters.setdefault(each, len(letters)) + 1 for each in (agreed, holds, comes)
        )

    every = {
        shape(agreed, holds, comes)
        for agreed in (None, "", "a")
        for holds in ("", "a", "b", "c")
        for comes in ("", "a", "b", "c")
    }
    assert {shape(*each[:3]) for each in COMBINATIONS} == every

"""There and back: mapped columns survive row → resource → row, and a resource gains nothing that it did not say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from mapping_kit import MAPS, resolve
from r4_kit import faults

from relay.mapping.actions import Copy, Mapped, Sourced
from relay.mapping.load import load_maps
from relay.mapping.lookups import ConceptLine, Reference
from relay.mapping.model import ByFhirId, ByIdentifier, ChildDraft, Concept, Draft
from relay.mapping.outward import RowView, outward_lines
from relay.mapping.r4 import REQUIRED
from relay.mapping.reverse import changes, resource_of
from relay.mapping.translate import translate
from support.data import need_fhir_data, resources

SHIPPED = load_maps(MAPS)
ABSENT = {"EpisodeOfCare", "HealthcareService"}
"""Types with a map of which the data has no resource with an id."""
MOST = 150
"""Resources of one type that are tried."""


def view(draft: Draft | ChildDraft, numbers: Iterator[int]) -> RowView:
    """Return the row that Dataverse would have for a draft."""
    values = {name: value for name, value in draft.columns.items() if value is not None}
    meant: dict[str, ByFhirId | Concept | None] = {}
    for name, target in draft.lookups.items():
        if isinstance(target, ByFhirId | Concept):
            guid = f"00000000-0000-4000-8000-{next(numbers):012d}"
            values[f"_{name}_value"] = guid
            meant[guid] = target
    children: dict[str, list[RowView]] = {}
    for child in draft.children:
        facts = child.expansion.table
        children.setdefault(facts.name, []).append(view(child, numbers))
    return RowView(values, meant, children)


def row_of(draft: Draft) -> RowView:
    return view(draft, iter(range(1, 10**6)))


@cache
def by_type() -> dict[str, list[dict[str, Any]]]:
    """Return real resources by type: all of HL7's and US Core's examples, and the first of the others."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pattern in (
        "hl7-r4-examples/*.gz",
        "us-core-examples/*.gz",
        "bulk-10-patients/*.gz",
        "synthea-blaze/1*.gz",
        "ahds-samples/*.gz",
    ):
        for _, text in resources(pattern):
            resource = json.loads(text, parse_float=Decimal)
            if len(found[resource["resourceType"]]) < MOST:
                found[resource["resourceType"]].append(resource)
    return found


def samples(kind: str) -> list[tuple[dict[str, Any], Draft]]:
    """Return real resources of a type that its map takes, and their drafts."""
    need_fhir_data()
    entity = SHIPPED.for_resource(kind)
    assert entity is not None
    tried = [(resource, translate(entity, resource, resolve)) for resource in by_type()[kind]]
    taken = [(resource, draft) for resource, draft in tried if all(each.severity != "error" for each in draft.issues)]
    if not taken and kind in ABSENT:
        pytest.skip(f"the data has no {kind} with an id")
    assert taken, f"no {kind} in the data goes through its map"
    return taken


KINDS = sorted(each.resource for each in SHIPPED)


def told(draft: Draft, column: str) -> Any:
    """Return what a draft says of a column; of a concept its type and code, the words are its row's own."""
    target = draft.lookups.get(column)
    return (target.type, target.code) if isinstance(target, Concept) else (target or draft.columns.get(column))


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_columns_survive(kind: str) -> None:
    """A row made of a resource, made a resource again, makes the same row: every column that found a place."""
    for _, draft in samples(kind):
        if any(isinstance(target, ByIdentifier) for target in draft.lookups.values()):
            continue  # of a row the FHIR id is known, not by which identifier somebody referred to it
        out = resource_of(draft.map, row_of(draft), resolve)
        again = translate(draft.map, {**out.resource, "id": draft.id}, resolve)
        lost = {issue.at for issue in out.issues}
        for line in outward_lines(draft.map.lines):
            column = line.reading.column
            assert column in lost or told(again, column) == told(draft, column), (draft.id, column, out.resource)


def another(line: Sourced[Any], draft: Draft, row: RowView) -> RowView | None:
    """Return the row with another value in the line's column; None when the column takes no other."""
    name = line.reading.column
    column = draft.map.table.columns[name]
    if isinstance(line, Copy):
        texts = {"DateTime": "2001-02-03" if column.format == "DateOnly" else "2001-02-03T04:05:06Z"}
        value: Any = texts.get(column.type, True if column.type == "Boolean" else 7)
        value = "Zz" if column.type in {"String", "Memo"} else value
        if line.convert(value) != value:
            return None
        return replace(row, values={**row.values, name: value})
    if isinstance(line, Mapped):
        values = [value for value in line.values.values() if value != draft.columns.get(name)]
        return replace(row, values={**row.values, name: values[-1]}) if values else None
    guid = "00000000-0000-4000-8000-999999999999"
    targets = sorted(line.targets) if isinstance(line, Reference) else []
    meant = (
        Concept(line.type, "zz", "Zz")
        if isinstance(line, ConceptLine)
        else ByFhirId(targets[0], "zz")
        if targets
        else None
    )
    if meant is None:
        return None
    return replace(row, values={**row.values, f"_{name}_value": guid}, meant={**row.meant, guid: meant})


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_column_changes_its_element_alone(kind: str) -> None:
    """Whatever column a user changes: FHIR then says it, and every element that its line does not read stays as it was."""
    changed = 0
    for resource, draft in samples(kind)[:40]:
        row = row_of(draft)
        for line in outward_lines(draft.map.lines):
            column = line.reading.column
            if line.reading.beside or (other := another(line, draft, row)) is None:
                continue
            out = changes(draft.map, resource, other, [column], resolve)
            if out.issues:
                assert out.resource == resource
                continue
            changed += 1
            for name in {*resource, *out.resource} - line.elements:
                at = [path.at.root_element for path in [line.reading.create] if path is not None]
                assert name in at or out.resource.get(name) == resource.get(name), (draft.id, column, name)
            again = translate(draft.map, out.resource, resolve)
            wanted = other.values.get(column)
            if isinstance(line, Reference | ConceptLine):
                meant = other.meant["00000000-0000-4000-8000-999999999999"]
                wanted = (meant.type, meant.code) if isinstance(meant, Concept) else meant
            assert told(again, column) == wanted, (draft.id, column, out.resource)
    assert changed


@pytest.mark.parametrize("kind", KINDS)
def test_a_resource_made_of_a_row_is_as_valid_as_the_first_one(kind: str) -> None:
    """With the required elements that its row does not hold, it has no fault that the resource did not have."""
    pytest.importorskip("fhir.resources")
    for resource, draft in samples(kind):
        made = dict(resource_of(draft.map, row_of(draft), resolve).resource)
        unheld = [name for name in REQUIRED[kind] if not any(is_element(each, name) for each in made)]
        whole = made | {each: resource[each] for each in resource if any(is_element(each, name) for name in unheld)}
        assert faults(whole) <= faults(resource), draft.id


def is_element(name: str, element: str) -> bool:
    """Tell whether a member is an element, or one of the types of a choice that ends in [x]."""
    stem = element.removesuffix("[x]")
    return name == element or (stem != element and name.startswith(stem))


GAINS = {
    # words that name the row, which its user might have written: they stand where the type has its name
    "AllergyIntolerance": {".code.text"},
    "CarePlan": {".title", ".activity[*].detail.scheduledPeriod"},  # and the dates of a rhythm
    "RelatedPerson": {".name[*].text"},
    # which of several: the columns do not tell
    "Device": {".deviceName[*].type"},
    "Patient": {".name[*].use", ".identifier[+]"},  # a number of which several identifiers have the value
    "Practitioner": {".name[*].use"},
    # one column for what can be said in two ways
    "Condition": {".extension"},  # when it was asserted, of when it was recorded
    "DiagnosticReport": {".effectivePeriod"},  # of a moment its beginning
    "MedicationRequest": {".medicationCodeableConcept"},  # of a contained medication
}
"""Type → elements that a resource made of a row may have and the first one did not."""


def gained(first: Any, made: Any) -> Iterator[tuple[str, Any]]:
    """List (path, value) of what `made` says and `first` did not; items are paired by what they have in common."""
    if isinstance(first, Mapping) and isinstance(made, Mapping):
        for name, value in made.items():
            inside = gained(first[name], value) if name in first else [("", value)]
            yield from ((f".{name}{path}", each) for path, each in inside)
    elif isinstance(first, list) and isinstance(made, list):
        left = list(first)
        for item in sorted(made, key=lambda item: min((weight(each, item) for each in first), default=0)):
            if not left:
                yield "[+]", item
                continue
            nearest = min(left, key=lambda each: weight(each, item))
            left.remove(nearest)
            yield from ((f"[*]{path}", each) for path, each in gained(nearest, item))
    elif not says(first, made):
        yield "", made


def weight(first: Any, made: Any) -> int:
    """Tell how much `made` says that `first` did not."""
    return sum(len(json.dumps(value, default=str)) for _, value in gained(first, made))


def says(first: Any, made: Any) -> bool:
    """Tell whether two plain values are the same, as far as a column holds them: cut, to the second, rounded."""
    if not isinstance(first, str) or not isinstance(made, str):
        numbers = isinstance(first, int | Decimal) and isinstance(made, int | Decimal)
        return first == made or (numbers and abs(first - made) < Decimal("1e-6"))
    if first.startswith(made) or made == f"{first}T00:00:00Z":
        return True
    try:
        return timedelta() <= datetime.fromisoformat(first) - datetime.fromisoformat(made) < timedelta(seconds=1)
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_resource_made_of_a_row_says_nothing_else(kind: str) -> None:
    """No element twice, no words that nobody wrote, no code system that nobody named: only what the resource said."""
    for resource, draft in samples(kind):
        made = resource_of(draft.map, row_of(draft), resolve).resource
        assert {path for path, _ in gained(resource, made)} <= GAINS.get(kind, set()), draft.id

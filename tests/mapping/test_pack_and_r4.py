"""The shipped maps beside R4's own models: every element is there, and what is made of a row is whole and valid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from mapping_kit import MAPS, resolve
from pack_kit import SHIPPED, switched_on
from r4_kit import choice_of, faults, member, model_of, required

from relay.mapping.actions import Mapped, Sourced
from relay.mapping.expansions import Expand
from relay.mapping.lookups import ConceptLine, Reference
from relay.mapping.model import ByFhirId, ChildDraft, Column, Concept, Draft, EntityMap, ExpansionMap
from relay.mapping.outward import RowView, outward_lines
from relay.mapping.paths import Filter, Member, Step
from relay.mapping.reverse import resource_of
from relay.mapping.translate import translate
from relay.mapping.values import TEXT_TYPES

pytest.importorskip("fhir.resources")

ALL = {each.resource: each for each in switched_on()}
"""Every map, nothing of it disabled."""
LACKS = {
    "Appointment": {"participant"},
    "BodyStructure": {"patient"},
    "Claim": {"created", "insurance", "status", "type"},
    "Communication": {"status"},
    "Coverage": {"payor"},
    "Goal": {"lifecycleStatus"},
}
"""Type → elements that R4 requires and no line makes: the head of the map says so."""
TURNS = 16
"""As many as the longest list of codes has."""
ON = {("Appointment", "participant")}
"""Those of them that a disabled line makes."""


@dataclass
class Made:
    """The objects that lines make: by where they stand, their model and the members that lines write."""

    objects: dict[str, tuple[Any, set[str]]] = field(default_factory=dict)

    def steps(self, model: Any, at: str, steps: Iterable[Step]) -> tuple[Any, str]:
        """Follow a path; raises KeyError at an element that R4 does not have."""
        for step in steps:
            if isinstance(step, Member):
                self.objects.setdefault(at, (model, set()))[1].add(step.name)
                model, at = member(model, step.name), f"{at}.{step.name}"
            elif isinstance(step, Filter):
                for test in step.tests:
                    self.steps(model, at, test.steps)
        return model, at

    def lines(self, model: Any, at: str, lines: Iterable[Any]) -> None:
        """Follow what lines write."""
        for line in lines:
            if isinstance(line, Expand) and any(outward_lines(line.expansion.lines)):
                inner, place = self.steps(model, at, [Member(line.expansion.element)])
                self.lines(inner, place, line.expansion.lines)
        for line in outward_lines(lines):
            path = line.reading.readers[0][0]
            create = line.reading.create
            if create is None:
                self.steps(model, at, path.steps)
            else:
                inner, place = self.steps(model, at, create.at.steps)
                self.objects.setdefault(place, (inner, set()))[1].update(create.template)


def every_path(model: Any, lines: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """List (model, path) of every path that lines read."""
    for line in lines:
        if isinstance(line, Expand):
            yield from every_path(member(model, line.expansion.element), line.expansion.lines)
        elif isinstance(line, Sourced):
            yield from ((model, path) for path, _ in line.reading.readers)


@pytest.mark.parametrize("kind", sorted(ALL))
def test_every_element_is_one_of_r4(kind: str) -> None:
    """A misspelled element would never be found, and nobody would be told."""
    for model, path in every_path(model_of(kind), ALL[kind].lines):
        if path.root_element != "contained":
            Made().steps(model, kind, path.steps)


def lacking(entity: EntityMap) -> set[tuple[str, str]]:
    """Return (object, member) of what R4 requires of the objects that lines make, and no line writes."""
    kind = entity.resource
    made = Made({kind: (model_of(kind), set())})
    made.lines(model_of(kind), kind, entity.lines)
    return {
        (at, name)
        for at, (model, written) in made.objects.items()
        for name in required(model) - {"resource_type"}
        if not any(each == name or (name.endswith("[x]") and each.startswith(name[:-3])) for each in written)
    }


@pytest.mark.parametrize("kind", sorted(ALL))
def test_what_a_row_makes_has_what_r4_requires(kind: str) -> None:
    """Every object that lines make has lines for what it must have; what the resource itself lacks, the map's head says."""
    assert lacking(ALL[kind]) == {(kind, name) for name in LACKS.get(kind, ()) if (kind, name) not in ON}
    assert lacking(SHIPPED.for_resource(kind) or SHIPPED.off[kind]) == {(kind, name) for name in LACKS.get(kind, ())}
    head = (MAPS / f"{kind.lower()}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    assert ("FHIR requires" in head) is (kind in LACKS)


def place_of(model: Any, line: Sourced[Any]) -> tuple[Any, str]:
    """Return what a line fills that holds one thing only, and which: a type of a choice, or else who fills the element."""
    at: list[Any] = []
    steps = line.reading.readers[0][0].steps
    for step in steps:
        if isinstance(step, Member):
            if choice := choice_of(model, step.name):
                return (*at, choice), step.name
            model = member(model, step.name)
        at.append(step)
    return steps, line.reading.column


@dataclass
class Rows:
    """Makes rows in which every column has a value of which FHIR can hold all at once; of others the turn decides."""

    turn: int
    numbers: Iterator[int] = field(default_factory=count)

    def row(self, entity: EntityMap | ExpansionMap, model: Any) -> RowView:
        """Make one row, with one child of each kind."""
        values: dict[str, Any] = {}
        meant: dict[str, ByFhirId | Concept | None] = {}
        for line in self._holding([each for each in outward_lines(entity.lines) if not is_twin(each)], model):
            name = line.reading.column
            values |= line.reading.beside
            if isinstance(line, Reference | ConceptLine):
                guid = values[f"_{name}_value"] = f"{next(self.numbers)}"
                meant[guid] = self._target(line)
            else:
                values[name] = self._value(line, entity.table.columns[name])
        inner = [(line.expansion, member(model, line.expansion.element)) for line in entity.lines if is_live(line)]
        return RowView(values, meant, {each.table.name: [self.row(each, its)] for each, its in inner})

    def _holding(self, lines: list[Sourced[Any]], model: Any) -> list[Sourced[Any]]:
        """Choose of each choice, of Dataverse's and then of FHIR's, one alternative."""
        kinds: dict[str, list[Any]] = {}
        for line in lines:
            for beside, kind in line.reading.beside:
                kinds.setdefault(beside, []).append(kind)
        taken = {beside: each[self.turn % len(each)] for beside, each in kinds.items()}
        lines = [line for line in lines if all(taken[beside] == kind for beside, kind in line.reading.beside)]
        filled: dict[Any, list[str]] = {}
        for line in lines:
            place, what = place_of(model, line)
            filled.setdefault(place, []).append(what)
        return [line for line in lines if self._is_in_turn(*place_of(model, line), filled)]

    def _is_in_turn(self, place: Any, what: str, filled: Mapping[Any, list[str]]) -> bool:
        return filled[place][self.turn % len(filled[place])] == what

    def _target(self, line: Reference | ConceptLine) -> ByFhirId | Concept:
        if isinstance(line, ConceptLine):
            return Concept(line.type, f"code-{next(self.numbers)}", f"Words {next(self.numbers)}")
        return ByFhirId(sorted(line.targets)[self.turn % len(line.targets)], f"{next(self.numbers)}")

    def _value(self, line: Sourced[Any], column: Column) -> Any:
        if isinstance(line, Mapped):
            values = list(line.values.values())
            return values[self.turn % len(values)]
        if column.type == "DateTime":
            return "2001-02-03" if column.format == "DateOnly" else "2001-02-03T04:05:06Z"
        if column.type == "Boolean":
            return self.turn % 2 == 0
        return f"text-{next(self.numbers)}" if column.type in TEXT_TYPES else next(self.numbers) + 1


def is_twin(line: Sourced[Any]) -> bool:
    """Tell whether a column says as a concept what others say as texts: a row in which they differ contradicts itself."""
    return line.reading.column in {"msemr_codeableconceptid", "msemr_qualificationcode"}


def is_live(line: Any) -> bool:
    """Tell whether a line makes items of child rows."""
    return isinstance(line, Expand) and any(outward_lines(line.expansion.lines))


def unsaid(row: RowView, draft: Draft | ChildDraft) -> set[str]:
    """Return the columns, and the tables of children, of which a draft says something else than the row."""
    different = set()
    for name, value in row.values.items():
        said, there = value, draft.columns.get(name)
        if name.startswith("_"):
            said, there = row.meant[value], draft.lookups.get(name.removeprefix("_").removesuffix("_value"))
        if isinstance(there, Concept) and isinstance(said, Concept):
            there = replace(there, name=said.name)  # the words may be those of another line
        different |= {name} if there != said else set()
    for table, (child,) in row.children.items():
        same = [each for each in draft.children if each.expansion.table.name == table and not unsaid(child, each)]
        different |= set() if same else {table}
    return different


@pytest.mark.parametrize("kind", sorted(ALL))
def test_a_row_with_every_column_filled_becomes_a_valid_resource(kind: str) -> None:
    """Nothing is lost, nothing is no R4 but that what the map's head says is missing, and every column comes back."""
    entity = ALL[kind]
    for turn in range(TURNS):
        row = Rows(turn).row(entity, model_of(kind))
        out = resource_of(entity, row, resolve)
        assert out.issues == ()
        assert {at for at, _ in faults(out.resource)} <= {f"{kind}.{name}" for name in LACKS.get(kind, ())}
        assert unsaid(row, translate(entity, {**out.resource, "id": "1"}, resolve)) == set()

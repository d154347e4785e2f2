"""The actions that write lookups: `reference` (a row of another resource) and `concept` (a codeable concept)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from relay.mapping.actions import Line, Sourced, action
from relay.mapping.building import Building, Scope, near
from relay.mapping.document import Place
from relay.mapping.model import Column, Concept, Issue, Scalar
from relay.mapping.paths import Every, Filter, Index, Member, Misfit, Path, path_of
from relay.mapping.r4 import RESOURCE_TYPES
from relay.mapping.reading import Reading
from relay.mapping.shape import ConceptShape, ReferenceShape, Shape, SourcedShape
from relay.mapping.values import LOOKUP_TYPES, Unfit, converter

CONCEPT_TABLE = "msemr_codeableconcept"
_RANK = {"information": 0, "warning": 1}


@action("reference")
@dataclass(frozen=True, slots=True)
class Reference(Sourced[ReferenceShape]):
    """A FHIR Reference → a lookup; of several references the first of an accepted type counts.

    `declared` are the types that the line names, `targets` those of them that have a map. `accepted` are the types that this line or another of the same paths takes: only what none takes is reported, and
    by the first of them (`reports`).
    """

    shape: ClassVar[type[Shape]] = ReferenceShape
    declared: frozenset[str]
    targets: frozenset[str]
    accepted: frozenset[str]
    reports: bool

    @classmethod
    def build(cls, spec: ReferenceShape, scope: Scope, place: Place) -> Reference:
        """Refuse targets that the lookup or the maps do not have."""
        column = _lookup_column(spec, scope, place)
        for kind, table in spec.targets.items():
            at = (*place, "targets", kind)
            if kind not in RESOURCE_TYPES:
                raise scope.document.error(at, "not an R4 resource type", near(kind, RESOURCE_TYPES))
            if table not in column.targets:
                raise scope.document.error(at, f"{column.name} does not point to {table}", column.targets)
            if scope.mapped.get(kind, table) != table:
                raise scope.document.error(at, f"{kind} is mapped to another table", [scope.mapped[kind]])
        reading = Reading.of(spec, column, spec.reference, scope, place)
        readers = tuple((_without(path, "reference"), source) for path, source in reading.readers)
        # a type without a map has no rows that could be found
        targets = frozenset(kind for kind in spec.targets if kind in scope.mapped)
        return cls(replace(reading, readers=readers), frozenset(spec.targets), targets, targets, reports=True)

    def write(self, item: Any, into: Building) -> None:
        """Write the first reference of an accepted type, or report why there is none."""
        reading = self.reading
        worst: Issue | None = None
        seen = False
        for path, source in reading.readers:
            found: list[Any] = []
            try:
                path.collect(item, found)
            except Misfit:
                into.misfit(path)
                return
            for element in found:
                seen = True
                if not isinstance(element, Mapping):
                    into.misfit(path)
                    return
                target = into.resolve(element)
                if target is not None and target.type in self.targets:
                    into.put(reading, target, source, into.lookups)
                    return
                problem = self._problem(element, target.type if target else None, path)
                if problem and (worst is None or _RANK[problem.severity] > _RANK[worst.severity]):
                    worst = problem
        if not seen:
            reading.absent(into, into.lookups)
        elif worst and self.reports:
            into.issue(worst.severity, worst.code, worst.message, reading.readers[0][0])

    def _problem(self, element: Mapping[str, Any], kind: str | None, path: Path) -> Issue | None:
        if kind is not None:
            if kind in self.accepted:
                return None
            message = f"no line takes a reference to {kind if kind in RESOURCE_TYPES else 'this type'} here"
            return Issue("information", "unresolvable-reference", message, path.text)
        if "reference" not in element and "identifier" in element and "type" not in element:
            message = "the reference names an identifier and not the type it is of"
            return Issue("information", "unresolvable-reference", message, path.text)
        if "reference" in element or "identifier" in element:
            message = "the reference is contained or points to another server"
            return Issue("warning", "unresolvable-reference", message, path.text)
        return Issue("information", "unresolvable-reference", "the reference names nothing but a text", path.text)


def shared(lines: list[Line[Any]]) -> list[Line[Any]]:
    """Let the reference lines with the same paths know of each other."""
    groups: dict[Any, list[Reference]] = {}
    for line in lines:
        if isinstance(line, Reference):
            groups.setdefault(_steps(line), []).append(line)
    linked: list[Line[Any]] = []
    for line in lines:
        if isinstance(line, Reference):
            group = groups[_steps(line)]
            accepted = frozenset[str]().union(*(each.targets for each in group))
            linked.append(replace(line, accepted=accepted, reports=line is group[0]))
        else:
            linked.append(line)
    return linked


def _steps(line: Reference) -> tuple[Any, ...]:
    return tuple(path.steps for path, _ in line.reading.readers)


@action("concept")
@dataclass(frozen=True, slots=True)
class ConceptLine(Sourced[ConceptShape]):
    """A Coding or CodeableConcept → a lookup to the codeable concept row of that type and code."""

    shape: ClassVar[type[Shape]] = ConceptShape
    type: int
    system: str
    code: Callable[[Any], Scalar] = field(repr=False)
    name: Callable[[Any], Scalar] = field(repr=False)

    @classmethod
    def build(cls, spec: ConceptShape, scope: Scope, place: Place) -> ConceptLine:
        """Find the concept type by its number or label."""
        column = _lookup_column(spec, scope, place)
        if CONCEPT_TABLE not in column.targets or CONCEPT_TABLE not in scope.tables:
            raise scope.document.error(
                (*place, "column"), f"{column.name} does not point to {CONCEPT_TABLE}", column.targets
            )
        facts = scope.tables[CONCEPT_TABLE].columns
        options = facts["msemr_type"].options
        number = next((value for value, label in options.items() if spec.type in {value, label}), None)
        if number is None:
            labels = options.values() if isinstance(spec.type, str) else map(str, options)
            raise scope.document.error(
                (*place, "type"), f"unknown codeable concept type {spec.type}", near(str(spec.type), labels)
            )
        reading = Reading.of(spec, column, spec.concept, scope, place)
        readers = tuple((_coding(path), source) for path, source in reading.readers)
        return cls(
            replace(reading, readers=readers),
            number,
            spec.system,
            converter(facts["msemr_code"]),
            converter(facts["msemr_name"], length="truncate"),
        )

    def write(self, item: Any, into: Building) -> None:
        """Write the first concept that has a code."""
        if not into.concepts:
            return
        for path, source in self.reading.readers:
            try:
                element = path.read(item)
                concept = None if element is None else self._concept(element)
            except Misfit:
                into.misfit(path)
                return
            except Unfit as unfit:
                into.unfit(unfit, path, source)
                return
            if concept is not None:
                into.put(self.reading, concept, source, into.lookups)
                return
        self.reading.absent(into, into.lookups)

    def _concept(self, element: Any) -> Concept | None:
        """Read a Coding, a CodeableConcept (its first coding) or a bare code; None without a code."""
        if isinstance(element, str):
            element = {"code": element}
        if not isinstance(element, Mapping):
            raise Misfit
        if "coding" in element:
            codings = element["coding"]
            if not isinstance(codings, list):
                raise Misfit
            element = next((each for each in codings if each is not None), {})
            if not isinstance(element, Mapping):
                raise Misfit
        code, display = element.get("code"), element.get("display")
        if code is None or code == "":
            return None
        # The row is everybody's who has the code: what somebody wrote about one patient (`text`) has no place in it.
        return Concept(self.type, str(self.code(code)), str(self.name(display or code)))


def _lookup_column(spec: SourcedShape, scope: Scope, place: Place) -> Column:
    column = scope.column(spec, place)
    if column.type not in LOOKUP_TYPES:
        raise scope.document.error(
            (*place, "column"), f"{column.name} is of type {column.type}, not a lookup", ["copy", "default", "map"]
        )
    if spec.match and not scope.child:
        raise scope.document.error(
            (*place, "match"), "matching a root row on a lookup is not supported; in an expansion it is", ["false"]
        )
    return column


def _without(path: Path, name: str) -> Path:
    """Read the object that holds the last member instead of the member, as toolkit maps spell it."""
    return path_of(path.text, path.steps[:-1]) if path.steps and path.steps[-1] == Member(name) else path


def _coding(path: Path) -> Path:
    """Read the Coding where a path goes on to its code, so that the display is at hand."""
    before = path.steps[-3:-1]
    inside = len(before) > 1 and before[0] == Member("coding") and isinstance(before[1], (Index, Every, Filter))
    return _without(path, "code") if inside else path

"""The way out, line by line: what a row's column means in FHIR, and the edits that put it into a resource. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import singledispatch
from typing import Any

from relay.mapping.actions import Copy, Mapped, Sourced, code_of
from relay.mapping.lookups import ConceptLine, Reference
from relay.mapping.model import ByFhirId, Column, Concept, Resolve, Table
from relay.mapping.paths import Every, Filter, Index, Member, Misfit, Step
from relay.mapping.placing import (
    Edit,
    NoPlace,
    Pointer,
    appending,
    edited,
    find,
    invertible,
    merged,
    named,
    places,
    put,
    read_at,
    take_away,
)
from relay.mapping.r4 import DATES
from relay.mapping.values import same

_QUANTITIES = frozenset(["denominator", "dose", "high", "low", "numerator", "onsetAge", "abatementAge", "origin"])
"""Elements that are a Quantity in R4 without saying so in their name; those of a Ratio and a Range among them."""


@dataclass(frozen=True, slots=True)
class RowView:
    """One row as the way out sees it.

    `values` are as the Web API returns them, `meant` is what the GUIDs in its lookups stand for (None: a row that no
    map speaks for; a GUID that is not there: a row without a FHIR id), `children` are the rows of its expansions by
    child table.
    """

    values: Mapping[str, Any]
    meant: Mapping[str, ByFhirId | Concept | None] = field(default_factory=dict)
    children: Mapping[str, Sequence[RowView]] = field(default_factory=dict)


class Unlinked(ValueError):  # names the row's fault, as Failed and Refused do
    """A lookup points to a row that stands for no resource (yet)."""


def takes_part(line: Sourced[Any], row: RowView) -> bool:
    """Tell whether a line's column counts: of a choice only the alternative that the row says was taken."""
    return all(row.values.get(column) in (None, kind) for column, kind in line.reading.beside)


@singledispatch
def meaning(line: Sourced[Any], row: RowView, table: Table) -> Any:
    """Return the FHIR JSON that a line's column stands for; None when it is empty or stands for nothing.

    Raises Unlinked for a lookup whose row has no resource.
    """
    raise NotImplementedError(type(line))


@meaning.register
def _copied(line: Copy, row: RowView, table: Table) -> Any:
    column = table.columns[line.reading.column]
    value = row.values.get(column.name)
    if value is None or (isinstance(value, str) and not value.strip()):  # no text in FHIR is blank
        return None
    if column.type != "DateTime":
        return Decimal(repr(value)) if isinstance(value, float) else value
    steps = line.reading.readers[0][0].steps
    is_date = bool(steps) and isinstance(steps[-1], Member) and steps[-1].name in DATES
    return str(value)[:10] if is_date or column.format == "DateOnly" else value


@meaning.register
def _coded(line: Mapped, row: RowView, table: Table) -> Any:
    column = table.columns[line.reading.column]
    value = row.values.get(column.name)
    if value is None:
        return None
    code = next((code for code, listed in line.values.items() if same(column, value, listed)), None)
    if code is None:
        raise NoPlace("no code is listed for the option that the column holds")
    if line.values.keys() <= {"true", "false"}:
        return code == "true"
    steps = line.reading.readers[0][0].steps
    is_text = bool(steps) and steps[-1] == Member("code")  # codes of many systems are digits
    return int(code) if not is_text and all(each.isdecimal() for each in line.values) else code


@meaning.register
def _referred(line: Reference, row: RowView, table: Table) -> Any:  # noqa: ARG001 - the signature of all
    target = _pointed(line, row)
    if not isinstance(target, ByFhirId):
        return None
    if target.type not in line.targets:
        raise NoPlace(f"the column points to a {target.type}, which the line does not take")
    return {"reference": f"{target.type}/{target.id}"}


@meaning.register
def _conceived(line: ConceptLine, row: RowView, table: Table) -> Any:  # noqa: ARG001 - the signature of all
    concept = _pointed(line, row)
    if not isinstance(concept, Concept):
        return None
    coding = {
        "system": line.system,
        "code": concept.code,
        "display": "" if concept.name == concept.code else concept.name,
    }
    return {"coding": [{name: value for name, value in coding.items() if value}]}


def _pointed(line: Sourced[Any], row: RowView) -> ByFhirId | Concept | None:
    guid = row.values.get(f"_{line.reading.column}_value")
    if guid is None:
        return None
    if str(guid).lower() not in row.meant:
        raise Unlinked(line.reading.column)
    if (target := row.meant[str(guid).lower()]) is None:
        raise NoPlace("the row that the column points to is none that a map speaks for")
    return target


def adding(line: Sourced[Any], value: Any, resource: Any) -> list[Edit]:
    """Return the edits that add `value` to a resource in the making, in which other lines of the row stand already.

    Raises NoPlace when the line's paths have no room for it.
    """
    for path, _ in line.reading.readers:
        steps = path.steps[: len(path.steps) - _inside(line, path.steps)]
        if isinstance(line, ConceptLine) and (at := find(steps, resource)) is not None:
            return [(at, merged(value, read_at(resource, at)))]  # another line gave the words
    return _created(line, value, resource)


def edits_of(line: Sourced[Any], value: Any, resource: Any, resolve: Resolve) -> list[Edit]:
    """Return the edits after which `line` reads from the resource what `value` stands for; None takes it away.

    Raises NoPlace when the line's paths have no room for it.
    """
    try:
        there = _found(line, resource, resolve)
    except Misfit:
        raise NoPlace("the JSON here is not what FHIR R4 has at this element") from None
    if there is None:
        return [] if value is None else _created(line, value, resource)
    steps, at = there
    if value is None:
        edits = take_away(steps, resource, at)
        if _found(line, edited(resource, edits), resolve) is not None:
            raise NoPlace("another value would take its place")
        return edits
    edits = [(at, _renewed(line, read_at(resource, at), value))]
    if isinstance(line, (Copy, Mapped)) and at and at[-1] == "code" and "display" in read_at(resource, at[:-1]):
        edits.append(((*at[:-1], "display"), None))  # of a Coding: it named the code that was there
    return edits


def _found(line: Sourced[Any], resource: Any, resolve: Resolve) -> tuple[Sequence[Step], Pointer] | None:
    """Return where the element stands that the line reads; for a code in a CodeableConcept, the whole concept."""
    for path, _ in line.reading.readers:
        inside = _inside(line, path.steps)
        if path.root_element == "contained":
            continue  # it belongs to what refers to it
        for at in places(path.steps, resource):
            if _counts(line, read_at(resource, at), resolve):
                return path.steps[: len(path.steps) - inside], at[: len(at) - inside]
    return None


def _counts(line: Sourced[Any], value: Any, resolve: Resolve) -> bool:
    if isinstance(line, Reference):
        target = resolve(value) if isinstance(value, Mapping) else None
        return target is not None and target.type in line.targets
    if isinstance(line, Mapped):
        return code_of(value) in line.values
    return bool(value != "")


def _inside(line: Sourced[Any], steps: Sequence[Step]) -> int:
    """Return how many steps at the end of a path lie inside the CodeableConcept that the line is about."""
    if not isinstance(line, (Mapped, ConceptLine)):
        return 0
    tail = steps[:-1] if steps and steps[-1] == Member("code") else steps
    inside = len(tail) > 1 and tail[-2] == Member("coding") and isinstance(tail[-1], (Index, Every, Filter))
    return len(steps) - len(tail) + 2 if inside else 0


def _renewed(line: Sourced[Any], before: Any, value: Any) -> Any:
    """Return the element as it means something else now: a concept's other codings and its text meant what it was before."""
    if isinstance(line, Mapped) and isinstance(before, str):
        return code_of(value)  # what is text stays text
    if not isinstance(line, (Mapped, ConceptLine)) or not isinstance(before, Mapping):
        return value["coding"][0]["code"] if isinstance(line, ConceptLine) and isinstance(before, str) else value
    if isinstance(line, ConceptLine) and "coding" not in before and "code" in before:  # the element is a Coding
        return {name: each for name, each in before.items() if name in ("id", "extension")} | value["coding"][0]
    kept = {name: each for name, each in before.items() if name not in ("coding", "text")}
    if isinstance(line, ConceptLine):
        return kept | value
    known = (each for each in before.get("coding") or () if each and code_of(each.get("code")) in line.values)
    system = next((each["system"] for each in known if each.get("system")), None)
    return kept | {"coding": [({"system": system} if system else {}) | {"code": value}]}


def _created(line: Sourced[Any], value: Any, resource: Any) -> list[Edit]:
    """Create what the line's paths do not find: by its `create` block, else by the first path that says a place."""
    edits: list[Edit] = []
    concept = line.reading.readers[0][0].steps
    if inside := _inside(line, concept):
        # A concept whose codes the line does not know says something else than the row does: it gives way.
        concept = concept[: len(concept) - inside]
        if invertible(concept) and (at := find(concept, resource)) is not None:
            edits.append((at, _hollow(line, concept, at, resource)))
            resource = edited(resource, edits)
    if (create := line.reading.create) is not None:
        kind, name = _tokens(value)
        return [*edits, create.edit(resource, value, {"%%": kind, "%%%": name})]
    problem = NoPlace("no path of the line says where a new value goes")
    for path, _ in line.reading.readers:
        try:
            if path.root_element == "contained":
                continue
            steps: Sequence[Step] = path.steps
            if isinstance(line, ConceptLine) and _bare(steps):
                return [*edits, put(steps, resource, value["coding"][0]["code"])]
            if isinstance(line, (ConceptLine, Reference)):
                steps = appending(steps[: len(steps) - _inside(line, steps)], resource)
            if invertible(steps):
                return [*edits, put(steps, resource, value)]
        except NoPlace as error:
            problem = error
    raise problem


def _hollow(line: Sourced[Any], concept: Sequence[Step], at: Pointer, resource: Any) -> Any:
    """Return what is left of a concept that gives way: nothing; of an item its place, else the next would move into it."""
    if not isinstance(at[-1], int):
        return None
    create = line.reading.create
    if create is not None and find(appending(create.at.steps, resource), resource) != at:
        raise NoPlace("an item whose code is not listed stands in its place")
    return named(concept[-1]) if isinstance(concept[-1], Filter) else {}


def _bare(steps: Sequence[Step]) -> bool:
    """Tell whether a path ends in the code of a Quantity, which is no CodeableConcept though it is called `code`."""
    if len(steps) < 2 or steps[-1] != Member("code") or not isinstance(steps[-2], Member):  # noqa: PLR2004 - the two
        return False
    name = steps[-2].name
    return name in _QUANTITIES or name.lower().endswith("quantity")


def _tokens(value: Any) -> tuple[str, str]:
    name = value.get("reference", "") if isinstance(value, Mapping) else ""
    return name.partition("/")[0], name


def wire_name(column: Column) -> str:
    """Return what the Web API calls a column in a row it returns."""
    return f"_{column.name}_value" if column.targets else column.name


def outward_lines(lines: Sequence[Any]) -> Iterator[Sourced[Any]]:
    """List the lines that may write the resource."""
    return (line for line in lines if isinstance(line, Sourced) and line.reading.outward is not False)

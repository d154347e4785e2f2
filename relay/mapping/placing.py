"""Where a value goes in a resource: the inverse of reading an element path. Pure; the resource itself is not changed.

A path of members, filters and indexes can be turned round: what it finds is replaced where it stands, and what it does
not find is created as the path says it: a filter's equalities become the members of a new item, an item is appended
where the array ends, never put into a gap. `[*]` says no place, so a path with it can only replace what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from relay.mapping.paths import Every, Filter, Index, Member, Misfit, Path, Step, accepted

Pointer = tuple[str | int, ...]
Edit = tuple[Pointer, Any]
"""Put a value at a place: member names and array positions; the position after the last item appends; None removes."""


class NoPlace(ValueError):  # names the path's fault, as Failed and Refused do
    """A value cannot be put where a path points; the message never holds the value."""


@dataclass(frozen=True, slots=True)
class Creation:
    """The `create` block of a line: what is added where its path finds nothing."""

    at: Path
    template: Mapping[str, Any]

    def edit(self, resource: Any, value: Any, tokens: Mapping[str, str]) -> Edit:
        """Return the edit that adds the value; raises NoPlace."""
        filled = fill(self.template, {"%": value, **tokens})
        steps = appending(self.at.steps, resource)
        there = read_at(resource, find(steps, resource))
        if there is not None and not isinstance(there, Mapping):
            raise NoPlace("the element is no object")
        return put(steps, resource, merged(there or {}, filled))


def invertible(steps: Sequence[Step]) -> bool:
    """Tell whether a path says where a value that is not there yet would go."""
    return not any(isinstance(step, Every) for step in steps)


def appending(steps: Sequence[Step], resource: Any) -> Sequence[Step]:
    """Turn a last `[*]` into the place after the last item: of several wholes, a new one is one more."""
    if not steps or not isinstance(steps[-1], Every):
        return steps
    array = read_at(resource, find(steps[:-1], resource))
    return (*steps[:-1], Index(len(array) if isinstance(array, list) else 0))


def find(steps: Sequence[Step], value: Any) -> Pointer | None:
    """Return the place of what reading the path finds: its first value that is not null; None when there is none."""
    return next(places(steps, value), None)


def places(steps: Sequence[Step], value: Any, at: Pointer = ()) -> Iterator[Pointer]:
    """Every place that the path reads, in document order; raises Misfit where the resource has another shape."""
    if value is None:
        return
    if not steps:
        yield at
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Member):
        if not isinstance(value, Mapping):
            raise Misfit
        yield from places(rest, value.get(step.name), (*at, step.name))
        return
    if not isinstance(value, list):
        raise Misfit
    if isinstance(step, Index):
        position = step.position + len(value) if step.position < 0 else step.position
        if 0 <= position < len(value):
            yield from places(rest, value[position], (*at, position))
        return
    for position, item in enumerate(value):
        if item is not None and (isinstance(step, Every) or accepted(step, item)):
            yield from places(rest, item, (*at, position))


def put(steps: Sequence[Step], resource: Any, value: Any) -> Edit:
    """Return the edit after which reading the path gives `value`; raises NoPlace where there is no room for it."""
    if steps and isinstance(steps[-1], Filter) and isinstance(value, Mapping):
        value = merged(named(steps[-1]), value)  # else the path would not find it again
    try:
        at = find(steps, resource)
        edit = (at, value) if at is not None else _create(steps, resource, value, ())
        after = edited(resource, [edit])
        if read_at(after, find(steps, after)) != value:
            raise NoPlace("the value would contradict the path's own filter")
        return edit  # noqa: TRY300 - the check above is part of it
    except Misfit:
        raise NoPlace("the JSON here is not what FHIR R4 has at this element") from None


def _create(steps: Sequence[Step], current: Any, value: Any, at: Pointer) -> Edit:
    if not steps or current is None:
        return at, _grown(steps, value)
    step, rest = steps[0], steps[1:]
    if isinstance(step, Member):
        if not isinstance(current, Mapping):
            raise Misfit
        return _create(rest, current.get(step.name), value, (*at, step.name))
    if not isinstance(current, list):
        raise Misfit
    if isinstance(step, Index):
        position = max(step.position + len(current), 0) if step.position < 0 else step.position
        if position > len(current):
            raise NoPlace(f"item {position} would leave a gap: the array has {len(current)}")
        return _create(rest, current[position] if position < len(current) else None, value, (*at, position))
    if isinstance(step, Every):
        raise NoPlace("[*] does not say which item is meant: the line needs a create block")
    for position, item in enumerate(current):
        if item is not None and accepted(step, item):
            return _create(rest, item, value, (*at, position))
    return (*at, len(current)), _grown(steps, value)[0]


def _grown(steps: Sequence[Step], value: Any) -> Any:
    """Build the JSON that the steps describe, from nothing, around `value`."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, Member):
        return {step.name: _grown(rest, value)}
    if isinstance(step, Every):
        raise NoPlace("[*] does not say which item is meant: the line needs a create block")
    if isinstance(step, Index):
        if step.position not in (0, -1):
            raise NoPlace(f"item {step.position} would leave a gap: there is no array yet")
        return [_grown(rest, value)]
    if not rest and not isinstance(value, Mapping):
        raise NoPlace("a filter selects objects")
    return [merged(named(step), _grown(rest, value))]


def named(step: Filter) -> Any:
    """Return what every item that the filter selects has."""
    item: Any = {}
    for test in step.tests:
        item = merged(item, _grown(test.steps, test.value))
    return item


def take_away(steps: Sequence[Step], resource: Any, at: Pointer) -> list[Edit]:
    """Return the edits after which nothing stands at `at`, which `steps` found: it goes, and what is left empty by that.

    An item of which only the members remain that a filter names goes too. Raises NoPlace when the items after it
    would move up, or when the path would then find another value in its place.
    """
    edits: list[Edit] = [(_pruned(steps, resource, at), None)]
    if find(steps, edited(resource, edits)) is not None:
        raise NoPlace("another value would take its place")
    return edits


def _pruned(steps: Sequence[Step], resource: Any, at: Pointer) -> Pointer:
    """Return the outermost place that can go with the value at `at`."""
    while at:
        step, holder = steps[len(at) - 1], read_at(resource, at[:-1])
        if isinstance(step, Index) and at[-1] != len(holder) - 1:
            raise NoPlace("the items after it would move up")
        alone = len(holder) == 1
        if len(at) > 1 and isinstance(holder, Mapping) and isinstance(before := steps[len(at) - 2], Filter):
            named = {test.steps[0].name for test in before.tests if test.steps and isinstance(test.steps[0], Member)}
            alone = holder.keys() <= {at[-1], *named}
        if not alone or len(at) == 1:
            return at
        at = at[:-1]
    return at


def edited(resource: Any, edits: Sequence[Edit]) -> Any:
    """Return a copy of the resource with the edits made, one after the other."""
    changed = deepcopy(resource)
    for pointer, value in edits:
        if not pointer:
            changed = deepcopy(value)
            continue
        holder, last = read_at(changed, pointer[:-1]), pointer[-1]
        if value is None:
            del holder[last]
        elif isinstance(holder, list) and last == len(holder):
            holder.append(deepcopy(value))
        else:
            holder[last] = deepcopy(value)
    return changed


def read_at(value: Any, pointer: Pointer | None) -> Any:
    """Return what stands at a place; None for no place."""
    if pointer is None:
        return None
    for part in pointer:
        value = value[part]
    return value


def merged(one: Any, other: Any) -> Any:
    """Return two JSON values as one: objects member by member, arrays item by item, else the other one."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {**one, **{name: merged(one.get(name), value) for name, value in other.items()}}
    if isinstance(one, list) and isinstance(other, list):
        paired = [merged(a, b) for a, b in zip(one, other, strict=False)]
        return paired + (one if len(one) > len(other) else other)[len(paired) :]
    return other if other is not None else one


def fill(template: Any, tokens: Mapping[str, Any]) -> Any:
    """Return a copy of the template with every text that is a token replaced by what it stands for."""
    if isinstance(template, Mapping):
        return {name: fill(value, tokens) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, tokens) for value in template]
    return tokens.get(template, template) if isinstance(template, str) else template

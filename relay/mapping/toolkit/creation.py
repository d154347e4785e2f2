"""What a write-back adds where a path finds nothing: the toolkit's `c` → our `create` block, or nothing at all.

Where the path itself says the place (`c` repeats it), the block is not needed. Constants that no filter of the path
demands are fillers to us, whether `x` or not: they are told and never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.paths import Every, Filter, Index, Member, Step
from relay.mapping.placing import NoPlace, invertible, put
from relay.mapping.toolkit.elements import KIND, REFERENCE, VALUE, Element, Leaf, names_of, text_of

_TAILS: dict[str, tuple[tuple[str, ...], ...]] = {
    "reference": ((), ("reference",)),
    "concept": ((), ("code",), ("coding", "code")),
}
"""Where below the path of a line its value may stand."""

_FILLERS = ("x", "X", "", None)


@dataclass(slots=True)
class Creation:
    """What a line gets of its `c`: a `create` block, one more path, the system of a concept; and what to tell."""

    block: dict[str, Any] | None = None
    path: str = ""
    system: str = ""
    way: bool = True
    """Whether a write-back finds a place for a new value."""
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


def creation_of(element: Element, action: str) -> Creation:
    """Turn what an element map creates into what a line of ours says."""
    made = Creation()
    steps = element.paths[0].steps
    fits = any(invertible(path.steps) for path in element.paths)
    if action == "concept":
        made.system = next((str(value) for names, value in demanded(steps) if names[-1:] == ("system",)), "")
    if element.creates is None:
        made.way = fits
        return made
    value = next(
        (leaf for leaf in element.creates if leaf.value == (REFERENCE if action == "reference" else VALUE)), None
    )
    if value is None and action == "reference":
        value = next((leaf for leaf in element.creates if leaf.value == VALUE), None)
    _tell(element.creates, steps, value, action, made)
    if value is None or not _agrees(value, steps, action):
        where = f"at {value.text}, where s does not read it" if value else "nowhere"
        made.losses.append(f"c puts the value {where}")
        made.way = fits
    elif fits:
        made.notes.append("c is not needed: s says where a new value goes")
    else:
        _block(steps, action, made)
    return made


def demanded(steps: Sequence[Step]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every constant that the filters of a path ask for, and the members that lead to it."""
    for position, step in enumerate(steps):
        if isinstance(step, Filter):
            for test in step.tests:
                yield (*names_of(steps[:position]), *names_of(test.steps)), test.value


def _agrees(value: Leaf, steps: Sequence[Step], action: str) -> bool:
    """Tell whether `c` puts the value where the path reads it, whatever the positions."""
    wanted = names_of(steps)
    tails = _TAILS.get(action, ((),))
    return value.names[: len(wanted)] == wanted and value.names[len(wanted) :] in tails


def _tell(leaves: Sequence[Leaf], steps: Sequence[Step], value: Leaf | None, action: str, made: Creation) -> None:
    """Sort the constants of `c`: those the filters demand, the system of a concept, and fillers."""
    asked = list(demanded(steps))
    fillers = [leaf.text for leaf in leaves if leaf.value in _FILLERS]
    if fillers:
        made.changes.append(f"fillers are never written: {', '.join(fillers)}")
    for leaf in leaves:
        if leaf is value:
            continue
        if leaf.value == KIND:
            made.changes.append(f"{leaf.text} is not written: a reference says its type itself")
        elif isinstance(leaf.value, str) and VALUE in leaf.value:
            made.losses.append(f"c puts {leaf.value} at {leaf.text} too: a line writes one element")
        elif any(leaf.names == names and _equal(leaf.value, each) for names, each in asked):
            continue
        elif action == "concept" and leaf.names[-1:] == ("system",) and value and leaf.names[:-1] == value.names[:-1]:
            made.system = str(leaf.value)
        elif leaf.value not in _FILLERS:
            made.changes.append(
                f"the constant {leaf.value!r} at {leaf.text} is not written: s does not ask for it; where it is more than "
                "a filler, say it in a filter of the path or in a create block"
            )


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _block(steps: Sequence[Step], action: str, made: Creation) -> None:
    """Say where a value goes that a path with `[*]` does not find: into a new item of that array."""
    first = [Index(0) if isinstance(step, Every) else step for step in steps]
    array = next(position for position, step in enumerate(steps) if isinstance(step, Every))
    tail = first[array + 1 :]
    if action == "reference" and names_of(steps)[-1:] != ("reference",):
        tail.append(Member("reference"))
    if action == "concept" or not tail:  # a block adds an object: no bare item, and no part of a CodeableConcept
        made.path = text_of(first)
        made.changes.append(f"c became a second path, {made.path}, which says where a new value goes")
        return
    try:
        _, built = put(tail, None, REFERENCE if action == "reference" else VALUE)
    except NoPlace as problem:
        made.losses.append(f"c cannot be said as a create block: {problem}")
        made.way = False
        return
    made.block = {"at": text_of(steps[: array + 1]), "set": built}
    made.changes.append(f"c became a create block: a new item of {text_of(steps[:array])}, not a fixed position")

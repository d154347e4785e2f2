"""How much of real resources maps read, and how much of the maps real resources fill. Counts and names, never values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.actions import Sourced
from relay.mapping.check import every_expansion
from relay.mapping.expansions import IDENTIFIER, Expand
from relay.mapping.load import MapSet
from relay.mapping.lookups import ConceptLine, Reference
from relay.mapping.model import ChildDraft, Draft, EntityMap, Resolve, Resource
from relay.mapping.paths import Filter, Member, Step
from relay.mapping.translate import translate

Tree = dict[str, Any]
"""Element name → the tree of what is read below it; empty where the value itself is read."""

_ALWAYS = (("resourceType",), ("id",), ("meta", "tag", "code"))
_REFERENCE = (("reference",), ("type",), ("identifier", "system"), ("identifier", "value"))
_CODING = (("code",), ("display",))
_CLOSED = frozenset({"contained"})
"""Elements that are told as one: what is in them has elements of its own."""


def read_elements(entity: EntityMap) -> Tree:
    """Return the elements that some line of a map reads, those that its filters compare included."""
    tree: Tree = {}
    for names in (*_ALWAYS, *_meta(entity), *_lines(entity.lines)):
        _plant(tree, names)
    return tree


def _meta(entity: EntityMap) -> Iterator[tuple[str, ...]]:
    if entity.version:
        yield "meta", "versionId"
    if entity.last_updated:
        yield "meta", "lastUpdated"
    if entity.identifier is not None:
        yield from ((IDENTIFIER, name) for name in ("system", "value", "use"))


def _lines(lines: Iterable[Any]) -> Iterator[tuple[str, ...]]:
    """Yield the elements that lines read, as names from the resource (or the item) on."""
    for line in lines:
        if isinstance(line, Expand):
            if not line.disabled:
                yield from ((line.expansion.element, *names) for names in _lines(line.expansion.lines))
        elif isinstance(line, Sourced):
            for path, _ in line.reading.readers:
                yield from _path(line, path.steps)


def _path(line: Sourced[Any], steps: Sequence[Step]) -> Iterator[tuple[str, ...]]:
    names: tuple[str, ...] = ()
    for step in steps:
        if isinstance(step, Member):
            names = (*names, step.name)
        elif isinstance(step, Filter):
            for test in step.tests:
                yield (*names, *(each.name for each in test.steps if isinstance(each, Member)))
    if isinstance(line, Reference):
        yield from ((*names, *below) for below in _REFERENCE)
    elif isinstance(line, ConceptLine):
        # a Coding, a CodeableConcept, or a bare code
        yield from ((*names, *below) for below in _CODING)
        yield from ((*names, "coding", *below) for below in _CODING)
        yield names
    else:
        yield names


def _plant(tree: Tree, names: tuple[str, ...]) -> None:
    """Add one element and those it is in."""
    for name in names:
        tree = tree.setdefault(name, {})


def unread(resource: Resource, tree: Tree) -> set[str]:
    """Return the elements with a value that nothing reads, as dotted names; positions in arrays do not count."""
    found: set[str] = set()
    _walk(resource, tree, "", found)
    return found


def _walk(value: Any, tree: Tree | None, at: str, found: set[str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            path = f"{at}.{name}" if at else name
            if name in _CLOSED and not (tree and name in tree):
                found.add(path)
            else:
                _walk(inner, tree.get(name) if tree else None, path, found)
    elif isinstance(value, list):
        for item in value:
            _walk(item, tree, at, found)
    elif tree is None and value is not None:
        found.add(at)


@dataclass(slots=True)
class TypeCoverage:
    """What was seen of one resource type; `unread` counts resources by element, `filled` are (array, column)."""

    type: str
    entity: EntityMap | None
    disabled: bool
    tree: Tree
    resources: int = 0
    failed: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    filled: set[tuple[str, str]] = field(default_factory=set)
    issues: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Issues by severity and code."""

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for programs and for printing."""
        return {
            "type": self.type,
            "resources": self.resources,
            "map": "disabled" if self.disabled else "none" if self.entity is None else "mapped",
            "table": self.entity.table.name if self.entity else None,
            "failed": self.failed,
            "issues": {f"{severity} {code}": count for (severity, code), count in sorted(self.issues.items())},
            "unread": [
                {"element": element, "resources": count, "percent": round(100 * count / self.resources, 1)}
                for element, count in sorted(self.unread.items(), key=lambda each: (-each[1], each[0]))
            ],
            "unfilled": [f"{array}: {column}" if array else column for array, column in self._unfilled()],
        }

    def _unfilled(self) -> Iterator[tuple[str, str]]:
        if self.entity is None or self.disabled:
            return
        columns = [("", column) for column in self.entity.columns]
        columns += [(each.name, column) for each in every_expansion(self.entity.expansions) for column in each.columns]
        yield from (each for each in columns if each not in self.filled)


class Coverage:
    """Adds resources up, by type."""

    def __init__(self, maps: MapSet) -> None:
        self.maps = maps
        self.types: dict[str, TypeCoverage] = {}

    def add(self, resource: Resource, resolve: Resolve) -> None:
        """Count one resource."""
        kind = str(resource.get("resourceType"))
        known = self.types.get(kind)
        if known is None:
            known = self.types[kind] = self._of(kind)
        known.resources += 1
        known.unread.update(unread(resource, known.tree))
        if known.entity is not None and not known.disabled:
            draft = translate(known.entity, resource, resolve)
            known.issues.update((issue.severity, issue.code) for issue in draft.issues)
            known.failed += any(issue.severity == "error" for issue in draft.issues)
            known.filled.update(_filled("", draft))

    def _of(self, kind: str) -> TypeCoverage:
        entity, off = self.maps.for_resource(kind), self.maps.disabled(kind)
        tree: Tree = {}
        for names in _ALWAYS:
            _plant(tree, names)
        return TypeCoverage(kind, entity or off, off is not None, read_elements(entity) if entity else tree)

    def report(self) -> list[dict[str, Any]]:
        """Return what was counted, the most frequent type first."""
        types = sorted(self.types.values(), key=lambda each: (-each.resources, each.type))
        return [each.as_json() for each in types]


def _filled(array: str, draft: Draft | ChildDraft) -> Iterator[tuple[str, str]]:
    values: Mapping[str, Any]
    for values in (draft.columns, draft.lookups):
        yield from ((array, column) for column, value in values.items() if value is not None)
    for child in draft.children:
        yield from _filled(child.expansion.name, child)

"""The action that writes child rows: `expand`, an array of the resource → rows of a child table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from relay.errors import MapError
from relay.mapping.actions import Copy, Line, action, matching
from relay.mapping.building import Building, Scope, find_column, find_table
from relay.mapping.document import Place
from relay.mapping.model import ChildDraft, ExpansionMap, IdentifierMap, Issue, Table
from relay.mapping.paths import Member, path_of
from relay.mapping.shape import CopyShape, ExpandShape, ExpansionShape, IdentifierShape, Shape, shaped
from relay.mapping.values import TEXT_TYPES

IDENTIFIER = "identifier"
DEEPEST = 2
Vanished = Literal["keep", "deactivate", "delete"]


@action("expand")
@dataclass(frozen=True, slots=True)
class Expand(Line[ExpandShape]):
    """Each item of an array → one child row; items equal in their match columns are one row."""

    shape: ClassVar[type[Shape]] = ExpandShape
    expansion: ExpansionMap
    disabled: bool = False
    """Whether the expansion it uses is disabled: then what it would have expanded is told, loudly."""

    @classmethod
    def build(cls, spec: ExpandShape, scope: Scope, place: Place) -> Expand:
        """Build it from the expansion that it names or holds."""
        return _expanded(spec, scope, place)

    @property
    def elements(self) -> frozenset[str]:
        """The array."""
        return frozenset({self.expansion.element})

    def write(self, item: Any, into: Building) -> None:
        """Write the children; the items of a wrong array are reported together."""
        element = self.expansion.element
        array = item.get(element) if isinstance(item, Mapping) else None  # an item of an array may be anything
        if array is None:
            return
        if not isinstance(array, list):
            into.misfit(path_of(f"$.{element}", (Member(element),)))
            return
        if self.disabled:
            path = path_of(f"$.{element}", (Member(element),))
            into.issue("warning", "expansion-disabled", f"the expansion {self.expansion.name} is disabled", path)
            return
        inside = f"{into.item}." if into.item else ""
        seen: dict[tuple[Any, ...], ChildDraft] = {}
        for position, each in enumerate(array):
            if each is not None:
                self._child(each, f"{inside}{element}[{position}]", into, seen)
        into.children.extend(seen.values())

    def _child(self, item: Any, place: str, into: Building, seen: dict[tuple[Any, ...], ChildDraft]) -> None:
        expansion = self.expansion
        child = Building(into.resolve, concepts=into.concepts, issues=into.issues, item=place)
        before = len(into.issues)
        for line in expansion.lines:
            line.write(item, child)
        child.settle(expansion.choices)
        key = tuple(child.value_of(column) for column in expansion.match)
        if child.left_out or all(value is None for value in key):
            if not any(issue.severity == "error" for issue in into.issues[before:]):
                message = f"the item has no value for what identifies its row in {expansion.table.name}"
                into.issues.append(Issue("information", "item-left-out", message, place))
            return
        draft = ChildDraft(expansion, child.columns, child.lookups, child.sources, tuple(child.children))
        first = seen.setdefault(key, draft)
        if first is not draft and replace(first, sources={}) != replace(draft, sources={}):
            message = "another item has the same match values: the first one counts"
            into.issues.append(Issue("information", "duplicate-item", message, place))


def _expanded(spec: ExpandShape, scope: Scope, place: Place) -> Expand:
    document, named = scope.document, scope.named
    if scope.depth == DEEPEST:
        raise document.error((*place, "expand"), "expansions nest two deep: an item's items are the last to expand")
    inline = {
        key: value
        for key in ("table", "lookup", "vanished", "unfilled", "attributes")
        if (value := getattr(spec, key)) is not None
    }
    at, definition = place, inline
    if spec.using is not None:
        if inline:
            raise document.error(
                (*place, "using"), f"an expansion is named or written here, not both: {', '.join(inline)}"
            )
        if spec.using not in named:
            raise document.error((*place, "using"), f"unknown expansion {spec.using}", sorted(named))
        at, definition = ("expansions", spec.using), named[spec.using]
    errors: list[MapError] = []
    shape = shaped(ExpansionShape, document, at, definition, errors)
    if shape is None:
        raise MapError("\n".join(map(str, errors)))
    if not spec.expand.isidentifier():
        raise document.error((*place, "expand"), "must be the bare name of an element", [IDENTIFIER])
    table = find_table(document, (*at, "table"), scope.tables, shape.table)
    if table is scope.table:
        raise document.error((*at, "table"), f"the rows of {table.name} cannot hang on rows of the same table")
    inner = child_scope(scope, table, {shape.lookup: "the parent link"})
    parent_link(inner, at, shape.lookup, scope.table)
    lines = tuple(scope.lines(shape.attributes, inner, (*at, "attributes")))
    if not matching(lines):
        raise document.error(at, "an expansion needs a line with match: true, to tell its rows apart")
    name = spec.using or spec.expand
    expansion = expansion_of(inner, name, spec.expand, shape.lookup, lines, vanished=shape.vanished)
    expansion = replace(expansion, unfilled=inner.unfilled(shape.unfilled, (*at, "unfilled")))
    return Expand(expansion, shape.disabled)


def expansion_of(
    scope: Scope,
    name: str,
    element: str,
    lookup: str,
    lines: tuple[Line[Any], ...],
    *,
    vanished: Vanished | None = None,
) -> ExpansionMap:
    """Put an expansion together; vanished identifiers are deactivated, a corrected record number must not live on."""
    return ExpansionMap(
        name=name,
        element=element,
        table=scope.table,
        lookup=lookup,
        columns=tuple(dict.fromkeys(column for line in lines for column in line.columns)),
        match=matching(lines),
        vanished=vanished or ("deactivate" if element == IDENTIFIER else "keep"),
        file=scope.document.file,
        lines=lines,
        choices=scope.choices(),
        expansions=live_expansions(lines),
    )


def live_expansions(lines: Iterable[Line[Any]]) -> tuple[ExpansionMap, ...]:
    """Return the expansions that lines carry out."""
    return tuple(line.expansion for line in lines if isinstance(line, Expand) and not line.disabled)


def child_scope(scope: Scope, table: Table, taken: dict[str, str]) -> Scope:
    """Return the scope for lines that write a child table."""
    return replace(scope, table=table, depth=scope.depth + 1, taken=taken, alternatives={})


def parent_link(scope: Scope, place: Place, lookup: str, parent: Table) -> None:
    """Check that `lookup` of the child table points to the parent's table."""
    column = find_column(scope.document, (*place, "lookup"), scope.table, lookup)
    if parent.name not in column.targets:
        at = (*place, "lookup")
        valid = [each.name for each in scope.table.columns.values() if parent.name in each.targets]
        raise scope.document.error(at, f"{lookup} does not point to {parent.name}", valid)


def identifier_map(spec: IdentifierShape, scope: Scope) -> IdentifierMap:
    """Check the `identifier` block of a map."""
    document, place = scope.document, (IDENTIFIER,)
    table = find_table(document, (*place, "table"), scope.tables, spec.table)
    parent_link(child_scope(scope, table, {}), place, spec.lookup, scope.table)
    texts = [column.name for column in table.columns.values() if column.type in TEXT_TYPES]
    for key, name in (("system_column", spec.system_column), ("value_column", spec.value_column)):
        if find_column(document, (*place, key), table, name).type not in TEXT_TYPES:
            raise document.error((*place, key), f"{name} is not text", texts)
    if spec.system_column == spec.value_column:
        raise document.error((*place, "value_column"), "system and value need two columns", texts)
    search = None if spec.search is None else frozenset(spec.search)
    columns = spec.system_column, spec.value_column
    return IdentifierMap(spec.system, table, spec.lookup, *columns, spec.writeback, search)


def identifier_expansion(identifier: IdentifierMap, scope: Scope) -> Expand:
    """Build the expansion that the `identifier` block stands for: system and value, both matching; a value must be there."""
    inner = child_scope(scope, identifier.table, {identifier.lookup: "the parent link"})
    place = (IDENTIFIER,)
    specs = (
        CopyShape(column=identifier.system_column, copy="$.system", match=True),
        CopyShape(column=identifier.value_column, copy="$.value", match=True, required=True),
    )
    lines = tuple(Copy.build(spec, inner, place) for spec in specs)
    return Expand(expansion_of(inner, IDENTIFIER, IDENTIFIER, identifier.lookup, lines))

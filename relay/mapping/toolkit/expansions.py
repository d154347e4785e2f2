"""Expansion maps: entity maps with Expand, run by Expand lines, within the map of the root resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from relay.mapping.document import Place
from relay.mapping.model import Table
from relay.mapping.r4 import MANY_IDENTIFIERS, RESOURCE_TYPES
from relay.mapping.toolkit.elements import ElementFault, element_name
from relay.mapping.toolkit.lines import Built, NotSaid, Setting, line_of, merged, origins_of
from relay.mapping.toolkit.report import Entry
from relay.mapping.toolkit.rows import AttributeRow, EntityRow, lose_all, named

IDENTIFIER = "identifier"
_DEEPEST = 2
_STANDARD = ("msemr_", "msdyn_", "msind_")
"""Publishers whose tables are no identifier tables of the reference architecture."""
_VANISHED = "rows of identifiers that vanish are deactivated, as is the relay's default: vanished: keep leaves them"


@dataclass(eq=False, slots=True)
class Expanding:
    """What the Expand lines of one entity map become."""

    identifier: dict[str, Any] | None = None
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[Built] = field(default_factory=list)
    origins: dict[Place, list[Entry]] = field(default_factory=dict)


class Expander:
    """Finds the expansion map that an Expand line means and builds it, two levels deep."""

    def __init__(self, entities: Sequence[EntityRow], tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._used: set[EntityRow] = set()
        meant = {
            target
            for entity in entities
            for row in entity.attributes
            if row.action == "expand"
            for target in named(entities, row.expansion)
        }
        self._expansions = [entity for entity in entities if _is_expansion(entity, entity in meant)]

    def expands(self, entity: EntityRow) -> bool:
        """Tell whether an entity map is one of an expansion."""
        return entity in self._expansions

    def unused(self) -> list[EntityRow]:
        """Return the expansion maps that no line ran."""
        return [entity for entity in self._expansions if entity not in self._used]

    def lines_of(self, root: EntityRow, mapped: Mapping[str, str]) -> Expanding:
        """Build the Expand lines of a root map: the identifier block where they are its recipe, else expansions."""
        made = Expanding()
        for row in root.attributes:
            if row.action != "expand":
                continue
            try:
                element, entity = self._meant(row, root)
                with _lost_with(entity):
                    if (block := self._identifier(row, element, entity, root)) is not None:
                        made.identifier = block
                        rows = [row.entry, entity.entry, *(each.entry for each in entity.attributes)]
                        made.origins[(IDENTIFIER,)] = rows
                        continue
                    definition, lines = self._definition(entity, root, mapped, (root, entity))
            except NotSaid as why:
                row.entry.lose(str(why))
                continue
            if element == IDENTIFIER:
                entity.entry.change(_VANISHED)
            name = element if element not in made.definitions else f"{element}-{entity.table}"
            made.definitions[name] = definition
            made.origins["expansions", name] = [entity.entry]
            made.origins |= origins_of(lines, ("expansions", name, "attributes"))
            line = {"expand": element, "using": name} | ({"disabled": True} if row.disabled else {})
            made.lines.append(Built([row], "expand", line))
        return made

    def _meant(self, row: AttributeRow, parent: EntityRow) -> tuple[str, EntityRow]:
        """Return the array that a line expands, and the expansion map it runs; raises NotSaid."""
        try:
            element = element_name(row.element_map)
        except ElementFault as fault:
            raise NotSaid(str(fault)) from None
        found = named(self._expansions, row.expansion)
        if not found and not row.expansion.shown:
            found = self._likely(element, parent)
            if len(found) == 1:
                row.entry.change(f"the export does not say which expansion it runs: {found[0].name}, the one that fits")
        if len(found) != 1:
            what = f"the Expansion Entity Map {row.expansion.shown}".strip()
            raise NotSaid(f"{what} is not in the export" if not found else f"{what} could be {len(found)} rows")
        self._used.add(found[0])
        return element, found[0]

    def _likely(self, element: str, parent: EntityRow) -> list[EntityRow]:
        """Return the expansion maps whose table is called as the element is and points to the parent's table."""
        fitting = [
            entity
            for entity in self._expansions
            if entity.table.endswith(element.lower())
            and (entity.parent_link or self._links(entity.table, parent.table))
        ]
        same_type = [entity for entity in fitting if entity.resource == parent.resource]
        return same_type or fitting

    def _links(self, table: str, parent: str) -> list[str]:
        facts = self._tables.get(table)
        return [] if facts is None else [each.name for each in facts.columns.values() if parent in each.targets]

    def _lookup(self, entity: EntityRow, parent: str) -> str:
        """Return the column that holds the parent row; raises NotSaid."""
        if entity.parent_link:
            return entity.parent_link
        links = self._links(entity.table, parent)
        if len(links) != 1:
            entity.entry.lose("there is no Parent Link Attribute")
            raise NotSaid(f"its expansion {entity.name} has no Parent Link Attribute")
        entity.entry.change(f"there is no Parent Link Attribute: {links[0]}, the one column that points to {parent}")
        return links[0]

    def _identifier(self, row: AttributeRow, element: str, entity: EntityRow, root: EntityRow) -> dict[str, Any] | None:
        """Return the identifier block, where this is the recipe of the reference architecture, and all of it."""
        columns = _identifier_columns(entity)
        live = not (row.disabled or entity.disabled) and entity.active
        own = not entity.table.startswith(_STANDARD)
        if element != IDENTIFIER or columns is None or not live or not own or root.resource not in MANY_IDENTIFIERS:
            return None
        system = f"urn:oid:org.d365.mc4h.{root.resource.lower()}.id"
        lookup = self._lookup(entity, root.table)
        entity.entry.change(
            f"became the identifier block; its system, {system}, is by convention: the plug-in's configuration has yours"
        )
        entity.entry.change(_VANISHED)
        if entity.writeback:
            entity.entry.change("the relay writes the identifier row itself: the plug-in is not needed")
        for each in (row, *entity.attributes):
            each.entry.note("is in the identifier block")
        return {
            "system": system,
            "table": entity.table,
            "lookup": lookup,
            "system_column": columns[0],
            "value_column": columns[1],
            "writeback": entity.writeback,
        }

    def _definition(
        self, entity: EntityRow, parent: EntityRow, mapped: Mapping[str, str], above: tuple[EntityRow, ...]
    ) -> tuple[dict[str, Any], list[Built]]:
        """Build what an expansion is; `above` are the entity maps around its lines, itself last. Raises NotSaid."""
        table = self._tables.get(entity.table)
        setting = Setting(table, self._tables, mapped, child=True, writeback=False)
        lookup = self._lookup(entity, parent.table)
        lines: list[Built] = []
        nested: list[Built] = []
        for row in entity.attributes:
            try:
                if row.action == "expand":
                    nested.append(self._nested(row, entity, mapped, above))
                elif row.action:
                    lines.append(line_of(row, setting))
            except NotSaid as why:
                row.entry.lose(str(why))
        lines = merged(lines)
        if not lines:
            raise NotSaid(f"its expansion {entity.name} has no line that could be carried")
        _matching(entity, lines)
        if entity.writeback and entity.messages:
            entity.entry.lose(
                "Enable Write Back to FHIR: changes of child rows do not go to FHIR, only whole new resources"
            )
        if above[0].goes_out and not entity.writeback:
            for each in lines:
                each.line |= {"writeback": False} if each.action != "default" else {}
        definition: dict[str, Any] = {"table": entity.table, "lookup": lookup}
        if entity.disabled or not entity.active:
            definition["disabled"] = True
        lines += nested
        return definition | {"attributes": [each.line for each in lines]}, lines

    def _nested(
        self, row: AttributeRow, parent: EntityRow, mapped: Mapping[str, str], above: tuple[EntityRow, ...]
    ) -> Built:
        """Build an Expand line inside an expansion, with all that it runs in it."""
        element, entity = self._meant(row, parent)
        with _lost_with(entity):
            if len(above) > _DEEPEST:
                raise NotSaid("expansions nest two deep: an item's items are the last to expand")
            definition, lines = self._definition(entity, parent, mapped, (*above, entity))
        disabled = definition.pop("disabled", False) or row.disabled
        line = {"expand": element} | definition | ({"disabled": True} if disabled else {})
        below = {("table",): [entity.entry], **origins_of(lines, ("attributes",))}
        return Built([row], "expand", line, below=below)


@contextmanager
def _lost_with(entity: EntityRow) -> Iterator[None]:
    """Tell every row of an expansion that it is lost when the expansion is."""
    try:
        yield
    except NotSaid as why:
        lose_all(entity, str(why))
        raise


def _is_expansion(entity: EntityRow, meant: bool) -> bool:
    if entity.expand is not None:
        return entity.expand
    return meant or bool(entity.parent_link) or bool(entity.resource and entity.resource not in RESOURCE_TYPES)


def _identifier_columns(entity: EntityRow) -> tuple[str, str] | None:
    """Return the columns of system and value, where an expansion copies these two, matches on both, and has no more."""
    columns: dict[str, str] = {}
    for row in entity.attributes:
        if row.disabled or row.action != "copy" or not row.match or not row.column:
            return None
        try:
            columns[element_name(row.element_map)] = row.column
        except ElementFault:
            return None
    if columns.keys() != {"system", "value"} or len(entity.attributes) != len(columns):
        return None
    return columns["system"], columns["value"]


def _matching(entity: EntityRow, lines: Sequence[Built]) -> None:
    """Let every line match where the export does not say which ones do: rows need something to be told apart by."""
    if any(each.line.get("match") and not each.line.get("disabled") for each in lines):
        return
    fitting = [each for each in lines if each.action != "default" and not each.line.get("disabled")]
    for each in fitting:
        each.line["match"] = True
        each.rows[0].entry.change("match: true, since no line of its expansion is Used in Record Matching")
    columns = ", ".join(each.line["column"] for each in fitting)
    entity.entry.change(
        f"no line is Used in Record Matching: rows are told apart by all of {columns}; say fewer if you know"
    )

"""Builds one entity map from its file: every check that needs no other map, each fault with file, line and choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from relay.errors import MapError
from relay.mapping.actions import ACTIONS, Line, Sourced, matching
from relay.mapping.building import Scope, find_column, find_table, near
from relay.mapping.document import Document, Place
from relay.mapping.expansions import IDENTIFIER, Expand, identifier_expansion, identifier_map, live_expansions
from relay.mapping.lookups import shared
from relay.mapping.model import EntityMap, IdentifierMap, Outward, Scalar, Table
from relay.mapping.r4 import MANY_IDENTIFIERS, ONE_IDENTIFIER, RESOURCE_TYPES
from relay.mapping.reading import constant
from relay.mapping.shape import IdentifierShape, MapShape, shaped
from relay.mapping.states import STATES, SYSTEM_LOOKUPS, retired
from relay.mapping.values import LOOKUP_TYPES, TEXT_TYPES


def build_entity(
    shape: MapShape,
    document: Document,
    tables: Mapping[str, Table],
    mapped: Mapping[str, str],
    errors: list[MapError],
) -> EntityMap | None:
    """Build one map; None, and every fault in `errors`, when it is wrong. `mapped` is resource type → table of all maps."""
    try:
        if shape.resource not in RESOURCE_TYPES:
            raise document.error(("resource",), f"{shape.resource} is no R4 type", near(shape.resource, RESOURCE_TYPES))
        table = find_table(document, ("table",), tables, shape.table)
    except MapError as error:
        errors.append(error)
        return None
    builder = _Builder(shape, document, errors, table=table, tables=tables, mapped=mapped)
    before = len(errors)
    entity = builder.build()
    return entity if len(errors) == before else None


class _Builder:
    """Builds one map and gathers its faults, so that one run shows them all."""

    def __init__(
        self,
        shape: MapShape,
        document: Document,
        errors: list[MapError],
        *,
        table: Table,
        tables: Mapping[str, Table],
        mapped: Mapping[str, str],
    ) -> None:
        self.shape = shape
        self.document = document
        self.errors = errors
        self.scope = Scope(document, table, tables, mapped, shape.null, shape.expansions, self._lines)

    def build(self) -> EntityMap:
        shape, scope = self.shape, self.scope
        where = self._where()
        self._own("key", shape.key, TEXT_TYPES)
        if shape.version:
            self._own("version", shape.version, TEXT_TYPES)
        if shape.last_updated:
            self._own("last_updated", shape.last_updated, frozenset({"DateTime"}))
        if shape.merged_into:
            self._survivor()
        identifier = self._identifier()
        lines = tuple(self._lines(shape.attributes, scope, ("attributes",)))
        lines = self._with_identifiers(lines, identifier)
        own = (*where, shape.key, shape.version, shape.last_updated, shape.merged_into)
        return EntityMap(
            resource=shape.resource,
            table=scope.table,
            where=where,
            key=shape.key,
            create=shape.create,
            identifier=identifier,
            columns=tuple(dict.fromkeys(filter(None, (*own, *(name for line in lines for name in line.columns))))),
            match=matching(lines),
            expansions=live_expansions(lines),
            version=shape.version,
            last_updated=shape.last_updated,
            file=self.document.file,
            lines=lines,
            elements=frozenset[str]().union(*(line.elements for line in lines)),
            disabled=shape.disabled,
            choices=scope.choices(),
            outward=self._outward(lines),
            unfilled=self._unfilled(),
            deletes=self._deletes(),
            merges=self._merges(),
            merged_into=shape.merged_into,
        )

    def _deletes(self) -> Literal["ignore", "deactivate", "delete"]:
        chosen = self.shape.deletes or ("deactivate" if self._may_retire() else "ignore")
        if chosen == "deactivate":
            self._check_retires("deletes", ["ignore", "delete"])
        return chosen

    def _merges(self) -> Literal["ignore", "deactivate"]:
        chosen = self.shape.merges or ("deactivate" if self._may_retire() else "ignore")
        if chosen == "deactivate":
            self._check_retires("merges", ["ignore"])
        return chosen

    def _may_retire(self) -> bool:
        """Tell whether rows have a state in which they are out of use, and the map leaves their state alone."""
        return retired(self.scope.table) is not None and self.scope.taken.keys().isdisjoint(STATES)

    def _check_retires(self, key: str, valid: list[str]) -> None:
        if not self._may_retire():
            written = [f"{name} is written by {self.scope.taken[name]}" for name in STATES if name in self.scope.taken]
            known = f"the facts name no state of {self.scope.table.name} in which a row is inactive or canceled"
            self.errors.append(self.document.error((key,), "; ".join(written) or known, valid))

    def _survivor(self) -> None:
        """Check the lookup that points to the row of the resource that replaces this one, and keep lines off it."""
        name = self.shape.merged_into
        try:
            column = find_column(self.document, ("merged_into",), self.scope.table, name)
            if self.scope.table.name not in column.targets:
                message = f"{name} is no lookup to {self.scope.table.name}"
                valid = [
                    each.name for each in self.scope.table.columns.values() if self.scope.table.name in each.targets
                ]
                raise self.document.error(("merged_into",), message, sorted(set(valid) - SYSTEM_LOOKUPS))
            if name in SYSTEM_LOOKUPS:
                raise self.document.error(
                    ("merged_into",), f"{name} is written by Dataverse alone, when it merges rows"
                )
        except MapError as error:
            self.errors.append(error)
        self.scope.taken[name] = "merged_into"

    def _outward(self, lines: Iterable[Line[Any]]) -> Outward:
        """Gather what may go to FHIR; a condition that no row of the map could meet is a fault."""
        shape = self.shape
        when = self._constants("writeback_when", shape.writeback_when)
        if shape.create_in_fhir and shape.identifier is None:
            message = "a resource made from a row needs the identifier block: it is what finds it again"
            self.errors.append(self.document.error(("create_in_fhir",), message, ["false"]))
        columns = [line.reading.column for line in lines if isinstance(line, Sourced) and line.reading.outward]
        return Outward(frozenset(shape.writeback), shape.create_in_fhir, when, shape.conflict, tuple(columns))

    def _unfilled(self) -> frozenset[str]:
        try:
            return self.scope.unfilled(self.shape.unfilled, ("unfilled",))
        except MapError as error:
            self.errors.append(error)
            return frozenset()

    def _where(self) -> dict[str, Scalar]:
        self.scope.taken |= dict.fromkeys(self.shape.where, "where")
        return self._constants("where", self.shape.where)

    def _constants(self, key: str, values: Mapping[str, Any]) -> dict[str, Scalar]:
        """Read columns with fixed values."""
        found: dict[str, Scalar] = {}
        for name, value in values.items():
            at = (key, name)
            try:
                column = find_column(self.document, at, self.scope.table, name)
                if column.type in LOOKUP_TYPES:
                    raise self.document.error(at, f"{name} is a lookup; {key} takes plain columns")
                found[name] = constant(column, value, self.scope, at)
            except MapError as error:
                self.errors.append(error)
        return found

    def _own(self, key: str, name: str, types: frozenset[str]) -> None:
        """Check a column that the map itself writes, such as `key`, and keep lines off it."""
        try:
            column = find_column(self.document, (key,), self.scope.table, name)
            if column.type not in types:
                raise self.document.error((key,), f"{name} is of type {column.type}", sorted(types))
            if name in self.scope.taken:
                raise self.document.error((key,), f"{name} is written by {self.scope.taken[name]} already")
        except MapError as error:
            self.errors.append(error)
        self.scope.taken[name] = key

    def _identifier(self) -> IdentifierMap | None:
        if self.shape.identifier is None:
            return None
        spec = shaped(IdentifierShape, self.document, (IDENTIFIER,), self.shape.identifier, self.errors)
        try:
            if self.shape.resource not in MANY_IDENTIFIERS:
                has = "a single identifier" if self.shape.resource in ONE_IDENTIFIER else "no identifier"
                message = f"{self.shape.resource} has {has} in FHIR R4, so no Dynamics identifier can be added to it"
                raise self.document.error((IDENTIFIER,), message)
            return identifier_map(spec, self.scope) if spec else None
        except MapError as error:
            self.errors.append(error)
            return None

    def _with_identifiers(
        self, lines: tuple[Line[Any], ...], identifier: IdentifierMap | None
    ) -> tuple[Line[Any], ...]:
        """Add the expansion of the identifier block, unless a line writes that table already."""
        taken: dict[str, str] = {}
        explicit = False
        for line in lines:
            if not isinstance(line, Expand):
                continue
            expansion = line.expansion
            if expansion.table.name in taken:
                message = f"{expansion.table.name} is written by the expansion {taken[expansion.table.name]} already"
                self.errors.append(self.document.error(("attributes",), message))
            taken[expansion.table.name] = expansion.name
            if identifier and expansion.table is identifier.table:
                explicit = True
                columns = {identifier.system_column, identifier.value_column}
                if (
                    expansion.element != IDENTIFIER
                    or expansion.lookup != identifier.lookup
                    or {*expansion.match} != columns
                ):
                    message = (
                        f"the expansion {expansion.name} into {identifier.table.name} must expand identifier by "
                        f"{identifier.lookup} and match exactly {' and '.join(sorted(columns))}"
                    )
                    self.errors.append(self.document.error((IDENTIFIER,), message))
        return lines if explicit or identifier is None else (*lines, identifier_expansion(identifier, self.scope))

    def _lines(self, attributes: list[dict[str, Any]], scope: Scope, place: Place) -> list[Line[Any]]:
        built: list[Line[Any]] = []
        for index, line in enumerate(attributes):
            try:
                made = self._line(line, scope, (*place, index))
            except MapError as error:
                self.errors.append(error)
                continue
            if made is not None:
                built.append(made)
        return shared(built)

    def _line(self, line: dict[str, Any], scope: Scope, place: Place) -> Line[Any] | None:
        """Build one line; None when it is disabled or wrong."""
        named = [name for name in ACTIONS if name in line]
        if len(named) != 1:
            message = f"a line has one action, this one has {' and '.join(named) or 'none'}"
            raise self.document.error(place, message, ACTIONS)
        kind = ACTIONS[named[0]]
        spec = shaped(kind.shape, self.document, place, line, self.errors)
        if spec is None:
            return None
        made = kind.build(spec, scope, place)
        return None if getattr(spec, "disabled", False) else made

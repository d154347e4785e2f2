"""Conditions as SQL over one table: names checked, values converted to the column's type and bound."""

from __future__ import annotations

from typing import Final

from devstack.dataverse.columns import EXACT, GUIDS, WHOLE, check_literal, day, edm, guid, instant
from devstack.dataverse.errors import BadSyntax, TooManyConditions, UnknownAttribute, UnknownProperty
from devstack.dataverse.filters import MAX_CONDITIONS, Both, Compare, Condition, In, Like, Not, Path
from devstack.dataverse.lexer import Word, word_at
from devstack.dataverse.metadata import LOOKUPS, TEXTS, Column, Navigation, Table
from devstack.dataverse.rows import Store

_SQL: Final = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_MAX_LINKS: Final = 10
Sql = tuple[str, list[object]]


class Conditions:
    """Turns a condition into a WHERE clause; every nested table gets an alias of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._aliases = 0
        self._links: set[tuple[str, ...]] = set()

    def sql(self, table: Table, alias: str, condition: Condition) -> Sql:
        """Compile; raises UnknownProperty, UnknownAttribute or BadSyntax."""
        if isinstance(condition, Both):
            parts = [self.sql(table, alias, part) for part in condition.parts]
            joined = f" {condition.operator.upper()} ".join(sql for sql, _ in parts)
            return f"({joined})", [value for _, values in parts for value in values]
        if isinstance(condition, Not):
            inner, values = self.sql(table, alias, condition.inner)
            return f"(NOT COALESCE({inner}, 0))", values
        if isinstance(condition, In):
            return self._in(table, alias, condition)
        if len(condition.path.navigations) > _MAX_LINKS:
            raise BadSyntax(f"A path in $filter follows at most {_MAX_LINKS} navigation properties.")
        self._count_links(condition.path)
        return self._follow(table, alias, condition, condition.path.navigations)

    def _count_links(self, path: Path) -> None:
        for length in range(1, len(path.navigations) + 1):
            self._links.add(path.navigations[:length])
        if len(self._links) > MAX_CONDITIONS:
            raise TooManyConditions

    def _follow(self, table: Table, alias: str, condition: Compare | Like, navigations: tuple[str, ...]) -> Sql:
        """Apply a comparison to the row itself or, along its lookups, to the row they lead to.

        A missing row compares like one whose columns are all null.
        """
        if not navigations:
            return self._leaf(table, alias, condition)
        navigation = table.navigations.get(navigations[0])
        if navigation is None:
            raise UnknownProperty(navigations[0], table.name)
        target = self._store.metadata.target(navigation)
        self._aliases += 1
        inner = f"n{self._aliases}"
        sql, values = self._follow(target, inner, condition, navigations[1:])
        lookup = f'{alias}."{navigation.column.name}"'
        self._store.index(table, navigation.column.name)
        found = f'{lookup} IN (SELECT {inner}."{target.primary_id}" FROM "{target.name}" AS {inner} WHERE {sql})'
        of_type = _of_type(alias, navigation)
        if of_type:
            found = f"({of_type} AND {found})"
        if not _true_of_nothing(condition):
            return found, values
        missing = f"{lookup} IS NULL" + (f" OR NOT {of_type}" if of_type else "")
        return f"({missing} OR {found})", values

    def _leaf(self, table: Table, alias: str, condition: Compare | Like) -> Sql:
        column = _column(table, condition.path.name)
        name = f'{alias}."{column.name}"'
        if isinstance(condition, Like):
            if column.type not in TEXTS:
                raise BadSyntax(f"No function signature for '{condition.function}' takes '{edm(column)}'.")
            before = "" if condition.function == "startswith" else "%"
            after = "" if condition.function == "endswith" else "%"
            return f"dvlike({name}, ?)", [f"{before}{condition.text}{after}"]
        if isinstance(condition.value, Path):
            return self._two_columns(table, alias, condition, column, condition.value)
        return self._literal(table, name, condition.operator, column, condition.value)

    def _literal(self, table: Table, name: str, operator: str, column: Column, value: Word) -> Sql:
        if value.kind == "name" and value.text == "null":
            null = {"eq": f"{name} IS NULL", "ne": f"{name} IS NOT NULL"}
            return null.get(operator, "0"), []
        kept = check_literal(table, column, value)
        if operator == "eq":
            self._store.index(table, column.name)
            return f"{name} = ?", [kept]
        if operator == "ne":
            return f"({name} <> ? OR {name} IS NULL)", [kept]
        if column.type in GUIDS or column.type == "Boolean":
            raise BadSyntax(f"A binary operator '{operator}' is not defined for '{edm(column)}'.")
        return f"{name} {_SQL[operator]} ?", [kept]

    def _two_columns(self, table: Table, alias: str, condition: Compare, column: Column, other: Path) -> Sql:
        if other.navigations or condition.path.navigations:
            raise BadSyntax("Only columns of the same row can be compared with each other.")
        second = _column(table, other.name)
        if edm(second) != edm(column):
            raise BadSyntax(
                "A binary operator with incompatible types was detected. Found operand types "
                f"'{edm(column)}' and '{edm(second)}'."
            )
        sign = {"eq": "=", "ne": "<>"}.get(condition.operator) or _SQL[condition.operator]
        return f'{alias}."{column.name}" {sign} {alias}."{second.name}"', []

    def _in(self, table: Table, alias: str, condition: In) -> Sql:
        column = table.columns.get(condition.name)
        if column is None or not column.stored or column.secret:
            raise UnknownAttribute(condition.name, table.name)
        values = [from_text(table, column, text) for text in condition.values]
        name = f'{alias}."{column.name}"'
        marks = ", ".join("?" * len(values))
        if condition.negated:
            return f"({name} NOT IN ({marks}) OR {name} IS NULL)", values
        self._store.index(table, column.name)
        return f"{name} IN ({marks})", values


def _column(table: Table, name: str) -> Column:
    column = table.properties.get(name)
    if column is None or column.secret:
        if name in table.navigations or name in table.collections:
            raise BadSyntax(f"The navigation property '{name}' cannot be compared; compare one of its columns.")
        raise UnknownProperty(name, table.name)
    return column


def _of_type(alias: str, navigation: Navigation) -> str:
    if len(navigation.column.targets) < 2:  # noqa: PLR2004 - one target needs no telling apart
        return ""
    return f"{alias}.\"{navigation.column.name}@table\" IS '{navigation.targets[0]}'"


def _true_of_nothing(condition: Compare | Like) -> bool:
    """Say whether a row without values satisfies a comparison."""
    if isinstance(condition, Like) or isinstance(condition.value, Path):
        return False
    null = condition.value.kind == "name" and condition.value.text == "null"
    return condition.operator == ("eq" if null else "ne")


def from_text(table: Table, column: Column, text: str) -> object:
    """Convert one of PropertyValues, which are texts whatever the column's type."""
    value: object = None
    if column.type in TEXTS:
        return text
    if column.type in LOOKUPS or column.type == "Uniqueidentifier":
        value = guid(text)
    elif column.type == "DateTime":
        value = (day(text) if column.format == "DateOnly" else instant(text)) or None
    elif column.type in WHOLE | EXACT:
        word = word_at(text, 0) if text.strip() else None
        if word is not None and word.kind == "number" and word.end == len(text):
            value = check_literal(table, column, word)
    elif text in ("0", "1", "true", "false"):
        value = int(text in ("1", "true"))
    if value is None:
        raise BadSyntax(f"The value '{text}' of PropertyValues is not of the type of '{column.name}' ({edm(column)}).")
    return value

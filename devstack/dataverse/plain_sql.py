"""What FetchXML and SQL have in common: columns by logical name, comparisons with texts, and one page of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from devstack.dataverse.columns import GUIDS
from devstack.dataverse.conditions import from_text
from devstack.dataverse.errors import BadSyntax, UnknownAttribute
from devstack.dataverse.metadata import TEXTS, Column, Table

Sql = tuple[str, list[object]]
ORDERED: Final = {"eq": "=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def visible(table: Table, name: str) -> Column:
    """Return a column by its logical name; raises UnknownAttribute."""
    column = table.columns.get(name)
    if column is None or not column.stored or column.secret:
        raise UnknownAttribute(name, table.name)
    return column


def compared(table: Table, alias: str, column: Column, operator: str, text: str) -> Sql:
    """Compare a column with a text of its type; `ne` is true of what is empty, as everywhere in Dataverse."""
    name, value = f'{alias}."{column.name}"', from_text(table, column, text)
    if operator == "ne":
        return f"({name} <> ? OR {name} IS NULL)", [value]
    if operator != "eq" and (column.type in GUIDS or column.type == "Boolean"):
        raise BadSyntax(f"'{column.name}' of type {column.type} has no order.")
    return f"{name} {ORDERED[operator]} ?", [value]


def liked(alias: str, column: Column, pattern: str, *, negated: bool) -> Sql:
    """Compare a text with a pattern; raises BadSyntax for a column of another type."""
    if column.type not in TEXTS:
        raise BadSyntax(f"'{column.name}' of type {column.type} cannot be compared with a pattern.")
    name = f'{alias}."{column.name}"'
    if negated:
        return f"({name} IS NULL OR NOT dvlike({name}, ?))", [pattern]
    return f"dvlike({name}, ?)", [pattern]


def among(table: Table, alias: str, column: Column, texts: Sequence[str], *, negated: bool) -> Sql:
    """Compare a column with several texts of its type."""
    values = [from_text(table, column, text) for text in texts]
    name, marks = f'{alias}."{column.name}"', ", ".join("?" * len(values))
    if negated:
        return f"({name} NOT IN ({marks}) OR {name} IS NULL)", values
    return f"{name} IN ({marks})", values


def empty(alias: str, column: Column, *, negated: bool) -> Sql:
    """Ask whether a column has no value."""
    return f'{alias}."{column.name}" IS {"NOT " if negated else ""}NULL', []


def joined(word: str, parts: Iterable[Sql]) -> Sql:
    """Put conditions together by AND or OR; none at all is true."""
    found = list(parts)
    if not found:
        return "1", []
    return f"({f' {word} '.join(sql for sql, _ in found)})", [value for _, values in found for value in values]

"""`?sql=`: one SELECT of one table; joins, groups and aggregates other than COUNT(*) are 501.

The rows have the columns by their names or aliases. Anchor: what Microsoft's Python SDK sends; no page describes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from devstack.dataverse.columns import render
from devstack.dataverse.errors import BadSyntax, NotSupported
from devstack.dataverse.metadata import Column, Table
from devstack.dataverse.plain_sql import Sql, among, compared, empty, joined, liked, visible
from devstack.dataverse.query import PAGE
from devstack.dataverse.rows import Store
from devstack.dataverse.wire import Answer, Call, answer

OPTION: Final = "sql"
_WORD: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d{1,40}(?:\.\d{1,40})?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><>|!=|<=|>=|[=<>(),.*])|(?P<end>$))",
    re.ASCII,
)
_SIGNS: Final = {"=": "eq", "<>": "ne", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_CLAUSES: Final = frozenset({"FROM", "WHERE", "ORDER", "AND", "OR", "AS", "ASC", "DESC", "IS", "IN", "LIKE", "NOT"})
_ELSEWHERE: Final = frozenset(
    {*("JOIN", "INNER", "LEFT", "GROUP", "HAVING", "UNION", "OFFSET", "BETWEEN", "DISTINCT", "CASE", "EXISTS")}
)
_MAX_DEPTH: Final = 40
UNSETTLED: Final = (
    "Rows of SQL have the columns by the names or aliases of the SELECT, lookups as GUIDs; more than 5000 come in pages.",
)
"""What no page settles, and how it is here."""


@dataclass(slots=True)
class _Select:
    """One statement: the columns by their names in the answer (None is COUNT(*)), conditions and order."""

    shown: dict[str, Column | None] = field(default_factory=dict)
    where: Sql = ("1", [])
    order: list[str] = field(default_factory=list)
    top: int | None = None


class PlainSql:
    """Answers reads of a set by SQL."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, call: Call, table: Table) -> Answer:
        """Answer with one page of rows; raises BadSyntax, UnknownAttribute, or NotSupported naming what is not read."""
        if others := [name for name in call.options if name not in (OPTION, "tag", "$skiptoken")]:
            raise NotSupported(f"the query option {others[0]} beside sql")
        select = _Parser(call.options[OPTION], table).select()
        after = call.options.get("$skiptoken", "0")
        if not re.fullmatch(r"[0-9]{1,9}", after, re.ASCII):
            raise BadSyntax("The $skiptoken is not one that this service wrote.")
        left = (select.top if select.top is not None else 10**9) - int(after)
        where, values = select.where
        if None in select.shown.values():
            counted = self._store.query(f'SELECT COUNT(*) AS n FROM "{table.name}" AS t WHERE {where}', values)
            rows = [dict.fromkeys(select.shown, counted[0]["n"])]
            return answer(200, {"@odata.context": f"{call.root}$metadata#{table.entity_set}", "value": rows})
        size = max(min(left, PAGE), 0)
        order = ", ".join([*select.order, f't."{table.primary_id}"'])
        sql = f'SELECT * FROM "{table.name}" AS t WHERE {where} ORDER BY {order} LIMIT {size + 1} OFFSET {after}'
        found = self._store.query(sql, values)
        document: dict[str, Any] = {
            "@odata.context": f"{call.root}$metadata#{table.entity_set}",
            "value": [
                {name: render(column, row[column.name]) for name, column in select.shown.items() if column is not None}
                for row in found[:size]
            ],
        }
        if len(found) > size and left > size:
            path, _, options = call.target.partition("?")
            kept = [part for part in options.split("&") if not part.startswith(("$skiptoken", "%24skiptoken"))]
            document["@odata.nextLink"] = f"{call.root}{path}?{'&'.join(kept)}&$skiptoken={int(after) + size}"
        return answer(200, document)


class _Parser:
    def __init__(self, text: str, table: Table) -> None:
        self._text, self._table = text, table
        self._alias = table.name
        self._position = 0
        self._kind, self._word = "", ""
        self._next()

    def _next(self) -> str:
        word = self._word
        match = _WORD.match(self._text, self._position)
        if match is None:
            raise BadSyntax(f"Syntax error at position {self._position} of the SQL.")
        self._kind = match.lastgroup or ""
        self._word = match[self._kind]
        self._position = match.end()
        return word

    def _is(self, *words: str) -> bool:
        return self._kind in ("name", "sign") and self._word.upper() in words

    def _take(self, word: str) -> None:
        if not self._is(word):
            self._fail()
        self._next()

    def _fail(self) -> NoReturn:
        if self._kind == "name" and self._word.upper() in _ELSEWHERE:
            raise NotSupported(f"{self._word.upper()} in SQL")
        raise BadSyntax(f"Syntax error before position {self._position} of the SQL: '{self._word}'.")

    def select(self) -> _Select:
        """Read the statement to its end."""
        self._take("SELECT")
        found = _Select()
        if self._is("TOP"):
            self._next()
            if self._kind != "number" or not self._word.isdecimal() or len(self._word) > 9:  # noqa: PLR2004 - no huge numbers
                self._fail()
            found.top = int(self._next())
        items = [self._item()]
        while self._is(","):
            self._next()
            items.append(self._item())
        self._take("FROM")
        if self._kind != "name" or self._next().lower() != self._table.name:
            raise BadSyntax(f"The table of the SQL is not that of the entity set '{self._table.entity_set}'.")
        if self._is("AS"):
            self._next()
        if self._kind == "name" and self._word.upper() not in _CLAUSES | _ELSEWHERE:
            self._alias = self._next().lower()
        for name, path in items:
            column = self._column(path) if path else None
            found.shown[name or (column.name if column else "count")] = column
        if None in found.shown.values() and len(found.shown) > 1:
            raise NotSupported("COUNT(*) beside columns in SQL")
        if self._is("WHERE"):
            self._next()
            found.where = self._either(0)
        if self._is("ORDER"):
            self._order(found)
        if self._kind != "end":
            self._fail()
        return found

    def _order(self, found: _Select) -> None:
        self._next()
        self._take("BY")
        while True:
            column = self._column(self._path())
            down = self._next().upper() if self._is("ASC", "DESC") else "ASC"
            found.order.append(f't."{column.name}" {down}')
            if not self._is(","):
                return
            self._next()

    def _item(self) -> tuple[str, list[str]]:
        """Read one column of the list: its alias and its path, which is empty for COUNT(*)."""
        path = self._path()
        if self._is("("):
            if [part.upper() for part in path] != ["COUNT"]:
                raise NotSupported(f"the function {'.'.join(path)} in SQL")
            for word in ("(", "*", ")"):
                if self._is("DISTINCT") or (word == "*" and not self._is("*")):
                    raise NotSupported("COUNT of anything but * in SQL")
                self._take(word)
            path = []
        alias = ""
        if self._is("AS"):
            self._next()
            if self._kind != "name":
                self._fail()
            alias = self._next()
        return alias, path

    def _path(self) -> list[str]:
        if self._kind != "name" or self._word.upper() in _CLAUSES | _ELSEWHERE:
            self._fail()
        path = [self._next()]
        while self._is("."):
            self._next()
            if self._kind != "name":
                self._fail()
            path.append(self._next())
        return path

    def _column(self, path: list[str]) -> Column:
        if len(path) > 2 or (len(path) == 2 and path[0].lower() not in (self._alias, self._table.name)):  # noqa: PLR2004 - alias and column
            raise BadSyntax(f"The multi-part identifier '{'.'.join(path)}' could not be bound.")
        return visible(self._table, path[-1].lower())

    def _either(self, depth: int) -> Sql:
        parts = [self._all(depth)]
        while self._is("OR"):
            self._next()
            parts.append(self._all(depth))
        return joined("OR", parts)

    def _all(self, depth: int) -> Sql:
        parts = [self._one(depth)]
        while self._is("AND"):
            self._next()
            parts.append(self._one(depth))
        return joined("AND", parts)

    def _one(self, depth: int) -> Sql:
        if depth > _MAX_DEPTH:
            raise BadSyntax("The SQL is nested too deeply.")
        if self._is("NOT"):
            self._next()
            sql, values = self._one(depth + 1)
            return f"(NOT COALESCE({sql}, 0))", values
        if self._is("("):
            self._next()
            inner = self._either(depth + 1)
            self._take(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Sql:
        column = self._column(self._path())
        if self._is("IS"):
            self._next()
            negated = self._is("NOT")
            if negated:
                self._next()
            self._take("NULL")
            return empty("t", column, negated=negated)
        negated = self._is("NOT")
        if negated:
            self._next()
        if self._is("LIKE"):
            self._next()
            return liked("t", column, self._value(), negated=negated)
        if self._is("IN"):
            self._next()
            self._take("(")
            texts = [self._value()]
            while self._is(","):
                self._next()
                texts.append(self._value())
            self._take(")")
            return among(self._table, "t", column, texts, negated=negated)
        if negated or self._word not in _SIGNS:
            self._fail()
        operator = _SIGNS[self._next()]
        sql, values = compared(self._table, "t", column, operator, self._value())
        # In SQL, other than in FetchXML and OData, what is empty differs from nothing.
        return (f'({sql} AND t."{column.name}" IS NOT NULL)', values) if operator == "ne" else (sql, values)

    def _value(self) -> str:
        if self._kind == "text":
            return self._next()[1:-1].replace("''", "'")
        if self._kind == "number":
            return self._next()
        return self._fail()

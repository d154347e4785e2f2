"""Reading rows: the query options of a GET, pages, and rows as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from devstack.dataverse.columns import formatted, guid, render
from devstack.dataverse.conditions import Conditions
from devstack.dataverse.errors import BadSyntax, NotSupported, UnknownProperty
from devstack.dataverse.filters import Condition, parse
from devstack.dataverse.metadata import LOOKUPS, Collection, Column, Navigation, Table
from devstack.dataverse.rows import Row, Store
from devstack.dataverse.wire import Call, etag

PAGE: Final = 5000
_MAX_EXPANDS: Final = 15
_OPTIONS: Final = frozenset({"$select", "$filter", "$expand", "$top", "$orderby", "$count", "$skiptoken", "tag"})
_REFUSED: Final = {"$skip": "The query parameter $skip is not supported"}
_FORMATTED: Final = "OData.Community.Display.V1.FormattedValue"
_LOGICAL: Final = "Microsoft.Dynamics.CRM.lookuplogicalname"
_NAVIGATION: Final = "Microsoft.Dynamics.CRM.associatednavigationproperty"


@dataclass(frozen=True, slots=True)
class Expand:
    """One expanded navigation property with its own query."""

    to: Navigation | Collection
    query: Query


@dataclass(frozen=True, slots=True)
class Query:
    """The query options of one level; `select` None means every column."""

    select: tuple[Column, ...] | None = None
    where: Condition | None = None
    expand: tuple[Expand, ...] = ()
    order: tuple[tuple[Column, bool], ...] = ()
    top: int | None = None
    count: bool = False
    after: str | None = None

    @property
    def shape(self) -> str:
        """What `@odata.context` says in parentheses."""
        names = [column.wire_name for column in self.select or ()]
        names += [f"{each.to.name}{each.query.shape or '()'}" for each in self.expand]
        return f"({','.join(names)})" if names else ""


class Annotations:
    """Which annotations the caller asked for: exact names, `Prefix.*`, `*`."""

    def __init__(self, text: str) -> None:
        patterns = [part.strip() for part in text.split(",") if part.strip()]

        def wanted(name: str) -> bool:
            return any(part in ("*", name) or (part.endswith("*") and name.startswith(part[:-1])) for part in patterns)

        self.formatted, self.logical, self.navigation = wanted(_FORMATTED), wanted(_LOGICAL), wanted(_NAVIGATION)
        self.any = self.formatted or self.logical or self.navigation


class Reading:
    """Reads rows for one call and writes them as JSON; `instead` names columns whose values another column's stand for."""

    def __init__(self, store: Store, call: Call, instead: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._call = call
        self._instead = instead or {}
        self._names: dict[tuple[str, str], str | None] = {}
        self.annotations = Annotations(call.preferences.get("odata.include-annotations", ""))

    def query(self, table: Table, options: Mapping[str, str], *, depth: int = 0) -> Query:
        """Parse query options; raises BadSyntax, UnknownProperty, or NotSupported naming the option."""
        aliases = {name: value for name, value in self._call.options.items() if name.startswith("@")}
        for name in options:
            if name.startswith("@") and not depth:
                continue
            if name in _REFUSED:
                raise BadSyntax(_REFUSED[name])
            if name not in _OPTIONS or (depth and name in ("$count", "$skiptoken", "tag")):
                raise NotSupported(f"the query option {name}")
        return Query(
            select=self._select(table, options["$select"]) if options.get("$select") else None,
            where=parse(options["$filter"], aliases) if "$filter" in options else None,
            expand=self._expand(table, options["$expand"], depth) if options.get("$expand") else (),
            order=_order(table, options["$orderby"]) if "$orderby" in options else (),
            top=_number(options["$top"], "$top") if "$top" in options else None,
            count=_yes_no(options["$count"]) if "$count" in options else False,
            after=options.get("$skiptoken"),
        )

    def _select(self, table: Table, text: str) -> tuple[Column, ...] | None:
        names = [name.strip() for name in text.split(",")]
        if names == ["*"]:
            return None
        return tuple({name: _visible(table, name) for name in names}.values())

    def _expand(self, table: Table, text: str, depth: int) -> tuple[Expand, ...]:
        parts = split(text, ",")
        if len(parts) > _MAX_EXPANDS or depth >= _MAX_EXPANDS:
            raise BadSyntax(f"Number of expands exceeded maximum limit of {_MAX_EXPANDS}.")
        found = []
        for part in parts:
            name, _, rest = part.strip().partition("(")
            if rest and not rest.endswith(")"):
                raise BadSyntax(f"Syntax error in $expand: '{part}'.")
            target: Navigation | Collection | None = table.navigations.get(name) or table.collections.get(name)
            if target is None:
                raise UnknownProperty(name, table.name)
            child = (
                self._store.metadata.target(target)
                if isinstance(target, Navigation)
                else self._store.metadata.tables[target.child]
            )
            options: dict[str, str] = {}
            for option in split(rest[:-1], ";") if rest else ():
                key, equals, value = option.strip().partition("=")
                if not equals or key in options:
                    raise BadSyntax(f"Syntax error in $expand: '{part}'.")
                options[key] = value
            found.append(Expand(target, self.query(child, options, depth=depth + 1)))
        return tuple(found)

    def rows(
        self, table: Table, query: Query, *, within: tuple[Column, str] | None = None
    ) -> tuple[list[Row], bool, int]:
        """Return one page of rows, whether more follow, and the number of all matches (if asked, at most 5000)."""
        wanted = self.page_size(query)
        where: list[str] = ["1"]
        values: list[object] = []
        if query.where is not None:
            sql, values = Conditions(self._store).sql(table, "t", query.where)
            where.append(sql)
        if within is not None:
            self._store.index(table, within[0].name)
            where.append(f't."{within[0].name}" = ?')
            values = [*values, within[1]]
        total = 0
        if query.count:
            counted = f'SELECT COUNT(*) AS n FROM "{table.name}" AS t WHERE {" AND ".join(where)}'
            total = min(self._store.query(counted, values)[0]["n"], PAGE)
        offset = 0
        if query.after is not None:
            if query.order:
                offset = _number(query.after, "$skiptoken")
            elif (last := guid(query.after)) is None:
                raise BadSyntax("The $skiptoken is not one that this service wrote.")
            else:
                where.append(f't."{table.primary_id}" > ?')
                values = [*values, last]
        order = ", ".join(f't."{column.name}" {"DESC" if down else "ASC"}' for column, down in query.order)
        sql = (
            f'SELECT {self._columns(table, query)} FROM "{table.name}" AS t WHERE {" AND ".join(where)} '
            f'ORDER BY {order}{", " if order else ""}t."{table.primary_id}" LIMIT {wanted + 1} OFFSET {offset}'
        )
        found = self._store.query(sql, values)
        return found[:wanted], len(found) > wanted, total

    def page_size(self, query: Query) -> int:
        """How many rows one answer holds; `$top` rules out `odata.maxpagesize`."""
        asked = self._call.preferences.get("odata.maxpagesize")
        if query.top is not None:
            return min(query.top, PAGE)
        if asked is None:
            return PAGE
        return min(max(_number(asked, "odata.maxpagesize"), 1), PAGE)

    def _columns(self, table: Table, query: Query) -> str:
        if query.select is None:
            return "t.*"
        names = {table.primary_id, "versionnumber"}
        for column in (*query.select, *(each.to.column for each in query.expand if _single(each))):
            names.add(column.name)
            if len(column.targets) > 1:
                names.add(f"{column.name}@table")
            if column.name in self._instead:
                names.add(self._instead[column.name])
        return ", ".join(f't."{name}"' for name in sorted(names))

    def link(self, query: Query, last: Row, table: Table, offset: int) -> str:
        """Write the URL of the next page."""
        token = str(offset) if query.order else last[table.primary_id]
        path, _, options = self._call.target.partition("?")
        kept = [part for part in options.split("&") if part and not unquote(part).startswith("$skiptoken=")]
        return f"{self._call.root}{path.removeprefix('/')}?{'&'.join([*kept, '$skiptoken=' + quote(token)])}"

    def row(self, table: Table, row: Row, query: Query) -> dict[str, Any]:
        """Write a row as JSON: ETag, columns, annotations, expanded rows; the primary key is always there."""
        shown: dict[str, Any] = {"@odata.etag": etag(row["versionnumber"])}
        columns = query.select if query.select is not None else [c for c in table.properties.values() if not c.secret]
        for column in columns:
            kept = row[self._instead.get(column.name, column.name)]
            if kept is not None and self.annotations.any:
                self._annotate(shown, column, kept, row)
            shown[column.wire_name] = render(column, kept)
        shown.setdefault(table.primary_id, row[table.primary_id])
        for expand in query.expand:
            shown[expand.to.name] = self._expanded(table, row, expand)
        return shown

    def _annotate(self, shown: dict[str, Any], column: Column, kept: Any, row: Row) -> None:
        name = column.wire_name
        if column.type not in LOOKUPS:
            text = formatted(column, kept) if self.annotations.formatted else None
            if text is not None:
                shown[f"{name}@{_FORMATTED}"] = text
            return
        target = row[f"{column.name}@table"] if len(column.targets) > 1 else column.targets[0]
        if self.annotations.formatted and (text := self._name(target, kept)) is not None:
            shown[f"{name}@{_FORMATTED}"] = text
        if self.annotations.navigation and target in column.navigation:
            shown[f"{name}@{_NAVIGATION}"] = column.navigation[target]
        if self.annotations.logical:
            shown[f"{name}@{_LOGICAL}"] = target

    def _name(self, target: str, row: str) -> str | None:
        if (target, row) not in self._names:
            table = self._store.metadata.tables.get(target)
            found = self._store.get(table, row, table.primary_name) if table else None
            self._names[target, row] = next(iter(found.values())) if found else None
        return self._names[target, row]

    def _expanded(self, table: Table, row: Row, expand: Expand) -> Any:
        to, query = expand.to, expand.query
        if isinstance(to, Collection):
            child = self._store.metadata.tables[to.child]
            found, _, _ = self.rows(child, query, within=(to.column, row[table.primary_id]))
            return [self.row(child, each, query) for each in found]
        kept = row[to.column.name]
        if kept is None or (len(to.column.targets) > 1 and row[f"{to.column.name}@table"] not in to.targets):
            return None
        target = self._store.metadata.target(to)
        found_row = self._store.get(target, kept)
        return self.row(target, found_row, query) if found_row else None


def _single(expand: Expand) -> bool:
    return isinstance(expand.to, Navigation)


def split(text: str, separator: str) -> list[str]:
    """Split at a separator outside quotes and parentheses; raises BadSyntax for unbalanced ones."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"'(?:[^']|'')*'|[()'" + re.escape(separator) + "]", text):
        found = match[0]
        if found == "'":
            raise BadSyntax(f"There is an unterminated string literal in '{text}'.")
        depth += {"(": 1, ")": -1}.get(found, 0)
        if depth < 0:
            raise BadSyntax(f"Unbalanced parentheses in '{text}'.")
        if found == separator and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    if depth:
        raise BadSyntax(f"Unbalanced parentheses in '{text}'.")
    return [*parts, text[start:]]


def _visible(table: Table, name: str) -> Column:
    column = table.properties.get(name)
    if column is None or column.secret:
        raise UnknownProperty(name, table.name)
    return column


def _order(table: Table, text: str) -> tuple[tuple[Column, bool], ...]:
    found = []
    for part in text.split(","):
        words = part.split()
        if not words or len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):  # noqa: PLR2004 - name, direction
            raise BadSyntax(f"Syntax error in $orderby: '{text}'.")
        if "/" in words[0] or "(" in words[0]:
            raise NotSupported("$orderby along navigation properties or by functions")
        found.append((_visible(table, words[0]), words[-1] == "desc" and len(words) > 1))
    return tuple(found)


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise BadSyntax(f"Invalid value '{text}' for {name} found; it must be a whole number, not negative.")
    return int(text)


def _yes_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise BadSyntax(f"Invalid value '{text}' for $count query option found. Valid values are 'true' and 'false'.")
    return text == "true"

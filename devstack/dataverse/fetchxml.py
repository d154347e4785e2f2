"""`?fetchXml=`: columns, filters, orders, inner and outer links, pages with cookies; aggregates and the rest are 501."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from devstack.dataverse.columns import render
from devstack.dataverse.errors import BadSyntax, NotSupported
from devstack.dataverse.metadata import Column, Metadata, Table
from devstack.dataverse.plain_sql import ORDERED, Sql, among, compared, empty, joined, liked, visible
from devstack.dataverse.query import PAGE, Query, Reading
from devstack.dataverse.rows import Row, Store
from devstack.dataverse.wire import Answer, Call, answer

OPTION: Final = "fetchXml"
MAX_LINKS: Final = 10
_ALIAS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,50}", re.ASCII)
_MORE: Final = "Microsoft.Dynamics.CRM.morerecords"
_COOKIE: Final = "Microsoft.Dynamics.CRM.fetchxmlpagingcookie"
_FETCH: Final = frozenset(
    {
        *("version", "output-format", "mapping", "no-lock", "latematerialize", "useraworderby"),
        *("top", "count", "page", "paging-cookie", "distinct"),
    }
)
OPERATORS: Final = (
    *("eq", "ne", "neq", "gt", "ge", "lt", "le", "like", "not-like", "begins-with", "not-begin-with", "ends-with"),
    *("not-end-with", "in", "not-in", "null", "not-null"),
)


@dataclass(slots=True)
class _Link:
    """A linked table: its alias in the document and in SQL, the columns asked for, and its JOIN."""

    name: str
    alias: str
    table: Table
    columns: list[Column] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """What one document asks for."""

    columns: list[Column] = field(default_factory=list)
    links: list[_Link] = field(default_factory=list)
    joins: list[Sql] = field(default_factory=list)
    where: list[Sql] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


class Fetch:
    """Answers reads of a set by FetchXML."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._metadata: Metadata = store.metadata

    def answer(self, call: Call, table: Table) -> Answer:
        """Answer with one page of rows; raises BadSyntax, UnknownAttribute, or NotSupported naming what is not read."""
        if others := [name for name in call.options if name not in (OPTION, "tag")]:
            raise NotSupported(f"the query option {others[0]} beside fetchXml")
        fetch = _document(call.options[OPTION])
        entity = fetch.find("entity")
        if entity is None or len(fetch) != 1:
            raise BadSyntax("A fetch has one entity and nothing else in it.")
        if entity.get("name") != table.name:
            raise BadSyntax(f"The entity '{entity.get('name')}' is not that of the entity set '{table.entity_set}'.")
        plan = _Plan()
        self._read(plan, entity, table, "t")
        if not plan.columns:
            raise NotSupported("a fetch without attribute or all-attributes in its entity")
        size, page = _page(fetch)
        rows = self._rows(plan, table, size, page)
        reading = Reading(self._store, call)
        query = Query(select=tuple({column.name: column for column in plan.columns}.values()))
        document: dict[str, Any] = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{query.shape}"}
        more = len(rows) > size
        if more and fetch.get("top") is None:
            document[f"@{_COOKIE}"] = _cookie(table, rows[0], rows[size - 1], page)
        document[f"@{_MORE}"] = more and fetch.get("top") is None
        document["value"] = [reading.row(table, row, query) | _linked(plan, row) for row in rows[:size]]
        return answer(200, document)

    def _rows(self, plan: _Plan, table: Table, size: int, page: int) -> list[Row]:
        shown = ["t.*"]
        shown += [
            f'{link.alias}."{column.name}" AS "{link.name}.{column.name}"'
            for link in plan.links
            for column in link.columns
        ]
        where, values = joined("AND", plan.where)
        order = ", ".join([*plan.order, f't."{table.primary_id}"'])
        joins = " ".join(sql for sql, _ in plan.joins)
        bound = [value for _, inner in plan.joins for value in inner] + values
        sql = (
            f'SELECT {", ".join(shown)} FROM "{table.name}" AS t {joins} WHERE {where} ORDER BY {order} '
            f"LIMIT {size + 1} OFFSET {size * (page - 1)}"
        )
        return self._store.query(sql, bound)

    def _read(self, plan: _Plan, element: ET.Element, table: Table, alias: str, link: _Link | None = None) -> None:
        columns = plan.columns if link is None else link.columns
        for child in element:
            if child.tag == "attribute":
                _only(child, "name")
                columns.append(visible(table, child.get("name", "")))
            elif child.tag == "all-attributes":
                columns += [column for column in table.columns.values() if column.stored and not column.secret]
            elif child.tag == "order" and link is None:
                _only(child, "attribute", "descending")
                down = "DESC" if child.get("descending") in ("true", "1") else "ASC"
                plan.order.append(f't."{visible(table, child.get("attribute", "")).name}" {down}')
            elif child.tag == "filter":
                plan.where.append(_filter(child, table, alias))
            elif child.tag == "link-entity":
                self._link(plan, child, table, alias)
            else:
                raise NotSupported(f"<{child.tag}> in <{element.tag}> of FetchXML")

    def _link(self, plan: _Plan, element: ET.Element, outer: Table, outer_alias: str) -> None:
        _only(element, "name", "from", "to", "alias", "link-type", "intersect", "visible")
        if len(plan.links) >= MAX_LINKS:
            raise BadSyntax(f"A fetch has at most {MAX_LINKS} link-entity elements.")
        table = self._metadata.tables.get(element.get("name", ""))
        if table is None:
            raise BadSyntax(f"The entity with a name = '{element.get('name')}' was not found in the MetadataCache.")
        here, there = visible(table, element.get("from", "")), visible(outer, element.get("to", ""))
        kind = {"inner": "JOIN", "outer": "LEFT JOIN"}.get(element.get("link-type", "inner"))
        if kind is None:
            raise NotSupported(f"link-type {element.get('link-type')} (valid: inner, outer)")
        name = element.get("alias") or f"{table.name}{len(plan.links) + 1}"
        if not _ALIAS.fullmatch(name) or name in [each.name for each in plan.links]:
            raise BadSyntax(f"The alias '{name}' is no name, or is there twice.")
        link = _Link(name, f"l{len(plan.links) + 1}", table)
        plan.links.append(link)
        self._store.index(table, here.name)
        on = [(f'{link.alias}."{here.name}" = {outer_alias}."{there.name}"', list[object]())]
        for each in element.findall("filter") if kind == "LEFT JOIN" else ():
            on.append(_filter(each, table, link.alias))
            element.remove(each)
        condition, values = joined("AND", on)
        plan.joins.append((f'{kind} "{table.name}" AS {link.alias} ON {condition}', values))
        self._read(plan, element, table, link.alias, link)


def _document(text: str) -> ET.Element:
    if "<!" in text:
        raise BadSyntax("FetchXML has no declarations.")
    try:
        fetch = ET.fromstring(text)  # noqa: S314 - without declarations there is nothing to expand
    except ET.ParseError as error:
        raise BadSyntax(f"Invalid XML. ({error})") from None
    if fetch.tag != "fetch":
        raise BadSyntax(f"<{fetch.tag}> is not <fetch>.")
    if unknown := sorted(set(fetch.keys()) - _FETCH):
        raise NotSupported(f"the attribute {unknown[0]} of <fetch>")
    if fetch.get("distinct") in ("true", "1"):
        raise NotSupported("distinct in FetchXML")
    return fetch


def _only(element: ET.Element, *names: str) -> None:
    if unknown := sorted(set(element.keys()) - set(names)):
        raise NotSupported(f"the attribute {unknown[0]} of <{element.tag}>")


def _page(fetch: ET.Element) -> tuple[int, int]:
    """Return how many rows a page has, and which page is asked for."""
    top = _whole(fetch, "top", PAGE)
    if "top" in fetch.keys():  # noqa: SIM118 - an element is not its attributes
        if {"count", "page"} & set(fetch.keys()):
            raise BadSyntax("The top attribute can't be specified with paging attribute page or count.")
        return top, 1
    page = max(_whole(fetch, "page", 1), 1)
    if page > 1 and (cookie := fetch.get("paging-cookie")):
        try:
            told = ET.fromstring(cookie).get("page")  # noqa: S314 - a text that this service wrote
        except ET.ParseError:
            told = None
        if told != str(page - 1):
            raise BadSyntax("The paging cookie is not the one of the page before.")
    return max(_whole(fetch, "count", PAGE), 1), page


def _whole(fetch: ET.Element, name: str, default: int) -> int:
    text = fetch.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII):
        raise BadSyntax(f"The attribute {name} of <fetch> is not a whole number: '{text}'.")
    return min(int(text), PAGE if name != "page" else 10**6)


def _cookie(table: Table, first: Row, last: Row, page: int) -> str:
    """Write the cookie of the next page as the platform does: XML, encoded twice, inside XML."""
    ends = f'last="{{{last[table.primary_id]}}}" first="{{{first[table.primary_id]}}}"'
    inner = f'<cookie page="{page}"><{table.primary_id} {ends} /></cookie>'
    encoded = quote(quote(inner, safe=""), safe="")
    return f'<cookie pagenumber="{page + 1}" pagingcookie="{encoded}" istracking="False" />'


def _linked(plan: _Plan, row: Row) -> dict[str, Any]:
    shown = {}
    for link in plan.links:
        for column in link.columns:
            value = row[f"{link.name}.{column.name}"]
            if value is not None:
                shown[f"{link.name}.{column.name}"] = render(column, value)
    return shown


def _filter(element: ET.Element, table: Table, alias: str) -> Sql:
    _only(element, "type")
    kind = element.get("type", "and").upper()
    if kind not in ("AND", "OR"):
        raise BadSyntax(f"The type of a filter is 'and' or 'or', not '{element.get('type')}'.")
    parts = []
    for child in element:
        if child.tag == "filter":
            parts.append(_filter(child, table, alias))
        elif child.tag == "condition":
            parts.append(_condition(child, table, alias))
        else:
            raise NotSupported(f"<{child.tag}> in <filter> of FetchXML")
    return joined(kind, parts)


_PATTERNS: Final[dict[str, Callable[[str], str]]] = {
    "like": lambda text: text,
    "begins-with": lambda text: f"{text}%",
    "ends-with": lambda text: f"%{text}",
}
_NEGATED: Final = {
    "not-like": "like",
    "not-begin-with": "begins-with",
    "not-end-with": "ends-with",
}


def _condition(element: ET.Element, table: Table, alias: str) -> Sql:
    _only(element, "attribute", "operator", "value")
    column = visible(table, element.get("attribute", ""))
    operator = element.get("operator", "")
    if operator not in OPERATORS:
        raise NotSupported(f"the operator '{operator}' of FetchXML (valid: {', '.join(OPERATORS)})")
    if operator in ("null", "not-null"):
        return empty(alias, column, negated=operator == "not-null")
    if operator in ("in", "not-in"):
        return among(table, alias, column, [each.text or "" for each in element], negated=operator == "not-in")
    text = element.get("value")
    if text is None:
        raise BadSyntax(f"The condition '{operator}' on '{column.name}' has no value.")
    if operator in _PATTERNS or operator in _NEGATED:
        pattern = _PATTERNS[_NEGATED.get(operator, operator)](text)
        return liked(alias, column, pattern, negated=operator in _NEGATED)
    return compared(table, alias, column, operator if operator in ORDERED else "ne", text)

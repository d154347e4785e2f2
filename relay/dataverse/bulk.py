"""Bulk messages: many rows of one table in one request, in one transaction; and which tables have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from relay.dataverse import quoting
from relay.dataverse.batch import Request
from relay.dataverse.errors import DataverseRefusal

CREATE: Final = "CreateMultiple"

Get = Callable[[str], Awaitable[Any]]


def create_multiple(entity_set: str, table: str, rows: Iterable[Mapping[str, Any]], tag: str) -> Request:
    """Return the request that creates these rows of one table, all or none; no row may point to another of them."""
    kind = f"Microsoft.Dynamics.CRM.{quoting.logical_name(table)}"
    url = f"{quoting.set_name(entity_set)}/Microsoft.Dynamics.CRM.{CREATE}"
    return Request("POST", quoting.tagged(url, tag), {"Targets": [{"@odata.type": kind, **row} for row in rows]})


class BulkTables:
    """Which tables take CreateMultiple, asked once per process: availability differs per table.

    Where the question is refused, a table counts as one that does until a call says otherwise.
    """

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    async def those_of(self, tables: Collection[str], get: Get) -> frozenset[str]:
        """Return those of the tables that do; `get` makes the one read, of those that are not known yet."""
        if unknown := [each for each in dict.fromkeys(tables) if each not in self._known]:
            self._known |= await self._ask(unknown, get)
        return frozenset(each for each in tables if self._known[each])

    def lacks(self, table: str) -> None:
        """Remember that a call said that the table has no such message."""
        self._known[table] = False

    @staticmethod
    async def _ask(tables: Collection[str], get: Get) -> dict[str, bool]:
        condition = quoting.both(
            f"sdkmessageid/name eq {quoting.string_literal(CREATE)}",
            quoting.any_of(*(quoting.equals("primaryobjecttypecode", each) for each in tables)),
        )
        url = quoting.query("sdkmessagefilters", select=("primaryobjecttypecode",), filter=condition)
        try:
            found = (await get(url))["value"]
        except DataverseRefusal:
            return dict.fromkeys(tables, True)
        names = {each.get("primaryobjecttypecode") for each in found}
        return {each: each in names for each in tables}

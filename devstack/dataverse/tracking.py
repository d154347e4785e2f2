"""Change tracking: a read that ends in a delta link, and what has changed and gone since (docs: use-change-tracking-synchronize-data-external-systems.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from devstack.dataverse.errors import BadSyntax, ChangeTrackingNotEnabled, ExpiredVersionStamp
from devstack.dataverse.metadata import Table
from devstack.dataverse.query import Reading
from devstack.dataverse.rows import Row, Store
from devstack.dataverse.wire import Answer, Call, answer

PREFERENCE: Final = "odata.track-changes"
OPTION: Final = "$deltatoken"
DAYS: Final = 7.0
_REFUSED: Final = ("$filter", "$orderby", "$expand", "$top", "$count")
_TOKEN: Final = re.compile(r"([0-9]{1,18})!([0-9]{1,12})(?:!([0-9a-f-]{36}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A point in the history: the row version, when it was given out (seconds), and the last row of a page before."""

    version: int
    given: int
    after: str = ""

    @classmethod
    def read(cls, text: str) -> Token:
        """Read a token that this service wrote; raises BadSyntax."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise BadSyntax("The token is not one that this service wrote.")
        return cls(int(match[1]), int(match[2]), match[3] or "")

    def __str__(self) -> str:
        return f"{self.version}!{self.given}" + (f"!{self.after}" if self.after else "")


class Tracking:
    """Answers reads with `Prefer: odata.track-changes` and reads of delta links.

    `clock` is seconds since the epoch, `days` the life of a token.
    """

    def __init__(self, store: Store, clock: Callable[[], float], *, days: float = DAYS) -> None:
        self._days = days
        self._store = store
        self._clock = clock

    def asked(self, call: Call) -> bool:
        """Say whether a read of a set is one of these, or a later page of one."""
        return OPTION in call.options or PREFERENCE in call.preferences or "!" in call.options.get("$skiptoken", "")

    def answer(self, call: Call, table: Table) -> Answer:
        """Answer with rows and the next delta link, or the next page's link."""
        since = self._since(call, table)
        reading = Reading(self._store, call)
        options = {name: value for name, value in call.options.items() if name not in (OPTION, "$skiptoken")}
        query = reading.query(table, options)
        now = Token(self._store.version, int(self._clock()))
        page = Token.read(call.options["$skiptoken"]) if "$skiptoken" in call.options else None
        size = reading.page_size(query)
        rows = self._changed(table, since, page, size + 1)
        document: dict[str, Any] = {
            "@odata.context": f"{call.root}$metadata#{table.entity_set}{query.shape}{'/$delta' if since else ''}",
            "value": [reading.row(table, row, query) for row in rows[:size]],
        }
        point = page or now  # what changes while somebody turns pages is for the next delta
        if len(rows) > size:
            token = Token(point.version, point.given, rows[size - 1][table.primary_id])
            document["@odata.nextLink"] = _link(call, table, "$skiptoken", token)
        else:
            document["value"] += self._deleted(call, table, since)
            document["@odata.deltaLink"] = _link(call, table, OPTION, Token(point.version, point.given))
        return answer(200, document, {"Preference-Applied": PREFERENCE} if PREFERENCE in call.preferences else None)

    def count(self, call: Call, table: Table) -> int:
        """Return the number of changes since a delta token, deletions included."""
        since = self._since(call, table)
        return len(self._changed(table, since, None, None)) + len(self._gone(table, since))

    def _since(self, call: Call, table: Table) -> Token | None:
        if not table.change_tracking:
            raise ChangeTrackingNotEnabled(table.name)
        for name in _REFUSED:
            if name in call.options:
                raise BadSyntax(f"The query option '{name}' cannot be used with change tracking.")
        if OPTION not in call.options:
            return None
        token = Token.read(call.options[OPTION])
        # A token from before a reset or restore cannot be answered: which rows went with it is not known.
        if self._clock() - token.given > self._days * 86400 or token.version < self._store.beginning:
            raise ExpiredVersionStamp
        return token

    def _changed(self, table: Table, since: Token | None, page: Token | None, limit: int | None) -> list[Row]:
        sql = f'SELECT * FROM "{table.name}" AS t WHERE t.versionnumber > ? AND t."{table.primary_id}" > ?'
        values: list[object] = [since.version if since else -1, page.after if page else ""]
        sql += f' ORDER BY t."{table.primary_id}"' + (f" LIMIT {limit}" if limit is not None else "")
        return self._store.query(sql, values)

    def _gone(self, table: Table, since: Token | None) -> list[str]:
        return self._store.deleted(table, since.version) if since else []

    def _deleted(self, call: Call, table: Table, since: Token | None) -> list[dict[str, str]]:
        context = f"{call.root}$metadata#{table.entity_set}/$deletedEntity"
        return [{"@odata.context": context, "id": row, "reason": "deleted"} for row in self._gone(table, since)]


def _link(call: Call, table: Table, option: str, token: Token) -> str:
    kept = [f"$select={quote(call.options['$select'], safe=',')}"] if "$select" in call.options else []
    if option == "$skiptoken" and OPTION in call.options:
        kept.append(f"{OPTION}={quote(call.options[OPTION])}")
    return f"{call.root}{table.entity_set}?{'&'.join([*kept, f'{option}={quote(str(token))}'])}"

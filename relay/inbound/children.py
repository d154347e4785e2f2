"""Child rows of one resource: matched by their match columns, created, updated, brought back or retired. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from relay.dataverse import quoting
from relay.dataverse.keys import child_keys
from relay.dataverse.states import ACTIVE, INACTIVE
from relay.errors import Failed
from relay.inbound.located import Located, Row
from relay.inbound.operations import Child, Operation, Planned
from relay.inbound.rows import Links, changed_columns, create_body
from relay.mapping.model import ChildDraft, EntityMap, ExpansionMap, Scalar, Table

Match = tuple[Scalar, ...]


class Parent(NamedTuple):
    """The row that children hang on: the resource's own, or one of its child rows."""

    table: Table
    id: str


def plan_children(planned: Planned, located: Located, links: Links, *, write_identifier_row: bool) -> None:
    """Append the operations that make the child rows those of the draft; sets `updated` when one of them changes.

    Raises Failed `identity-conflict` when a child that the relay made was given to another row.
    """
    draft = planned.draft
    parent = Parent(draft.map.table, planned.row_id)
    for expansion in draft.map.expansions:
        _Family(planned, expansion, parent, located, links).become(draft.children)
    identifier = draft.map.identifier
    known = identifier_expansion(draft.map)
    if write_identifier_row and identifier is not None and known is not None:
        columns = {identifier.system_column: identifier.system, identifier.value_column: planned.row_id}
        _Family(planned, known, parent, located, links).have(ChildDraft(known, columns, {}), counts=False)


def identifier_expansion(entity_map: EntityMap) -> ExpansionMap | None:
    """Return the expansion that writes the map's identifier table."""
    identifier = entity_map.identifier
    for expansion in entity_map.expansions:
        if identifier and expansion.table.name == identifier.table.name and expansion.lookup == identifier.lookup:
            return expansion
    return None


class _Family:
    """The children of one parent under one expansion, and what hangs on them."""

    def __init__(
        self, planned: Planned, expansion: ExpansionMap, parent: Parent, located: Located, links: Links
    ) -> None:
        self._planned = planned
        self._expansion = expansion
        self._parent = parent
        self._located = located
        self._links = links
        self._existing = [(self._row_match(row), row) for row in located.children_of(expansion, parent.id)]
        self._rows: dict[Match, Row] = {}
        # Of two rows alike, the active one stands for the item.
        for match, row in sorted(self._existing, key=lambda pair: (pair[1].values.get("statecode") != 0, pair[1].id)):
            self._rows.setdefault(match, row)

    def become(self, drafts: Iterable[ChildDraft]) -> None:
        """Make the rows those of this expansion's drafts, and deal with vanished items as the expansion says."""
        wanted: dict[Match, ChildDraft] = {}
        for draft in drafts:
            if draft.expansion is self._expansion:  # two references may turn out to be one row: the first item counts
                wanted.setdefault(self._draft_match(draft), draft)
        for draft in wanted.values():
            self.have(draft)
        if self._expansion.vanished != "keep":
            gone = [pair for pair in self._existing if pair[0] not in wanted]
            self._retire(gone, self._expansion.vanished)

    def have(self, draft: ChildDraft, *, counts: bool = True) -> None:
        """See that the row of this draft is there and active; `counts` is whether that changes the resource."""
        match = self._draft_match(draft)
        table = self._expansion.table
        navigation = table.columns[self._expansion.lookup].navigation[self._parent.table.name]
        belongs = {f"{navigation}@odata.bind": quoting.bind(self._parent.table.entity_set, self._parent.id)}
        row = self._rows.get(match)
        key = row.id if row is not None else ""
        if row is None:
            key, row = self._place(match)
        if row is None:
            body = create_body(table, draft.columns, draft.lookups, self._links) | belongs
            self._do(Operation("create", table, key, body, "new", sources=draft.sources), "created", counts=counts)
        else:
            self._update(draft, row, belongs, counts=counts)
        for expansion in self._expansion.expansions:
            self._below(expansion, key).become(draft.children)

    def _update(self, draft: ChildDraft, row: Row, belongs: Mapping[str, str], *, counts: bool) -> None:
        table = self._expansion.table
        body = changed_columns(table, draft.columns, draft.lookups, row, self._links)
        if row.lookup(self._expansion.lookup) is None:
            body |= belongs
        if row.values.get("statecode", 0) != 0:
            body |= ACTIVE
        if body:
            reason = "changed: " + ", ".join(sorted(body))
            self._do(
                Operation("update", table, row.id, body, reason, row.etag, draft.sources), "updated", counts=counts
            )
        elif self._closes_later(row.id):
            self._note(row.id, "updated", counts=counts)
        else:
            self._planned.children.append(Child(table.name, row.id, "unchanged"))

    def _below(self, expansion: ExpansionMap, row_id: str) -> _Family:
        """Return the children of one of these rows."""
        return _Family(self._planned, expansion, Parent(self._expansion.table, row_id), self._located, self._links)

    def _place(self, match: Match) -> tuple[str, Row | None]:
        """Return the key for a new child, or the row to complete that stands under it.

        A child whose parent a user deleted is left behind without one, under a key that is ours to give; so is one
        whose member was deleted, or was still to come when it was written. A child that a user corrected is the
        user's now: the next key is taken. Raises Failed when there is none left.
        """
        table = self._expansion.table
        own = {row.id: row for _, row in self._existing}
        for key in child_keys(self._parent.id, table.name, match):
            row = own.get(key) or self._located.guids.get((table.name, key))
            if row is None:
                return key, None
            owner = row.lookup(self._expansion.lookup)
            if owner is None or (owner == self._parent.id and self._misses_lookups(match, row)):
                return key, row
            if owner != self._parent.id:
                break
        raise Failed(
            f"a row of {table.name} that the relay made for this resource belongs to another row now",
            code="identity-conflict",
            at=self._expansion.lookup,
        )

    def _misses_lookups(self, match: Match, row: Row) -> bool:
        """Tell whether a row is the one that these values mean but for lookups that are empty."""
        columns = self._expansion.table.columns
        held = zip(self._expansion.match, match, self._row_match(row), strict=True)
        return all(has == value or (has is None and columns[name].targets) for name, value, has in held)

    def _retire(self, rows: Iterable[tuple[Match, Row]], how: Literal["deactivate", "delete"]) -> None:
        """Retire those of the rows that the relay wrote, what hangs on them first: nothing is left without its parent."""
        table = self._expansion.table
        for match, row in rows:
            if not self._is_ours(match, row):
                continue
            for expansion in self._expansion.expansions:
                below = self._below(expansion, row.id)
                below._retire(below._existing, how)  # noqa: SLF001 - of its own class
            if how == "delete":
                self._do(Operation("delete", table, row.id, {}, "vanished", row.etag), "deleted")
            elif row.values.get("statecode") == 0:
                self._do(Operation("update", table, row.id, INACTIVE, "vanished", row.etag), "deactivated")

    def _do(
        self,
        operation: Operation,
        result: Literal["created", "updated", "deactivated", "deleted"],
        *,
        counts: bool = True,
    ) -> None:
        self._closes_later(operation.id)
        self._planned.operations.append(operation)
        self._note(operation.id, result, counts=counts)

    def _closes_later(self, row_id: str) -> bool:
        """Leave for the end what a row could not be told yet of rows that come later; tells whether there was any."""
        after = self._links.take_deferred()
        if after:
            later = Operation("update", self._expansion.table, row_id, after, "closes a cycle")
            self._planned.afterwards.append(later)
        return bool(after)

    def _note(
        self, row_id: str, result: Literal["created", "updated", "deactivated", "deleted"], *, counts: bool
    ) -> None:
        self._planned.children.append(Child(self._expansion.table.name, row_id, result))
        if counts:
            self._planned.result = "updated"

    def _is_ours(self, match: Match, row: Row) -> bool:
        """Tell whether the relay wrote this row for an item: its key is derived, and it is not the (URN, GUID) row."""
        identifier = self._planned.draft.map.identifier
        table = self._expansion.table
        if identifier and identifier.table is table and row.values.get(identifier.system_column) == identifier.system:
            return False
        return row.id in child_keys(self._parent.id, table.name, match)

    def _draft_match(self, draft: ChildDraft) -> Match:
        return tuple(self._value(draft, column) for column in self._expansion.match)

    def _value(self, draft: ChildDraft, column: str) -> Scalar:
        target = draft.lookups.get(column)
        return draft.columns.get(column) if target is None else self._links.guid(target)

    def _row_match(self, row: Row) -> Match:
        columns = self._expansion.table.columns
        return tuple(row.value(columns[column]) for column in self._expansion.match)

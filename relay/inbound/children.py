"""Child rows of one resource: matched by their match columns, created, updated, brought back or retired. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from relay.dataverse import quoting
from relay.dataverse.keys import child_keys
from relay.dataverse.states import ACTIVE, INACTIVE
from relay.errors import Failed
from relay.inbound.located import Located, Row
from relay.inbound.operations import Child, Operation, Planned
from relay.inbound.rows import Links, changed_columns, create_body
from relay.mapping.model import ChildDraft, EntityMap, ExpansionMap, Scalar

Match = tuple[Scalar, ...]


def plan_children(planned: Planned, located: Located, links: Links, *, write_identifier_row: bool) -> None:
    """Append the operations that make the child rows those of the draft; sets `updated` when one of them changes.

    Raises Failed `identity-conflict` when a child that the relay made was given to another row.
    """
    draft = planned.draft
    for expansion in draft.map.expansions:
        existing = located.children_of(expansion, planned.row_id)
        drafts = [child for child in draft.children if child.expansion is expansion]
        _Family(planned, expansion, existing, located, links).become(drafts)
    identifier = draft.map.identifier
    known = identifier_expansion(draft.map)
    if write_identifier_row and identifier is not None and known is not None:
        existing = located.children_of(known, planned.row_id)
        columns = {identifier.system_column: identifier.system, identifier.value_column: planned.row_id}
        _Family(planned, known, existing, located, links).have(ChildDraft(known, columns, {}), counts=False)


def identifier_expansion(entity_map: EntityMap) -> ExpansionMap | None:
    """Return the expansion that writes the map's identifier table."""
    identifier = entity_map.identifier
    for expansion in entity_map.expansions:
        if identifier and expansion.table.name == identifier.table.name and expansion.lookup == identifier.lookup:
            return expansion
    return None


class _Family:
    """The children of one parent under one expansion."""

    def __init__(
        self, planned: Planned, expansion: ExpansionMap, existing: Iterable[Row], located: Located, links: Links
    ) -> None:
        self._planned = planned
        self._expansion = expansion
        self._located = located
        self._links = links
        self._existing = [(self._row_match(row), row) for row in existing]
        self._rows: dict[Match, Row] = {}
        # Of two rows alike, the active one stands for the item.
        for match, row in sorted(self._existing, key=lambda pair: (pair[1].values.get("statecode") != 0, pair[1].id)):
            self._rows.setdefault(match, row)

    def become(self, drafts: Iterable[ChildDraft]) -> None:
        """Make the rows those of the drafts, and deal with vanished items as the expansion says."""
        wanted = {self._draft_match(draft): draft for draft in drafts}
        for draft in wanted.values():
            self.have(draft)
        for match, row in self._existing:
            if match not in wanted and self._is_ours(match, row):
                self._retire(row)

    def have(self, draft: ChildDraft, *, counts: bool = True) -> None:
        """See that the row of this draft is there and active; `counts` is whether that changes the resource."""
        match = self._draft_match(draft)
        table = self._expansion.table
        parent = self._planned.draft.map.table
        navigation = table.columns[self._expansion.lookup].navigation[parent.name]
        belongs = {f"{navigation}@odata.bind": quoting.bind(parent.entity_set, self._planned.row_id)}
        row = self._rows.get(match)
        key = ""
        if row is None:
            key, row = self._place(match)
        if row is None:
            body = create_body(table, draft.columns, draft.lookups, self._links) | belongs
            self._do(Operation("create", table, key, body, "new"), "created", counts=counts)
            return
        body = changed_columns(table, draft.columns, draft.lookups, row, self._links)
        if row.lookup(self._expansion.lookup) is None:
            body |= belongs
        if row.values.get("statecode", 0) != 0:
            body |= ACTIVE
        if body:
            reason = "changed: " + ", ".join(sorted(body))
            self._do(Operation("update", table, row.id, body, reason, row.etag), "updated", counts=counts)
        else:
            self._planned.children.append(Child(table.name, row.id, "unchanged"))

    def _place(self, match: Match) -> tuple[str, Row | None]:
        """Return the key for a new child, or the orphan that stands under it.

        A child whose parent a user deleted is left behind without one, under a key that is ours to give. A child
        that a user corrected is the user's now: the next key is taken. Raises Failed when there is none left.
        """
        table = self._expansion.table
        for key in child_keys(self._planned.row_id, table.name, match):
            row = self._located.guids.get((table.name, key))
            if row is None:
                return key, None
            owner = row.lookup(self._expansion.lookup)
            if owner is None:
                return key, row
            if owner != self._planned.row_id:
                break
        raise Failed(
            f"a row of {table.name} that the relay made for this resource belongs to another row now",
            code="identity-conflict",
            at=self._expansion.lookup,
        )

    def _retire(self, row: Row) -> None:
        table = self._expansion.table
        if self._expansion.vanished == "delete":
            self._do(Operation("delete", table, row.id, {}, "vanished", row.etag), "deleted")
        elif self._expansion.vanished == "deactivate" and row.values.get("statecode") == 0:
            self._do(Operation("update", table, row.id, INACTIVE, "vanished", row.etag), "deactivated")

    def _do(self, operation: Operation, result: str, *, counts: bool = True) -> None:
        if after := self._links.take_deferred():
            later = Operation("update", operation.table, operation.id, after, "closes a cycle")
            self._planned.afterwards.append(later)
        self._planned.operations.append(operation)
        self._planned.children.append(Child(operation.table.name, operation.id, result))  # type: ignore[arg-type]  # a Child result
        if counts:
            self._planned.result = "updated"

    def _is_ours(self, match: Match, row: Row) -> bool:
        """Tell whether the relay wrote this row for an item: its key is derived, and it is not the (URN, GUID) row."""
        identifier = self._planned.draft.map.identifier
        if identifier and row.values.get(identifier.system_column) == identifier.system:
            return False
        return row.id in child_keys(self._planned.row_id, self._expansion.table.name, match)

    def _draft_match(self, draft: ChildDraft) -> Match:
        return tuple(self._value(draft.columns, draft, column) for column in self._expansion.match)

    def _value(self, columns: Mapping[str, Scalar], draft: ChildDraft, column: str) -> Scalar:
        target = draft.lookups.get(column)
        return columns.get(column) if target is None else self._links.guid(target)

    def _row_match(self, row: Row) -> Match:
        columns = self._expansion.table.columns
        return tuple(row.lookup(c) if columns[c].targets else row.values.get(c) for c in self._expansion.match)

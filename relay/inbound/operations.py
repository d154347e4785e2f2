"""What a plan consists of: operations on rows, and per resource what they amount to. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from relay.dataverse import quoting
from relay.dataverse.batch import ChangeSet, Request
from relay.mapping.model import Draft, Issue, Source, Table
from relay.store.tombstones import Tombstone

_OF_A_WRITE: Final = frozenset({"deactivated", "deleted", "merged", "reactivated"})
"""Codes that tell what a write did to a row's state."""

Result = Literal["created", "updated", "unchanged", "skipped", "parked", "failed"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One create, update or delete of one row, with its reason.

    `body` holds wire names and values; `etag` guards an update or delete, empty means that the row only has to exist.
    `sources` are the lines of the map that the row's columns come from, for the record of what was written.
    """

    kind: Literal["create", "update", "delete"]
    table: Table
    id: str
    body: Mapping[str, Any]
    reason: str
    etag: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict)

    def writes(self, column: str) -> bool:
        """Tell whether the body writes a column, by its logical name."""
        names = self.table.columns[column].navigation.values()
        return column in self.body or any(f"{name}@odata.bind" in self.body for name in names)

    @property
    def row(self) -> dict[str, Any]:
        """The whole row of a create; its primary key is ours, so a lost answer shows up as a duplicate key instead of a second row."""
        return {self.table.primary_id: self.id, **self.body}

    def request(self, tag: str) -> Request:
        """Return the Web API request; every write carries the tag that webhooks show as a shared variable."""
        if self.kind == "create":
            return Request("POST", quoting.tagged(self.table.entity_set, tag), self.row)
        url = quoting.tagged(quoting.record(self.table.entity_set, self.id), tag)
        headers = {"If-Match": self.etag or "*"}
        if self.kind == "delete":
            return Request("DELETE", url, headers=headers)
        return Request("PATCH", url, self.body, headers=headers)


@dataclass(frozen=True, slots=True)
class Child:
    """What happened, or will happen, to one child row."""

    table: str
    id: str
    result: Literal["created", "updated", "unchanged", "deactivated", "deleted"]


@dataclass(slots=True)
class Planned:
    """One resource and what is to be done for it; `number` is its entry's index in the bundle.

    `operations` are the row and its children, parents first; `afterwards` closes reference cycles.
    `marks` are, by column, the marks of values that both sides agree on once the operations are done. `tombstone` is set
    where the resource is no more, whatever becomes of the operations.
    """

    number: int
    draft: Draft
    result: Result
    row_id: str = ""
    operations: list[Operation] = field(default_factory=list)
    afterwards: list[Operation] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    tombstone: Tombstone | None = None

    def fail(self, code: str, message: str, at: str = "") -> None:
        """Make this resource one that nothing is written of, for this reason."""
        self._give_up("failed", Issue("error", code, message, at))

    def skip(self, reason: Issue) -> None:
        """Make this resource one that need not be written, for this reason."""
        self._give_up("skipped", reason)

    def fail_after_write(self, code: str, message: str, at: str = "") -> None:
        """Note that the row is there but not all of it could be written: it fails, and keeps its row and children."""
        self.result = "failed"
        self.issues.append(Issue("error", code, message, at))

    def _give_up(self, result: Result, reason: Issue) -> None:
        self.result = result
        self.issues = [each for each in self.issues if each.code not in _OF_A_WRITE]
        self.issues.append(reason)
        self.operations.clear()
        self.afterwards.clear()
        self.children.clear()
        self.marks.clear()
        self.row_id = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, in order: missing concepts first, then each resource after those its row points to."""

    concepts: tuple[Operation, ...]
    resources: tuple[Planned, ...]


def change_set(operations: Iterable[Operation], tag: str) -> ChangeSet:
    """Return the operations as one change set: all of them, or none."""
    return ChangeSet(tuple(operation.request(tag) for operation in operations))

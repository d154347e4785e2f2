"""What happens to rows: create, update, delete, with the server's own values, keys, versions and events."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from devstack.dataverse import registrations, solutions, system
from devstack.dataverse.columns import now
from devstack.dataverse.errors import DuplicateRecord, InvalidArgument, InvalidStatus, StillReferenced
from devstack.dataverse.metadata import Table
from devstack.dataverse.payload import Changes
from devstack.dataverse.rows import Row, Store

NULL_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks: the `tag` of the query and the correlation of the request; `skipped` are modes and ids of steps to pass over.

    `user` is whom it is done for, if not the caller; `changeset` the number of requests of the change set it is in.
    """

    tag: str | None = None
    correlation: str = NULL_ID
    skipped: frozenset[int | str] = frozenset()
    user: str = system.USER
    changeset: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One Create, Update or Delete that took effect; `changed` are the columns the client named, with their values."""

    message: str
    table: Table
    id: str
    changed: Row
    before: Row
    after: Row
    origin: Origin

    @property
    def name(self) -> str:
        """The event in one word: `<table>/<message>`."""
        return f"{self.table.name}/{self.message}"


class Records:
    """Carries out writes on a store; every method runs inside the caller's transaction."""

    def __init__(self, store: Store, *, strict_ports: bool = False) -> None:
        self.store = store
        self._strict_ports = strict_ports

    def create(self, table: Table, changes: Changes, origin: Origin) -> Row:
        """Add a row and return it; raises DuplicateRecord, DuplicateRecordEntityKey, InvalidStatus."""
        values = dict(changes.values)
        for column, value in table.defaults.items():
            if column not in values:
                values[column] = value
        row_id = values.get(table.primary_id) or str(uuid.uuid4())
        if row_id == NULL_ID:
            raise InvalidArgument(f"'{NULL_ID}' is no primary key of '{table.name}'.")
        if self.store.get(table, row_id, table.primary_id) is not None:
            raise DuplicateRecord
        values[table.primary_id] = row_id
        _stamp(table, values, origin.user, creating=True)
        _own(table, values, origin.user)
        _settle_status(table, values, {}, row_id)
        system.complete(table.name, values, creating=True)
        if _composes_name(table):
            values["fullname"] = _full_name(values)
        self._check(table, values)
        values["versionnumber"] = self.store.next_version()
        self.store.insert(table, values)
        after: Row = table.blank | values
        self._record(Event("Create", table, row_id, _sent(changes, after), {}, after, origin))
        return after

    def update(self, table: Table, before: Row, changes: Changes, origin: Origin) -> Row:
        """Change a row and return it; raises DuplicateRecordEntityKey, InvalidStatus.

        A body without columns changes nothing, not even the version.
        """
        row_id = before[table.primary_id]
        values = dict(changes.values)
        if values.pop(table.primary_id, row_id) not in (row_id, None):
            raise InvalidArgument(f"The primary key of '{table.name}' With Id = {row_id} cannot be changed.")
        values.pop("overriddencreatedon", None)
        if not values:
            return before
        _stamp(table, values, origin.user, creating=False)
        if "ownerid" in values:
            _own(table, values, origin.user)
        _settle_status(table, values, before, row_id)
        system.complete(table.name, values, creating=False)
        if _composes_name(table):
            values["fullname"] = _full_name(before | values)
        self._check(table, before | values)
        values["versionnumber"] = self.store.next_version()
        self.store.update(table, row_id, values)
        after = before | values
        self._record(Event("Update", table, row_id, _sent(changes, after), before, after, origin))
        return after

    def delete(self, table: Table, row: Row, origin: Origin) -> None:
        """Remove a row; rows that look it up lose the link, follow it or forbid it, as their column says."""
        row_id = row[table.primary_id]
        for child, column, child_id in list(self.store.referring(table, row_id)):
            if (child.name, child_id) == (table.name, row_id):
                continue
            if column.delete == "Restrict":
                raise StillReferenced(table.name, child.name)
            child_row = self.store.get(child, child_id)
            if child_row is None:
                continue
            if column.delete == "Cascade":
                self.delete(child, child_row, origin)
            else:
                values: Row = {column.name: None, "versionnumber": self.store.next_version()}
                if len(column.targets) > 1:
                    values[f"{column.name}@table"] = None
                self.store.update(child, child_id, values)
        self.store.delete(table, row_id)
        self._record(Event("Delete", table, row_id, {}, row, {}, origin))

    def _check(self, table: Table, row: Row) -> None:
        if table.name in system.NAMES:
            registrations.check(table.name, row, self._look_up, strict_ports=self._strict_ports)
            solutions.check_row(table.name, row)

    def _look_up(self, name: str, row: str) -> Row | None:
        return self.store.get(self.store.metadata.tables[name], row)

    def _record(self, event: Event) -> None:
        if event.table.name not in system.NAMES:
            self.store.record(event)


def _sent(changes: Changes, after: Row) -> Row:
    return {name: after.get(name) for name in changes.sent}


def _stamp(table: Table, values: Row, user: str, *, creating: bool) -> None:
    moment = now()
    behalf = None if user == system.USER else system.USER
    if creating:
        values["createdon"] = moment
        if values.get("overriddencreatedon"):
            values["createdon"] = f"{values['overriddencreatedon']}T00:00:00Z"
            values["overriddencreatedon"] = moment[:10]
        values |= {
            name: value for name, value in (("createdby", user), ("createdonbehalfby", behalf)) if name in table.columns
        }
    values["modifiedon"] = moment
    values |= {
        name: value for name, value in (("modifiedby", user), ("modifiedonbehalfby", behalf)) if name in table.columns
    }


def _own(table: Table, values: Row, user: str) -> None:
    if "organizationid" in table.columns and table.name != "organization":
        values["organizationid"] = system.ORGANIZATION
    if "ownerid" not in table.columns:
        return
    if values.get("ownerid") is None:
        values["ownerid"], values["ownerid@table"] = user, "systemuser"
    by_team = values.get("ownerid@table") == "team"
    values["owningteam"] = values["ownerid"] if by_team else None
    values["owninguser"] = None if by_team else values["ownerid"]
    values["owningbusinessunit"] = system.BUSINESS_UNIT


def _settle_status(table: Table, values: Row, before: Row, row_id: str) -> None:
    """Give a row a state and a status reason that belong together."""
    state_column, status_column = table.columns.get("statecode"), table.columns.get("statuscode")
    if state_column is None or status_column is None:
        return
    creating = not before
    if not creating and "statecode" not in values and "statuscode" not in values:
        return
    state = values.get("statecode")
    if state is None:
        state = next(iter(state_column.options)) if creating else before["statecode"]
    status = values.get("statuscode")
    if status is None:
        status = next(each for each, of in status_column.states.items() if of == state)
    if status_column.states[status] != state:
        raise InvalidStatus(table.name, status, state, row_id)
    values["statecode"], values["statuscode"] = state, status


def _composes_name(table: Table) -> bool:
    return {"fullname", "firstname", "lastname"} <= table.columns.keys()


def _full_name(row: dict[str, Any]) -> str | None:
    parts = [row.get(part) for part in ("firstname", "middlename", "lastname")]
    text = " ".join(part for part in parts if part)
    return text[:160] or None

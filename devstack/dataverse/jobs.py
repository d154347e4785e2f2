"""System jobs: the rows of `asyncoperation` that tell of asynchronous deliveries, waiting, under way and over."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from devstack.dataverse import system
from devstack.dataverse.columns import now
from devstack.dataverse.metadata import Table
from devstack.dataverse.records import Event
from devstack.dataverse.rows import Row, Store

WAITING: Final = {"statecode": 0, "statuscode": 0}
UNDER_WAY: Final = {"statecode": 2, "statuscode": 20}
SUCCEEDED: Final = {"statecode": 3, "statuscode": 30}
FAILED: Final = {"statecode": 3, "statuscode": 31}
CANCELED: Final = {"statecode": 3, "statuscode": 32}


def new_id() -> str:
    """Return the id of a job to be, which is the OperationId of its message."""
    return str(uuid.uuid4())


class Jobs:
    """Writes the jobs; each method is a transaction of its own, and a job that somebody deleted is no matter."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _table(self) -> Table:
        return self._store.metadata.tables["asyncoperation"]

    def queue(self, made: Iterable[tuple[str, Event, Row]]) -> None:
        """Add jobs that wait: their ids, with the event and the step of each."""
        table = self._table
        with self._store.transaction():
            for job, event, step in made:
                moment = now()
                values: Row = WAITING | {
                    "asyncoperationid": job,
                    "createdon": moment,
                    "modifiedon": moment,
                    "createdby": system.USER,
                    "modifiedby": system.USER,
                    "versionnumber": self._store.next_version(),
                    "name": step["name"],
                    "operationtype": 1,
                    "messagename": event.message,
                    "primaryentitytype": event.table.name,
                    "correlationid": event.origin.correlation,
                    "depth": 1,
                    "retrycount": 0,
                    "owningextensionid": step["sdkmessageprocessingstepid"],
                }
                if event.message != "Delete" and event.table.name in table.columns["regardingobjectid"].targets:
                    values |= {"regardingobjectid": event.id, "regardingobjectid@table": event.table.name}
                self._store.insert(table, values)

    def start(self, job: str) -> None:
        """Say that a job is under way."""
        self._change(job, UNDER_WAY | {"startedon": now()})

    def end(self, job: str, problem: str | None, tries: int, *, keep: bool) -> None:
        """Say how a job ended, after how many tries; one that went well and is not to be kept goes."""
        if problem is None and not keep:
            with self._store.transaction():
                self._store.delete(self._table, job)
            return
        told: Row = {"message": problem, "friendlymessage": problem, "retrycount": tries - 1, "completedon": now()}
        self._change(job, told | (SUCCEEDED if problem is None else FAILED))

    def cancel(self) -> None:
        """Say of the jobs that are not over that they never will be."""
        sql = 'SELECT "asyncoperationid" AS id FROM "asyncoperation" WHERE "statecode" <> 3'
        for row in self._store.query(sql, []):
            self._change(row["id"], CANCELED | {"completedon": now()})

    def _change(self, job: str, values: Row) -> None:
        changed = values | {"modifiedon": now(), "versionnumber": self._store.next_version()}
        with self._store.transaction():
            self._store.update(self._table, job, changed)

"""Operations in transactions: synchronous steps are called while the transaction is open, and others wait for its rows.

Everything is one thread and one SQLite connection, so a transaction that has to wait for a webhook, or for another
transaction, is suspended: what it wrote is taken back and kept, others see what is committed, and it is written again,
exactly, when the wait is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeVar

from devstack.dataverse.errors import ExtensionFailed, ObjectDoesNotExist, RecordNotFoundByEntityKey
from devstack.dataverse.held import Transaction
from devstack.dataverse.keys import ById, address, segments
from devstack.dataverse.records import Event
from devstack.dataverse.rows import Store
from devstack.dataverse.troubles import Deadlock, SqlTimeout
from devstack.dataverse.webhooks import Webhooks
from devstack.dataverse.wire import Answer, Call

OpenRow = Literal["not-found", "time-out"]
"""What a read meets whose row or set an open transaction wrote: what was committed before, or the end of its patience."""

SQL_TIMEOUT: Final = 30.0
UNSETTLED: Final = (
    "Others do not see what a transaction wrote whose synchronous step is being called (switch `open_row`).",
    "A write that changes a row of such a transaction, binds to it, or takes one of its alternate keys waits for its end.",
    "A wait for open transactions ends in the SQL time-out; of two that wait for each other, one ends as deadlocked.",
    "The two minutes that the whole of an operation may take are not counted.",
)
"""What no page settles, and how it is here."""
T = TypeVar("T")
Timeout = Callable[[float], AbstractAsyncContextManager[Any]]
"""Makes a context that raises TimeoutError in what is awaited inside it after so many seconds, as `asyncio.timeout`."""


class _Held(Exception):
    """The operation needs what suspended transactions hold."""

    def __init__(self, by: Sequence[Transaction]) -> None:
        super().__init__(by)
        self.by = by


class _Overtaken(Exception):
    """Somebody else saves a row that the operation is about to write; `args` is the call."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class Pipeline:
    """Carries out operations; `carry_out` does one inside an open transaction, raising DataverseError.

    `overtaken` is asked of each operation whether somebody else saves its row first, which `save` then does.
    `patience` is how many seconds an operation waits for open transactions, by `timeout`.
    """

    def __init__(
        self,
        store: Store,
        carry_out: Callable[[Call], Answer],
        webhooks: Webhooks,
        *,
        overtaken: Callable[[Call], bool],
        save: Callable[[Call], None],
        open_row: OpenRow,
        patience: float,
        timeout: Timeout,
    ) -> None:
        self._store = store
        self._carry_out = carry_out
        self._webhooks = webhooks
        self._overtaken, self._save = overtaken, save
        self._open_row = open_row
        self._patience, self._timeout = patience, timeout

    async def alone(self, call: Call) -> Answer:
        """Carry out one operation in a transaction of its own; raises DataverseError."""

        async def work() -> Answer:
            return await self.step(call)

        return await self.transact(work)

    async def transact(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do all of the work or nothing; from the start again when somebody else saved a row that it was about."""
        while True:
            try:
                with self._store.transaction():
                    return await work()
            except _Overtaken as by_somebody:
                with self._store.transaction():
                    self._save(by_somebody.call)

    async def step(self, call: Call) -> Answer:
        """Carry out one operation inside an open transaction, its synchronous steps with it; raises DataverseError."""
        if self._overtaken(call):
            raise _Overtaken(call)
        before = self._store.mark()
        answered = await self._in_turn(call) if self._store.held else self._carry_out(call)
        if call.method != "GET" and (events := self._store.events(before)):
            await self._synchronous(events)
        return answered

    async def _in_turn(self, call: Call) -> Answer:
        """Carry out an operation beside suspended transactions; it waits for those that hold what it needs."""
        try:
            async with self._timeout(self._patience):
                while True:
                    try:
                        return self._attempt(call)
                    except _Held as held:
                        await self._wait(held.by)
        except TimeoutError:
            raise SqlTimeout from None

    def _attempt(self, call: Call) -> Answer:
        if call.method == "GET":
            if self._open_row == "time-out" and (by := self._read(call)):
                raise _Held(by)
            return self._carry_out(call)
        try:
            with self._store.transaction():
                before = self._store.mark()
                answered = self._carry_out(call)
                if by := self._store.blockers(before):
                    raise _Held(by)
        except (ObjectDoesNotExist, RecordNotFoundByEntityKey) as error:
            if by := self._store.holders(error.table, getattr(error, "row", "")):
                raise _Held(by) from None
            raise
        return answered

    def _read(self, call: Call) -> Sequence[Transaction]:
        """Return the suspended transactions that wrote what a read is about: its row, any row of its set."""
        first = segments(call.path)[0] if call.path.strip("/") else None
        table = self._store.metadata.by_set.get(first.name) if first is not None else None
        if first is None or table is None:
            return ()
        where = address(table, first.words) if first.words is not None else None
        return self._store.holders(table.name, where.id if isinstance(where, ById) else "")

    async def _wait(self, others: Sequence[Transaction]) -> None:
        me = self._store.running
        if me is not None and me.keeps_waiting(others):
            raise Deadlock

        async def until_over() -> None:
            for each in others:
                await each.over.wait()

        await self._away(until_over, others)

    async def _synchronous(self, events: Sequence[Event]) -> None:
        if not (deliveries := self._webhooks.synchronous(events)):
            return

        async def call() -> None:
            if (problem := await self._webhooks.call(deliveries)) is not None:
                raise ExtensionFailed(problem)

        await self._away(call)

    async def _away(self, work: Callable[[], Awaitable[None]], waits_for: Sequence[Transaction] = ()) -> None:
        """Await something while the transaction is suspended; raises ExtensionFailed when it must not go on."""
        kept = self._store.suspend(waits_for)
        try:
            await work()
        except BaseException:
            self._store.abandon(kept)
            raise
        if not self._store.resume(kept):
            raise ExtensionFailed("The organization was reset or closed meanwhile.")

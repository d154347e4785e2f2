"""Operations in transactions: synchronous steps are called while the transaction is open, and others wait for its rows.

Everything is one thread and one SQLite connection, so a transaction that has to wait for a webhook is suspended: what it
wrote is taken back and kept, others see what is committed, and it is written again, exactly, when the webhook has
answered. That others do not see the row, and that writers of it wait, is inferred ([inf]): no page says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

from devstack.dataverse.errors import ExtensionFailed, ObjectDoesNotExist, RecordNotFoundByEntityKey
from devstack.dataverse.records import Event
from devstack.dataverse.rows import Store
from devstack.dataverse.troubles import SqlTimeout
from devstack.dataverse.webhooks import Webhooks
from devstack.dataverse.wire import Answer, Call

OpenRow = Literal["not-found", "time-out"]
"""What a read of a row meets that an open transaction wrote: what was committed before it, or the end of its patience."""

SQL_TIMEOUT: Final = 30.0
T = TypeVar("T")


class _Held(Exception):
    """The operation needs a row of an open transaction."""


class _Overtaken(Exception):
    """Somebody else saves a row that the operation is about to write; `args` is the call."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class Pipeline:
    """Carries out operations; `carry_out` does one inside an open transaction, raising DataverseError.

    `overtaken` is asked of each operation whether somebody else saves its row first, which `save` then does. `patience` is how many seconds an operation waits for a row of an open transaction.
    """

    def __init__(
        self,
        store: Store,
        carry_out: Callable[[Call], Answer],
        webhooks: Webhooks,
        *,
        overtaken: Callable[[Call], bool],
        save: Callable[[Call], None],
        open_row: OpenRow = "not-found",
        patience: float = SQL_TIMEOUT,
    ) -> None:
        self.open_row, self.patience = open_row, patience
        self._store = store
        self._carry_out = carry_out
        self._webhooks = webhooks
        self._overtaken, self._save = overtaken, save

    async def alone(self, call: Call) -> Answer:
        """Carry out one operation in a transaction of its own; raises DataverseError."""

        async def work() -> Answer:
            return await self.step(call)

        return await self.transact(work)

    async def transact(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do all of the work or nothing; from the start again when somebody else's transaction came between."""
        while True:
            try:
                with self._store.transaction():
                    return await work()
            except _Overtaken as by_somebody:
                with self._store.transaction():
                    self._save(by_somebody.call)
                continue
            except _Held:
                pass
            try:
                async with asyncio.timeout(self.patience):
                    await self._store.released()
            except TimeoutError:
                raise SqlTimeout from None

    async def step(self, call: Call) -> Answer:
        """Carry out one operation inside an open transaction, its synchronous steps with it; raises DataverseError."""
        before = self._store.mark()
        if self._overtaken(call):
            raise _Overtaken(call)
        try:
            answered = self._carry_out(call)
        except (ObjectDoesNotExist, RecordNotFoundByEntityKey) as error:
            if self._waits(call) and self._store.holds(error.table, getattr(error, "row", "")):
                raise _Held from None
            raise
        if call.method == "GET":
            return answered
        if self._store.conflicts(before):
            raise _Held
        if events := self._store.events(before):
            await self._synchronous(events)
        return answered

    def _waits(self, call: Call) -> bool:
        return call.method != "GET" or self.open_row == "time-out"

    async def _synchronous(self, events: Sequence[Event]) -> None:
        deliveries = [each for event in events for each in self._webhooks.synchronous(event)]
        if not deliveries:
            return
        kept = self._store.suspend()
        problem: str | None = "The operation was given up."
        try:
            problem = await self._webhooks.call(deliveries)
        finally:
            if problem is not None:
                self._store.abandon(kept)
        if problem is not None:
            raise ExtensionFailed(problem)
        if not self._store.resume(kept):
            raise ExtensionFailed("The organization was reset meanwhile.")

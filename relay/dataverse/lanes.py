"""One lane per key: within this process, never two pieces of work on the same resource or row at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Hold:
    """One wish for keys; `behind` is how many of them somebody has who came before."""

    keys: tuple[Hashable, ...]
    behind: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)


class Lanes:
    """Lanes by key, each first come, first served.

    All keys of a hold are queued for in one step, so everybody waits only for those who came before: no two can wait
    for each other, and nobody is passed over. Correctness never rests on this, as another process may do the same
    work: it saves the calls that lose a race.
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[_Hold]] = {}

    def __len__(self) -> int:
        """Return how many keys are held or waited for."""
        return len(self._queues)

    @asynccontextmanager
    async def hold(self, keys: Iterable[Hashable]) -> AsyncIterator[None]:
        """Have all these keys to oneself inside the block; cancelled while it waits, it leaves nothing behind."""
        wish = _Hold(tuple(dict.fromkeys(keys)))
        for key in wish.keys:
            queue = self._queues.setdefault(key, deque())
            wish.behind += bool(queue)
            queue.append(wish)
        try:
            if wish.behind:
                await wish.free.wait()
            yield
        finally:
            self._give_up(wish)

    def _give_up(self, wish: _Hold) -> None:
        for key in wish.keys:
            queue = self._queues[key]
            was_first = queue[0] is wish
            queue.remove(wish)
            if not queue:
                del self._queues[key]
            elif was_first:
                queue[0].behind -= 1
                if not queue[0].behind:
                    queue[0].free.set()

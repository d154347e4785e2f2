"""Rings when something was sent, so that a receiver in the same process need not poll."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from weakref import WeakValueDictionary

_bells: WeakValueDictionary[str, Bell] = WeakValueDictionary()
_bells_lock = threading.Lock()


class Bell:
    """Counts rings and wakes those who wait; safe to ring from any thread, to wait on from any loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self.rings = 0

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._lock:
            self.rings += 1
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits there any more
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, seen: int | None = None) -> int:
        """Return the number of rings once it differs from `seen` (None: the number now)."""
        with self._lock:
            if seen is not None and self.rings != seen:
                return self.rings
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
        try:
            await future
        finally:
            with self._lock:
                self._waiting.discard(future)
        return self.rings


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def bell_of(folder: Path) -> Bell:
    """Return the one bell of a folder, so that two stores on it hear each other."""
    key = str(folder.absolute())
    with _bells_lock:
        bell = _bells.get(key)
        if bell is None:
            bell = _bells[key] = Bell()
        return bell

"""Maps kept in a blob container: a change is taken up without deploying; a bad one is refused and the last good stays."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from relay.errors import MapError, StoreUnavailable
from relay.mapping.load import MapSet, parse_maps
from relay.store import Store

GOOD = "relay-maps-good"
"""Container of the last good maps: what a new process starts with while the container holds bad ones."""

log = logging.getLogger(__name__)


class LiveMaps:
    """The maps of one container; look for changes with `refresh`, at most once in `every`."""

    def __init__(
        self, store: Store, container: str, *, facts: Path, every: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._container = container
        self._facts = facts
        self._every = every
        self._now = now
        self._looked: datetime | None = None
        self._seen: Mapping[str, str] = {}
        self._maps: MapSet | None = None
        self.error: MapError | None = None
        """Why the container's present content is refused; None while it is what runs."""

    @property
    def maps(self) -> MapSet:
        """The maps that are good; raises MapError when there were never any, StoreUnavailable when none could be read."""
        if self._maps is not None:
            return self._maps
        raise self.error or StoreUnavailable(f"the maps in container {self._container} could not be read yet")

    async def refresh(self) -> bool:
        """Take up what changed in the container and return whether the maps are others now; never raises."""
        now = self._now()
        if self._looked is not None and now - self._looked < self._every:
            return False
        try:
            return await self._look(now)
        except StoreUnavailable:
            log.warning("the container of maps cannot be read")  # what runs goes on
            return False

    async def _look(self, now: datetime) -> bool:
        listed = {blob.name: blob.etag for blob in await self._store.list_blobs(self._container)}
        if self._looked is not None and listed == self._seen:
            self._looked = now
            return False
        files: dict[str, bytes] = {}
        for name in listed:
            data = await self._store.get_blob(self._container, name)
            if data is None:
                return False  # it is being changed: the next look sees it whole
            files[name] = data
        taken = await self._take(files)
        self._looked, self._seen = now, listed
        return taken

    async def _take(self, files: Mapping[str, bytes]) -> bool:
        try:
            self._maps = parse_maps(self._container, files, self._facts)
        except MapError as error:
            self.error = error
            log.error("the maps in container %s are refused, the last good ones stay:\n%s", self._container, error)  # noqa: TRY400 - the message says where
            return await self._last_good()
        self.error = None
        kept = json.dumps({name: b64encode(data).decode("ascii") for name, data in files.items()})
        await self._store.put_blob(GOOD, f"{self._container}.json", kept.encode())
        log.info("maps taken up from container %s: %d", self._container, len(self._maps.maps))
        return True

    async def _last_good(self) -> bool:
        """Start with the maps that were good before this process, if it has none of its own."""
        if self._maps is not None:
            return False
        data = await self._store.get_blob(GOOD, f"{self._container}.json")
        if data is None:
            return False
        try:
            files = {name: b64decode(text) for name, text in json.loads(data).items()}
            self._maps = parse_maps(self._container, files, self._facts)
        except (MapError, ValueError):
            return False  # good once, but not for this version of the relay
        return True

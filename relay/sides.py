"""Both sides, the store and the maps: what everything else of the relay is made of. Each is made when it is first asked for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from relay.errors import SettingsError
from relay.settings import Settings
from relay.store import Store
from relay.store.agreed import Agreed
from relay.store.ledger import Ledger
from relay.store.open import open_store
from relay.store.tombstones import Tombstones
from relay.store.work import Backoff, DeadLetters
from relay.store.written import WrittenColumns
from relay.telemetry import Pseudonyms

if TYPE_CHECKING:  # the event intake needs none of these, and a cold start is felt there first
    import httpx

    from relay.dataverse.client import DataverseClient
    from relay.dataverse.lanes import Lanes
    from relay.fhir.client import FhirClient
    from relay.inbound.names import OrgNames
    from relay.live_maps import LiveMaps
    from relay.mapping.load import MapSet

log = logging.getLogger(__name__)

SOON = 6.0  # seconds of waiting inside one call; what takes longer goes back on the queue, and the caller gets 202


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Seams:
    """What tests and the development stack put in place of the world: transports, time, sleep, dice."""

    dataverse: httpx.AsyncBaseTransport | None = None
    fhir: httpx.AsyncBaseTransport | None = None
    google: httpx.AsyncBaseTransport | None = None
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


class Sides:
    """Dataverse, the FHIR server, the store, and the maps between the two."""

    def __init__(self, settings: Settings, *, store: Store | None = None, seams: Seams | None = None) -> None:
        self.settings = settings
        self.seams = seams or Seams()
        self.store = store or open_store(settings.store)
        self.pseudonyms = Pseudonyms(settings.log_key.get_secret_value())
        self.ledger = Ledger(self.store, self.pseudonyms, self.seams.now)
        self.agreed = Agreed(self.store, self.pseudonyms)
        self.tombstones = Tombstones(self.store, self.pseudonyms)
        self.written = WrittenColumns(self.store, self.pseudonyms)
        self.dead_letters = DeadLetters(self.store, self.pseudonyms, self.seams.now)
        self._backoff = Backoff(settings.retry_first, settings.retry_longest, settings.retry_for, self.seams.draw)

    @cached_property
    def maps(self) -> MapSet:
        """The entity maps and the facts of their tables; of a container's those that `refresh` found last."""
        if self.settings.maps_container:
            maps = self._live_maps.maps
        else:
            from relay.mapping.load import load_maps

            maps = load_maps(self.settings.maps)
        return self._names.applied(maps) if "_names" in self.__dict__ else maps

    @cached_property
    def _names(self) -> OrgNames:
        from relay.inbound.names import OrgNames

        return OrgNames(self.dataverse)

    async def _rename(self, tables: Iterable[str]) -> MapSet:
        """Ask the org for the navigation names of tables and return the maps with them, which all use from then on."""
        await self._names.ask(tables)
        maps = self._names.applied(self.maps)
        if maps is not self.maps:
            log.warning("the org has other navigation names than metadata.json: see `relay maps metadata`")
            self.forget_maps()
            self.__dict__["maps"] = maps
        return maps

    def forget_maps(self) -> None:
        """Let go of the maps, and of whatever was made of them."""
        self.__dict__.pop("maps", None)

    @cached_property
    def _live_maps(self) -> LiveMaps:
        from relay.live_maps import LiveMaps
        from relay.mapping.metadata import METADATA_FILE

        return LiveMaps(
            self.store,
            self.settings.maps_container,
            facts=self.settings.maps / METADATA_FILE,
            every=self.settings.maps_every,
            now=self.seams.now,
        )

    async def refresh(self) -> None:
        """Take up maps that changed in their container; work under way goes on with those it began with."""
        if self.settings.maps_container and await self._live_maps.refresh():
            self.forget_maps()

    @cached_property
    def dataverse(self) -> DataverseClient:
        """The Web API client."""
        from relay.auth import dataverse_auth
        from relay.dataverse.client import DataverseClient, write_headers
        from relay.dataverse.throttle import Governor

        if not self.settings.dataverse_url:
            raise SettingsError("RELAY_DATAVERSE_URL is not set (the org's root, such as https://org.crm.dynamics.com)")
        return DataverseClient(
            self.settings.dataverse_url,
            auth=dataverse_auth(self.settings),
            transport=self.seams.dataverse,
            governor=Governor(max_wait=SOON, sleep=self.seams.sleep, clock=self.seams.clock, jitter=self.seams.draw),
            write_headers=write_headers(self.settings.caller_object_id, self.settings.bypass),
            timeout=self.settings.timeout.total_seconds(),
        )

    @cached_property
    def lanes(self) -> Lanes:
        """Who works on which resource or row now."""
        from relay.dataverse.lanes import Lanes

        return Lanes()

    @cached_property
    def fhir(self) -> FhirClient:
        """The FHIR client."""
        from relay.auth import fhir_auth
        from relay.fhir.client import FhirClient

        if not self.settings.fhir_url:
            raise SettingsError("RELAY_FHIR_URL is not set (the FHIR server's base)")
        return FhirClient(
            self.settings.fhir_url,
            auth=fhir_auth(self.settings),
            transport=self.seams.fhir,
            timeout=self.settings.timeout.total_seconds(),
            batch_entries=self.settings.fhir_batch_entries,
            clock=self.seams.clock,
        )

    async def _ordered_versions(self) -> bool:
        """Tell whether the FHIR server's versions are integers that grow."""
        if self.settings.fhir_versions != "auto":
            return self.settings.fhir_versions == "ordered"
        return (await self.fhir.profile()).ordered

    async def aclose(self) -> None:
        """Close clients and store."""
        for client in ("dataverse", "fhir"):
            if client in self.__dict__:
                await self.__dict__[client].aclose()
        await self.store.close()

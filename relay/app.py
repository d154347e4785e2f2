"""The one place where settings become a wired Relay: clients, maps, store. Built once per process, on first use."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from relay.errors import MapError, RelayError, SettingsError, StoreUnavailable
from relay.settings import Settings, load_settings
from relay.store import Store
from relay.store.agreed import Agreed
from relay.store.ledger import PREFIX, Ledger
from relay.store.open import open_store
from relay.store.tombstones import Tombstones
from relay.store.work import Backoff, DeadLetters
from relay.store.written import WrittenColumns
from relay.telemetry import Pseudonyms

if TYPE_CHECKING:  # the event intake needs none of these, and a cold start is felt there first
    import httpx

    from relay.dataverse.client import DataverseClient
    from relay.dataverse.lanes import Lanes
    from relay.fhir.client import FhirClient, Read
    from relay.inbound.event_grid import FhirEvents
    from relay.inbound.gate import Gate
    from relay.inbound.heard import Heard
    from relay.inbound.hook import Hook
    from relay.inbound.msind import Upserts
    from relay.inbound.names import OrgNames
    from relay.inbound.poll import Poller
    from relay.inbound.pubsub import Certificates, PubSub
    from relay.inbound.service import Inbound
    from relay.live_maps import LiveMaps
    from relay.mapping.load import MapSet
    from relay.mapping.model import Resolve
    from relay.writeback.retrieve import Retriever
    from relay.writeback.service import WriteBacks


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


class Relay:
    """Everything a trigger may call; each part is made when it is first asked for."""

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
            self._forget_maps()
            self.__dict__["maps"] = maps
        return maps

    def _forget_maps(self) -> None:
        for part in (
            "maps",
            "writebacks",
            "inbound",
            "hook",
            "fhir_events",
            "pubsub",
            "poller",
            "upserts",
            "retriever",
        ):
            self.__dict__.pop(part, None)

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
            self._forget_maps()

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

    @cached_property
    def writebacks(self) -> WriteBacks:
        """The write-back side."""
        from relay.store.turns import Turns
        from relay.writeback.births import Births
        from relay.writeback.events import EventReader
        from relay.writeback.outgoing import Changes
        from relay.writeback.rows import RowReader
        from relay.writeback.service import WriteBacks
        from relay.writeback.writer import Writer

        def new_tag() -> str:
            return PREFIX + uuid4().hex

        reader = EventReader(
            self.maps, self.dataverse, self.ledger, identifier_rows=self.settings.identifier_rows, new_tag=new_tag
        )
        if any(each.outward.tracked for each in self.maps) and not self.settings.log_key.get_secret_value():
            log.warning(
                "RELAY_LOG_KEY is not set: after a restart every difference of a write-back column is a conflict"
            )
        resolve = self._on_server
        rows = RowReader(self.maps, self.dataverse)
        births = Births(
            rows,
            self.dataverse,
            self.fhir,
            agreed=self.agreed,
            turns=Turns(self.store, self.pseudonyms, self.seams.now),
            resolve=resolve,
            new_tag=new_tag,
        )
        changes = Changes(
            rows,
            self.dataverse,
            self.fhir,
            self.agreed,
            resolve=resolve,
            new_tag=new_tag,
            sleep=self.seams.sleep,
            draw=self.seams.draw,
        )
        return WriteBacks(
            self.settings,
            self.store,
            reader=reader,
            writer=Writer(self.fhir, self._row_gone, sleep=self.seams.sleep, draw=self.seams.draw),
            births=births,
            changes=changes,
            ledger=self.ledger,
            dead_letters=self.dead_letters,
            lanes=self.lanes,
            now=self.seams.now,
            backoff=self._backoff,
        )

    @property
    def _on_server(self) -> Resolve:
        """What a Reference means in a resource of the FHIR server."""
        from relay.inbound.entries import Entry, Incoming
        from relay.inbound.references import References

        return References(Incoming("resource", ()), fhir_url=self.settings.fhir_url).resolver(Entry(0, None))

    @cached_property
    def inbound(self) -> Inbound:
        """The inbound side."""
        return self._inbound(self.settings)

    @cached_property
    def hook(self) -> Hook:
        """The endpoint of FHIR Subscriptions."""
        from relay.inbound.hook import Hook

        return Hook(self.inbound, self._heard, self.settings, gate=self._gate, now=self.seams.now)

    @cached_property
    def _heard(self) -> Heard:
        """What each Subscription has told so far."""
        from relay.inbound.heard import Heard

        return Heard(self.store, self.pseudonyms, self.seams.now)

    @cached_property
    def fhir_events(self) -> FhirEvents:
        """Events of Azure Health Data Services."""
        from relay.inbound.event_grid import FhirEvents

        return FhirEvents(self.inbound, self.settings)

    @cached_property
    def pubsub(self) -> PubSub:
        """Google's notifications."""
        from relay.inbound.pubsub import PubSub

        return PubSub(self.inbound, self.settings, self._certificates)

    @cached_property
    def _certificates(self) -> Certificates:
        from relay.inbound.pubsub import Certificates

        return Certificates(self.seams.google, self.seams.clock)

    @cached_property
    def poller(self) -> Poller:
        """What asks the FHIR server for changes."""
        from relay.inbound.poll import Poller

        return Poller(
            self.fhir,
            self.inbound,
            self.store,
            self.settings,
            types=lambda: [each.resource for each in self.maps],
            pseudonyms=self.pseudonyms,
            now=self.seams.now,
        )

    @cached_property
    def upserts(self) -> Upserts:
        """Microsoft's UpsertBundle; its caller waits for the results, however large the bundle is."""
        from relay.inbound.msind import Upserts

        # What is sent there was on the FHIR server before: that is the contract.
        waiting = self.settings.model_copy(update={"async_over_bytes": self.settings.max_body_bytes, "forward": False})
        return Upserts(self.settings, self._inbound(waiting, maybe_on_server=True), self.maps)

    @cached_property
    def retriever(self) -> Retriever:
        """Microsoft's RetrieveBundle."""
        from relay.writeback.retrieve import Retriever

        return Retriever(self.maps, self.dataverse, resolve=self._on_server, now=self.seams.now)

    def _inbound(self, settings: Settings, *, maybe_on_server: bool = False) -> Inbound:
        from relay.inbound.carry import Carrier
        from relay.inbound.catch_up import Searcher
        from relay.inbound.forwarder import Forwarder
        from relay.inbound.gather import Gatherer
        from relay.inbound.service import Inbound

        @cache
        def carrier() -> Carrier:  # what is stored must not wait for maps that are wrong
            return Carrier(
                settings,
                self.maps,
                self.dataverse,
                self.writebacks.make,
                self.agreed,
                read=self.fhir.read,
                tombstones=self.tombstones,
                now=self.seams.now,
                lanes=self.lanes,
                nudge=self.writebacks.nudge,
                rename=self._rename,
                ordered_versions=self._ordered_versions,
                maybe_on_server=maybe_on_server,
            )

        async def read(ids: Sequence[tuple[str, str]]) -> list[Read]:
            return await self.fhir.read(ids)

        return Inbound(
            settings,
            self.store,
            carrier=carrier,
            gatherer=Gatherer(read, lambda: self.maps, settings),
            forwarder=lambda: Forwarder(self.fhir, self.store, self.settings, self.seams.now),
            searcher=Searcher(lambda: self.fhir, lambda: self.maps, self._heard, settings, self.seams.now),
            ledger=self.ledger,
            written=self.written,
            dead_letters=self.dead_letters,
            now=self.seams.now,
            gate=self._gate,
            backoff=self._backoff,
        )

    @cached_property
    def _gate(self) -> Gate:
        """How much is worked on at once, whoever sent it."""
        from relay.inbound.gate import Gate

        return Gate(self.settings.work_bytes)

    async def work_writeback(self, text: str) -> None:
        """Do the work of one write-back message; while the maps cannot be used it goes back on the queue."""
        try:
            writebacks = self.writebacks
        except (MapError, StoreUnavailable):
            from relay.writeback.messages import QUEUE

            await self.store.send(QUEUE, text, delay=self._backoff.longest)
            return
        await writebacks.handle(text)

    async def drain_writeback(self, text: str) -> None:
        """Turn a poison write-back message into a dead letter, whether or not the maps can be used."""
        try:
            writebacks = self.writebacks
        except (MapError, StoreUnavailable):
            await self.dead_letters.put("writeback", "poison", text, subject=(text,))
            return
        await writebacks.drain(text)

    async def take_event(self, body: bytes) -> str:
        """Store one Dataverse event for the worker and return the queue's name for it.

        Only ids are kept: the body is a hint and may hold patient data. Raises Refused when it is not an event or
        not of the configured organisation, StoreUnavailable when it could not be stored.
        """
        from relay.writeback.intake import take_event

        return await take_event(body, self.store, self.settings, self.seams.now())

    async def sweep(self) -> int:
        """Delete what is past its retention and return how many things went."""
        before = self.seams.now() - timedelta(days=self.settings.retention_days)
        gone = await self.inbound.expire(before)
        gone += await self._heard.expire(before)
        gone += await self.ledger.expire(before)
        gone += await self.written.expire(before)
        gone += await self.tombstones.expire(before)
        return gone + await self.dead_letters.expire(before)

    async def ready(self) -> Mapping[str, str]:
        """Return `ok` or an error code for the store, the maps, Dataverse and the FHIR server."""

        async def maps() -> None:
            await self.refresh()
            _ = self.maps
            if self.settings.maps_container and self._live_maps.error is not None:
                raise self._live_maps.error

        async def dataverse() -> None:
            await self.dataverse.who_am_i()

        async def fhir() -> None:
            await self.fhir.metadata()

        checks: dict[str, Callable[[], Awaitable[Any]]] = {
            "store": self.store.check,
            "maps": maps,
            "dataverse": dataverse,
            "fhir": fhir,
        }
        answers: dict[str, str] = {}
        for name, check in checks.items():
            try:
                await check()
            except RelayError as error:
                answers[name] = error.code
            else:
                answers[name] = "ok"
        return answers

    async def _row_gone(self, table: str, guid: str) -> bool:
        from relay.dataverse import quoting
        from relay.dataverse.errors import DataverseMissing

        facts = self.maps.tables[table]
        try:
            await self.dataverse.get(f"{quoting.record(facts.entity_set, guid)}?$select={facts.primary_id}")
        except DataverseMissing:
            return True
        except ValueError:
            return False  # what stands there is no GUID, so it was never a row of ours
        return False

    async def aclose(self) -> None:
        """Close clients and store."""
        for client in ("dataverse", "fhir"):
            if client in self.__dict__:
                await self.__dict__[client].aclose()
        await self.store.close()


@cache
def get_relay() -> Relay:
    """Return this process's Relay; settings come from the environment.

    RELAY_MAPS is read against the app's folder, so that it does not matter where the process was started.
    """
    settings = load_settings()
    if not settings.maps.is_absolute():
        named = os.environ.get("AzureWebJobsScriptRoot")  # noqa: SIM112 - the host's own spelling
        root = Path(named) if named else Path(__file__).resolve().parent.parent
        settings = settings.model_copy(update={"maps": root / settings.maps})
    return Relay(settings)


async def fresh_relay() -> Relay:
    """Return this process's Relay with the maps as they are now."""
    relay = get_relay()
    await relay.refresh()
    return relay

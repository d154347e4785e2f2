"""The one place where settings become a wired Relay: clients, maps, store. Built once per process, on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from relay.errors import MapError, RelayError, SettingsError, StoreUnavailable
from relay.settings import Settings, load_settings
from relay.sides import Sides
from relay.store.ledger import PREFIX

if TYPE_CHECKING:  # the event intake needs none of these, and a cold start is felt there first
    from relay.fhir.client import Read
    from relay.inbound.event_grid import FhirEvents
    from relay.inbound.gate import Gate
    from relay.inbound.heard import Heard
    from relay.inbound.hook import Hook
    from relay.inbound.msind import Upserts
    from relay.inbound.poll import Poller
    from relay.inbound.pubsub import Certificates, PubSub
    from relay.inbound.service import Inbound
    from relay.mapping.model import Resolve
    from relay.writeback.retrieve import Retriever
    from relay.writeback.service import WriteBacks


log = logging.getLogger(__name__)


class Relay(Sides):
    """Everything a trigger may call."""

    def forget_maps(self) -> None:
        """Let go of the maps, and of whatever was made of them."""
        super().forget_maps()
        for part in (
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
            gatherer=Gatherer(read, lambda: self.maps, settings, ordered_versions=self._ordered_versions),
            forwarder=lambda: Forwarder(self.fhir, self.store, self.settings, self.seams.now, ours=self._our_systems),
            searcher=Searcher(lambda: self.fhir, lambda: self.maps, self._heard, settings, self.seams.now),
            ledger=self.ledger,
            written=self.written,
            dead_letters=self.dead_letters,
            now=self.seams.now,
            gate=self._gate,
            backoff=self._backoff,
        )

    def _our_systems(self) -> frozenset[str]:
        """Return the systems of the identifiers that the write-back adds."""
        return frozenset(each.identifier.system for each in self.maps if each.identifier is not None)

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
        """Return `ok` or an error code for the store, the maps, Dataverse and the FHIR server, and Pub/Sub if it is set up."""

        async def maps() -> None:
            await self.refresh()
            _ = self.maps
            if self.settings.maps_container and self._live_maps.error is not None:
                raise self._live_maps.error

        async def dataverse() -> None:
            await self.dataverse.who_am_i()

        async def fhir() -> None:
            await self.fhir.metadata()

        async def pubsub() -> None:
            self.check_pubsub()

        checks: dict[str, Callable[[], Awaitable[Any]]] = {
            "store": self.store.check,
            "maps": maps,
            "dataverse": dataverse,
            "fhir": fhir,
        }
        if self._expects_pubsub:
            checks["pubsub"] = pubsub
        answers: dict[str, str] = {}
        for name, check in checks.items():
            try:
                await check()
            except RelayError as error:
                answers[name] = error.code
                if isinstance(error, SettingsError):
                    log.error("%s", error)  # noqa: TRY400 - the message says which setting
            else:
                answers[name] = "ok"
        return answers

    @property
    def _expects_pubsub(self) -> bool:
        """Whether messages of Pub/Sub are meant to come, though half of their settings may be missing."""
        return bool(self.settings.pubsub_audience or self.settings.pubsub_email)

    def check_pubsub(self) -> None:
        """Raise SettingsError when Pub/Sub is set up so that no message of it could be taken."""
        if self._expects_pubsub:
            from relay.inbound.pubsub import check_settings

            check_settings(self.settings)

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
    relay = Relay(settings)
    try:
        relay.check_pubsub()
    except SettingsError as error:  # the other ways in go on without it
        log.error("%s", error)  # noqa: TRY400 - the message says which setting
    return relay


async def fresh_relay() -> Relay:
    """Return this process's Relay with the maps as they are now."""
    relay = get_relay()
    await relay.refresh()
    return relay

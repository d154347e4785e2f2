"""The relay's webhook in an org: registered through the Web API once for what the maps ask, a copy of that afterwards."""

from __future__ import annotations

import atexit

import httpx

from devstack.dataverse import Emulator
from devstack.dataverse.rows import Store
from devstack.register import register_webhook
from relay.mapping.load import MapSet
from relay.writeback.events import asked_for

ENDPOINT = "http://relay/api/dataverse/event"

_KEPT: dict[object, Store] = {}


async def register(org: Emulator, url: str, maps: MapSet, *, key: str = "local") -> None:
    """Make an org of the shipped facts, in which nobody was yet, tell the relay of what these maps ask."""
    names = dict.fromkeys(each.table.name for each in maps)
    names |= dict.fromkeys(each.identifier.table.name for each in maps if each.identifier)
    tables = {name: tuple(asked_for(maps, name)) for name in names}
    what = (key, tuple(tables.items()), frozenset(org._service.bulk.without))
    if what in _KEPT:
        org.store.become(_KEPT[what])
        return
    await register_webhook(url, ENDPOINT, tables, key=key, transport=httpx.ASGITransport(org))
    kept = _KEPT[what] = Store(":memory:", org.metadata.copy(), seed=list, like=org.store)
    atexit.register(kept.close)

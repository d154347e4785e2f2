"""Writes new patients in one form, in this process, and prints what that took; started by `throughput.py`.

Usage: contender.py FORM COUNT AT_ONCE DATAVERSE_URL FHIR_URL STORE_FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from figures import ROOT
from largest import peak_mb
from material import bundle_of, patients

from relay.app import Relay
from relay.inbound.intake import read_bundle
from relay.inbound.located import Located
from relay.inbound.operations import Operation
from relay.inbound.plan import PlanOptions, plan
from relay.inbound.references import References
from relay.mapping.load import load_maps
from relay.mapping.translate import translate
from relay.settings import Settings
from relay.sides import Seams
from relay.store.local import LocalStore

Json = dict[str, Any]
Write = Callable[[str, int], Awaitable[None]]
"""Writes so many new patients whose ids begin with a prefix."""

KEYS = {"contact": "msemr_azurefhirid", "prefix_patientidentifier": "prefix_value"}
"""The alternate keys that the official SDK needs for an upsert; ours are primary keys that the relay chooses."""

API = "/api/data/v9.2/"
_JSON = {"Content-Type": "application/fhir+json"}


@dataclass
class Timed(httpx.AsyncBaseTransport):
    """A transport that notes when its first request began and its last answer came."""

    inner: httpx.AsyncBaseTransport = field(default_factory=httpx.AsyncHTTPTransport)
    first: float = 0.0
    last: float = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request on."""
        self.first = self.first or time.perf_counter()
        response = await self.inner.handle_async_request(request)
        await response.aread()
        self.last = time.perf_counter()
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self.inner.aclose()


@dataclass(frozen=True)
class Place:
    """Where a contender writes: both servers' roots, a folder for its store, how many requests may run at once."""

    org: str
    fhir: str
    folder: Path
    at_once: int


def rows(prefix: str, count: int) -> list[Operation]:
    """Return the rows of so many new patients, parents before their children, as the relay plans them."""
    maps = load_maps(ROOT / "maps")
    body = bundle_of(*patients(count, prefix))
    incoming = read_bundle(body, content_type="application/fhir+json", content_encoding="", limits=Settings())
    references = References(incoming, fhir_url="http://fhir")
    drafts = {}
    for entry in incoming.entries:
        entity_map = maps.for_resource(entry.resource_type)
        if entity_map is not None and entry.resource is not None:
            drafts[entry.index] = translate(entity_map, entry.resource, references.resolver(entry))
    planned = plan(drafts, Located(), maps, PlanOptions())
    operations = [operation for each in planned.resources for operation in each.operations]
    return sorted(operations, key=lambda each: each.table.name != "contact")


@asynccontextmanager
async def of_relay(place: Place, write: str) -> AsyncIterator[tuple[Write, Timed]]:
    """Do the whole job by the relay: rows, identifier rows, and the identifiers in the FHIR resources."""
    timed = Timed()
    settings = Settings(
        dataverse_url=place.org,
        fhir_url=place.fhir,
        dataverse_auth="none",
        fhir_auth="none",
        log_key="bench",
        async_over_bytes=2**30,
        write=write,
        maps=ROOT / "maps",
    )
    relay = Relay(settings, store=LocalStore(place.folder), seams=Seams(dataverse=timed))

    async def carry(prefix: str, count: int) -> None:
        timed.first = 0.0
        body = bundle_of(*patients(count, prefix))
        reply = await relay.inbound.post(body, "application/fhir+json", "", respond_async=False)
        entries = (reply.body or {}).get("entries", [])
        if reply.status != 200 or any(each["writeback"] != "written" for each in entries):  # noqa: PLR2004 - OK
            raise RuntimeError(f"the bundle was not carried out: {reply.status}")

    try:
        yield carry, timed
    finally:
        await relay.aclose()


@asynccontextmanager
async def of_sequence(place: Place) -> AsyncIterator[tuple[Write, Timed]]:
    """Do the whole job by one call per row, one after the other: an upsert each, then a read and a PUT per resource."""
    timed = Timed()
    async with httpx.AsyncClient(transport=timed, timeout=100) as http:

        async def write(prefix: str, count: int) -> None:
            made = rows(prefix, count)
            timed.first = 0.0
            for each in made:
                url = f"{place.org}{API}{each.table.entity_set}({each.id})"
                (await http.patch(url, json=_plain(each.body))).raise_for_status()
            async with httpx.AsyncClient(base_url=place.fhir, headers=_JSON, timeout=100) as fhir:
                for each in patients(count, prefix):
                    address = f"/Patient/{each['id']}"
                    read = (await fhir.get(address)).raise_for_status()
                    resource = read.json()
                    resource["identifier"].append({"system": "urn:oid:org.d365.mc4h.patient.id", "value": each["id"]})
                    guard = {"If-Match": read.headers["ETag"]}
                    (await fhir.put(address, json=resource, headers=guard)).raise_for_status()

        yield write, timed


def _plain(body: Any) -> Json:
    """Return a body as other clients send it: numbers as floats."""
    return {name: value if isinstance(value, str | int | None) else float(value) for name, value in body.items()}


@asynccontextmanager
async def of_sdk(place: Place, how: str) -> AsyncIterator[tuple[Write, Timed]]:
    """Write the rows alone by the official SDK's async client: one upsert each, many at once, or one bulk call a table."""
    from azure.core.credentials import AccessToken
    from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient
    from PowerPlatform.Dataverse.models.upsert import UpsertItem

    class Nobody:
        async def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("none", int(time.time()) + 3600)

        async def close(self) -> None:
            """Close nothing."""

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Close nothing."""

    timed = Timed()
    async with AsyncDataverseClient(place.org, Nobody()) as client:  # type: ignore[arg-type]  # a credential by shape

        def item(each: Operation) -> UpsertItem:
            key = KEYS[each.table.name]
            record = {**_plain(each.body), each.table.primary_id: each.id}
            return UpsertItem(alternate_key={key: record.pop(key)}, record=record)

        async def together(calls: Sequence[tuple[str, list[UpsertItem]]], at_once: int) -> None:
            gate = asyncio.Semaphore(at_once)

            async def one(table: str, items: list[UpsertItem]) -> None:
                async with gate:
                    await client.records.upsert(table, items)

            await asyncio.gather(*(one(*each) for each in calls))

        async def write(prefix: str, count: int) -> None:
            made = rows(prefix, count)
            timed.first = time.perf_counter()
            for table in dict.fromkeys(each.table.name for each in made):  # parents first
                items = [item(each) for each in made if each.table.name == table]
                if how == "bulk":
                    await together([(table, items)], 1)
                elif how == "bulk_at_once":
                    size = -(-len(items) // place.at_once)
                    chunks = [items[start : start + size] for start in range(0, len(items), size)]
                    await together([(table, chunk) for chunk in chunks], place.at_once)
                else:
                    await together([(table, [each]) for each in items], place.at_once if how == "at_once" else 1)
            timed.last = time.perf_counter()

        yield write, timed


FORMS: dict[str, Callable[[Place], Any]] = {
    "relay_auto": lambda place: of_relay(place, "auto"),
    "relay_fewest_calls": lambda place: of_relay(place, "fewest-calls"),
    "sequence": of_sequence,
    "sdk_each": lambda place: of_sdk(place, "each"),
    "sdk_at_once": lambda place: of_sdk(place, "at_once"),
    "sdk_bulk": lambda place: of_sdk(place, "bulk"),
    "sdk_bulk_at_once": lambda place: of_sdk(place, "bulk_at_once"),
}


async def main(form: str, count: int, place: Place) -> Json:
    """Write once to warm up, then once on the clock."""
    async with FORMS[form](place) as (write, timed), httpx.AsyncClient(timeout=100) as http:
        for prefix, size in (("warm", 1), ("bench", count)):
            body = bundle_of(*patients(size, prefix))
            (await http.post(place.fhir, content=body, headers=_JSON)).raise_for_status()
        await write("warm", 1)
        for side in (place.org, place.fhir):
            (await http.delete(f"{side}/_emulator/calls")).raise_for_status()
        began, cpu = time.perf_counter(), time.process_time()
        await write("bench", count)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        calls = [len((await http.get(f"{side}/_emulator/calls")).json()) for side in (place.org, place.fhir)]
    return {
        "seconds": round(seconds, 3),
        "dataverse_seconds": round(timed.last - timed.first, 3),
        "dataverse_calls": calls[0],
        "fhir_calls": calls[1],
        "cpu_seconds": round(cpu, 2),
        "peak_mb": round(peak_mb()),
    }


if __name__ == "__main__":
    asked = Place(sys.argv[4], sys.argv[5], Path(sys.argv[6]), int(sys.argv[3]))
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), asked))))

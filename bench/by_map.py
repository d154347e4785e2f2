"""CPU per resource by map: `translate` over the published resources of every type that has a default map."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from figures import ROOT, Figure, best_of, skipped
from material import folder

from relay.cli.maps_files import fhir_files, read_file
from relay.errors import Refused
from relay.inbound.references import References
from relay.mapping.load import MapSet, load_maps
from relay.mapping.model import EntityMap, Resolve
from relay.mapping.translate import translate

NAME = "maps_translate"
MOST = 300
"""Resources measured of one type: those that come first, by file."""

Work = list[tuple[Any, Resolve]]


def run() -> Iterator[Figure]:
    """Measure each map over the resources of its type, and their mean with each resource counted once."""
    data = folder()
    if data is None:
        yield skipped(NAME, "ms/resource", "the published FHIR data is not here: set RELAY_TEST_DATA to its folder")
        return
    maps = load_maps(ROOT / "maps")
    work = _resources(maps, data)
    spent = {entity.resource: _time(entity, work[entity.resource]) for entity in maps if work.get(entity.resource)}
    counts = {kind: len(work[kind]) for kind in spent}
    mean = sum(seconds * counts[kind] for kind, seconds in spent.items()) / sum(counts.values())
    slowest = sorted(spent, key=lambda kind: -spent[kind])
    more = {
        "by_map": {kind: round(spent[kind] * 1000, 4) for kind in slowest},
        "resources_of": {kind: counts[kind] for kind in slowest},
        "resources": sum(counts.values()),
        "types": len(spent),
        "without_resources": sorted(entity.resource for entity in maps if entity.resource not in spent),
        "listed": ", ".join(f"{kind} {spent[kind] * 1000:.3f}" for kind in slowest),
    }
    yield Figure(NAME, round(mean * 1000, 4), "ms/resource", more)


def _resources(maps: MapSet, data: Any) -> dict[str, Work]:
    """Read resources with what their references mean, of the types that have a map."""
    work: dict[str, Work] = {entity.resource: [] for entity in maps}
    for path in fhir_files([data]):
        try:
            incoming = read_file(path, unlimited=True)
        except Refused:
            continue  # some published samples are no FHIR
        references = References(incoming, fhir_url="")
        for entry in incoming.entries:
            wanted = work.get(entry.resource_type)
            if wanted is not None and len(wanted) < MOST and entry.resource is not None and entry.problem is None:
                wanted.append((entry.resource, references.resolver(entry)))
    return work


def _time(entity: EntityMap, work: Work) -> float:
    """Return the best CPU seconds of one resource."""

    def each() -> None:
        for resource, resolve in work:
            translate(entity, resource, resolve)

    best, _ = best_of(5, max(1, MOST // len(work)), each, time.process_time)
    return best / len(work)

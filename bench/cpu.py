"""CPU per resource, stage by stage, and the cost of reading one element path. No I/O: the answers are made up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from figures import ROOT, Figure, best_of
from material import bundle_of, patients

from relay.dataverse import batch as codec
from relay.dataverse.batch import ChangeSet, Request, Response
from relay.dataverse.client import DataverseClient
from relay.fhir.identifiers import add_identifier
from relay.inbound.intake import Incoming, read_bundle
from relay.inbound.locate import Locator
from relay.inbound.located import Located
from relay.inbound.operations import change_set
from relay.inbound.plan import PlanOptions, plan
from relay.inbound.references import References
from relay.mapping.load import MapSet, load_maps
from relay.mapping.model import Draft
from relay.mapping.paths import compile_path
from relay.mapping.translate import translate
from relay.settings import Settings

COUNT = 100
ORG = "http://dataverse/api/data/v9.2/"
URN = "urn:oid:org.d365.mc4h.patient.id"
PATHS = {
    "plain": "$.name[0].given[0]",
    "one_member": "$.birthDate",
    "filtered": "$.telecom[?(@.system=='phone' && @.use=='work')].value",
}


class _Nobody:
    """A Dataverse that has no rows."""

    async def batch(self, items: Sequence[Request]) -> list[list[Response]]:
        """Answer every read with no rows."""
        return [[Response(200, {}, {"value": []})] for _ in items]


def run() -> Iterator[Figure]:
    """Measure parse, translate, plan and encode, what comes around them, and the paths."""
    body = bundle_of(*patients(COUNT))
    maps = load_maps(ROOT / "maps")
    limits = Settings()
    incoming = _parse(body, limits)
    drafts = _translate(incoming, maps)
    columns = len(drafts[0].columns)
    planned = plan(drafts, Located(), maps, PlanOptions())
    sets = [change_set(each.operations, "bench") for each in planned.resources]
    answers = _answers(sets)
    texts = [json.dumps(each) for each in patients(COUNT)]
    locator = Locator(cast("DataverseClient", _Nobody()), maps)
    stages: dict[str, Callable[[], object]] = {
        "parse": lambda: _parse(body, limits),
        "translate": lambda: _translate(incoming, maps),
        "plan": lambda: plan(drafts, Located(), maps, PlanOptions()),
        "encode": lambda: codec.encode([change_set(each.operations, "bench") for each in planned.resources], ORG),
        "locate": lambda: asyncio.run(locator.locate(list(drafts.values()))),
        "decode": lambda: codec.decode(*answers, sets),
        "merge": lambda: [add_identifier(text, system=URN, value="0" * 8) for text in texts],
    }
    spent: dict[str, float] = {}
    for name, work in stages.items():
        best, median = best_of(7, 10, work, time.process_time)
        spent[name] = best / COUNT * 1000
        more = {"median": round(median / COUNT * 1000, 4), "columns": columns, "identifiers": 4}
        yield Figure(f"cpu_{name}", round(spent[name], 4), "ms/resource", more)
    core = spent["translate"] + spent["plan"] + spent["encode"]
    yield Figure("cpu_translate_plan_encode", round(core, 4), "ms/resource", {"target": 0.25})
    yield Figure("cpu_with_parse", round(core + spent["parse"], 4), "ms/resource", {"target": 0.3})
    yield from _paths()


def _parse(body: bytes, limits: Settings) -> Incoming:
    return read_bundle(body, content_type="application/fhir+json", content_encoding="", limits=limits)


def _translate(incoming: Incoming, maps: MapSet) -> dict[int, Draft]:
    references = References(incoming, fhir_url="http://fhir")
    drafts: dict[int, Draft] = {}
    for entry in incoming.entries:
        entity_map = maps.for_resource(entry.resource_type)
        if entity_map is not None and entry.resource is not None:
            drafts[entry.index] = translate(entity_map, entry.resource, references.resolver(entry))
    return drafts


def _answers(sets: Sequence[ChangeSet]) -> tuple[str, bytes]:
    """Return what Dataverse answers when every operation of every change set succeeds."""
    lines: list[str] = []
    for number, each in enumerate(sets):
        lines += ["--b", f"Content-Type: multipart/mixed; boundary=c{number}", ""]
        for content_id in range(1, len(each.requests) + 1):
            lines += [f"--c{number}", "Content-Type: application/http", f"Content-ID: {content_id}", ""]
            lines += ["HTTP/1.1 204 No Content", "OData-Version: 4.0", "", ""]
        lines += [f"--c{number}--", ""]
    return "multipart/mixed; boundary=b", "\r\n".join([*lines, "--b--", ""]).encode()


def _paths() -> Iterator[Figure]:
    resource: Any = patients(1)[0]
    for name, text in PATHS.items():
        path = compile_path(text)
        best, median = best_of(7, 20_000, lambda read=path.read: read(resource), time.process_time)  # type: ignore[misc]
        more: dict[str, Any] = {"median": round(median * 1e6, 3), "path": text}
        if name == "plain":
            more["target"] = 1
        yield Figure(f"path_{name}", round(best * 1e6, 3), "us/read", more)

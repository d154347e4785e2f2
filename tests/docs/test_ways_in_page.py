"""docs/ways-in.md: what is copied from it works."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fenced import ROOT, blocks

from devstack.fhir.subscriptions import SEND_DELETES
from relay.mapping.load import load_maps

SUBSCRIPTIONS = [
    json.loads(each.text)
    for each in blocks("docs/ways-in.md")
    if each.language == "json" and '"resourceType": "Subscription"' in each.text
]


@pytest.mark.parametrize("resource", SUBSCRIPTIONS, ids=["hapi", "topic-based"])
def test_subscriptions_name_the_route(resource: dict[str, Any]) -> None:
    """The endpoint is the function's route, the key's header is the host's, and the payload is one that is taken."""
    functions = json.loads((ROOT / "tests" / "surface" / "functions.json").read_text(encoding="utf-8"))
    route = functions["fhir_hook"]["route"].removesuffix("/{*path}")
    channel = resource["channel"]
    assert channel["endpoint"].endswith(f".net/api/{route}")
    assert (channel["type"], channel["payload"]) == ("rest-hook", "application/fhir+json")
    assert channel["header"] == ["x-functions-key: <key>"]
    assert resource["status"] == "requested"


def test_the_types_of_hapis_have_maps() -> None:
    """Each type that HAPI's Subscription names has a map, and deletions are asked for."""
    hapi = SUBSCRIPTIONS[0]
    mapped = {each.resource for each in load_maps(ROOT / "maps")}
    assert set(hapi["criteria"].strip("[]").split(",")) <= mapped
    assert {"url": SEND_DELETES, "valueBoolean": True} in hapi["channel"]["extension"]

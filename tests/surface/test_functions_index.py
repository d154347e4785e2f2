from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devstack.host import Host, StartError
from relay.store.local import LocalStore
from support.world import ROOT

GOLDEN = Path(__file__).with_name("functions.json")
POLL = Path(__file__).with_name("functions_poll.json")
EVENT_GRID = Path(__file__).with_name("functions_event_grid.json")


@asynccontextmanager
async def indexed(folder: Path, **settings: str) -> AsyncIterator[Host]:
    """Index function_app.py in the platform's runtime, with nothing set but these."""
    store = LocalStore(folder)
    host = Host(ROOT, store=store, settings={"AzureWebJobsStorage": f"file:{folder}", **settings}, polling=False)
    try:
        await host.start()
        yield host
    finally:
        await host.stop()
        await store.close()


def described(host: Host) -> dict[str, dict[str, Any]]:
    """Return each function's trigger without the names of parameters."""
    return {
        each.name: {key: value for key, value in each.trigger.items() if key not in ("name", "direction")}
        for each in host.functions
    }


async def test_the_platform_indexes_exactly_the_published_functions(tmp_path: Path) -> None:
    """Names, triggers, routes, methods, auth levels and queues are a contract: changing one changes the golden file."""
    async with indexed(tmp_path) as host:
        assert described(host) == json.loads(GOLDEN.read_text())


async def test_nothing_is_bound_but_triggers_and_http_answers(tmp_path: Path) -> None:
    """The relay writes to its store itself: a function has its trigger and, over HTTP, its answer."""
    async with indexed(tmp_path) as host:
        outputs = {each.name: [binding["type"] for binding in each.outputs.values()] for each in host.functions}
        kinds = {each.name: each.kind for each in host.functions}
        unserved = [each.unserved for each in host.functions]
    assert outputs == {name: ["http"] if kind == "httpTrigger" else [] for name, kind in kinds.items()}
    assert not any(unserved)


@pytest.mark.parametrize("spelling", ["event-grid", "EventGrid"])
async def test_event_grid_announces_blobs_where_polling_is_not_to_be_had(tmp_path: Path, spelling: str) -> None:
    """RELAY_BLOB_SOURCE=event-grid changes the source of the blob trigger and nothing else: its golden file has that function."""
    async with indexed(tmp_path, RELAY_BLOB_SOURCE=spelling) as host:
        found = described(host)
    expected = json.loads(GOLDEN.read_text())
    assert found == expected | json.loads(EVENT_GRID.read_text())


async def test_polling_is_a_timer_of_its_own_and_off_by_default(tmp_path: Path) -> None:
    """RELAY_POLL adds one function whose schedule it is; a wrong one stops the app by name."""
    async with indexed(tmp_path, RELAY_POLL="0 */5 * * * *") as host:
        assert described(host) == json.loads(GOLDEN.read_text()) | json.loads(POLL.read_text())
    with pytest.raises(StartError, match="RELAY_POLL: valid is a schedule of six fields"):
        async with indexed(tmp_path, RELAY_POLL="every 5 minutes"):
            pass


async def test_an_unknown_blob_source_stops_the_app_by_name(tmp_path: Path) -> None:
    """A wrong value names the setting and its valid choices, and no function is served."""
    with pytest.raises(StartError, match="RELAY_BLOB_SOURCE: valid are polling, event-grid"):
        async with indexed(tmp_path, RELAY_BLOB_SOURCE="ftp"):
            pass

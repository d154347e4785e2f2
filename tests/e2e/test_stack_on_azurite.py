"""The whole stack with its store in a storage account: queues, blobs and tables are Azurite's, everything goes over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.host.azure import AzureStorage
from devstack.stack import ROOT, Stack, running
from relay.cli.demo import play
from relay.inbound.jobs import DROPPED_OUTCOMES, PAYLOADS
from relay.store.work import DEAD_BODIES, DEAD_LETTERS
from support.azurite import emptied

pytestmark = pytest.mark.real

SAMPLE = ROOT / "samples" / "bundle.json"
FHIR_JSON = {"Content-Type": "application/fhir+json"}
OURS = "urn:oid:org.d365.mc4h."
GARBAGE = '{"not": "a job", "of": "lindqvist-ana"}'


@pytest.fixture
async def account(azurite: str) -> AsyncIterator[AzureStorage]:
    async with emptied(azurite) as store:
        yield store


@asynccontextmanager
async def up(azurite: str) -> AsyncIterator[tuple[Stack, httpx.AsyncClient]]:
    """Start the stack on the account and put the sample on the FHIR server."""
    async with running(storage={"AzureWebJobsStorage": azurite}) as stack, httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(stack.fhir_url, content=SAMPLE.read_bytes(), headers=FHIR_JSON)
        assert answer.is_success
        yield stack, http


async def written_back(stack: Stack, http: httpx.AsyncClient, outcome: dict[str, Any]) -> None:
    """See each entry's GUID in its row and in its resource."""
    assert outcome["status"] == "succeeded"
    for entry in outcome["entries"]:
        resource = (await http.get(f"{stack.fhir_url}/{entry['resource']}")).json()
        ours = [each["value"] for each in resource["identifier"] if each.get("system", "").startswith(OURS)]
        assert ours == [entry["row"]["id"]]
    patient = next(each for each in outcome["entries"] if each["resource"].startswith("Patient/"))
    row = await http.get(f"{stack.dataverse_url}/api/data/v9.2/contacts({patient['row']['id']})")
    assert f"Patient/{row.json()['msemr_azurefhirid']}" == patient["resource"]


@pytest.mark.usefixtures("account")
async def test_the_main_job_and_the_way_back(azurite: str, tmp_path: Path) -> None:
    """The demo's every step happens: bundle in, rows, GUIDs back; users' rows find their resource, or become one."""
    story = await play(tmp_path, {"AzureWebJobsStorage": azurite})
    assert story.missing == []
    assert story.settled


async def test_a_bundle_posted_and_left(azurite: str, account: AzureStorage) -> None:
    """202, then the queue's worker: outcome by its address, rows, write-back; and nothing of the payload is left."""
    async with up(azurite) as (stack, http):
        answer = await http.post(
            f"{stack.functions_url}/api/bundle",
            content=SAMPLE.read_bytes(),
            headers={**FHIR_JSON, "Prefer": "respond-async"},
        )
        assert answer.status_code == 202
        found = await _until(lambda: http.get(stack.functions_url + answer.headers["Content-Location"]))
        await written_back(stack, http, found)
        assert await stack.settle()
        ready = await http.get(f"{stack.functions_url}/api/ready")
    assert ready.json()["checks"]["store"] == "ok"
    assert await account.list_blobs(PAYLOADS) == []
    assert await account.length("inbound") == 0


async def test_a_dropped_file(azurite: str, account: AzureStorage) -> None:
    """A blob in `bundles` is carried out, and its outcome stands beside it under its name."""
    async with up(azurite) as (stack, http):
        await account.put_blob("bundles", "ward 3/größe.json", SAMPLE.read_bytes())
        assert await stack.settle()
        data = await account.get_blob(DROPPED_OUTCOMES, "ward 3/größe.json.json")
        assert data is not None
        await written_back(stack, http, json.loads(data))


@pytest.mark.usefixtures("account")
async def test_a_subscription_with_a_gap(azurite: str) -> None:
    """Notifications are kept and counted in the account: what a gap left out is looked for, and has its GUID."""
    async with up(azurite) as (stack, http):
        ids = [
            f"{each['resource']['resourceType']}/{each['resource']['id']}"
            for each in json.loads(SAMPLE.read_bytes())["entry"]
            if each["resource"]["resourceType"] in ("Organization", "Practitioner", "Patient")
        ]
        for number in (1, len(ids)):
            status = {"resourceType": "SubscriptionStatus", "type": "event-notification"}
            status |= {"subscription": {"reference": "Subscription/s1"}, "eventsSinceSubscriptionStart": str(number)}
            event = {"eventNumber": str(number), "focus": {"reference": ids[number - 1]}}
            told = {"resourceType": "Bundle", "type": "subscription-notification"}
            told |= {"entry": [{"resource": {**status, "notificationEvent": [event]}}]}
            path = ",".join(dict.fromkeys(each.partition("/")[0] for each in ids))
            for _ in range(2):  # the repetition is dropped
                answer = await http.post(f"{stack.functions_url}/api/fhir-hook/{path}", json=told, headers=FHIR_JSON)
            assert answer.status_code == 200
        assert await stack.settle()
        for each in ids:
            resource = (await http.get(f"{stack.fhir_url}/{each}")).json()
            assert len([known for known in resource["identifier"] if known["system"].startswith(OURS)]) == 1, each


async def test_poison_becomes_a_dead_letter(
    azurite: str, account: AzureStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """What failed at every try, and what nobody can decode, ends as a dead letter with its text; the log has none of it."""
    caplog.set_level(logging.INFO)
    await account.send("inbound", GARBAGE)
    for tries in range(1, 6):  # a host that died five times
        (message,) = await account.receive("inbound", most=1, visibility=timedelta(minutes=10))
        assert message.dequeue_count == tries
        await account.update(message, timedelta(0))
    await account.send("writeback-poison", "{}")
    bare = account.queues._service.get_queue_client("writeback")
    await bare.create_queue()
    await bare.send_message("{not encoded}")
    async with up(azurite) as (stack, _):
        assert await stack.settle()
    letters = await account.list_rows(DEAD_LETTERS)
    assert sorted((kind, values["code"]) for kind, _, values in letters) == [
        ("inbound", "poison"),
        ("writeback", "poison"),
        ("writeback", "poison"),
    ]
    bodies = [await account.get_blob(DEAD_BODIES, str(values["body"])) for _, _, values in letters]
    assert sorted(bodies, key=str) == sorted([GARBAGE.encode(), b"{}", b"{not encoded}"], key=str)
    assert "lindqvist-ana" not in caplog.text


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("command", ["relay up --json --port 0", "python -m devstack.host --port 0"])
def test_the_commands_run_on_what_the_environment_names(azurite: str, command: str) -> None:
    """`relay up` and the host take AzureWebJobsStorage as the app does, and stop when told to."""
    program, *arguments = command.split()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "AzureWebJobs"))}
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=ROOT,
        env=kept | {"AzureWebJobsStorage": azurite},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        assert httpx.get(f"{url}/api/health").status_code == 200
        assert httpx.get(f"{url}/api/ready", timeout=30).json()["checks"]["store"] == "ok"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


async def _until(call: Any) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (answer := await call()).status_code != 200:
            assert answer.status_code == 202
            await asyncio.sleep(0.05)
    found: dict[str, Any] = answer.json()
    return found

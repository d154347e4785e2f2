"""Queue and blob functions on a storage account: the same tries, delays, poison and receipts as on a folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devstack.host import StartError
from devstack.host.azure import AzureStorage
from relay.store.azure.account import read_account
from support.azurite import emptied

pytestmark = pytest.mark.real

STORAGE = "AzureWebJobsStorage"
HOST_JSON = json.dumps(
    {
        "extensions": {
            "queues": {"visibilityTimeout": "00:00:01", "maxDequeueCount": 3},
            "blobs": {"poisonBlobThreshold": 2},
        }
    }
)
_SECOND = timedelta(seconds=1)
SECOND = 1.3  # and a little more, since the service counts whole ones


@pytest.fixture
async def account(azurite: str) -> AsyncIterator[AzureStorage]:
    async with emptied(azurite) as store:
        yield store


@pytest.fixture
def options(account: AzureStorage, azurite: str) -> dict[str, Any]:
    settings = json.dumps({"Values": {"INBOUND": "inbound", STORAGE: azurite}})
    return {"account": account, "host_json": HOST_JSON, "local_settings": settings}


async def test_a_message_runs_its_function_once(hosted: Any, account: AzureStorage, options: Any) -> None:
    """A message that was worked on is gone; outputs go to the account's queues, and names come from settings."""
    async with hosted("queue", **options) as up:
        await account.send("inbound", "größe")
        await account.send("writeback", "three")
        await up.host.run_due()
        await up.host.run_due()
        assert sorted(up.app.seen) == sorted(("inbound", text, 1) for text in ("größe", "one", "two", "three"))
        assert await account.length("inbound") == 0
        assert await up.host.run_due() == 0


async def test_a_failing_message_ends_as_poison(hosted: Any, account: AzureStorage, options: Any) -> None:
    """Each failure costs a try and hides the message for `visibilityTimeout`; the last sends it to the poison queue."""
    async with hosted("queue", **options) as up:
        await account.send("inbound", "fail")
        await up.host.run_due()
        assert await up.host.run_due() == 0
        assert (await up.host.next_due()) > datetime.now(UTC)
        for _ in range(2):
            await asyncio.sleep(SECOND)
            await up.host.run_due()
        await up.host.run_due()
        assert up.app.seen == [
            ("inbound", "fail", 1),
            ("inbound", "fail", 2),
            ("inbound", "fail", 3),
            ("poison", "fail", None),
        ]
        assert (await account.length("inbound"), await account.length("inbound-poison")) == (0, 0)


async def test_a_message_that_a_dead_host_held_too_often_is_poison_unseen(
    hosted: Any, account: AzureStorage, options: Any
) -> None:
    """A crash of the host leaves no failure, and yet a message is not tried for ever."""
    await account.send("inbound", "crash")
    for _ in range(3):
        (message,) = await account.receive("inbound", most=1, visibility=timedelta(minutes=10))
        await account.update(message, timedelta(0))
    async with hosted("queue", **options) as up:
        await up.host.run_due()
        await up.host.run_due()
        assert up.app.seen == [("poison", "crash", None)]


async def test_a_message_that_is_not_base64_is_poison_unseen(
    hosted: Any, account: AzureStorage, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What a sender of its own did not encode goes to the poison queue as it is, and the log says why."""
    await account.send("inbound", "x")
    await account.queues._service.get_queue_client("inbound").send_message("{not encoded}")
    async with hosted("queue", **options) as up:
        await up.host.run_due()
        await up.host.run_due()
        assert sorted(up.app.seen, key=str) == [("inbound", "x", 1), ("poison", "{not encoded}", None)]
    assert "is not base64 of UTF-8" in caplog.text


async def test_a_polling_host_finds_what_others_send(hosted: Any, account: AzureStorage, options: Any) -> None:
    """Nothing rings here: an empty queue is asked again, and idle waits for delayed messages."""
    twin = AzureStorage(account.account)
    async with hosted("queue", **options, real_clock=True) as up:
        await up.host.idle()
        await twin.send("inbound", "now")
        await up.host.idle()
        assert up.app.seen == [("inbound", "now", 1)]
        await twin.send("inbound", "soon", delay=_SECOND)
        await up.host.idle(delayed=True)
        assert [text for _, text, _ in up.app.seen] == ["now", "soon"]
    await twin.close()


async def test_a_blob_runs_once_and_again_when_it_is_replaced(hosted: Any, account: AzureStorage, options: Any) -> None:
    """A blob is known by its etag, and its receipt outlives the host; other names are left alone."""
    async with hosted("blob", **options) as up:
        for data in (b"1", b"2"):
            await account.put_blob("bundles", "ward/größe.json", data)
            await account.put_blob("bundles", "a.txt", data)
            await up.host.run_due()
        assert up.app.seen == [("bundles/ward/größe.json", b"1", 1), ("bundles/ward/größe.json", b"2", 1)]
    async with hosted("blob", **options) as up:
        assert await up.host.run_due() == 0
        await account.put_blob("bundles", "x" * 600 + ".json", b"long")
        await up.host.run_due()
        assert [data for _, data, _ in up.app.seen] == [b"long"]


async def test_a_failing_blob_ends_in_the_poison_queue(hosted: Any, account: AzureStorage, options: Any) -> None:
    """After the last try the blob's particulars go to `webjobs-blobtrigger-poison`; the blob stays."""
    async with hosted("blob", **options) as up:
        await account.put_blob("bundles", "bad.json", b"fail")
        await up.host.run_due()
        await asyncio.sleep(SECOND)
        await up.host.run_due()
        await up.host.run_due()
        assert len(up.app.seen) == 2
        (told,) = [json.loads(each) for each in up.app.poison]
        assert (told["ContainerName"], told["BlobName"]) == ("bundles", "bad.json")
        assert await account.get_blob("bundles", "bad.json") == b"fail"


async def test_another_account_is_refused(hosted: Any, account: AzureStorage, options: Any) -> None:
    """An app whose connection names another account, or none that can be read, would put its work where nobody looks."""
    for value, reason in (
        ("UseDevelopmentStorage=true", "names another storage account"),
        ("x", "is no connection string"),
    ):
        settings = json.dumps({"Values": {"INBOUND": "inbound", STORAGE: value}})
        with pytest.raises(StartError, match=reason):
            async with hosted("queue", **options | {"local_settings": settings}):
                pass
    assert read_account({STORAGE: "UseDevelopmentStorage=true"}) != account.account

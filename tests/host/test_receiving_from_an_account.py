"""The receiving side of an account's queues, on a service whose answers are written down; test_host_on_azurite has the real ones."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devstack.host import StartError
from devstack.host.azure import AzureStorage
from devstack.host.queues import Policy, QueueListener
from devstack.host.storage import check_connection
from relay.errors import StoreUnavailable
from relay.store.azure.account import read_account
from relay.store.local import Message, PopReceiptMismatch
from support.scripted import LEFT_OPEN, answer, refusal, scripted

pytestmark = LEFT_OPEN

SECOND = timedelta(seconds=1)
TIME = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = TIME + SECOND
MESSAGE = Message("inbound", "1", "größe", 1, "2", TIME, LATER, LATER)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between two tries."""
    monkeypatch.setattr("relay.store.azure.wire._PAUSE", 0)


def listed(*texts: str) -> bytes:
    """Write what the service answers to a receive or peek."""
    one = (
        "<QueueMessage><MessageId>1</MessageId><InsertionTime>Mon, 01 Jun 2026 12:00:00 GMT</InsertionTime>"
        "<ExpirationTime>Mon, 01 Jun 2026 12:00:01 GMT</ExpirationTime><PopReceipt>2</PopReceipt>"
        "<TimeNextVisible>Mon, 01 Jun 2026 12:00:01 GMT</TimeNextVisible><DequeueCount>1</DequeueCount>"
        "<MessageText>{}</MessageText></QueueMessage>"
    )
    return answer(200, f"<?xml version='1.0'?><QueueMessagesList>{''.join(map(one.format, texts))}</QueueMessagesList>")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def counted(number: int) -> bytes:
    return answer(200, x_ms_approximate_messages_count=str(number))


async def test_a_message_is_decoded_as_the_platform_does() -> None:
    """Text is base64 of UTF-8; times, tries and receipt are the service's."""
    async with scripted(listed(encoded("größe"))) as (store, server):
        assert await store.receive("inbound", most=8, visibility=SECOND) == [MESSAGE]
        assert [each.text for each in await store.peek("inbound")] == ["größe"]
        assert not store.hears
        assert store.blob_url("bundles", "a b").endswith("/x/bundles/a%20b")
    assert "numofmessages=8" in server.requests[0]
    assert "visibilitytimeout=1" in server.requests[0]


async def test_an_empty_queue_and_one_that_is_not_there_are_alike() -> None:
    """Nothing to receive is no failure."""
    for told in (listed(), refusal(404, "QueueNotFound")):
        async with scripted(told) as (store, _):
            assert await store.receive("inbound", most=8, visibility=SECOND) == []
            assert await store.peek("inbound") == []
    async with scripted(refusal(404, "QueueNotFound")) as (store, _):
        assert await store.length("inbound") == 0
        assert await store.next_visible("inbound") is None


async def test_what_nobody_can_decode_goes_to_poison_as_it_is() -> None:
    """It is sent on before it is deleted, so that a crash between the two loses nothing."""
    sent = answer(201, listed("").decode().partition("\r\n\r\n")[2])
    async with scripted(listed("{not encoded}"), sent, answer(204)) as (store, server):
        assert await store.receive("inbound", most=8, visibility=SECOND) == []
    assert [each.partition("?")[0] for each in server.requests[1:]] == [
        "POST /x/inbound-poison/messages",
        "DELETE /x/inbound/messages/1",
    ]


async def test_when_a_hidden_message_comes_nobody_can_tell() -> None:
    """A visible one is there now, a hidden one may be there soon, an empty queue has none."""
    async with scripted(listed(encoded("x"))) as (store, _):
        assert (await store.next_visible("inbound") or LATER) <= store.now()
    async with scripted(listed(), counted(3)) as (store, _):
        assert (await store.next_visible("inbound") or TIME) > store.now()
    async with scripted(listed(), counted(0)) as (store, _):
        assert await store.next_visible("inbound") is None


async def test_a_message_is_given_back_and_deleted() -> None:
    """An update has a new receipt; the message is otherwise the same."""
    visible = {"x_ms_popreceipt": "3", "x_ms_time_next_visible": "Mon, 01 Jun 2026 12:00:00 GMT"}
    async with scripted(answer(204, **visible), answer(204)) as (store, server):
        given_back = await store.update(MESSAGE, timedelta(0))
        assert (given_back.pop_receipt, given_back.next_visible, given_back.text) == ("3", TIME, "größe")
        await store.delete(given_back)
    assert "popreceipt=3" in server.requests[-1]


CALLS: dict[str, Callable[[AzureStorage], Awaitable[Any]]] = {
    "delete": lambda store: store.delete(MESSAGE),
    "update": lambda store: store.update(MESSAGE, SECOND),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_message_that_somebody_else_has_is_told_apart_from_a_failure(call: Callable[..., Any]) -> None:
    """A receipt that is stale is PopReceiptMismatch, whatever else goes wrong StoreUnavailable."""
    for status, code in ((400, "PopReceiptMismatch"), (404, "MessageNotFound")):
        async with scripted(refusal(status, code)) as (store, _):
            with pytest.raises(PopReceiptMismatch, match="message 1 was received again or is gone"):
                await call(store)
    for told in (refusal(403, "AuthorizationFailure"), b""):
        async with scripted(told) as (store, _):
            with pytest.raises(StoreUnavailable, match="queue inbound"):
                await call(store)


async def test_blobs_are_looked_at_and_nothing_is_heard() -> None:
    """A single blob is described by its headers; waiting for a send never ends by itself."""
    told = answer(200, ETag='"0x1"', Last_Modified="Mon, 01 Jun 2026 12:00:00 GMT", x_ms_blob_type="BlockBlob")
    async with scripted(told) as (store, _):
        found = await store.find_blob("bundles", "a.json")
        assert found is not None
        assert (found.name, found.etag, found.modified) == ("a.json", "0x1", TIME)
        waiting = asyncio.create_task(store.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with scripted(answer(404, x_ms_error_code="BlobNotFound")) as (store, _):
        assert await store.find_blob("bundles", "a.json") is None


async def test_an_empty_queue_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing rings, the wait between two receives doubles up to the polling interval, and a message ends it."""
    waits: list[float] = []
    done = asyncio.Event()

    async def first(*works: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as what it stands for
        stopped, *running = works
        stopped.close()
        if timeout is None:
            await asyncio.wait(running)
        else:
            waits.append(round(timeout, 1))

    async def work(message: Message) -> None:
        assert message.text == "x"
        done.set()
        stop.set()

    monkeypatch.setattr("devstack.host.queues._first", first)
    stop = asyncio.Event()
    policy = Policy(batch=1, threshold=0, tries=5, retry_after=SECOND, longest_poll=0.7 * SECOND)
    empty = [listed()] * 5
    async with scripted(*empty, listed(encoded("x")), answer(204)) as (store, _):
        listener = QueueListener("inbound", store, policy, work)
        await listener.run(stop)
        await listener.drain(10)
    assert done.is_set()
    assert waits == [0.1, 0.2, 0.4, 0.7, 0.7]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, ""),
        ({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}, ""),
        ({"AzureWebJobsStorage__accountName": "x"}, "AzureWebJobsStorage names another storage account"),
        ({"AzureWebJobsStorage": "file:.relay"}, "AzureWebJobsStorage is no connection string"),
        ({"Inbound": "UseDevelopmentStorage=true"}, ""),
        ({"AzureWebJobsInbound__accountName": "x"}, "AzureWebJobsInbound names another storage account"),
    ],
    ids=["unset", "same", "other", "folder", "own", "own other"],
)
async def test_a_connection_has_to_name_the_hosts_account(settings: dict[str, str], reason: str) -> None:
    """A function's connection is the host's own account, or the host does not start."""
    store = AzureStorage(read_account({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}))
    name = "Inbound" if any("Inbound" in each for each in settings) else ""
    if reason:
        with pytest.raises(StartError, match=reason):
            check_connection(name, settings, store, "inbound_worker: msg")
    else:
        check_connection(name, settings, store, "inbound_worker: msg")

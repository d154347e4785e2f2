"""The receiving side of a storage account's queues, as the Functions host has it; with Azurite it needs nothing of Azure."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import HttpResponseError

from relay.store import BlobInfo
from relay.store.azure.queues import NO_QUEUE, NOT_OURS
from relay.store.azure.store import AzureStore
from relay.store.azure.wire import code_of, collect, none_if, storage_errors
from relay.store.local import Message, PopReceiptMismatch
from relay.store.names import check_delay

_SOON = timedelta(seconds=1)

_log = logging.getLogger(__name__)


class AzureStorage(AzureStore):
    """A storage account with what a host does to it: receive, delete, hide, and look at single blobs."""

    hears = False
    """Nothing rings when something was sent: queues are polled."""

    sends = 0

    def now(self) -> datetime:
        """Tell this machine's time; the account has its own, and they may differ by a little."""
        return datetime.now(UTC)

    async def find_blob(self, container: str, name: str) -> BlobInfo | None:
        """Tell size, etag and time of one blob; None when it is not there."""
        return await self.blobs.find(container, name)

    def blob_url(self, container: str, name: str) -> str:
        """Return a blob's address, without anything that signs."""
        return self.blobs.address(container, name)

    async def receive(self, queue: str, *, most: int, visibility: timedelta) -> list[Message]:
        """Take up to `most` visible messages; each is invisible to others for `visibility`, in whole seconds.

        A message that is not base64 of UTF-8 goes to `<queue>-poison` as it is, unseen, as on the platform.
        """
        client = self.queues.client(queue)
        seconds = math.ceil(check_delay(visibility).total_seconds())
        with storage_errors(f"queue {queue}"):
            pages = client.receive_messages(messages_per_page=most, visibility_timeout=seconds).by_page()
            page = await none_if(anext(pages, None), NO_QUEUE)
            received: list[Any] = [] if page is None else await collect(page)
        messages = [(each, _message(queue, each)) for each in received]
        for each, message in messages:
            if message is None:
                await self._to_poison(queue, each)
        return [message for _, message in messages if message is not None]

    async def delete(self, message: Message) -> None:
        """Delete a received message; PopReceiptMismatch when it is no longer ours."""
        client = self.queues.client(message.queue)
        with storage_errors(f"queue {message.queue}"):
            try:
                await client.delete_message(message.id, message.pop_receipt)
            except HttpResponseError as error:
                raise _not_ours(message, error) from None

    async def update(self, message: Message, visibility: timedelta) -> Message:
        """Make a received message visible after `visibility` from now; PopReceiptMismatch when it is no longer ours."""
        client = self.queues.client(message.queue)
        seconds = math.ceil(check_delay(visibility).total_seconds())
        with storage_errors(f"queue {message.queue}"):
            try:
                done: Any = await client.update_message(message.id, message.pop_receipt, visibility_timeout=seconds)
            except HttpResponseError as error:
                raise _not_ours(message, error) from None
        return replace(message, pop_receipt=done.pop_receipt, next_visible=done.next_visible_on)

    async def peek(self, queue: str, *, most: int = 32) -> list[Message]:
        """Show visible messages without taking them; the service does not show those that are hidden."""
        client = self.queues.client(queue)
        with storage_errors(f"queue {queue}"):
            found = await none_if(client.peek_messages(max_messages=most), NO_QUEUE) or []
        return [message for each in found if (message := _message(queue, each)) is not None]

    async def length(self, queue: str) -> int:
        """Count a queue's messages, the invisible ones too; the service calls it approximate."""
        client = self.queues.client(queue)
        with storage_errors(f"queue {queue}"):
            properties = await none_if(client.get_queue_properties(), NO_QUEUE)
        return 0 if properties is None else properties.approximate_message_count or 0

    async def next_visible(self, queue: str) -> datetime | None:
        """Tell now when a message is visible, None when the queue is empty, and else soon: the service does not say when."""
        if await self.peek(queue, most=1):
            return self.now()
        return self.now() + _SOON if await self.length(queue) else None

    async def wait(self, seen: int | None = None) -> int:
        """Wait forever: nothing is heard here."""
        await asyncio.Event().wait()
        return seen or 0

    async def _to_poison(self, queue: str, received: Any) -> None:
        _log.error("queue %s: message %s is not base64 of UTF-8 and goes to %s-poison", queue, received.id, queue)
        await self.send(f"{queue}-poison", str(received.content))
        client = self.queues.client(queue)
        with storage_errors(f"queue {queue}"):
            await client.delete_message(received.id, received.pop_receipt)


def _message(queue: str, received: Any) -> Message | None:
    """Read a message as the SDK gives it; None when its text cannot be decoded."""
    try:
        text = base64.b64decode(received.content, validate=True).decode()
    except ValueError:
        return None
    return Message(
        queue,
        received.id,
        text,
        received.dequeue_count,
        received.pop_receipt or "",
        received.inserted_on,
        received.expires_on,
        received.next_visible_on or received.inserted_on,
    )


def _not_ours(message: Message, error: HttpResponseError) -> Exception:
    if code_of(error) not in NOT_OURS:
        return error
    return PopReceiptMismatch(f"queue {message.queue}: message {message.id} was received again or is gone")

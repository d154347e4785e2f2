"""Queues in Azure Storage, as the Functions host reads them: each text as base64."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from relay.store import Receipt
from relay.store.azure.account import Account
from relay.store.azure.wire import client_options, code_of, created, credential_of, storage_errors
from relay.store.names import LONGEST_LIFE, check_delay, check_queue, check_text

NO_QUEUE = "QueueNotFound"

# Somebody received it, deleted it, or it never was; the last is the answer to a receipt that no queue ever gave.
NOT_OURS = (NO_QUEUE, "MessageNotFound", "PopReceiptMismatch", "InvalidQueryParameterValue")


class Queues:
    """The sending side of queues; a queue is made when something is first sent to it."""

    def __init__(self, account: Account) -> None:
        self._service = QueueServiceClient(
            account.addresses["queue"],
            credential=credential_of(account),
            **client_options(),
        )

    def client(self, queue: str) -> QueueClient:
        """Return the SDK's client of one queue: it encodes what it sends and leaves what it reads as it is."""
        return self._service.get_queue_client(check_queue(queue), message_encode_policy=TextBase64EncodePolicy())

    async def send(self, queue: str, text: str, *, delay: timedelta, life: timedelta = LONGEST_LIFE) -> Receipt:
        """Put a message that becomes visible after `delay`; a call that was cut off may put it twice."""
        client = self.client(queue)
        check_text(queue, text)
        wait = math.ceil(check_delay(delay).total_seconds())
        # The service wants a message to outlive its own delay.
        lives = max(int(life.total_seconds()), wait + 1)
        with storage_errors(f"queue {queue}"):
            sent: Any = await created(
                lambda: client.send_message(text, visibility_timeout=wait, time_to_live=lives),
                client.create_queue,
                NO_QUEUE,
            )
        return Receipt(queue, sent.id, sent.pop_receipt)

    async def cancel(self, receipt: Receipt) -> bool:
        """Take a message back; False when somebody received it meanwhile or it is gone."""
        client = self.client(receipt.queue)
        with storage_errors(f"queue {receipt.queue}"):
            try:
                await client.delete_message(receipt.id, receipt.pop_receipt)
            except HttpResponseError as error:
                if code_of(error) not in NOT_OURS:
                    raise
                return False
        return True

    async def close(self) -> None:
        """Give back the connections."""
        await self._service.close()

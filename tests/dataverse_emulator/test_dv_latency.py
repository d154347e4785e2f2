"""The time that calls take: so much a call, an operation of a batch, a row of a bulk action (docs: optimize-performance-create-update.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from devstack.dataverse import create_app

ROOT = "http://org/api/data/v9.2/"
BATCH = {"Content-Type": "multipart/mixed; boundary=b", "Prefer": "odata.continue-on-error"}
PART = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"


@asynccontextmanager
async def slowed(**times: float) -> AsyncIterator[tuple[httpx.AsyncClient, list[float]]]:
    """Run an organization that notes how long it would have waited instead of waiting."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))

    app = create_app(sleep=sleep, **times)  # type: ignore[arg-type]  # times alone
    async with app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ROOT) as api:
        yield api, waits


async def test_operations_of_a_batch_add_up() -> None:
    """A batch takes a call and each of its operations, those of a failed change set up to the failure."""
    async with slowed(call_ms=50, operation_ms=40) as (api, waits):
        await api.get("contacts")
        await api.post("$batch", content=f"{PART}GET contacts HTTP/1.1\r\n\r\n" * 3 + "\r\n--b--\r\n", headers=BATCH)
        inner = PART.replace("--b", "--c").rstrip("\r\n") + "\r\nContent-ID: {}\r\n\r\n"
        parts = "".join(
            f"{inner.format(number)}POST contacts HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
            for number, body in enumerate(("{}", '{"nosuch": 1}', "{}"))
        )
        content = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
        await api.post("$batch", content=content, headers=BATCH)
    assert waits == [0.09, 0.17, 0.13]


async def test_rows_of_a_bulk_action_have_a_price_of_their_own() -> None:
    """A bulk action takes a call and so much a row; without a price of its own a row costs what an operation does."""
    targets = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.contact"}] * 5}
    for times, expected in (({"bulk_row_ms": 10}, 0.1), ({}, 0.25)):
        async with slowed(call_ms=50, operation_ms=40, **times) as (api, waits):
            answer = await api.post("contacts/Microsoft.Dynamics.CRM.CreateMultiple", json=targets)
            assert answer.status_code == 200
        assert waits == [expected]


async def test_what_is_not_understood_takes_a_call() -> None:
    """A batch that cannot be read and a path below no service take the time of a call alone."""
    async with slowed(call_ms=50, operation_ms=40) as (api, waits):
        await api.post("$batch", content="nothing", headers=BATCH)
        await api.get("http://org/nowhere")
    assert waits == [0.05, 0.05]

"""The ledger of either store: works and deliveries by tag, whatever an event says its tag is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from relay.store.ledger import MOST_OPEN, PREFIX, WORKS, Ledger
from relay.telemetry import Pseudonyms

TAG = f"{PREFIX}{'0' * 32}"


@pytest.fixture
def ledger(store: Any, clock: Any) -> Ledger:
    return Ledger(store, Pseudonyms("key"), clock)


@pytest.mark.parametrize(("count", "listed"), [(MOST_OPEN, True), (MOST_OPEN + 1, False)])
async def test_the_open_rows_of_a_work_fit_a_table(count: int, listed: bool, ledger: Ledger, store: Any) -> None:
    """So many rows are named as fit one text; of more, every row counts as open."""
    await ledger.begin(TAG)
    await ledger.finish(TAG, [f"{number:032x}" for number in range(count)])
    row = await store.get_row(WORKS, "tag", TAG)
    assert (row["open"] == "all") is not listed
    assert (await ledger.state(TAG, f"{0:032x}"))[0] == "open"
    assert (await ledger.state(TAG, "f" * 32))[0] == ("done" if listed else "open")


@pytest.mark.parametrize("tag", ["", "somebody's", PREFIX + "x" * 5000, PREFIX + "/\\#?\0", "relay-' or '1' eq '1"])
async def test_a_tag_is_whatever_an_event_says(tag: str, ledger: Ledger) -> None:
    """A tag that no work ever had is unknown; noting its delivery harms nothing."""
    assert (await ledger.state(tag, None))[0] == "unknown"
    await ledger.delivered(tag, "operation")
    await ledger.delivered(tag, "operation")
    assert await ledger.deliveries(tag) == (1 if tag.startswith(PREFIX) and len(tag) < 65 else 0)


async def test_what_is_old_is_forgotten(ledger: Ledger, clock: Any) -> None:
    """Works and deliveries noted before a time go, and only those."""
    await ledger.finish(TAG)
    await ledger.delivered(TAG, "operation")
    assert await ledger.expire(clock() - timedelta(hours=1)) == 0
    assert await ledger.expire(clock() + timedelta(hours=1)) == 2
    assert (await ledger.state(TAG, None))[0] == "unknown"

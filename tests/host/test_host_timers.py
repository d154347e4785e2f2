"""Timers: NCRONTAB, missed runs, failures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from devstack.host import StartError
from devstack.host.ncrontab import Schedule

NEVER = '{"Values": {"SCHEDULE": "0 0 0 29 2 *"}}'


async def test_a_timer_runs_when_due(hosted: Any, clock: Any) -> None:
    """It runs at its times and not between, also when a time was overslept: once."""
    async with hosted("timer", local_settings=NEVER) as up:
        await up.host.run_due()
        up.app.seen.clear()
        clock.advance(seconds=50)
        assert await up.host.run_due() == 0
        assert await up.host.next_due() == datetime(2024, 5, 6, 7, 10, tzinfo=UTC)
        clock.advance(seconds=61)
        assert await up.host.run_due() == 1
        assert up.app.seen == [("sweep", False)]
        assert await up.host.run_due() == 0
        clock.advance(hours=2)
        assert await up.host.run_due() == 1
        assert up.app.seen[1:] == [("sweep", True)]


async def test_run_on_startup_runs_at_the_start(hosted: Any, caplog: pytest.LogCaptureFixture) -> None:
    """`run_on_startup` runs at once; a failure is logged and not repeated before the next time."""
    async with hosted("timer", local_settings=NEVER) as up:
        assert await up.host.run_due() == 1
        assert await up.host.run_due() == 0
        assert up.app.seen == [("at_start", False)]
    assert "timer at_start: at_start: RuntimeError: once is enough" in caplog.text


async def test_a_polling_host_runs_its_timers(hosted: Any) -> None:
    """Idle waits for a timer that is due."""
    async with hosted("timer", local_settings=NEVER, real_clock=True) as up:
        await up.host.idle()
        assert ("at_start", False) in up.app.seen


async def test_a_run_missed_while_the_host_was_down_is_made_up_for(hosted: Any, clock: Any) -> None:
    """The next host runs it once and says that it is past due."""
    async with hosted("timer", local_settings=NEVER) as up:
        await up.host.run_due()
        assert ("sweep", True) not in up.app.seen
    clock.advance(hours=1)
    async with hosted("timer", local_settings=NEVER) as up:
        await up.host.run_due()
        assert ("sweep", True) in up.app.seen


async def test_a_timer_runs_by_name(hosted: Any) -> None:
    """By name it runs whatever the time."""
    async with hosted("timer", local_settings=NEVER) as up:
        await up.host.invoke("sweep")
        assert up.app.seen == [("sweep", False)]


@pytest.mark.parametrize("schedule", ["*/5 * * * *", "00:05:00", "0 60 * * * *", "0 0 0 31 2 *"])
async def test_a_schedule_that_cannot_be_kept_is_a_start_error(hosted: Any, schedule: str) -> None:
    """The error names the function; five fields and time spans are not NCRONTAB."""
    with pytest.raises(StartError, match="at_start: "):
        async with hosted("timer", settings={"SCHEDULE": schedule}):
            pass


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * * *", "2024-05-06T07:08:10"),
        ("0 */5 * * * *", "2024-05-06T07:10:00"),
        ("0 0 * * * *", "2024-05-06T08:00:00"),
        ("0 0 8-10 * * *", "2024-05-06T08:00:00"),
        ("30 1,2 3 * * *", "2024-05-07T03:01:30"),
        ("0 0 0 * * 0", "2024-05-12T00:00:00"),
        ("0 0 0 * * Sat,Sun", "2024-05-11T00:00:00"),
        ("0 0 0 1 Jan *", "2025-01-01T00:00:00"),
        ("0 0 0 13 * Fri", "2024-09-13T00:00:00"),
        ("10/20 * * * * *", "2024-05-06T07:08:10"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00"),
    ],
)
def test_the_next_time_of_a_schedule(schedule: str, expected: str) -> None:
    """Six fields, second first; every field has to fit."""
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)  # a Monday
    assert Schedule.parse(schedule).after(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("schedule", ["0 0 0 0 * *", "0 0 24 * * *", "x * * * * *", "5-1 * * * * *", "*/0 * * * * *"])
def test_a_field_out_of_range_is_named(schedule: str) -> None:
    """The error names the field and its valid values."""
    with pytest.raises(ValueError, match="valid: "):
        Schedule.parse(schedule)

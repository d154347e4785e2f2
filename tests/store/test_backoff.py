"""Work that is put off waits longer each time, but not much longer than the other side says."""

from datetime import timedelta

import pytest

from relay.store.work import Backoff

BACKOFF = Backoff(timedelta(seconds=5), timedelta(minutes=15), timedelta(hours=24), draw=lambda: 0.5)


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 5), (1, 10), (4, 80), (7, 640), (8, 900), (1000, 900)])
def test_the_wait_doubles(attempt: int, seconds: int) -> None:
    """From the first delay to the longest, each try waits twice as long as the one before it."""
    assert BACKOFF.delay(attempt) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("attempt", "named", "seconds"),
    [(0, 1, 5), (3, 1, 40), (4, 1, 60), (1000, 1, 60), (0, 30, 30), (1000, 30, 60), (0, 290, 290), (1000, 290, 290)],
)
def test_a_named_wait_is_an_end_to_it(attempt: int, named: float, seconds: int) -> None:
    """Where the other side names a wait it is kept, and the wait grows no longer than that, or a minute."""
    assert BACKOFF.delay(attempt, named) == timedelta(seconds=seconds)


def test_no_longer_than_the_longest() -> None:
    """The setting for the longest delay bounds what grows, whatever the other side names."""
    quick = Backoff(timedelta(seconds=1), timedelta(seconds=8), timedelta(hours=24), draw=lambda: 0.5)
    assert quick.delay(1000, 2) == timedelta(seconds=8)
    assert quick.delay(1000, 20) == timedelta(seconds=20)

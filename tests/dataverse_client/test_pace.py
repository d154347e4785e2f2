"""The pace of a window is learned from what had passed when Dataverse said that it was too much, and is then kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.dataverse.protection import too_many_at_once, too_many_requests, too_much_time
from relay.dataverse.pace import Pace

PATIENCE = 24.0
QUIET = 60


def refusal(window: int, *, limit: int = 10) -> bytes:
    """Return the body of a refusal of the requests facet."""
    return f'{{"error":{{"code":"0x80072322","message":"{too_many_requests(limit, window, 1)}"}}}}'.encode()


def slow_refusal(window: int, *, limit: int = 1000) -> bytes:
    """Return the body of a refusal of the execution time facet."""
    return f'{{"error":{{"code":"0x80072321","message":"{too_much_time(limit, window, 1)}"}}}}'.encode()


def passed(pace: Pace, *, calls: int = 10, every: float = 0.1, took: float = 0.1, per_work: int = 1) -> float:
    """Have so many calls pass, one after the other from 100 s on; return when the last had ended."""
    now = 100.0
    for n in range(calls):
        now = 100 + n * every + took
        pace.note(now, took, begins=n % per_work == 0)
    return now


@pytest.mark.parametrize(
    "body",
    [
        b"",
        str(too_many_at_once(52)).encode(),
        b'{"error":{"code":"0x80071151","message":"Cannot start the requested operation"}}',
        b"Zu viele Anforderungen: 6000 in 300 Sekunden",
        b"limit of 6000 over time window of 0 seconds",
    ],
)
def test_what_names_no_window_teaches_nothing(body: bytes) -> None:
    """A refusal without limit and window leaves the pace as it was: none."""
    pace = Pace(PATIENCE)
    now = passed(pace)
    assert not pace.learn(body, now, 3)
    assert pace.wait(now, 8, begun=False) == 0


def test_as_many_as_had_passed() -> None:
    """Ten calls had passed in the window: the next goes when the first of them has left it, the others behind it likewise."""
    pace = Pace(PATIENCE)
    now = passed(pace)
    assert pace.learn(refusal(4), now, 0)
    assert pace.wait(now, 0, begun=True) == pytest.approx(100.1 + 4 - now, abs=0.06)
    assert pace.wait(104.16, 0, begun=True) == 0
    assert pace.wait(104.16, 1, begun=True) > 0, "what runs is counted, although it has not ended"
    assert pace.wait(105.1, 0, begun=True) == 0


def test_calls_that_run_are_part_of_what_passed() -> None:
    """Calls under way when another was refused had passed: Dataverse counts a call as it begins."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=6)
    assert pace.learn(refusal(4), now, 4)
    assert pace.wait(now, 3, begun=True) == 0
    assert pace.wait(now, 4, begun=True) > 0


def test_as_much_time_as_had_passed() -> None:
    """Of the execution time facet it is the time of the calls that counts, and what runs has taken none yet."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=2, every=1, took=0.5)
    assert pace.learn(slow_refusal(4), now, 5)
    assert pace.wait(now, 5, begun=True) == pytest.approx(100.5 + 4 - now, abs=0.06)
    pace.note(104.6, 0.4, begins=True)
    assert pace.wait(104.7, 5, begun=True) == 0, "900 of 1000 milliseconds"
    pace.note(104.8, 0.1, begins=True)
    assert pace.wait(104.9, 5, begun=True) > 0


@pytest.mark.parametrize("calls", [0, 3])
def test_calls_that_take_no_time(calls: int) -> None:
    """A call counts for a millisecond at least, so that work can begin whatever the clock can tell."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=calls, took=0)
    pace.learn(slow_refusal(300, limit=80), now, 0)
    assert pace.wait(now, 0, begun=False) == 0


@pytest.mark.parametrize(("body", "limit"), [(refusal(300, limit=80), 10), (slow_refusal(300, limit=8000), 10)])
def test_who_was_crowded_out_has_an_eighth(body: bytes, limit: int) -> None:
    """A process that had nothing in the window, since others had filled it, may use an eighth of the limit."""
    pace = Pace(PATIENCE)
    assert pace.learn(body, 100, 0)
    for _ in range(limit):
        assert pace.wait(101, 0, begun=True) == 0
        pace.note(101, 0.1, begins=False)
    assert pace.wait(101, 0, begun=True) > 0


def test_quiet_doubles_it() -> None:
    """After three windows and a minute without a refusal twice as much is tried, after two such times four times as much."""
    pace = Pace(PATIENCE)
    now = passed(pace)
    pace.learn(refusal(4), now, 0)
    for later, expected in ((QUIET - 1, 10), (QUIET + 1, 20), (QUIET * 3 + 10, 80)):
        assert room(pace, now + later) == expected


def room(pace: Pace, now: float, *, begun: bool = True) -> int:
    """Return how many calls may run together."""
    return next(n for n in range(1000) if pace.wait(now, n, begun=begun))


def test_work_begins_where_it_can_be_done() -> None:
    """In a window too long to wait for, work begins where all calls that work takes have room, those of what runs too."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=8, per_work=4)
    pace.learn(refusal(60), now, 8)
    assert room(pace, now) == 8
    assert room(pace, now, begun=False) == 2, "of four calls each"
    assert room(pace, now + 61, begun=False) == 8, "nothing is known of them but that they take two calls"


def test_a_short_window_is_waited_for() -> None:
    """In a window that can be waited for, work begins as soon as a call has room."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=8, per_work=4)
    pace.learn(refusal(4), now, 2)
    assert pace.wait(now, 1, begun=False) == 0


@pytest.mark.parametrize("body", [refusal(60, limit=1), slow_refusal(60, limit=1)])
def test_a_window_of_one_call(body: bytes) -> None:
    """Where a window holds no more than one call, work begins when the window is empty, and is told when that is."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=1, took=5)
    pace.learn(body, now, 0)
    wait = pace.wait(now, 0, begun=False)
    assert wait == pytest.approx(60, abs=0.06)
    assert pace.wait(now + wait + 0.001, 0, begun=False) == 0


def test_it_waits_for_those_that_run() -> None:
    """Where those that run take all that is left, it is looked again when one of them may have ended."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=4)
    pace.learn(refusal(60), now, 4)
    assert pace.wait(now, 4, begun=True) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60), st.sampled_from([1, 2, 4]))
def test_no_window_holds_more_than_was_learned(steps: list[tuple[int, int]], window: int) -> None:
    """Whoever waits as long as it is told sends no more into any window than had passed in the first."""
    pace = Pace(PATIENCE)
    now = passed(pace, calls=10, every=0.05)
    pace.learn(refusal(window), now, 0)
    made = [100 + n * 0.05 for n in range(10)]
    for gap, calls in steps:
        now += gap / 20
        for _ in range(calls):
            while wait := pace.wait(now, 0, begun=True):
                now += wait
            made.append(now)
            now += 0.01
            pace.note(now, 0.01, begins=True)
    soon = [each for each in made if each < 100 + QUIET]
    assert all(sum(begin <= each < begin + window - 0.001 for each in soon) <= 10 for begin in soon)


@pytest.mark.parametrize("body", [refusal(4), slow_refusal(4)])
def test_weeks_without_a_refusal(body: bytes) -> None:
    """A process that runs for weeks after its last refusal, and is never idle, sends as if there had been none."""
    pace = Pace(3)
    now = passed(pace)
    assert pace.learn(body, now, 0)
    for _ in range(1200):
        now += QUIET + 1
        pace.note(now, 0.1, begins=True)
        assert pace.wait(now, 1, begun=False) == 0
    assert pace.learn(refusal(4), now, 0)
    assert pace.wait(now, 1, begun=True) > 0, "the next one counts as the first one did"

"""The governor bounds what runs at once, lets everybody wait when Dataverse says so, and gives up in time."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from dataverse_wire import VirtualTime
from hypothesis import given
from hypothesis import strategies as st

from devstack.dataverse.protection import too_many_requests
from relay.dataverse.places import Places
from relay.dataverse.throttle import Governor
from relay.errors import RelayError, Transient
from relay.telemetry import metered

Answer = httpx.Response | Exception


@pytest.fixture
async def time() -> AsyncIterator[VirtualTime]:
    async with VirtualTime() as time:
        yield time


def governor(time: VirtualTime, **options: float) -> Governor:
    return Governor(sleep=time.sleep, clock=time.clock, jitter=lambda: 1.0, **options)  # type: ignore[arg-type]  # numbers


def script(*answers: Answer) -> Callable[[], object]:
    """Return a sender that gives these answers in turn, and counts in `.sent`."""
    left = list(answers)

    async def send() -> httpx.Response:
        send.sent += 1  # type: ignore[attr-defined]  # a counter on the function
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    send.sent = 0  # type: ignore[attr-defined]
    return send


def busy(status: int = 429, retry_after: str | None = None) -> httpx.Response:
    return httpx.Response(status, headers={} if retry_after is None else {"Retry-After": retry_after})


FINE = httpx.Response(204)


async def test_retry_after_is_waited(time: VirtualTime) -> None:
    """A 429 is tried again after exactly what it asked for, and the wait is counted."""
    send = script(busy(retry_after="3"), FINE)
    with metered() as meter:
        assert await governor(time).call(send) is FINE
    assert send.sent == 2
    assert time.now - 1000 == pytest.approx(3.1, abs=0.05)
    assert meter.waits_ms == pytest.approx(3100, abs=20)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_busy_answers_are_tried_again(time: VirtualTime, status: int) -> None:
    """Each status that means busy is tried again with growing waits, and the last answer returned at the end."""
    send = script(busy(status))
    answer = await governor(time, max_wait=1000).call(send)
    assert answer.status_code == status
    assert send.sent == 6
    assert time.slept == sorted(time.slept)


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 404, 412, 500, 501])
async def test_other_answers_are_returned(time: VirtualTime, status: int) -> None:
    """Any other answer is returned at once: what it means is not the governor's business."""
    send = script(busy(status))
    assert (await governor(time).call(send)).status_code == status
    assert send.sent == 1


async def test_the_budget_is_kept(time: VirtualTime) -> None:
    """A wait that the budget does not cover is not begun: the caller gets the answer and its Retry-After."""
    send = script(busy(retry_after="60"))
    assert (await governor(time).call(send)).status_code == 429
    assert (send.sent, time.slept) == (1, [])


async def test_a_closed_gate_sends_nothing(time: VirtualTime) -> None:
    """While the gate is closed for longer than may be waited, callers are told at once, without a request."""
    shared, send = governor(time), script(FINE)
    shared.pause(60)
    with pytest.raises(Transient) as caught:
        await shared.call(send)
    assert send.sent == 0
    assert caught.value.retry_after == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (httpx.ConnectError("x"), 6),
        (httpx.ConnectTimeout("x"), 6),
        (httpx.RemoteProtocolError("x"), 6),
        (httpx.ReadError("x"), 6),
        (ConnectionResetError("x"), 6),
        (httpx.ReadTimeout("x"), 1),
        (httpx.DecodingError("x"), 6),
        (TimeoutError("x"), 1),
    ],
)
async def test_failures_become_transient(time: VirtualTime, error: Exception, tries: int) -> None:
    """Lost connections are tried again; a time-out, which took minutes already, is not; both end as Transient."""
    send = script(error)
    with pytest.raises(Transient, match=type(error).__name__):
        await governor(time, max_wait=1000).call(send)
    assert send.sent == tries


@pytest.mark.parametrize(
    ("answer", "tries"),
    [(busy(429), 6), (httpx.ConnectError("x"), 6), (busy(503), 1), (busy(502), 1), (httpx.ReadError("x"), 1)],
)
async def test_what_must_not_be_done_twice(time: VirtualTime, answer: Answer, tries: int) -> None:
    """Without `repeat` only what certainly did nothing is tried again."""
    send = script(answer)
    try:
        await governor(time, max_wait=1000).call(send, repeat=False)
    except Transient:
        assert isinstance(answer, Exception)
    assert send.sent == tries


async def test_a_multipart_answer_is_final(time: VirtualTime) -> None:
    """A batch that stopped at a throttled part has an answer: its parts say what was done."""
    send = script(httpx.Response(429, headers={"Content-Type": "multipart/mixed; boundary=b"}))
    assert (await governor(time).call(send)).status_code == 429
    assert send.sent == 1


async def test_other_errors_pass(time: VirtualTime) -> None:
    """An error of the relay itself passes through and gives its place back."""
    shared = governor(time, concurrency=1)
    for _ in range(2):
        with pytest.raises(RelayError, match="no token"):
            await shared.call(script(RelayError("no token")))
    assert await shared.call(script(FINE)) is FINE


class Server:
    """Counts who is inside; a call takes 0.1 s of virtual time."""

    def __init__(self, time: VirtualTime, headers: dict[str, str] | None = None) -> None:
        self.time, self.headers = time, headers
        self.inside = self.most = self.sent = 0
        self.throttled_until = 0.0

    async def __call__(self) -> httpx.Response:
        """Answer after 0.1 s, by what held at the beginning."""
        self.sent += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        began = self.time.now
        await VirtualTime.sleep(self.time, 0.1)
        self.inside -= 1
        if began < self.throttled_until:
            return busy(retry_after=str(int(self.throttled_until - began) + 1))
        return httpx.Response(204, headers=self.headers)


async def test_concurrency_is_bounded(time: VirtualTime) -> None:
    """Never more than eight run at once, and all are done."""
    shared, server = governor(time), Server(time)
    await asyncio.gather(*(shared.call(server) for _ in range(40)))
    assert (server.most, server.sent, shared.limit) == (8, 40, 8)


@pytest.mark.parametrize(("hint", "limit"), [("4", 4), ("20", 20), ("500", 52), ("0", 8), ("x", 8), ("", 8)])
async def test_the_hint_is_followed(time: VirtualTime, hint: str, limit: int) -> None:
    """The server's hint replaces the bound, up to the concurrency that Dataverse allows; nonsense changes nothing."""
    shared, server = governor(time), Server(time, {"x-ms-dop-hint": hint})
    await shared.call(server)
    await asyncio.gather(*(shared.call(server) for _ in range(60)))
    assert shared.limit == server.most == limit


async def test_a_storm_costs_few_requests(time: VirtualTime) -> None:
    """When all are throttled, all wait, one asks again, and the bound grows back: at most 1.2 requests per call."""
    shared, server = governor(time, max_wait=60), Server(time)
    server.throttled_until = time.now + 5
    answers = await asyncio.gather(*(shared.call(server) for _ in range(100)))
    assert {each.status_code for each in answers} == {204}
    assert server.sent <= 120
    assert shared.limit > 4


async def test_one_storm_after_another(time: VirtualTime) -> None:
    """A second storm while the bound grows back loses nothing either."""
    shared, server = governor(time, max_wait=60), Server(time)
    server.throttled_until = time.now + 2
    first = asyncio.gather(*(shared.call(server) for _ in range(50)))
    await time.sleep(3)
    server.throttled_until = time.now + 2
    answers = await first
    assert {each.status_code for each in answers} == {204}
    assert server.sent <= 70


async def test_throttled_callers_give_up_together(time: VirtualTime) -> None:
    """When throttling does not end, waiting callers spend their budgets side by side, not one after the other."""
    shared, server = governor(time, max_wait=20), Server(time)
    server.throttled_until = time.now + 10_000

    async def call() -> int | None:
        try:
            return (await shared.call(server)).status_code
        except Transient:
            return None

    results = await asyncio.gather(*(call() for _ in range(50)))
    assert set(results) <= {429, None}
    assert time.now - 1000 < 30


async def test_cancelled_waiters_leave_no_hole(time: VirtualTime) -> None:
    """Callers cancelled while waiting for a place neither keep it nor stop the others."""
    shared, server = governor(time, concurrency=2), Server(time)
    tasks = [asyncio.create_task(shared.call(server)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[4:16]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, httpx.Response) for each in results) == 8
    assert await shared.call(script(FINE)) is FINE


async def test_a_turn_given_to_a_cancelled_caller_passes_on() -> None:
    """A caller cancelled at the moment it gets its place hands the place to the next one."""
    places = Places(1)
    await places.take()
    second, third = (asyncio.create_task(places.take()) for _ in range(2))
    await asyncio.sleep(0)
    places.leave()
    second.cancel()
    await asyncio.wait_for(third, 5)
    assert second.cancelled()
    assert places.taken == 1


async def test_bundles_share_places_in_turn() -> None:
    """A bundle of two calls that comes after one of twenty is done after four, not after twenty-two."""
    places, done = Places(1), list[str]()
    await places.take()

    async def call(work: str) -> None:
        await places.take(work)
        done.append(work)
        places.leave()

    calls = [asyncio.create_task(call("large")) for _ in range(20)]
    calls += [asyncio.create_task(call("small")) for _ in range(2)]
    await asyncio.sleep(0)
    places.leave()
    await asyncio.gather(*calls)
    assert done[:4] == ["large", "small", "large", "small"]
    assert (len(done), places.taken) == (22, 0)


async def test_the_governor_shares_by_unit_of_work(time: VirtualTime) -> None:
    """Calls of one metered unit of work take turns with those of another."""
    shared, order = governor(time, concurrency=1), list[str]()

    async def bundle(name: str, count: int) -> None:
        async def send() -> httpx.Response:
            order.append(name)
            await time.sleep(0.1)
            return FINE

        with metered():
            await asyncio.gather(*(shared.call(send) for _ in range(count)))

    await asyncio.gather(bundle("large", 10), bundle("small", 2))
    assert order.index("small") <= 2
    assert "small" not in order[5:]


async def test_what_was_begun_goes_first() -> None:
    """Calls of work that was begun go before those of new work, in turn among themselves; new work has every fifth place."""
    places, done = Places(1), list[str]()
    await places.take()

    async def call(work: str) -> None:
        await places.take(work, begun=work.isupper())
        done.append(work)
        places.leave()

    calls = [asyncio.create_task(call(each)) for each in "abAAAAABB"]
    await asyncio.sleep(0)
    places.leave()
    await asyncio.gather(*calls)
    assert "".join(done) == "ABABaAAAb"


class Window(Server):
    """Refuses what comes when so many came in the last seconds, as the requests facet does; keeps when others came."""

    def __init__(self, time: VirtualTime, allowed: int, seconds: int) -> None:
        super().__init__(time)
        self.allowed, self.seconds = allowed, seconds
        self.came: list[float] = []

    async def __call__(self) -> httpx.Response:
        recent = [each for each in self.came if each > self.time.now - self.seconds]
        if len(recent) >= self.allowed:
            self.sent += 1
            refused = too_many_requests(self.allowed, self.seconds, math.ceil(recent[0] + self.seconds - self.time.now))
            error = {"error": {"code": refused.code, "message": str(refused)}}
            return httpx.Response(429, headers=refused.headers, json=error)
        self.came.append(self.time.now)
        return await super().__call__()


async def test_a_window_is_learnt_from(time: VirtualTime) -> None:
    """One refusal tells how much a window holds: from then on that much is sent, and no more is refused."""
    shared, server = governor(time, max_wait=60), Window(time, 20, 4)
    answers = await asyncio.gather(*(shared.call(server) for _ in range(100)))
    assert {each.status_code for each in answers} == {204}
    assert server.sent - len(server.came) <= 2
    assert server.came[-1] - 1000 < 4 * 4 + 2.5


async def test_a_line_has_an_end(time: VirtualTime) -> None:
    """Whoever is kept for too long by those before it is told so without a request, and how long the window is full."""
    shared, server = governor(time, concurrency=1, max_wait=5), Window(time, 1, 4)
    outcomes = await asyncio.gather(*(shared.call(server) for _ in range(20)), return_exceptions=True)
    away = [each for each in outcomes if isinstance(each, Transient)]
    assert len(server.came) == len(outcomes) - len(away) == 5
    assert server.sent == 6
    assert all(each.code == "throttled" and 0 < (each.retry_after or 0) <= 5 for each in away)
    assert time.now - 1000 < 4 * 5 + 1


async def test_one_goes_before_the_others(time: VirtualTime) -> None:
    """Who waits for the window while another is refused does not go before it is known that it goes well."""
    shared, server = governor(time, concurrency=3, max_wait=60), Window(time, 3, 4)
    await asyncio.gather(*(shared.call(server) for _ in range(6)))
    rest = asyncio.gather(*(shared.call(server) for _ in range(3)))
    await time.sleep(0.5)
    began = time.now
    shared.pause(10)
    await rest
    first, *others = server.came[-3:]
    assert first >= began + 10
    assert min(others) >= first + 0.1


@given(st.lists(st.one_of(st.integers(0, 7), st.just("leave"), st.just("cancel"), st.integers(-4, -1)), max_size=40))
def test_places_are_never_too_many_and_never_lost(steps: list[int | str]) -> None:
    """Whoever comes, leaves or is cancelled, and however the limit moves: no more than it, and none waits beside a free one."""

    async def run() -> None:
        places, tasks = Places(2), list[asyncio.Task[None]]()
        most = 2
        for step in steps:
            if step == "leave":
                if places.taken:
                    places.leave()
            elif step == "cancel":
                if tasks:
                    tasks.pop(0).cancel()
            elif isinstance(step, int) and step < 0:
                most = max(most, -step)
                places.limit = -step
            else:
                tasks.append(asyncio.create_task(places.take(step % 4, begun=step > 3)))
            if step != "cancel":  # else it is cancelled before it runs, or in the middle of what the next step does
                await asyncio.sleep(0)
            assert places.taken <= most
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = sum(not each.done() for each in tasks)
        assert not waiting or places.taken >= places.limit
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


class Crowd(Server):
    """Refuses what comes while so many are inside, at once, as the concurrency facet does."""

    def __init__(self, time: VirtualTime, allowed: int) -> None:
        super().__init__(time)
        self.allowed, self.refused = allowed, 0

    async def __call__(self) -> httpx.Response:
        if self.inside >= self.allowed:
            self.refused += 1
            await asyncio.sleep(0)
            return httpx.Response(429, headers={"Retry-After": "1"}, json={"error": {"code": "0x80072326"}})
        return await super().__call__()


@pytest.mark.parametrize("allowed", [1, 3, 7])
async def test_a_crowd_is_learnt_from(time: VirtualTime, allowed: int) -> None:
    """Who is refused for those beside it tells how many may run at once: soon that many do, and hardly one is refused again."""
    shared, server = governor(time, max_wait=60), Crowd(time, allowed)
    answers = await asyncio.gather(*(shared.call(server) for _ in range(80)))
    assert {each.status_code for each in answers} == {204}
    assert server.refused <= 8
    assert shared.limit == allowed


async def test_a_crowd_is_forgotten(time: VirtualTime) -> None:
    """A minute after it was too much, one more at once is tried, and then another."""
    shared, server = governor(time, max_wait=60), Crowd(time, 3)
    await asyncio.gather(*(shared.call(server) for _ in range(40)))
    server.allowed = 100
    for expected in (4, 5):
        time.now += 61
        await asyncio.gather(*(shared.call(server) for _ in range(40)))
        assert shared.limit == expected


async def test_one_call_in_five_is_made_again(time: VirtualTime) -> None:
    """A server that fails for ever is asked little more often than by calls that are made once."""
    shared, send = governor(time, max_wait=1000), script(httpx.ConnectError("x"))
    for _ in range(200):
        with pytest.raises(Transient):
            await shared.call(send)
    minutes = (time.now - 1000) / 60
    assert 200 < send.sent <= 200 * 1.2 + 10 * (1 + minutes)


async def test_spare_repeats_come_back(time: VirtualTime) -> None:
    """After a quiet minute a few calls may be made again, however few were made before."""
    shared, send = governor(time, max_wait=1000), script(busy(503))
    counts = []
    for _ in range(5):
        await shared.call(send)
        counts.append(send.sent - sum(counts))
    assert counts[0] == 6
    assert counts[-1] < 6
    time.now += 60
    await shared.call(send)
    assert send.sent - sum(counts) == 6


def test_concurrency_must_be_positive() -> None:
    """A governor that lets nobody through is refused."""
    with pytest.raises(ValueError, match="1 or more"):
        Governor(concurrency=0)

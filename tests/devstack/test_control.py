import asyncio
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from devstack.control import Control, Fault


class Counter:
    """The smallest emulator: it counts the requests it carried out."""

    def __init__(self) -> None:
        self.count = 0
        app = Starlette(routes=[Route("/{rest:path}", self._serve, methods=["GET", "PUT", "POST"])])
        self.app = Control(app, reset=self._reset, snapshot=lambda: {"count": self.count}, restore=self._restore)

    async def _serve(self, request: Request) -> JSONResponse:
        await request.body()
        if request.url.path == "/broken":
            raise RuntimeError("broken")
        self.count += 1
        return JSONResponse({"count": self.count}, status_code=201)

    def _reset(self) -> None:
        self.count = 0

    def _restore(self, document: Any) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("count"), int):
            raise ValueError("count: not a whole number")  # noqa: TRY004 - what Control expects
        self.count = document["count"]

    def client(self) -> httpx.AsyncClient:
        """Return a client that reaches it in process."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://counter")


async def test_every_call_is_recorded_but_those_of_the_control_side() -> None:
    """Calls are listed oldest first with method, path and query, status and milliseconds."""
    async with Counter().client() as client:
        await client.get("/a?x=1%20y")
        await client.put("/b", json={})
        await client.get("/_emulator/snapshot")
        calls = (await client.get("/_emulator/calls")).json()
    assert [(c["method"], c["path"], c["status"]) for c in calls] == [("GET", "/a?x=1%20y", 201), ("PUT", "/b", 201)]
    assert all(c.keys() == {"method", "path", "status", "ms"} and c["ms"] >= 0 for c in calls)


async def test_deleting_calls_empties_the_list_that_tests_hold() -> None:
    """The list in process stays the same object when it is emptied."""
    counter = Counter()
    calls = counter.app.calls
    async with counter.client() as client:
        await client.get("/a")
        assert len(calls) == 1
        assert (await client.delete("/_emulator/calls")).status_code == 204
        await client.get("/b")
    assert [c["path"] for c in calls] == ["/b"]


async def test_a_call_that_broke_the_emulator_is_recorded_as_500() -> None:
    """An exception of the emulator passes through and its call says 500."""
    counter = Counter()
    async with counter.client() as client:
        with pytest.raises(RuntimeError):
            await client.get("/broken")
    assert counter.app.calls[0]["status"] == 500


async def test_reset_makes_it_as_new() -> None:
    """Reset empties the data, the faults and the calls."""
    counter = Counter()
    counter.app.faults.append(Fault(path="/never"))
    async with counter.client() as client:
        await client.get("/a")
        assert (await client.post("/_emulator/reset")).status_code == 204
    assert (counter.count, counter.app.calls, counter.app.faults) == (0, [], [])


async def test_a_snapshot_goes_back() -> None:
    """What GET snapshot gave, PUT snapshot restores; faults and calls stay."""
    counter = Counter()
    async with counter.client() as client:
        await client.get("/a")
        taken = (await client.get("/_emulator/snapshot")).json()
        await client.get("/a")
        assert (await client.put("/_emulator/snapshot", json=taken)).status_code == 204
    assert counter.count == 1
    assert len(counter.app.calls) == 2


async def test_a_snapshot_that_is_none_is_refused() -> None:
    """A snapshot that the emulator cannot take answers 400 with its reason."""
    async with Counter().client() as client:
        for content in (b'{"count": "x"}', b"{"):
            response = await client.put("/_emulator/snapshot", content=content)
            assert response.status_code == 400
            assert response.json()["error"].startswith("snapshot: ")


async def test_a_fault_answers_instead() -> None:
    """Effect `answer` gives status, headers and body and does not do the call."""
    counter = Counter()
    fault = {"path": "^/a", "status": 429, "headers": {"Retry-After": "3"}, "body": {"error": "slow"}}
    async with counter.client() as client:
        await client.put("/_emulator/faults", json=[fault])
        other = await client.get("/b")
        struck = await client.post("/a", content=b"x" * 100_000)
        after = await client.get("/a")
    assert (other.status_code, struck.status_code, after.status_code) == (201, 429, 201)
    assert struck.headers["retry-after"] == "3"
    assert struck.headers["content-type"] == "application/json"
    assert struck.json() == {"error": "slow"}
    assert counter.count == 2
    assert [c["status"] for c in counter.app.calls] == [201, 429, 201]


async def test_a_text_body_and_no_body() -> None:
    """A string is sent as it is, null is an empty body, and a given content type wins."""
    counter = Counter()
    counter.app.faults += [Fault(body="<x/>", headers={"Content-Type": "application/xml"}), Fault(), Fault(body="t")]
    async with counter.client() as client:
        answers = [await client.get("/a") for _ in range(3)]
    assert [a.text for a in answers] == ["<x/>", "", "t"]
    assert answers[0].headers.get_list("content-type") == ["application/xml"]
    assert answers[2].headers["content-type"].startswith("text/plain")


async def test_faults_count_calls_of_their_method_and_path() -> None:
    """`after` matching calls pass, then `times` are struck; others are not counted."""
    counter = Counter()
    counter.app.faults.append(Fault(method="put", path=r"\?n=", after=1, times=2))
    async with counter.client() as client:
        await client.get("/a?n=0")
        statuses = [(await client.put(f"/a?n={n}")).status_code for n in range(4)]
    assert statuses == [201, 503, 503, 201]
    assert counter.app.faults == []


async def test_a_fault_for_ever_stays_until_it_is_deleted() -> None:
    """`times` 0 strikes each time; DELETE faults ends it."""
    async with Counter().client() as client:
        await client.put("/_emulator/faults", json=[{"times": 0}])
        assert [(await client.get("/a")).status_code for _ in range(3)] == [503, 503, 503]
        assert len((await client.get("/_emulator/faults")).json()) == 1
        assert (await client.delete("/_emulator/faults")).status_code == 204
        assert (await client.get("/a")).status_code == 201
        assert (await client.get("/_emulator/faults")).json() == []


async def test_listed_faults_show_what_is_left_of_them() -> None:
    """GET faults gives a list that PUT takes back."""
    async with Counter().client() as client:
        await client.put("/_emulator/faults", json=[{"times": 3, "after": 1, "path": "^/a"}])
        for _ in range(2):
            await client.get("/a")
        left = (await client.get("/_emulator/faults")).json()
        assert (left[0]["times"], left[0]["after"]) == (2, 0)
        assert (await client.put("/_emulator/faults", json=left)).json() == left


async def test_a_lost_answer_was_carried_out() -> None:
    """Effect `lose` does the call, then the caller sees a broken connection; its status reads 0."""
    counter = Counter()
    counter.app.faults.append(Fault(effect="lose"))
    async with counter.client() as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/a", content=b"x")
    assert counter.count == 1
    assert counter.app.calls[0]["status"] == 0


async def test_a_lost_answer_breaks_a_real_connection() -> None:
    """Over the network the connection is cut before the answer is complete, and the next call works."""
    counter = Counter()
    counter.app.faults.append(Fault(effect="lose"))
    config = uvicorn.Config(counter.app, host="127.0.0.1", port=0, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/a", content=b"x")
        assert (await client.get("/a")).json() == {"count": 2}
    server.should_exit = True
    await task


async def test_a_delayed_call_is_carried_out() -> None:
    """Effect `delay` waits `ms`, then does the call; the record shows the wait."""
    counter = Counter()
    counter.app.faults.append(Fault(effect="delay", ms=30))
    async with counter.client() as client:
        assert (await client.get("/a")).status_code == 201
    assert counter.app.calls[0]["ms"] >= 29


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"effect": "explode"}, "[0].effect: 'explode' is not one of answer, lose, delay"),
        ({"effect": "undo"}, "[0].effect: 'undo' is not one of answer, lose, delay"),
        ({"effect": "overtake"}, "[0].effect: 'overtake' is not one of answer, lose, delay"),
        ({"methods": "PUT"}, "[0].methods: unknown field (valid: method, path, times"),
        ({"method": "FETCH"}, "[0].method: 'FETCH' is not null or one of GET"),
        ({"method": 1}, "[0].method: 1 is not null or one of GET"),
        ({"path": "("}, "[0].path: '(' is not a regular expression"),
        ({"path": None}, "[0].path: None is not a string"),
        ({"times": -1}, "[0].times: -1 is not a whole number from 0"),
        ({"after": True}, "[0].after: True is not a whole number"),
        ({"status": 99}, "[0].status: 99 is not a whole number from 200 to 599"),
        ({"headers": {"a": 1}}, "[0].headers:"),
        ("x", "[0].'x' is not an object"),
    ],
)
async def test_a_malformed_fault_is_refused(fault: Any, says: str) -> None:
    """A wrong fault answers 400 naming the field and its choices, and leaves the faults as they were."""
    counter = Counter()
    counter.app.faults.append(Fault(path="^/kept"))
    async with counter.client() as client:
        response = await client.put("/_emulator/faults", json=[fault])
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"faults: {says}")
    assert [f.path for f in counter.app.faults] == ["^/kept"]


async def test_faults_are_a_list() -> None:
    """A body that is no list, or no JSON, answers 400."""
    async with Counter().client() as client:
        for content in (b"{}", b"["):
            assert (await client.put("/_emulator/faults", content=content)).status_code == 400


async def test_the_control_side_names_what_it_has() -> None:
    """An unknown path answers 404 and a wrong method 405, both with the choices."""
    async with Counter().client() as client:
        unknown = await client.get("/_emulator/traces")
        wrong = await client.get("/_emulator/reset")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert "reset, snapshot, faults, calls" in unknown.json()["error"]
    assert wrong.headers["allow"] == "POST"

"""HTTP through the host: what the function sees, what the caller gets."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest

from devstack.host import http as http_module
from devstack.host import serving


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_function_sees_the_request_as_it_was_sent(hosted: Any, method: str) -> None:
    """Method, URL, query, headers and body arrive; a function without methods answers all of them."""
    async with hosted("http") as up:
        headers = [("X-One", "1"), ("x-one", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]
        answer = await up.client.request(
            method, "/api/echo?q=a%20b&q=c&empty=", headers=headers, content=bytes(range(256))
        )
    seen = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert seen["method"] == method
    assert seen["url"] == "http://relay.test/api/echo?q=a%20b&q=c&empty="
    assert seen["params"] == {"q": "a b,c", "empty": ""}
    assert seen["headers"]["x-one"] == "1,2"
    assert seen["headers"]["cookie"] == "a=1; b=2"
    assert (seen["body"], seen["size"]) == (list(range(16)), 256)


async def test_the_app_is_imported_in_the_loop_that_serves(hosted: Any) -> None:
    """The module sees, at import, the loop of all later invocations."""
    async with hosted("http") as up:
        assert (await up.client.get("/api/echo")).json()["loop"] is True


async def test_head_has_no_body(hosted: Any) -> None:
    """HEAD is answered with the headers alone."""
    async with hosted("http") as up:
        answer = await up.client.head("/api/echo")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/item/abc", ["item", {"id": "abc"}]),
        ("GET", "/api/item/12", ["numbered", {"id": "12"}]),
        ("DELETE", "/api/item/12", ["item", {"id": "12"}]),
        ("GET", "/api/item/special", ["special", {}]),
        ("GET", "/API/Item/Special/", ["special", {}]),
        ("GET", "/api/item/a%2Fb%20c%C3%A4", ["item", {"id": "a%2Fb cä"}]),
        ("GET", "/api/page", ["page", {}]),
        ("GET", "/api/page/3", ["page", {"number": "3"}]),
        ("GET", "/api/file/a.b.txt", ["file", {"name": "a.b", "ext": "txt"}]),
        ("PUT", "/api/hook/Patient/1", ["hook", {"path": "Patient/1"}]),
        ("POST", "/api/hook", ["hook", {}]),
        ("POST", "/api/hook/", ["hook", {}]),
    ],
)
async def test_routes_match_as_in_azure(hosted: Any, method: str, path: str, expected: list[Any]) -> None:
    """Literals win over constraints, constraints over parameters, all over a wildcard; absent ones are left out."""
    async with hosted("http") as up:
        answer = await up.client.request(method, path)
    assert answer.status_code == 200
    assert answer.json() == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/item/1"),
        ("GET", "/api/hook/x"),
        ("GET", "/api/none"),
        ("GET", "/echo"),
        ("GET", "/api/item/a/b"),
        ("GET", "/"),
    ],
)
async def test_what_no_route_takes_is_404(hosted: Any, method: str, path: str) -> None:
    """An unknown path and a method that the function does not name are both 404, as in Azure."""
    async with hosted("http") as up:
        answer = await up.client.request(method, path)
    assert (answer.status_code, answer.content) == (404, b"")


async def test_the_route_prefix_is_read_from_host_json(hosted: Any) -> None:
    """`routePrefix` moves every function, also to the root."""
    async with hosted("http", host_json='{"extensions": {"http": {"routePrefix": ""}}}') as up:
        assert (await up.client.get("/echo")).status_code == 200
        assert (await up.client.get("/api/echo")).status_code == 404


async def test_a_function_without_a_route_is_found_by_name(hosted: Any) -> None:
    """The name is the route, and a text is answered as plain text."""
    async with hosted("http") as up:
        answer = await up.client.post("/api/by_name")
    assert answer.text == "POST by name"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_plain_function_runs_on_the_pool(hosted: Any) -> None:
    """A `def` is served too, and gets its context."""
    async with hosted("http") as up:
        assert (await up.client.get("/api/plain")).text == "plain 36 GET"


@pytest.mark.parametrize(("code", "body"), [(200, b"body"), (207, b"body"), (422, b"body"), (503, b"body"), (204, b"")])
async def test_status_and_headers_are_the_functions_own(hosted: Any, code: int, body: bytes) -> None:
    """The caller gets the function's status and headers; 204 has no body."""
    async with hosted("http") as up:
        answer = await up.client.get(f"/api/status/{code}")
    assert (answer.status_code, answer.content) == (code, body)
    assert (answer.headers["x-relay"], answer.headers["x-b"]) == ("1", "2")


async def test_gzip_passes_through_both_ways(hosted: Any) -> None:
    """Compressed bodies are bytes to the host; the length is the host's to say."""
    async with hosted("http") as up:
        body = gzip.compress(b"bundle")
        answer = await up.client.post("/api/gzip", content=body, headers={"content-encoding": "gzip"})
    assert answer.content == b"BUNDLE"
    assert answer.headers["content-length"] != "1"


async def test_each_cookie_is_a_header_of_its_own(hosted: Any) -> None:
    """Cookies keep their attributes."""
    async with hosted("http") as up:
        answer = await up.client.get("/api/cookies")
    assert answer.headers.get_list("set-cookie") == [
        "a=1; max-age=60; path=/x; secure; httponly; samesite=strict",
        "b=2; expires=Thu, 12 Jan 2017 13:55:08 GMT; domain=example.org",
    ]


@pytest.mark.parametrize("route", ["fail", "wrong", "header", "status/99", "status/1000"])
async def test_a_function_that_fails_is_500_with_an_empty_body(
    hosted: Any, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns nothing of the cause; the log names the function."""
    async with hosted("http") as up:
        answer = await up.client.get(f"/api/{route}")
    assert (answer.status_code, answer.content) == (500, b"")
    assert f"{route.partition('/')[0]}: " in caplog.text


async def test_a_function_that_takes_too_long_is_500(hosted: Any, caplog: pytest.LogCaptureFixture) -> None:
    """`functionTimeout` ends an async function."""
    async with hosted("http", host_json='{"functionTimeout": "00:00:00.02"}') as up:
        assert (await up.client.get("/api/slow")).status_code == 500
    assert "longer than functionTimeout" in caplog.text


async def test_a_body_over_the_platforms_limit_is_413(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body too large is refused by its stated length, and by what comes when none is stated."""
    monkeypatch.setattr(http_module, "LARGEST_BODY", 1000)

    async def chunks() -> Any:
        for _ in range(11):
            yield b"x" * 100

    async with hosted("http") as up:
        assert (await up.client.post("/api/echo", content=b"x" * 1000)).json()["size"] == 1000
        assert (await up.client.post("/api/echo", content=b"x" * 1001)).status_code == 413
        assert (await up.client.post("/api/echo", content=chunks())).status_code == 413


async def test_a_large_body_goes_through_a_real_server(hosted: Any) -> None:
    """20 MB over the network arrive whole."""
    async with (
        hosted("http") as up,
        serving(up.host.asgi) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        answer = await client.post("/api/echo", content=b"x" * 20_000_000)
        assert answer.json()["size"] == 20_000_000
        assert (await client.get("/api/status/204")).content == b""

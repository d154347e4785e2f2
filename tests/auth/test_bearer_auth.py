"""A token is kept while it is good, fetched by one caller at a time, and goes nowhere unsafe."""

import asyncio

import httpx
import pytest

from relay.auth import BearerAuth, HeaderAuth, Token
from relay.errors import SettingsError, Transient, Unsupported


class Issuer:
    """Hands out tokens `t1`, `t2`, … that live for an hour of its own clock."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.now = 1000.0
        self.lifetime = lifetime
        self.fetches: list[bool] = []
        self.down = False

    def clock(self) -> float:
        """Return the seconds now."""
        return self.now

    async def fetch(self, fresh: bool) -> Token:
        """Hand out the next token."""
        await asyncio.sleep(0)
        if self.down:
            raise Transient("down")
        self.fetches.append(fresh)
        return Token(f"t{len(self.fetches)}", self.now + self.lifetime)


class Guarded:
    """A server that takes one token, and notes each that it is shown."""

    def __init__(self, good: str | None = None) -> None:
        self.good = good
        self.shown: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer 401 unless the token is the good one."""
        self.shown.append(request.headers["Authorization"].removeprefix("Bearer "))
        return httpx.Response(200 if self.good in (None, self.shown[-1]) else 401)


def client(issuer: Issuer, server: Guarded) -> httpx.AsyncClient:
    auth = BearerAuth(issuer.fetch, clock=issuer.clock)
    return httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(server), base_url="https://org")


async def test_a_token_is_kept_until_five_minutes_before_its_end() -> None:
    """The same token serves until five minutes before it ends; then a new one is fetched."""
    issuer, server = Issuer(), Guarded()
    async with client(issuer, server) as http:
        for moment in (1000, 1000 + 3299, 1000 + 3301):
            issuer.now = moment
            await http.get("/")
    assert server.shown == ["t1", "t1", "t2"]
    assert issuer.fetches == [False, False]


async def test_a_short_token_is_kept_for_half_its_life() -> None:
    """A token that lives less than ten minutes is still used more than once."""
    issuer, server = Issuer(lifetime=60), Guarded()
    async with client(issuer, server) as http:
        for moment in (1000, 1029, 1031):
            issuer.now = moment
            await http.get("/")
    assert server.shown == ["t1", "t1", "t2"]


async def test_many_callers_cause_one_fetch() -> None:
    """Callers that arrive while a token is being fetched wait for that one."""
    issuer, server = Issuer(), Guarded()
    async with client(issuer, server) as http:
        await asyncio.gather(*(http.get("/") for _ in range(20)))
    assert len(issuer.fetches) == 1


async def test_a_refused_token_is_replaced_once() -> None:
    """A 401 causes one forced fetch, shared by all who met it, and one more try."""
    issuer, server = Issuer(), Guarded(good="t2")
    async with client(issuer, server) as http:
        answers = await asyncio.gather(*(http.get("/") for _ in range(8)))
    assert {each.status_code for each in answers} == {200}
    assert issuer.fetches == [False, True]


async def test_a_server_that_refuses_all_is_asked_twice() -> None:
    """A 401 to the new token as well is the answer."""
    issuer, server = Issuer(), Guarded(good="never")
    async with client(issuer, server) as http:
        assert (await http.get("/")).status_code == 401
    assert server.shown == ["t1", "t2"]


async def test_a_body_is_sent_again_whole() -> None:
    """The second try after a 401 carries the same body."""
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(401 if len(bodies) == 1 else 200)

    auth = BearerAuth(Issuer().fetch)
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(handler)) as http:
        await http.post("https://org/", content=b"body")
    assert bodies == [b"body", b"body"]


async def test_an_old_token_bridges_an_outage() -> None:
    """While no new token can be had, the last minutes of the old one are used; after its end the outage shows."""
    issuer, server = Issuer(), Guarded()
    async with client(issuer, server) as http:
        await http.get("/")
        issuer.down = True
        issuer.now += 3400
        await http.get("/")
        issuer.now += 300
        with pytest.raises(Transient):
            await http.get("/")
    assert server.shown == ["t1", "t1"]


@pytest.mark.parametrize("url", ["http://org.example", "http://10.0.0.1", "http://localhost.evil.example", "ftp://org"])
async def test_a_secret_goes_only_over_https(url: str) -> None:
    """Neither a token nor a header goes over plain http to another machine; no token is even fetched."""
    issuer = Issuer()
    for auth in (BearerAuth(issuer.fetch), HeaderAuth("X-Key", "secret")):
        async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(Guarded())) as http:
            with pytest.raises(SettingsError, match="https"):
                await http.get(url)
    assert issuer.fetches == []


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:9", "https://org"])
async def test_the_machine_itself_is_safe(url: str) -> None:
    """Plain http to the machine itself is fine."""
    server = Guarded()
    auth = BearerAuth(Issuer().fetch)
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(server)) as http:
        await http.get(url)
    assert server.shown == ["t1"]


async def test_a_fixed_header_is_sent() -> None:
    """The header way of signing in adds that one header."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["X-Key"])
        return httpx.Response(200)

    async with httpx.AsyncClient(auth=HeaderAuth("X-Key", "secret"), transport=httpx.MockTransport(handler)) as http:
        await http.get("https://org")
    assert seen == ["secret"]


def test_no_secret_is_in_a_repr() -> None:
    """What these objects show of themselves holds no token and no header value."""
    token = Token("secret", 1.0)
    assert "secret" not in repr([token, HeaderAuth("X-Key", "secret"), BearerAuth(Issuer().fetch)])


def test_a_synchronous_client_is_refused() -> None:
    """The relay's clients are asynchronous; another is told so."""
    with (
        httpx.Client(auth=BearerAuth(Issuer().fetch), transport=httpx.MockTransport(Guarded())) as http,
        pytest.raises(Unsupported, match="synchronous"),
    ):
        http.get("https://org")

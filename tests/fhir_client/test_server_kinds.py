"""What kind of server it is: told by its host or its CapabilityStatement, asked late, once, and without harm."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fhir_client_kit import URL, client

from relay.fhir.client import FhirClient
from relay.fhir.profiles import (
    AZURE,
    DEFAULT_ENTRIES,
    EMBEDDED,
    GENERIC,
    GOOGLE,
    HAPI,
    HEALTHLAKE,
    LEAST_ENTRIES,
    MEDPLUM,
    PROFILES,
    ServerProfile,
    by_host,
    by_statement,
)
from relay.telemetry import metered

HOSTS = {
    "https://x.fhir.azurehealthcareapis.com": AZURE,
    "https://ws-x.fhir.AzureHealthcareApis.com/": AZURE,
    "https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/fhirStores/s/fhir": GOOGLE,
    "https://healthlake.us-east-1.amazonaws.com/datastore/1/r4/": HEALTHLAKE,
    "https://azurehealthcareapis.com.example.org/fhir": None,
    "https://fhir.example.org/azurehealthcareapis.com": None,
    "http://127.0.0.1:8080/fhir": None,
    "": None,
}
NAMES = {
    "HAPI FHIR Server": HAPI,
    " hapi fhir R4 server ": HAPI,
    "medplum": MEDPLUM,
    "Microsoft FHIR Server": AZURE,
    "Azure API for FHIR": AZURE,
    "Relay embedded FHIR server": EMBEDDED,
    "Some HAPI FHIR": GENERIC,
    "": GENERIC,
}


def statement(name: Any) -> dict[str, Any]:
    return {"resourceType": "CapabilityStatement", "software": {"name": name}}


@pytest.mark.parametrize("url", HOSTS)
def test_a_host_of_a_makers_own_tells_the_kind(url: str) -> None:
    """The whole host counts, never a part of it or of the path."""
    assert by_host(url) is HOSTS[url]


@pytest.mark.parametrize("name", NAMES)
def test_the_software_tells_the_kind(name: str) -> None:
    """By its name in the CapabilityStatement; an unknown one is any other server."""
    assert by_statement(statement(name)) is NAMES[name]


@pytest.mark.parametrize(
    "answer",
    [None, [], "x", {}, {"resourceType": "Bundle", "software": {"name": "HAPI FHIR"}}, statement(7), statement(None),
     {"resourceType": "CapabilityStatement"}, {"resourceType": "CapabilityStatement", "software": "HAPI FHIR"}],
)  # fmt: skip
def test_what_is_no_statement_tells_nothing(answer: Any) -> None:
    """Whatever `/metadata` answers, the worst is that nothing is known."""
    assert by_statement(answer) is GENERIC


def test_the_generic_kind_promises_nothing() -> None:
    """Its versions have no order, either conflict may come, and the batch that no kind refuses is the smallest of all."""
    assert (GENERIC.ordered, GENERIC.conflict, GENERIC.batch_entries) == (False, {409, 412}, DEFAULT_ENTRIES)
    assert min(each.batch_entries for each in PROFILES) == LEAST_ENTRIES == HEALTHLAKE.batch_entries
    assert ServerProfile("x", "unknown", entries=4500).batch_entries == DEFAULT_ENTRIES


class Server:
    """Answers batches and counts them by their size; `kind` is what it answers to `/metadata`."""

    def __init__(self, *kinds: httpx.Response | Exception) -> None:
        self.sizes: list[int] = []
        self.asked = 0
        self._kinds = kinds

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if request.method == "GET":
            kind = self._kinds[min(self.asked, len(self._kinds) - 1)]
            self.asked += 1
            if isinstance(kind, Exception):
                raise kind
            return kind
        count = request.content.count(b'"GET"')
        self.sizes.append(count)
        entries = [{"response": {"status": "404"}}] * count
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "batch-response", "entry": entries})


def ids(count: int) -> list[tuple[str, str]]:
    return [("Patient", f"p{number}") for number in range(count)]


async def test_the_kind_is_asked_for_where_it_matters_once() -> None:
    """Small batches ask nothing; the first large one does, off the meter, and is cut to what that kind takes."""
    server = Server(httpx.Response(200, json=statement("AWS HealthLake")))
    async with client(server) as fhir:
        with metered() as meter:
            await fhir.read(ids(LEAST_ENTRIES))
            assert server.asked == 0
            for _ in range(2):
                await fhir.read(ids(400))
        assert (server.sizes, meter.fhir) == ([160, 160, 160, 80, 160, 160, 80], 7)
        assert server.asked == 1
        assert await fhir.profile() is HEALTHLAKE


@pytest.mark.parametrize("given", [3, 1000])
async def test_a_setting_wins_over_what_is_known(given: int) -> None:
    """With a number of entries given, nobody is asked."""
    server = Server(httpx.Response(500))
    async with client(server, batch_entries=given) as fhir:
        await fhir.read(ids(6))
        assert (server.sizes, server.asked) == ([3, 3] if given == 3 else [6], 0)


async def test_a_host_that_tells_is_not_asked() -> None:
    """The maker's own host is known without a request."""
    server = Server(httpx.Response(500))
    transport = httpx.MockTransport(server)
    fhir = FhirClient("https://healthlake.eu-west-1.amazonaws.com/datastore/1/r4", transport=transport)
    await fhir.read(ids(200))
    await fhir.aclose()
    assert (server.sizes, server.asked) == ([160, 40], 0)


@pytest.mark.parametrize("away", [httpx.ConnectError("no"), httpx.Response(503), httpx.Response(401)])
async def test_a_server_that_cannot_tell_now_is_asked_again_later(away: httpx.Response | Exception) -> None:
    """Work goes on as for any other server; after five minutes the next who needs to know asks once more."""
    now = [0.0]
    server = Server(away, httpx.Response(200, json=statement("HAPI FHIR Server")))
    async with client(server, clock=lambda: now[0]) as fhir:
        assert [await fhir.profile() for _ in range(3)] == [GENERIC] * 3
        assert server.asked == 1
        now[0] = 299.0
        assert await fhir.profile() is GENERIC
        now[0] = 300.0
        assert await fhir.profile() is HAPI
        assert (await fhir.profile(), server.asked) == (HAPI, 2)


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_server_without_a_statement_is_any_other_for_good(status: int) -> None:
    """It will not have one later either."""
    now = [0.0]
    server = Server(httpx.Response(status))
    async with client(server, clock=lambda: now[0]) as fhir:
        assert await fhir.profile() is GENERIC
        now[0] = 1e6
        assert (await fhir.profile(), server.asked) == (GENERIC, 1)


async def test_a_server_that_says_nothing_does_not_hold_up_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question has a limit of its own, far below that of work."""
    import asyncio

    from relay.fhir import client as module

    monkeypatch.setattr(module, "_ASK_WITHIN", 0.01)

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    fhir = FhirClient(URL, transport=Silent())
    assert await fhir.profile() is GENERIC
    await fhir.aclose()

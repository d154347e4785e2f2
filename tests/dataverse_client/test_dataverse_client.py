"""The client sends what section by section of the Web API asks for, and turns every answer into a value or an error."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import respx
from dataverse_wire import ID, ROOT, VirtualTime, failure, http_part, multipart, read_requests

from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.bulk import create_multiple
from relay.dataverse.client import DataverseClient, write_headers
from relay.dataverse.errors import DataverseBusy, DataverseMissing, DataverseRace, DataverseRefusal
from relay.dataverse.throttle import Governor
from relay.errors import SettingsError, Transient
from relay.settings import load_settings
from relay.telemetry import metered

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def time() -> AsyncIterator[VirtualTime]:
    async with VirtualTime() as time:
        yield time


def client(handler: Handler, time: VirtualTime | None = None) -> DataverseClient:
    governor = Governor(sleep=time.sleep, clock=time.clock, jitter=lambda: 0.0) if time else None
    return DataverseClient("http://dataverse", transport=httpx.MockTransport(handler), governor=governor)


async def test_a_request_carries_the_headers() -> None:
    """Every request carries the OData headers, defeats caches and has its body as JSON."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204, headers={"OData-EntityId": f"{ROOT}contacts({ID})"})

    async with client(handler) as dataverse:
        response = await dataverse.send(Request("PATCH", f"contacts({ID})?tag=x", {"a": "é"}, {"If-Match": 'W/"5"'}))
    assert response.status == 204
    assert response.headers["OData-EntityId"].endswith(f"({ID})")
    (request,) = seen
    assert str(request.url) == f"{ROOT}contacts({ID})?tag=x"
    assert request.content == b'{"a":"\\u00e9"}'
    expected = {
        "accept": "application/json",
        "content-type": "application/json",
        "odata-version": "4.0",
        "odata-maxversion": "4.0",
        "if-none-match": "null",
        "if-match": 'W/"5"',
    }
    assert expected.items() <= dict(request.headers).items()


CALLER = "8b2c1f4e-1111-4222-8333-944455556666"
STEP = "9c2c1f4e-1111-4222-8333-944455556666"


@pytest.mark.parametrize(
    ("caller", "bypass", "expected"),
    [
        ("", "", {}),
        (CALLER, "", {"callerobjectid": CALLER}),
        ("", "CustomSync, CustomAsync", {"mscrm.bypassbusinesslogicexecution": "CustomSync,CustomAsync"}),
        (
            CALLER,
            f"CustomAsync,{STEP}",
            {
                "callerobjectid": CALLER,
                "mscrm.bypassbusinesslogicexecution": "CustomAsync",
                "mscrm.bypassbusinesslogicexecutionstepids": STEP,
            },
        ),
    ],
)
async def test_writes_carry_the_optional_headers(caller: str, bypass: str, expected: dict[str, str]) -> None:
    """For whom a write is made and which logic it leaves out stands on every write, alone, in bulk or as a batch; on no read."""
    seen: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        names = ("callerobjectid", "mscrm.")
        seen.append({name: value for name, value in request.headers.items() if name.startswith(names)})
        if request.url.path.endswith("$batch"):
            write = b"PATCH" in request.content
            kind, body = multipart([http_part(204) if write else http_part(200, body={"value": []})])
            return httpx.Response(200, headers={"Content-Type": kind}, content=body)
        return httpx.Response(204)

    read, write = Request("GET", "contacts"), Request("PATCH", f"contacts({ID})", {"a": 1})
    transport = httpx.MockTransport(handler)
    headers = write_headers(caller, bypass)
    async with DataverseClient("http://dataverse", transport=transport, write_headers=headers) as dataverse:
        await dataverse.send(read)
        await dataverse.batch([read])
        await dataverse.send(write)
        await dataverse.batch([write])
        await dataverse.send(create_multiple("contacts", "contact", [{"a": 1}], "t"))
    assert seen == [{}, {}, expected, expected, expected]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("caller_object_id", "me"),
        ("bypass", "CustomSync;CustomAsync"),
        ("bypass", "All"),
        ("bypass", "CustomSync\r\nX: y"),
    ],
)
def test_settings_of_writes_are_checked(name: str, value: str) -> None:
    """A caller that is no GUID, and logic that cannot be left out, stop the app and are named without their value."""
    with pytest.raises(SettingsError, match=f"RELAY_{name.upper()}") as caught:
        load_settings(**{name: value})
    assert value not in str(caught.value)


async def test_a_batch_goes_in_one_request(respx_mock: respx.MockRouter) -> None:
    """A batch is one metered POST whose answers come back per item, errors among them."""
    kind, body = multipart([http_part(200, body={"value": []}), failure(412, "0x80060882")])
    route = respx_mock.post(ROOT + "$batch").respond(200, headers={"Content-Type": kind}, content=body)
    items = [Request("GET", "contacts"), ChangeSet((Request("PATCH", f"contacts({ID})", {"a": 1}),))]
    with metered() as meter:
        async with DataverseClient("http://dataverse/") as dataverse:
            read, written = await dataverse.batch(items)
    assert meter.dataverse == 1
    assert read[0].body == {"value": []}
    assert isinstance(written[0].error, DataverseRace)
    sent = route.calls.last.request
    assert sent.headers["Prefer"] == "odata.continue-on-error"
    assert len(read_requests(sent.headers["Content-Type"], sent.content)) == 2


async def test_a_batch_may_stop_at_the_first_failure() -> None:
    """Without continue-on-error the preference is not sent and the outer status is the failure's."""
    kind, body = multipart([failure(404, "0x80040217")])

    def handler(request: httpx.Request) -> httpx.Response:
        assert "prefer" not in request.headers
        return httpx.Response(404, headers={"Content-Type": kind}, content=body)

    async with client(handler) as dataverse:
        first, second = await dataverse.batch([Request("GET", "a"), Request("GET", "b")], continue_on_error=False)
    assert isinstance(first[0].error, DataverseMissing)
    assert second[0].status == 0


async def test_a_batch_holds_at_most_1000_operations() -> None:
    """More operations are the caller's to split, those inside change sets counted one by one; nothing is sent."""
    write = Request("POST", "contacts", {})
    async with client(lambda _: pytest.fail("sent")) as dataverse:
        with pytest.raises(ValueError, match="1001 operations"):
            await dataverse.batch([ChangeSet((write,) * 1000), write])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, json={"error": {"code": "0x80048d19", "message": "secret"}}), DataverseRefusal),
        (httpx.Response(401), DataverseBusy),
        (httpx.Response(500, text="<html>secret"), DataverseBusy),
        (httpx.Response(400, content=b"{", headers={"Content-Type": "application/json"}), DataverseRefusal),
        (httpx.Response(200, json={"secret": 1}), Transient),
        (httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"}), DataverseRefusal),
        (httpx.Response(302, headers={"Location": "https://evil/secret"}), DataverseRefusal),
    ],
)
async def test_a_batch_refused_as_a_whole_raises(answer: httpx.Response, error: type[Exception]) -> None:
    """An answer that is not multipart is an error of the whole batch, without the server's text."""
    async with client(lambda _: answer) as dataverse:
        with pytest.raises((error, Transient)) as caught:
            await dataverse.batch([Request("GET", "a")])
    assert "secret" not in str(caught.value)
    if answer.status_code != 200:
        assert isinstance(caught.value, error)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (412, "0x80060882", DataverseRace),
        (404, "0x80040217", DataverseMissing),
        (400, "0x80044331", DataverseRefusal),
        (202, "", DataverseRefusal),
    ],
)
async def test_send_raises_what_is_not_done(status: int, code: str, error: type[Exception]) -> None:
    """Only 200, 201, 204 and 304 are answers; all else raises by its code."""
    answer = httpx.Response(status, json={"error": {"code": code, "message": "secret"}})
    async with client(lambda _: answer) as dataverse:
        with pytest.raises(error) as caught:
            await dataverse.send(Request("GET", "contacts"))
    assert "secret" not in str(caught.value)


async def test_busy_at_the_end_is_transient(time: VirtualTime) -> None:
    """What is still busy after the short retries raises Transient with the server's Retry-After; each try is metered."""
    answer = httpx.Response(429, headers={"Retry-After": "9"}, json={"error": {"code": "0x80072322", "message": "x"}})
    with metered() as meter:
        async with client(lambda _: answer, time) as dataverse:
            with pytest.raises(DataverseBusy) as caught:
                await dataverse.send(Request("GET", "contacts"))
    assert isinstance(caught.value, Transient)
    assert caught.value.retry_after == 9
    assert meter.dataverse == 3


async def test_a_throttled_part_pauses_everybody(time: VirtualTime) -> None:
    """A 429 inside a batch closes the gate for all callers, as one outside does."""
    part = http_part(429, headers={"Retry-After": "300"}, body={"error": {"code": "0x80072321", "message": "x"}})
    kind, body = multipart([part])

    async with client(lambda _: httpx.Response(200, headers={"Content-Type": kind}, content=body), time) as dataverse:
        ((response,),) = await dataverse.batch([Request("GET", "a")])
        assert isinstance(response.error, DataverseBusy)
        with pytest.raises(Transient) as caught:
            await dataverse.get("contacts")
    assert caught.value.retry_after == pytest.approx(300, abs=1)


async def test_a_lost_answer_is_asked_for_again(time: VirtualTime) -> None:
    """A connection that breaks is tried again, and both requests are metered."""
    answers = iter([httpx.RemoteProtocolError("gone"), httpx.Response(200, json={"a": 1})])

    def handler(_: httpx.Request) -> httpx.Response:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with metered() as meter:
        async with client(handler, time) as dataverse:
            assert await dataverse.get("contacts") == {"a": 1}
    assert meter.dataverse == 2


async def test_no_cookie_is_kept() -> None:
    """The affinity cookie is neither kept nor sent, so requests spread over the web servers."""
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, json={}, headers={"Set-Cookie": "ARRAffinity=1; Path=/; Domain=dataverse"})

    async with client(handler) as dataverse:
        await dataverse.get("contacts")
        await dataverse.get("contacts")
    assert seen == [None, None]


def paged(links: dict[str, str]) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        relative = str(request.url).removeprefix(ROOT)
        page = {"value": [relative]}
        if relative in links:
            page["@odata.nextLink"] = links[relative]  # type: ignore[assignment]  # JSON
        return httpx.Response(200, json=page)

    return handler


async def test_pages_follow_the_next_link() -> None:
    """Each page's next link is followed as it is."""
    token = "contacts?$skiptoken=%3Ccookie%20page=%222%22%20x=%22%253c%22/%3E"
    async with client(paged({"contacts": ROOT + token, token: ROOT + "contacts?c"})) as dataverse:
        pages = [page["value"] async for page in dataverse.pages("contacts", page_size=2)]
    assert pages == [["contacts"], [token], ["contacts?c"]]


@pytest.mark.parametrize(
    "link",
    [
        "https://evil/api/data/v9.2/contacts",
        "http://dataverse:81/api/data/v9.2/contacts?2",
        "https://dataverse/api/data/v9.2/contacts?2",
        "http://user@dataverse/api/data/v9.2/contacts?2",
        "http://dataverse/other/contacts",
        "http://dataverse/api/data/v9.2/../../../secret",
        "http://dataverse/api/data/v9.2/",
        "contacts?2",
        "http://[bad",
        "http://dataverse:port/",
        17,
        ROOT + "contacts",
    ],
)
async def test_pages_never_leave_the_api(link: str) -> None:
    """A next link to another host, port or path, or round in a circle, is not followed."""
    read: list[object] = []

    async def read_all(dataverse: DataverseClient) -> None:
        async for page in dataverse.pages("contacts"):
            read.append(page)  # noqa: PERF401 - the pages before the error count

    async with client(paged({"contacts": link})) as dataverse:
        with pytest.raises(Transient) as caught:
            await read_all(dataverse)
    assert len(read) <= 2
    assert "evil" not in str(caught.value)


async def test_who_am_i_is_not_metered() -> None:
    """The probe of a session is apart from the work's calls."""
    with metered() as meter:
        async with client(lambda _: httpx.Response(200, json={"UserId": ID})) as dataverse:
            assert (await dataverse.who_am_i())["UserId"] == ID
    assert meter.dataverse == 0
    async with client(lambda _: httpx.Response(200, json=[])) as dataverse:
        with pytest.raises(Transient, match="WhoAmI"):
            await dataverse.who_am_i()


async def test_decimals_come_back_exactly() -> None:
    """Fractions in an answer are Decimals with their digits; an answer that is no JSON raises Transient."""
    headers = {"Content-Type": "application/json"}
    async with client(lambda _: httpx.Response(200, content=b'{"a":0.10}', headers=headers)) as dataverse:
        assert str((await dataverse.get("x"))["a"]) == "0.10"
    async with client(lambda _: httpx.Response(200, content=b'{"a":', headers=headers)) as dataverse:
        with pytest.raises(Transient, match="cannot be read"):
            await dataverse.get("x")


@pytest.mark.parametrize("url", ["https://evil/x", "../../x", "a b", "/x", "contacts?" + "x" * 33_000])
async def test_send_stays_below_the_api_root(url: str) -> None:
    """A URL that leads out of the API root is refused before anything is sent; the error does not repeat it."""
    async with client(lambda _: pytest.fail("sent")) as dataverse:
        with pytest.raises(ValueError, match="URL") as caught:
            await dataverse.get(url)
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://org.crm.dynamics.com", "https://org.crm.dynamics.com/api/data/v9.2/"),
        ("https://org.crm.dynamics.com/", "https://org.crm.dynamics.com/api/data/v9.2/"),
        ("https://org.crm.dynamics.com/api/data/v9.2/", "https://org.crm.dynamics.com/api/data/v9.2/"),
        ("http://127.0.0.1:8080/org", "http://127.0.0.1:8080/org/api/data/v9.2/"),
    ],
)
async def test_the_api_root(url: str, root: str) -> None:
    """The API root is made from the org's root."""
    async with DataverseClient(url) as dataverse:
        assert dataverse.root == root


@pytest.mark.parametrize(
    "url", ["", "org", "ftp://org", "https://", "https://a:b@org", "https://org?x=1", "http://org:port"]
)
def test_a_bad_root_is_refused(url: str) -> None:
    """What is no org's root names the setting, not the value."""
    with pytest.raises(SettingsError, match="RELAY_DATAVERSE_URL"):
        DataverseClient(url)


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither URLs nor bodies reach any log, even at DEBUG."""
    caplog.set_level(logging.DEBUG)
    async with client(lambda _: httpx.Response(200, json={"name": "CANARY"})) as dataverse:
        await dataverse.send(Request("POST", "contacts?$filter=CANARY", {"name": "CANARY"}))
    assert not [record for record in caplog.records if record.name.startswith(("httpx", "httpcore", "relay"))]


async def test_many_calls_share_one_client() -> None:
    """Calls side by side do not mix up their answers."""
    handler = lambda request: httpx.Response(200, json={"n": request.url.query.decode()})  # noqa: E731 - one line
    async with client(handler) as dataverse:
        bodies = await asyncio.gather(*(dataverse.get(f"contacts?{n}") for n in range(50)))
    assert [body["n"] for body in bodies] == [str(n) for n in range(50)]
    assert json.dumps(bodies[0]) == '{"n": "0"}'

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devstack.control import Control, Fault
from devstack.fhir import FhirServer, create_app
from devstack.fhir.subscriptions import SEND_DELETES

PATIENT = {"resourceType": "Patient", "id": "p1"}


class Hook:
    """A receiver of notifications, and the server that sends them."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        app = Starlette(routes=[Route("/{path:path}", self._receive, methods=["POST", "PUT", "DELETE"])])
        self.app = Control(app, reset=self.got.clear, snapshot=list, restore=print)
        self.server: FhirServer = create_app(transport=httpx.ASGITransport(self.app))

    async def _receive(self, request: Request) -> Response:
        self.got.append((request.method, request.url.path, await request.body()))
        self.headers.append(dict(request.headers))
        return Response()

    def client(self) -> httpx.AsyncClient:
        """Return a client of the server."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.server), base_url="http://fhir.test")


def subscription(**channel: Any) -> dict[str, Any]:
    return {
        "resourceType": "Subscription",
        "id": "s1",
        "status": "requested",
        "reason": "test",
        "criteria": "Patient?",
        "channel": {
            "type": "rest-hook",
            "endpoint": "http://hook/fhir-hook",
            "payload": "application/fhir+json",
            **channel,
        },
    }


async def test_a_subscription_becomes_active() -> None:
    """A Subscription that is requested is active at once, as its second version."""
    hook = Hook()
    async with hook.client() as client:
        created = await client.put("/Subscription/s1", json=subscription())
        assert created.json()["status"] == "requested"
        active = await client.get("/Subscription/s1")
        assert (active.json()["status"], active.headers["etag"]) == ("active", 'W/"2"')


async def test_changes_are_put_to_the_endpoint() -> None:
    """Each create and update of the type is PUT with the stored resource and the channel's headers, in order."""
    hook = Hook()
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription(header=["x-functions-key: k1", "X-Two: b"]))
        first = await client.put("/Patient/p1", content=b'{"resourceType":"Patient","id":"p1","x":1.10}')
        second = await client.put("/Patient/p1", json=PATIENT)
        await client.put("/Group/g1", json={"resourceType": "Group", "id": "g1"})
        await client.delete("/Patient/p1")
        await hook.server.subscriptions.delivered()
    path = "/fhir-hook/Patient/p1"
    assert hook.got == [("PUT", path, first.content), ("PUT", path, second.content)]
    assert hook.headers[0]["x-functions-key"] == "k1"
    assert hook.headers[0]["content-type"] == "application/fhir+json"


async def test_entries_of_bundles_are_sent_too() -> None:
    """What a transaction wrote is sent after its commit; what it undid is not."""
    hook = Hook()
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription())
        entries: list[Any] = [
            {"request": {"method": "PUT", "url": f"Patient/{n}"}, "resource": {**PATIENT, "id": n}} for n in ("a", "b")
        ]
        await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
        entries.append({"request": {"method": "GET", "url": "Patient/c"}})
        await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
        await hook.server.subscriptions.delivered()
    assert [path for _, path, _ in hook.got] == ["/fhir-hook/Patient/a", "/fhir-hook/Patient/b"]


async def test_without_a_payload_the_post_is_empty() -> None:
    """No payload: an empty POST to the endpoint itself."""
    hook = Hook()
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription(payload=None))
        await client.put("/Patient/p1", json=PATIENT)
        await hook.server.subscriptions.delivered()
    assert hook.got == [("POST", "/fhir-hook", b"")]


async def test_deletions_are_sent_on_request() -> None:
    """With HAPI's extension on the channel a deletion is a DELETE."""
    hook = Hook()
    extension = [{"url": SEND_DELETES, "valueBoolean": True}]
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription(extension=extension))
        await client.put("/Patient/p1", json=PATIENT)
        await client.delete("/Patient/p1")
        await hook.server.subscriptions.delivered()
    assert [(method, path) for method, path, _ in hook.got] == [
        ("PUT", "/fhir-hook/Patient/p1"),
        ("DELETE", "/fhir-hook/Patient/p1"),
    ]


async def test_a_subscription_that_is_off_or_deleted_sends_nothing() -> None:
    """Only active subscriptions that exist get changes."""
    hook = Hook()
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription() | {"status": "off"})
        await client.put("/Patient/p1", json=PATIENT)
        await client.put("/Subscription/s1", json=subscription())
        await client.delete("/Subscription/s1")
        await client.put("/Patient/p1", json=PATIENT)
        await hook.server.subscriptions.delivered()
    assert hook.got == []


async def test_a_hook_that_is_away_is_tried_again() -> None:
    """A notification that failed is sent again, and those after it wait for it."""
    hook = Hook()
    hook.app.faults += [Fault(status=503), Fault(effect="lose")]
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription())
        await client.put("/Patient/p1", json=PATIENT)
        await client.put("/Patient/p2", json={**PATIENT, "id": "p2"})
        await hook.server.subscriptions.delivered()
    assert [path[-2:] for _, path, _ in hook.got] == ["p1", "p1", "p2"]


async def test_a_hook_that_refuses_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """A notification that the hook refuses is dropped with a warning, and the next is sent."""
    hook = Hook()
    hook.app.faults.append(Fault(status=400))
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription())
        await client.put("/Patient/p1", json=PATIENT)
        await client.put("/Patient/p2", json={**PATIENT, "id": "p2"})
        await hook.server.subscriptions.delivered()
    assert [path[-2:] for _, path, _ in hook.got] == ["p2"]
    assert "did not take Patient: 400" in caplog.text


async def test_a_reset_forgets_what_is_on_its_way() -> None:
    """After a reset nothing more is sent."""
    hook = Hook()
    hook.app.faults.append(Fault(times=0))
    async with hook.client() as client:
        await client.put("/Subscription/s1", json=subscription())
        await client.put("/Patient/p1", json=PATIENT)
        await client.post("/_emulator/reset")
        await hook.server.subscriptions.delivered()
    assert hook.got == []


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"criteria": "Patient?name=x"}, 501, "Subscription.criteria"),
        ({"criteria": "http://topic"}, 501, "Subscription.criteria"),
        ({"criteria": None}, 400, "criteria"),
        ({"status": "on"}, 400, "status"),
        ({"channel": subscription(type="email")["channel"]}, 501, "channel.type 'email'"),
        ({"channel": subscription(payload="application/fhir+xml")["channel"]}, 501, "channel.payload"),
        ({"channel": subscription(endpoint="ftp://x")["channel"]}, 400, "channel.endpoint"),
        ({"channel": subscription(header=["no colon"])["channel"]}, 400, "channel.header"),
        ({"channel": subscription(header=["a: b\r\nc: d"])["channel"]}, 400, "channel.header"),
        ({"channel": subscription(header=[1])["channel"]}, 400, "channel.header"),
        ({"channel": []}, 400, "channel"),
    ],
)
async def test_a_subscription_it_cannot_serve_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, says: str
) -> None:
    """What is not supported answers 501 naming it, what is wrong 400, and nothing is stored."""
    response = await client.put("/Subscription/s1", json=subscription() | change)
    assert response.status_code == status
    assert says in response.json()["issue"][0]["diagnostics"]
    assert (await client.get("/Subscription/s1")).status_code == 404

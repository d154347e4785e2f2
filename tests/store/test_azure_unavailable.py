"""A storage account that does not answer as it should is StoreUnavailable: it names the service, never a blob."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from relay.errors import StoreUnavailable
from relay.store import Receipt
from relay.store.azure.account import Account, read_account
from relay.store.azure.store import AzureStore
from relay.store.azure.wire import TRIES, Identity
from support.scripted import CANARY, LEFT_OPEN, account, answer, refusal, scripted

pytestmark = LEFT_OPEN

Call = Callable[[AzureStore], Awaitable[object]]

CALLS: dict[str, Call] = {
    "put_blob": lambda s: s.put_blob("bundles", f"{CANARY}.json", b"x"),
    "get_blob": lambda s: s.get_blob("bundles", f"{CANARY}.json"),
    "delete_blob": lambda s: s.delete_blob("bundles", f"{CANARY}.json"),
    "list_blobs": lambda s: s.list_blobs("bundles"),
    "send": lambda s: s.send("inbound", CANARY),
    "cancel": lambda s: s.cancel(Receipt("inbound", "id", "receipt")),
    "get_row": lambda s: s.get_row("Outcomes", "p", CANARY),
    "put_row": lambda s: s.put_row("Outcomes", "p", CANARY, {"a": CANARY}),
    "add_row": lambda s: s.add_row("Outcomes", "p", CANARY, {"a": CANARY}),
    "delete_row": lambda s: s.delete_row("Outcomes", "p", CANARY),
    "list_rows": lambda s: s.list_rows("Outcomes", CANARY),
    "check": lambda s: s.check(),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between two tries."""
    monkeypatch.setattr("relay.store.azure.wire._PAUSE", 0)


FAILURES = {
    "away": b"",
    "busy": refusal(503, "ServerBusy"),
    "broken": answer(500, "<html>", "text/html"),
    "no right": refusal(403, "AuthorizationPermissionMismatch"),
    "being deleted": refusal(409, "ContainerBeingDeleted"),
    "elsewhere": answer(302, Location="http://127.0.0.1:1/elsewhere"),
    "account gone": refusal(404, "AccountNotFound"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_every_failure_is_unavailable(failure: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, each call says StoreUnavailable and nothing that could be a patient's, nor does the log."""
    caplog.set_level(logging.INFO)
    async with scripted(failure) as (store, _):
        for name, call in CALLS.items():
            if name == "delete_row" and b"AccountNotFound" in failure:
                continue  # the SDK takes any 404 for a row that is gone
            with pytest.raises(StoreUnavailable) as error:
                await call(store)
            assert CANARY not in str(error.value)
            assert error.value.__cause__ is None
            assert error.value.__suppress_context__
    assert CANARY not in caplog.text


async def test_an_account_that_nobody_listens_for_is_unavailable() -> None:
    """A refused connection is no other kind of error, and the message says which part of the store is away."""
    store = AzureStore(account(1))
    with pytest.raises(StoreUnavailable, match="queue inbound: ServiceRequestError"):
        await store.send("inbound", "x")
    await store.close()


async def test_a_short_failure_is_tried_again() -> None:
    """What is busy once is asked again; what is refused is not."""
    receipt = (
        "<?xml version='1.0'?><QueueMessagesList><QueueMessage><MessageId>1</MessageId><PopReceipt>2</PopReceipt>"
        "</QueueMessage></QueueMessagesList>"
    )
    async with scripted(refusal(503, "ServerBusy"), b"", answer(201, receipt)) as (store, server):
        assert await store.send("inbound", "x") == Receipt("inbound", "1", "2")
    assert len(server.requests) == TRIES
    async with scripted(refusal(403, "AuthenticationFailed")) as (store, server):
        with pytest.raises(StoreUnavailable, match=r"queue inbound: .* 403 AuthenticationFailed"):
            await store.send("inbound", "x")
    assert len(server.requests) == 1


async def test_a_redirect_is_not_followed() -> None:
    """No request goes to a host that settings do not name."""
    async with scripted(answer(200, "secret")) as (_, other):
        address = "http://127.0.0.1:1/x"
        async with scripted(answer(307, Location=address)) as (store, server):
            with pytest.raises(StoreUnavailable, match="307"):
                await store.get_blob("bundles", "a.json")
    assert (len(server.requests), other.requests) == (1, [])


NOT_THERE: dict[str, tuple[Call, str, object]] = {
    "get_blob": (CALLS["get_blob"], "BlobNotFound", None),
    "get_blob of no container": (CALLS["get_blob"], "ContainerNotFound", None),
    "delete_blob": (CALLS["delete_blob"], "BlobNotFound", None),
    "list_blobs": (CALLS["list_blobs"], "ContainerNotFound", []),
    "cancel": (CALLS["cancel"], "MessageNotFound", False),
    "cancel of no queue": (CALLS["cancel"], "QueueNotFound", False),
    "get_row": (CALLS["get_row"], "ResourceNotFound", None),
    "get_row of no table": (CALLS["get_row"], "TableNotFound", None),
    "delete_row": (CALLS["delete_row"], "ResourceNotFound", None),
    "list_rows": (CALLS["list_rows"], "TableNotFound", []),
}


@pytest.mark.parametrize(("call", "code", "expected"), NOT_THERE.values(), ids=NOT_THERE)
async def test_what_is_not_there_is_no_failure(call: Call, code: str, expected: object) -> None:
    """The service's own word for what is missing is an answer."""
    async with scripted(refusal(404, code)) as (store, _):
        assert await call(store) == expected


async def test_what_is_missing_is_made_once() -> None:
    """A container, queue or table is made when a write says that it is missing, though a rival be quicker; then it is written."""
    for name, missing in (("put_blob", "ContainerNotFound"), ("put_row", "TableNotFound")):
        there = refusal(409, "ContainerAlreadyExists" if name == "put_blob" else "TableAlreadyExists")
        done = answer(201 if name == "put_blob" else 204, ETag='"1"', Last_Modified="Mon, 01 Jun 2026 12:00:00 GMT")
        async with scripted(refusal(404, missing), there, done) as (store, server):
            await CALLS[name](store)
        assert [each.partition(" ")[0] for each in server.requests][::2] == [server.requests[0].partition(" ")[0]] * 2


async def test_a_row_whose_key_no_table_can_hold_is_not_asked_for() -> None:
    """Nobody can have written it, so there is nothing to read, list or delete, and no call."""
    async with scripted(b"") as (store, server):
        assert await store.get_row("Outcomes", "p", "x" * 513) is None
        assert await store.list_rows("Outcomes", "x" * 513) == []
        await store.delete_row("Outcomes", "p", "x" * 513)
    assert server.requests == []


JSON = "application/json"
THERE = answer(409, '{"odata.error": {"code": "EntityAlreadyExists", "message": {"value": ""}}}', JSON)


@pytest.mark.parametrize("first", [b"", refusal(503, "ServerBusy"), THERE], ids=["lost", "repeated", "there"])
@pytest.mark.parametrize("mine", [True, False])
async def test_a_row_added_by_a_lost_answer_is_ones_own(
    first: bytes, mine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the answer was lost, or says `there already`, the row tells whether one added it oneself or a rival did."""

    class Word:
        hex = "mine"

    monkeypatch.setattr("relay.store.azure.tables.uuid4", Word)
    row = f'{{"PartitionKey": "p", "RowKey": "r", "a": 1, "relayAddedBy": "{"mine" if mine else "a rival"}"}}'
    second = [THERE] if first not in (b"", THERE) else []
    async with scripted(first, *second, answer(200, row, JSON)) as (store, _):
        assert await store.add_row("Turns", "p", "r", {"a": 1}) is mine
        assert await store.get_row("Turns", "p", "r") == {"a": 1}


async def test_a_row_that_was_not_added_is_unavailable() -> None:
    """An answer that was lost with the row itself is a failure like any other."""
    async with scripted(b"", refusal(404, "ResourceNotFound")) as (store, _):
        with pytest.raises(StoreUnavailable, match="table Turns: ServiceResponseError"):
            await store.add_row("Turns", "p", "r", {"a": 1})


class Credential:
    """An azure-identity credential that gives a token, or none."""

    made: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None:
        self.made.append((type(self).__name__, options, self))
        self.closed = False

    def get_token(self, *scopes: str) -> AccessToken:
        if "none" in scopes[0]:
            raise ClientAuthenticationError("no identity here")
        return AccessToken(f"token for {scopes[0]}", 2**31)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("managed", "option"), [(True, "client_id"), (False, "managed_identity_client_id")])
async def test_an_identity_signs_for_storage(managed: bool, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`__credential=managedidentity` asks that identity alone; without it the developer's sign-in does too."""
    name = "ManagedIdentityCredential" if managed else "DefaultAzureCredential"
    monkeypatch.setattr(f"azure.identity.{name}", type(name, (Credential,), {"made": (made := [])}))
    identity = Identity(Account({}, managed=managed, client_id="id"))
    async with identity:
        assert (await identity.get_token("https://storage.azure.com/.default")).token.startswith("token for https")
        await identity.get_token("x")
    assert [(kind, options) for kind, options, _ in made] == [(name, {option: "id"})]
    assert made[0][2].closed
    await identity.close()


async def test_an_identity_without_a_token_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is kept by whoever sent it until the identity is there."""
    monkeypatch.setattr("azure.identity.ManagedIdentityCredential.get_token", _no_token)
    named = {"accountName": "x", "credential": "managedidentity"}
    store = AzureStore(read_account({f"AzureWebJobsStorage__{name}": value for name, value in named.items()}))
    for name in ("get_blob", "send", "get_row"):
        with pytest.raises(StoreUnavailable, match="ClientAuthenticationError"):
            await CALLS[name](store)
    await store.close()


def _no_token(*_: object, **__: object) -> AccessToken:
    raise ClientAuthenticationError("no identity here")

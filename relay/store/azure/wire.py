"""What the clients of the three services share: how to sign in, how long to wait, and what an error becomes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncioRequestsTransport

from relay.errors import StoreUnavailable
from relay.store.azure.account import Account

# These write URLs to the log, and the name of a dropped file can be a patient's.
for _name in ("azure.core", "azure.data", "azure.identity", "azure.storage", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)

TRIES = 3

_CONNECT, _READ, _PAUSE = 5, 15, 0.5  # seconds; three tries stay below the minute that Dataverse waits for its webhook

_T = TypeVar("_T")


def client_options() -> dict[str, Any]:
    """Return what each client of the SDK is made with: its own connections, no redirects, and few, quick retries.

    The transport over `requests` comes with azure-core and is imported with it anyway; the one over aiohttp would add
    its whole import to the first event of a cold start.
    """
    return {
        "transport": AsyncioRequestsTransport(connection_timeout=_CONNECT, read_timeout=_READ),
        "permit_redirects": False,
        "retry_total": TRIES - 1,
        # blobs and queues
        "initial_backoff": _PAUSE,
        "increment_base": 0,  # no growth
        "random_jitter_range": _PAUSE,
        # tables
        "retry_backoff_factor": _PAUSE,
        "retry_backoff_max": 2 * _PAUSE,
    }


def credential_of(account: Account) -> Any:
    """Return what the clients sign with."""
    if account.key:
        return AzureNamedKeyCredential(account.name, account.key)
    if account.sas:
        return AzureSasCredential(account.sas)
    return Identity(account)


class Identity:
    """An Entra token of azure-identity, fetched in a thread; the SDK's own policy keeps it until it ends."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._credential: Any = None

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """Get a token; the SDK's ClientAuthenticationError when there is none to be had."""
        return await asyncio.to_thread(self._get, scopes)

    async def close(self) -> None:
        """Give back its connections."""
        if self._credential is not None:
            self._credential.close()
            self._credential = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _get(self, scopes: tuple[str, ...]) -> AccessToken:
        self._credential = self._credential or self._make()
        token: AccessToken = self._credential.get_token(*scopes)
        return token

    def _make(self) -> Any:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

        client_id = self._account.client_id or None
        if self._account.managed:
            return ManagedIdentityCredential(client_id=client_id)
        return DefaultAzureCredential(managed_identity_client_id=client_id)


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn errors of the SDK and of the network into StoreUnavailable: `what`, the error's name, status and code.

    Its text is left out, and the error itself: they hold URLs, and those the names of blobs.
    """
    try:
        yield
    except (AzureError, OSError) as error:
        told = " ".join(filter(None, (type(error).__name__, str(status_of(error) or ""), code_of(error))))
        raise StoreUnavailable(f"{what}: {told}") from None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error, None when there was no answer."""
    return error.status_code if isinstance(error, HttpResponseError) else None


def code_of(error: BaseException) -> str:
    """Return the service's code for an error, such as `QueueNotFound`; empty when there is none.

    Blobs and queues have it in a header. Tables have it in the body, and the SDK does not read it after every call.
    """
    code = getattr(error, "error_code", None)
    response = getattr(error, "response", None)
    if code is None and response is not None:
        code = response.headers.get("x-ms-error-code") or _code_in_body(response)
    return str(getattr(code, "value", code or ""))


def _code_in_body(response: Any) -> str:
    with suppress(AzureError, ValueError, KeyError, TypeError):
        return str(json.loads(response.text())["odata.error"]["code"])
    return ""


async def created(call: Callable[[], Awaitable[_T]], create: Callable[[], Awaitable[object]], missing: str) -> _T:
    """Make a call; when what it needs is not there (the code `missing`), create that and call again.

    So nothing is asked for that is there already, and what somebody deleted comes back.
    """
    try:
        return await call()
    except ResourceNotFoundError as error:
        if code_of(error) != missing:
            raise
    with suppress(ResourceExistsError):  # a rival was quicker
        await create()
    return await call()


async def none_if(answer: Awaitable[_T], *codes: str) -> _T | None:
    """Await an answer; None when the service gives one of these codes."""
    try:
        return await answer
    except HttpResponseError as error:
        if code_of(error) not in codes:
            raise
        return None


async def collect(items: AsyncIterable[_T], most: int | None = None) -> list[_T]:
    """Read all pages of a listing, or as many as it takes for `most` items."""
    found: list[_T] = []
    if most != 0:
        async for each in items:
            found.append(each)
            if len(found) == most:
                break
    return found

"""How the relay signs in to its two sides: one `httpx.Auth` per side, made from settings.

Tokens are kept until five minutes before they end, fetched by one caller at a time, and fetched anew once after a
401. A token goes only over https or to the machine itself. Secrets are in no repr and no error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx

from relay.errors import SettingsError, Transient, Unsupported
from relay.settings import Settings

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""What Google Cloud Healthcare asks of a token."""

_MARGIN: Final = 300.0
_DEFAULT_LIFETIME: Final = 300.0
_TIMEOUT: Final = 30.0
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_ERROR_WORD: Final = re.compile(r"[a-z_]{1,64}")
_ENTRA_CODE: Final = re.compile(r"\bAADSTS[0-9]{4,9}\b")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it ends, in seconds of `time.time()`."""

    value: str = field(repr=False)
    ends: float


Fetch = Callable[[bool], Awaitable[Token]]
"""Gets a token; True asks for one that no cache has. Raises Transient when there is none to be had."""


def dataverse_auth(settings: Settings) -> httpx.Auth | None:
    """Return how to sign in to Dataverse, None for `none`; raises SettingsError naming what is missing."""
    if settings.dataverse_auth == "none":
        return None
    scope = f"{_origin('RELAY_DATAVERSE_URL', settings.dataverse_url)}/.default"
    return BearerAuth(_entra(settings, scope))


def fhir_auth(settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.Auth | None:
    """Return how to sign in to the FHIR server, None for `none`; `transport` carries the client_credentials call.

    Raises SettingsError naming what is missing.
    """
    match settings.fhir_auth:
        case "none":
            return None
        case "entra":
            # the trailing slash of a base would make another resource of it
            base = settings.fhir_url.rstrip("/")
            if not settings.fhir_scope:
                _origin("RELAY_FHIR_URL", base)
            return BearerAuth(_entra(settings, settings.fhir_scope or f"{base}/.default"))
        case "client_credentials":
            return BearerAuth(_client_credentials(settings, transport))
        case "header":
            match = _HEADER.fullmatch(settings.fhir_header.get_secret_value().strip())
            if match is None:
                raise SettingsError("RELAY_FHIR_HEADER must read `Name: value` (RELAY_FHIR_AUTH is header)")
            return HeaderAuth(match[1], match[2])
        case "google":
            _origin("RELAY_FHIR_URL", settings.fhir_url)
            return BearerAuth(_Google(settings.google_credentials.get_secret_value(), settings.fhir_scope))


class BearerAuth(httpx.Auth):
    """Puts a bearer token on each request; after a 401 tries once more with a new one."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._good_until = float("-inf")
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return "BearerAuth()"

    def sync_auth_flow(
        self,
        request: httpx.Request,  # noqa: ARG002 - httpx's own signature
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: the relay's clients are asynchronous."""
        raise Unsupported("signing in from a synchronous client")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign the request, and once more after a 401."""
        _check_safe(request.url)
        token = await self._get(refused=None)
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            newer = await self._get(refused=token)
            request.headers["Authorization"] = f"Bearer {newer.value}"
            yield request

    async def _get(self, *, refused: Token | None) -> Token:
        """Return a good token; `refused` is one that the server did not take."""
        async with self._lock:
            now = self._clock()
            known = self._token if self._token is not refused else None
            if known is not None and now < self._good_until:
                return known
            try:
                token = await self._fetch(refused is not None)
            except Transient:
                if known is not None and now < known.ends:  # it still has some minutes
                    return known
                raise
            self._token = token
            self._good_until = token.ends - min(_MARGIN, max(0.0, token.ends - now) / 2)
            return token


class HeaderAuth(httpx.Auth):
    """Puts one fixed header on each request."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __repr__(self) -> str:
        return f"HeaderAuth({self._name!r})"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        _check_safe(request.url)
        request.headers[self._name] = self._value
        yield request


def _check_safe(url: httpx.URL) -> None:
    """Raise SettingsError unless a secret may go to this URL: https, or http to the machine itself."""
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise SettingsError(f"a token may go only over https, not to {url.scheme}://{url.host}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(name: str, url: str) -> str:
    """Return scheme and host of a setting's URL; raises SettingsError if a token could not go there."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if not parsed.host or parsed.scheme not in ("http", "https"):
        raise SettingsError(f"{name} must be a URL such as https://example.org")
    _check_safe(parsed)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _need(settings: Settings, reason: str, *names: str) -> None:
    missing = [name for name in names if not _text(getattr(settings, name))]
    if missing:
        wanted = ", ".join(f"RELAY_{name.upper()}" for name in missing)
        raise SettingsError(f"{wanted} must be set ({reason})")


def _text(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


def _entra(settings: Settings, scope: str) -> Fetch:
    """Return how to get an Entra token by the credential that `dataverse_auth` names; the FHIR side shares it."""
    kind = settings.dataverse_auth
    reason = f"RELAY_DATAVERSE_AUTH is {kind}"
    match kind:
        case "managed_identity":
            return _ManagedIdentity(settings.client_id, scope)
        case "client_secret":
            _need(settings, reason, "tenant_id", "client_id", "client_secret")
            return _AppRegistration(settings.tenant_id, settings.client_id, _secret_of(settings), scope)
        case "certificate":
            _need(settings, reason, "tenant_id", "client_id", "client_certificate")
            return _AppRegistration(settings.tenant_id, settings.client_id, _certificate_of(settings), scope)
        case "none":
            # nothing says which credential is meant, so the platform's own identity it is
            return _ManagedIdentity(settings.client_id, scope)


def _secret_of(settings: Settings) -> Callable[[], Any]:
    return settings.client_secret.get_secret_value


def _certificate_of(settings: Settings) -> Callable[[], Any]:
    path = Path(settings.client_certificate)

    def read() -> dict[str, str]:
        try:
            pem = path.read_text(encoding="ascii")
        except (OSError, ValueError):
            raise SettingsError("RELAY_CLIENT_CERTIFICATE is not a PEM file that can be read") from None
        key = re.search(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", pem, re.DOTALL)
        certificate = re.search(r"-----BEGIN CERTIFICATE-----.+-----END CERTIFICATE-----", pem, re.DOTALL)
        if key is None or certificate is None:
            raise SettingsError("RELAY_CLIENT_CERTIFICATE needs a private key and a certificate in one PEM file")
        return {"private_key": key[0], "public_certificate": certificate[0]}

    read()  # a certificate that is not there stops the start, not the first request
    return read


class _ManagedIdentity:
    """Gets tokens from azure-identity: the app's own identity in Azure, the developer's sign-in elsewhere."""

    def __init__(self, client_id: str, scope: str) -> None:
        self._client_id, self._scope = client_id, scope
        self._credential: Any = None

    async def __call__(self, fresh: bool) -> Token:
        return await asyncio.to_thread(self._get, fresh=fresh)

    def _get(self, *, fresh: bool) -> Token:
        from azure.core.exceptions import AzureError

        if fresh and self._credential is not None:  # its cache goes with it
            self._credential.close()
            self._credential = None
        try:
            self._credential = self._credential or self._make()
            token = self._credential.get_token(self._scope)
        except AzureError as error:
            raise _not_signed_in("managed identity", type(error).__name__) from None
        return Token(token.token, float(token.expires_on))

    def _make(self) -> Any:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

        if "IDENTITY_ENDPOINT" in os.environ:  # set by Azure Functions for an app that has an identity
            return ManagedIdentityCredential(client_id=self._client_id or None)
        return DefaultAzureCredential(managed_identity_client_id=self._client_id or None)


class _AppRegistration:
    """Gets tokens from msal for an app registration, by secret or certificate."""

    def __init__(self, tenant_id: str, client_id: str, credential: Callable[[], Any], scope: str) -> None:
        self._tenant_id, self._client_id, self._credential, self._scope = tenant_id, client_id, credential, scope

    async def __call__(self, fresh: bool) -> Token:  # noqa: ARG002 - each call asks Entra, so each is fresh
        return await asyncio.to_thread(self._get)

    def _get(self) -> Token:
        import msal  # type: ignore[import-untyped]  # it ships no types

        authority = os.environ.get("AZURE_AUTHORITY_HOST") or "login.microsoftonline.com"
        authority = authority.removeprefix("https://").rstrip("/")
        began = time.time()
        try:
            app = msal.ConfidentialClientApplication(
                self._client_id,
                authority=f"https://{authority}/{self._tenant_id}",
                client_credential=self._credential(),
                timeout=_TIMEOUT,
            )
            answer = app.acquire_token_for_client([self._scope])
        except (OSError, msal.exceptions.MsalError) as error:  # OSError: those of what msal sends with
            raise _not_signed_in("Entra", type(error).__name__) from None
        except ValueError:  # msal's word for a tenant that does not exist, and for a key that cannot be used
            why = "RELAY_TENANT_ID is not a tenant, or the key of RELAY_CLIENT_CERTIFICATE cannot be used"
            raise _not_signed_in("Entra", why) from None
        return _read_token("Entra", answer, began)


def need_google(reason: str) -> None:
    """Raise SettingsError unless the optional package google-auth is there."""
    if find_spec("google") is None or find_spec("google.auth") is None:
        message = (
            f"{reason} needs the package google-auth: pip install 'relay[google]', in Azure a line in requirements.txt"
        )
        raise SettingsError(message)


class _Google:
    """Gets tokens from google-auth: of a service account, of another provider's identity, or as the machine is set up."""

    def __init__(self, given: str, scope: str) -> None:
        """Check what is `given`: JSON or the path of a JSON file; empty for application default credentials."""
        need_google("RELAY_FHIR_AUTH google")
        self._scopes = [scope or GOOGLE_SCOPE]
        self._info = _google_info(given) if given else None
        self._credentials: Any = self._make(self._info) if self._info is not None else None

    async def __call__(self, fresh: bool) -> Token:  # noqa: ARG002 - each call asks Google, so each is fresh
        return await asyncio.to_thread(self._get)

    def _get(self) -> Token:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=self._scopes)
            self._credentials.refresh(partial(Request(), timeout=_TIMEOUT))
        except GoogleAuthError as error:  # its text can hold what the other side answered
            raise _not_signed_in("Google", type(error).__name__) from None
        ends = self._credentials.expiry.replace(tzinfo=UTC).timestamp()  # Google keeps it in UTC, without saying so
        return Token(self._credentials.token, ends)

    def _make(self, info: dict[str, Any]) -> Any:
        from google.auth import identity_pool
        from google.auth.exceptions import GoogleAuthError
        from google.oauth2 import service_account

        makers: dict[str, Callable[..., Any]] = {
            "service_account": service_account.Credentials.from_service_account_info,
            "external_account": identity_pool.Credentials.from_info,
        }
        make = makers.get(str(info.get("type")))
        if make is None:
            raise SettingsError(f"RELAY_GOOGLE_CREDENTIALS has an unknown type (valid: {', '.join(makers)})")
        try:
            return make(info, scopes=self._scopes)
        except (GoogleAuthError, ValueError, TypeError):
            raise SettingsError("RELAY_GOOGLE_CREDENTIALS is incomplete, or its key cannot be used") from None


def _google_info(given: str) -> dict[str, Any]:
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        info = json.loads(text)
    except (OSError, ValueError):
        info = None
    if not isinstance(info, dict):
        raise SettingsError("RELAY_GOOGLE_CREDENTIALS is neither JSON nor the path of a JSON file")
    return info


def _client_credentials(settings: Settings, transport: httpx.AsyncBaseTransport | None) -> Fetch:
    """Return how to get a token from the FHIR server's own token endpoint (OAuth 2.0 client credentials)."""
    _need(
        settings,
        "RELAY_FHIR_AUTH is client_credentials",
        "fhir_token_url",
        "fhir_client_id",
        "fhir_client_secret",
    )
    _origin("RELAY_FHIR_TOKEN_URL", settings.fhir_token_url)
    form = {"grant_type": "client_credentials", "client_id": settings.fhir_client_id}
    if settings.fhir_scope:
        form["scope"] = settings.fhir_scope

    async def fetch(fresh: bool) -> Token:  # noqa: ARG001 - each call asks the endpoint, so each is fresh
        began = time.time()
        secret = settings.fhir_client_secret.get_secret_value()
        try:
            async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT, follow_redirects=False) as client:
                response = await client.post(settings.fhir_token_url, data={**form, "client_secret": secret})
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _not_signed_in("RELAY_FHIR_TOKEN_URL", type(error).__name__) from None
        return _read_token("RELAY_FHIR_TOKEN_URL", answer if response.is_success else _without_token(answer), began)

    return fetch


def _without_token(answer: Any) -> Any:
    return {"error": answer.get("error")} if isinstance(answer, dict) else None


def _read_token(who: str, answer: Any, began: float) -> Token:
    """Read an OAuth 2.0 token answer; only the error's code words are repeated, never its description."""
    document = answer if isinstance(answer, dict) else {}
    value = document.get("access_token")
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        word = document.get("error")
        codes = _ENTRA_CODE.findall(str(document.get("error_description", "")))[:1]
        known = [word] if isinstance(word, str) and _ERROR_WORD.fullmatch(word) else ["no access_token"]
        raise _not_signed_in(who, " ".join(known + codes))
    try:
        lifetime = float(document.get("expires_in") or _DEFAULT_LIFETIME)
    except (TypeError, ValueError):
        lifetime = _DEFAULT_LIFETIME
    return Token(value, began + lifetime)


def _not_signed_in(who: str, why: str) -> Transient:
    """Return the error for a refused sign-in: work is kept, since a secret can be renewed while it waits."""
    return Transient(f"{who} gave no token: {why}", code="not-signed-in")

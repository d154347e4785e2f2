"""Google Cloud Healthcare's notifications by Pub/Sub push: a token that proves the sender, and the name of what changed.

cloud.google.com, "Pub/Sub notifications for FHIR" and "Authentication for push subscriptions". A message can come twice, late
and in any order, so its body, where there is one, is not used: the server is asked for what is true now.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from relay.auth import need_google
from relay.errors import Refused, SettingsError, Transient
from relay.inbound.change import Change, Op
from relay.inbound.limits import parse
from relay.inbound.outcome import operation_outcome
from relay.inbound.service import Inbound, Reply
from relay.settings import Settings

SOURCE: Final = "pubsub"
CERTIFICATES: Final = "https://www.googleapis.com/oauth2/v1/certs"
"""Where Google publishes the certificates of its tokens; never taken from a token or a message."""

_ISSUERS: Final = frozenset({"https://accounts.google.com", "accounts.google.com"})
_OPS: Mapping[str, Op] = {
    "CreateResource": "create",
    "UpdateResource": "update",
    "PatchResource": "update",
    "DeleteResource": "delete",
}
_NAME = re.compile(r"(projects/.+/fhirStores/[^/]+)/fhir/([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/.+)?")
_STORE = re.compile(r".*/projects/.+/fhirStores/[^/]+/fhir/?")
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_\-=]+\.[A-Za-z0-9_\-=]+\.[A-Za-z0-9_\-=]+)")
_MAX_AGE = re.compile(r"max-age=(\d{1,6})")
_SKEW: Final = 30  # seconds by which the clocks may differ
_KEPT: Final = 3600.0
_AGAIN: Final = 60.0
"""Seconds between two looks for a key that is not there: anybody can send tokens of made-up keys."""
_TIMEOUT: Final = 10.0

_HALF: Final = "RELAY_PUBSUB_AUDIENCE and RELAY_PUBSUB_EMAIL are not both set: nobody may push"

log = logging.getLogger(__name__)


def check_settings(settings: Settings) -> None:
    """Raise SettingsError when with these settings no message could ever be taken."""
    if not settings.pubsub_audience or not settings.pubsub_email:
        raise SettingsError(_HALF)
    need_google("RELAY_PUBSUB_AUDIENCE")
    if not _STORE.fullmatch(urlsplit(settings.fhir_url).path):
        message = "RELAY_FHIR_URL names no FHIR store (…/projects/…/fhirStores/<name>/fhir): every message would be passed over"
        raise SettingsError(message)


class Certificates:
    """Google's certificates by key id, kept for as long as it says."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._known: Mapping[str, str] = {}
        self._asked = self._until = float("-inf")

    async def knowing(self, key_id: str) -> Mapping[str, str]:
        """Return the certificates, with this key's among them if Google has it; raises Transient when Google is away."""
        now = self._clock()
        if now >= self._until or (key_id not in self._known and now >= self._asked + _AGAIN):
            await self._fetch(now)
        return self._known

    async def _fetch(self, now: float) -> None:
        try:
            async with httpx.AsyncClient(
                transport=self._transport, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
            ) as http:
                answer = await http.get(CERTIFICATES)
            found = answer.json() if answer.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            found = None
        if not isinstance(found, dict) or not found or not all(isinstance(each, str) for each in found.values()):
            raise Transient("Google's certificates cannot be read", code="certificates", retry_after=30)
        age = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
        self._known, self._asked = found, now
        self._until = now + (float(age[1]) if age else _KEPT)


class PubSub:
    """The push endpoint: 2xx once the change is kept."""

    def __init__(self, inbound: Inbound, settings: Settings, certificates: Certificates) -> None:
        self._inbound = inbound
        self._settings = settings
        self._certificates = certificates

    async def take(self, body: bytes, authorization: str) -> Reply:
        """Answer 202 once the change is kept, 200 for one of another store or of a type without a map.

        400 and 413 for what is no such message; 401 without a valid token of Google, 403 for a valid one of another
        audience or account, and for every one while the settings are not there; 503 when Google's certificates, the
        store or the package google-auth are away. Pub/Sub sends again whatever is not answered 2xx.
        """
        try:
            await self._check(authorization)
            change = read_message(body, self._settings)
        except Refused as refused:
            log.warning("a Pub/Sub message was refused: %s", refused.code)
            return Reply(refused.status, operation_outcome(refused, refused.status))
        except Transient as away:
            log.warning("a Pub/Sub message is put off: %s", away.code)
            return Reply(503, operation_outcome(away, 503), retry_after=30)
        except SettingsError as wrong:
            log.error("a Pub/Sub message is put off: %s", wrong)  # noqa: TRY400 - a trace would say no more
            return Reply(503, operation_outcome(wrong, 503), retry_after=30)
        return Reply(200) if change is None else await self._inbound.changes([change])

    async def _check(self, authorization: str) -> None:
        audience, email = self._settings.pubsub_audience, self._settings.pubsub_email
        if not audience or not email:
            log.error("Pub/Sub pushes, but %s", _HALF)
            raise Refused(_HALF, code="pubsub-not-set-up", status=403)
        need_google("RELAY_PUBSUB_AUDIENCE")
        claims = await self._claims(authorization.strip())
        if claims.get("iss") not in _ISSUERS:
            raise Refused("the token is not of Google", code="invalid-token", status=401)
        if claims.get("aud") != audience:
            raise Refused("the token is for another audience", code="wrong-audience", status=403)
        if claims.get("email") != email or claims.get("email_verified") is not True:
            raise Refused("the token is of another account", code="wrong-account", status=403)

    async def _claims(self, authorization: str) -> Mapping[str, Any]:
        """Return what a token claims, once its signature and its time were found right."""
        from google.auth import jwt
        from google.auth.exceptions import GoogleAuthError

        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Refused("there is no bearer token", code="no-token", status=401)
        try:
            header = jwt.decode_header(match[1])
            key_id = header.get("kid")
            if header.get("alg") != "RS256" or not isinstance(key_id, str):
                raise Refused("the token is not signed as Google signs", code="invalid-token", status=401)
            certificates = await self._certificates.knowing(key_id)
            claims: Mapping[str, Any] = jwt.decode(match[1], certs=certificates, clock_skew_in_seconds=_SKEW)
        except (GoogleAuthError, ValueError, TypeError, AttributeError, RecursionError):
            claims = {}
        if not claims:  # raised out here because Google's error holds the claims
            raise Refused("the token is not valid, or not any more", code="invalid-token", status=401)
        return claims


def read_message(body: bytes, settings: Settings) -> Change | None:
    """Read a push message; None, and a log line, when it is of another FHIR store than RELAY_FHIR_URL.

    Raises Refused: `too-large` 413, `not-an-event`, and what the body's JSON is refused for.
    """
    if len(body) > settings.max_body_bytes:
        raise Refused(f"more than {settings.max_body_bytes} bytes", code="too-large", status=413)
    message = _member(_json(body, settings), "message")
    attributes = _member(message, "attributes")
    op = _OPS.get(str(attributes.get("action")))
    if op is None:
        raise Refused(f"the message has no action (valid: {', '.join(_OPS)})", code="not-an-event")
    try:
        data = base64.b64decode(str(message.get("data", "")), validate=True)
    except ValueError:
        raise Refused("the message's data is not base64", code="not-an-event") from None
    store, kind, fhir_id = _named(data, attributes, settings)
    if kind != attributes.get("resourceType", kind):
        raise Refused("the message names another type than its resource has", code="not-an-event")
    if not urlsplit(settings.fhir_url).path.rstrip("/").endswith(f"/{store}/fhir"):
        log.warning("a message of another FHIR store than RELAY_FHIR_URL is passed over")
        return None
    version = attributes.get("versionId")
    return Change(SOURCE, kind, fhir_id, version if isinstance(version, str) else None, op, None)


def _named(data: bytes, attributes: Mapping[str, Any], settings: Settings) -> tuple[str, str, str]:
    """Return the store, type and id: of the name that is sent, or of the resource and the attribute `storeName`."""
    if attributes.get("payloadType") == "FullResource" and data.lstrip()[:1] == b"{":
        resource = _json(data, settings)
        store, kind, fhir_id = attributes.get("storeName"), resource.get("resourceType"), resource.get("id")
        if isinstance(store, str) and isinstance(kind, str) and isinstance(fhir_id, str):
            return store, kind, fhir_id
    elif (match := _NAME.fullmatch(data.decode("utf-8", "replace"))) is not None:
        return match[1], match[2], match[3]
    raise Refused("the message names no resource", code="not-an-event")


def _json(data: bytes, settings: Settings) -> Mapping[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    found = parse(text, settings)
    if not isinstance(found, dict):
        raise Refused("the message is not an object", code="not-an-event")
    return found


def _member(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    if not isinstance(found, dict):
        raise Refused(f"the message has no {name}", code="not-an-event")
    return found

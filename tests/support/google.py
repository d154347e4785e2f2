"""Google's part, played on this machine: a key pair, tokens signed with it, and an endpoint that gives tokens."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import google.auth.jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth.crypt import RSASigner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from devstack.host.serve import serving

AUDIENCE = "https://relay.example/api/fhir-hook/pubsub"
EMAIL = "pusher@project.iam.gserviceaccount.com"


def key_pair(name: str = "google") -> tuple[str, str]:
    """Return a private key and a certificate of it, PEM; the same for the same name, in this process."""
    return _made(name)


@cache
def _made(name: str) -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def token(*, signed_by: str = "google", key_id: str = "k1", **claims: Any) -> str:
    """Return a push token as Google makes it; a claim that is None is left out."""
    now = int(time.time())
    given = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": EMAIL,
        "email_verified": True,
        "iat": now - 10,
        "exp": now + 3000,
        **claims,
    }
    payload = {name: value for name, value in given.items() if value is not None}
    signer = RSASigner.from_string(key_pair(signed_by)[0], key_id)
    return bytes(google.auth.jwt.encode(signer, payload)).decode()


@asynccontextmanager
async def token_endpoint(answers: Iterator[tuple[int, Any]], forms: list[dict[str, str]]) -> AsyncIterator[str]:
    """Serve an OAuth 2.0 token endpoint on loopback; notes the forms it got."""

    async def give(request: Request) -> JSONResponse:
        forms.append({name: values[0] for name, values in parse_qs((await request.body()).decode()).items()})
        status, answer = next(answers)
        return JSONResponse(answer, status)

    async with serving(Starlette(routes=[Route("/token", give, methods=["POST"])])) as url:
        yield f"{url}/token"


def service_account(token_url: str) -> str:
    """Return the JSON of a service account whose tokens come from there."""
    return json.dumps(
        {
            "type": "service_account",
            "client_email": EMAIL,
            "private_key_id": "k1",
            "private_key": key_pair()[0],
            "token_uri": token_url,
        }
    )

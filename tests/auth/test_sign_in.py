"""Each way to sign in is made from settings, gets its token where the settings say, and fails without its secret."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import azure.identity
import httpx
import msal
import pytest
from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from relay.auth import BearerAuth, HeaderAuth, dataverse_auth, fhir_auth
from relay.errors import RelayError, SettingsError, Transient
from relay.settings import Settings

SECRET = "s3cr3t-canary"
ORG = "https://org.crm.dynamics.com"
APP = {"tenant_id": "tenant", "client_id": "app", "client_secret": SECRET}


def settings(**values: Any) -> Settings:
    return Settings(**{"dataverse_url": ORG, "fhir_url": "https://fhir.example/", **values})


async def shown_token(auth: httpx.Auth | None, times: int = 1) -> list[str]:
    """Return what the auth puts on requests that are answered 401 at first when asked for more than once."""
    shown: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers["Authorization"])
        return httpx.Response(401 if len(shown) < times else 200)

    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(handler)) as http:
        await http.get("https://org")
    return shown


def test_none_is_none() -> None:
    """Without sign-in there is nothing to put on a request."""
    assert dataverse_auth(settings(dataverse_auth="none")) is None
    assert fhir_auth(settings(fhir_auth="none")) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dataverse_auth": "client_secret"}, "RELAY_TENANT_ID, RELAY_CLIENT_ID, RELAY_CLIENT_SECRET"),
        ({"dataverse_auth": "certificate", "tenant_id": "t"}, "RELAY_CLIENT_ID, RELAY_CLIENT_CERTIFICATE"),
        ({"dataverse_auth": "certificate", **APP, "client_certificate": "/nowhere.pem"}, "RELAY_CLIENT_CERTIFICATE"),
        ({"dataverse_url": ""}, "RELAY_DATAVERSE_URL"),
        ({"dataverse_url": "https://org:port"}, "RELAY_DATAVERSE_URL"),
        ({"dataverse_url": "http://org.example"}, "https"),
    ],
)
def test_what_is_missing_for_dataverse_is_named(values: dict[str, Any], words: str) -> None:
    """A sign-in that cannot work stops the start and names the setting."""
    with pytest.raises(SettingsError, match=words) as caught:
        dataverse_auth(settings(**values))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fhir_auth": "entra", "fhir_url": ""}, "RELAY_FHIR_URL"),
        ({"fhir_auth": "client_credentials", "fhir_client_id": "a"}, "RELAY_FHIR_TOKEN_URL, RELAY_FHIR_CLIENT_SECRET"),
        (
            {
                "fhir_auth": "client_credentials",
                "fhir_client_id": "a",
                "fhir_client_secret": SECRET,
                "fhir_token_url": "http://fhir.example/token",
            },
            "https",
        ),
        ({"fhir_auth": "header"}, "RELAY_FHIR_HEADER"),
        ({"fhir_auth": "header", "fhir_header": SECRET}, "RELAY_FHIR_HEADER"),
        ({"fhir_auth": "header", "fhir_header": f"X: {SECRET}\r\nY: z"}, "RELAY_FHIR_HEADER"),
    ],
)
def test_what_is_missing_for_fhir_is_named(values: dict[str, Any], words: str) -> None:
    """The same for the FHIR side; the value is not repeated."""
    with pytest.raises(SettingsError, match=words) as caught:
        fhir_auth(settings(**values))
    assert SECRET not in str(caught.value)


def test_a_header_is_read() -> None:
    """`Name: value` makes a fixed header."""
    auth = fhir_auth(settings(fhir_auth="header", fhir_header=" Authorization: Basic YTpi "))
    assert isinstance(auth, HeaderAuth)
    assert (auth._name, auth._value) == ("Authorization", "Basic YTpi")


def credentials(
    answer: httpx.Response | Exception, forms: list[dict[str, list[str]]], **more: Any
) -> httpx.Auth | None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://id.example/token"
        forms.append(parse_qs(request.content.decode()))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fhir_auth(
        settings(
            fhir_auth="client_credentials",
            fhir_token_url="https://id.example/token",
            fhir_client_id="me",
            fhir_client_secret=SECRET,
            **more,
        ),
        transport=httpx.MockTransport(handler),
    )


async def test_client_credentials_are_posted() -> None:
    """The FHIR server's token endpoint gets the client's id and secret as a form, and the scope if one is set."""
    forms: list[dict[str, list[str]]] = []
    answer = httpx.Response(200, json={"access_token": "abc", "expires_in": "3600"})
    assert await shown_token(credentials(answer, forms)) == ["Bearer abc"]
    await shown_token(credentials(answer, forms, fhir_scope="system/*.*"))
    base = {"grant_type": ["client_credentials"], "client_id": ["me"], "client_secret": [SECRET]}
    assert forms == [base, {**base, "scope": ["system/*.*"]}]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401, json={"error": "invalid_client", "error_description": SECRET}), "invalid_client"),
        (httpx.Response(400, json={"access_token": "abc"}), "no access_token"),
        (httpx.Response(200, json={"error": SECRET.upper()}), "no access_token"),
        (httpx.Response(200, json={"access_token": "a\r\nb"}), "no access_token"),
        (httpx.Response(200, json=[]), "no access_token"),
        (httpx.Response(503, text=SECRET), "JSONDecodeError"),
        (httpx.Response(302, headers={"Location": "https://evil"}, json={}), "no access_token"),
        (httpx.ConnectError(SECRET), "ConnectError"),
    ],
)
async def test_a_refused_sign_in_keeps_the_work(answer: httpx.Response | Exception, words: str) -> None:
    """No token is Transient, since a secret can be renewed while the work waits; the error holds no secret."""
    with pytest.raises(Transient, match=words) as caught:
        await shown_token(credentials(answer, []))
    assert caught.value.code == "not-signed-in"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("lifetime", [None, "soon", 0])
async def test_a_token_without_a_lifetime_lives_a_little(lifetime: object) -> None:
    """A token whose end is not told is taken for five minutes."""
    answer = httpx.Response(200, json={"access_token": "abc", "expires_in": lifetime})
    auth = credentials(answer, [])
    await shown_token(auth)
    assert isinstance(auth, BearerAuth)
    assert auth._token is not None
    assert 200 < auth._token.ends - time.time() <= 300


class Entra:
    """Stands in for msal's application: notes how it was made and asked, and gives one answer."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.scopes: list[list[str]] = []

    def __call__(self, client_id: str, **options: Any) -> "Entra":
        """Make an application."""
        self.made.append((client_id, options))
        return self

    def acquire_token_for_client(self, scopes: list[str]) -> dict[str, Any]:
        """Give the answer."""
        self.scopes.append(scopes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def entra(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | Exception) -> Entra:
    stand_in = Entra(answer)
    monkeypatch.setattr(msal, "ConfidentialClientApplication", stand_in)
    monkeypatch.delenv("AZURE_AUTHORITY_HOST", raising=False)
    return stand_in


async def test_an_app_registration_signs_in_with_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant's authority is asked for a token for the org; a 401 asks again, past any cache."""
    stand_in = entra(monkeypatch, {"access_token": "abc", "expires_in": 3600})
    auth = dataverse_auth(settings(dataverse_auth="client_secret", dataverse_url=ORG + "/", **APP))
    assert await shown_token(auth, times=2) == ["Bearer abc", "Bearer abc"]
    assert len(stand_in.made) == 2
    client_id, options = stand_in.made[0]
    assert client_id == "app"
    assert options["authority"] == "https://login.microsoftonline.com/tenant"
    assert options["client_credential"] == SECRET
    assert stand_in.scopes == [[f"{ORG}/.default"]] * 2


async def test_another_cloud_has_another_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """AZURE_AUTHORITY_HOST names a sovereign cloud, as it does for Azure's own libraries."""
    stand_in = entra(monkeypatch, {"access_token": "abc", "expires_in": 3600})
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")
    await shown_token(dataverse_auth(settings(dataverse_auth="client_secret", **APP)))
    assert stand_in.made[0][1]["authority"] == "https://login.microsoftonline.us/tenant"


@pytest.mark.parametrize(
    ("scope", "asked"), [("", "https://fhir.example/.default"), ("api://x/.default", "api://x/.default")]
)
async def test_entra_for_fhir_shares_the_credential(monkeypatch: pytest.MonkeyPatch, scope: str, asked: str) -> None:
    """The FHIR side asks with the same credential for its own scope, which a setting can replace."""
    stand_in = entra(monkeypatch, {"access_token": "abc", "expires_in": 3600})
    auth = fhir_auth(settings(dataverse_auth="client_secret", fhir_auth="entra", fhir_scope=scope, **APP))
    assert await shown_token(auth) == ["Bearer abc"]
    assert stand_in.scopes == [[asked]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"error": "invalid_client", "error_description": f"AADSTS7000215: Invalid secret {SECRET}"},
            "invalid_client AADSTS7000215$",
        ),
        (ConnectionError(SECRET), "ConnectionError"),
        (ValueError(SECRET), "RELAY_TENANT_ID"),
    ],
)
async def test_a_refusal_of_entra_is_named(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | Exception, words: str
) -> None:
    """The error's code words are shown, its description is not."""
    entra(monkeypatch, answer)
    with pytest.raises(Transient, match=words) as caught:
        await shown_token(dataverse_auth(settings(dataverse_auth="client_secret", **APP)))
    assert SECRET not in str(caught.value)


def pem(folder: Path, *, with_key: bool = True) -> Path:
    """Write a self-signed certificate, with or without its key."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    day = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    parts = [certificate.public_bytes(serialization.Encoding.PEM)]
    if with_key:
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        parts.insert(0, key.private_bytes(serialization.Encoding.PEM, *form))
    path = folder / "app.pem"
    path.write_bytes(b"".join(parts))
    return path


async def test_an_app_registration_signs_in_with_its_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Key and certificate of one PEM file go to msal, which makes the thumbprint itself."""
    stand_in = entra(monkeypatch, {"access_token": "abc", "expires_in": 3600})
    values = {**APP, "client_secret": "", "client_certificate": str(pem(tmp_path))}
    assert await shown_token(dataverse_auth(settings(dataverse_auth="certificate", **values))) == ["Bearer abc"]
    credential = stand_in.made[0][1]["client_credential"]
    assert set(credential) == {"private_key", "public_certificate"}
    assert credential["private_key"].startswith("-----BEGIN PRIVATE KEY-----")


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """A file without a private key stops the start."""
    values = {**APP, "client_certificate": str(pem(tmp_path, with_key=False))}
    with pytest.raises(SettingsError, match="private key and a certificate"):
        dataverse_auth(settings(dataverse_auth="certificate", **values))


@pytest.fixture
def identity_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve App Service's identity endpoint on the loopback; yields the paths asked, which answer t1, t2, …."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            granted = self.headers["X-IDENTITY-HEADER"] == "key" and "denied" not in self.path
            body = {
                "access_token": f"t{len(asked)}",
                "expires_on": "9999999999",
                "resource": ORG,
                "token_type": "Bearer",
            }
            data = json.dumps(body if granted else {"statusCode": 400, "message": SECRET}).encode()
            self.send_response(200 if granted else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "key")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_managed_identity_asks_the_platform(identity_endpoint: list[str]) -> None:
    """In Azure the platform's identity endpoint gives the token; after a 401 its cache is passed by."""
    auth = dataverse_auth(settings(client_id="user-assigned"))
    assert await shown_token(auth, times=2) == ["Bearer t1", "Bearer t2"]
    assert "org.crm.dynamics.com" in identity_endpoint[0]
    assert "client_id=user-assigned" in identity_endpoint[0]


async def test_a_denied_identity_is_transient(identity_endpoint: list[str]) -> None:
    """An identity that gets no token keeps the work and shows no text of the platform."""
    with pytest.raises(Transient, match="managed identity gave no token") as caught:
        await shown_token(dataverse_auth(settings(dataverse_url="https://denied.example")))
    assert identity_endpoint
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value, RelayError)


async def test_elsewhere_the_developer_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside Azure the developer's own sign-in gives the token, for the FHIR side alone as well."""
    made: list[dict[str, Any]] = []

    class Developer:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        def get_token(self, scope: str) -> AccessToken:
            """Name the scope as the token."""
            return AccessToken(scope, 9_999_999_999)

    monkeypatch.delenv("IDENTITY_ENDPOINT", raising=False)
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", Developer)
    auth = fhir_auth(settings(dataverse_auth="none", client_id="me"))
    assert await shown_token(auth) == ["Bearer https://fhir.example/.default"]
    assert made == [{"managed_identity_client_id": "me"}]

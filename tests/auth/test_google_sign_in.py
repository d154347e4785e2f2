"""Signing in to Google Cloud Healthcare, with the optional package google-auth."""

from __future__ import annotations

import importlib.util
import json
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import google.auth
import httpx
import pytest
from google.auth import jwt

from relay.auth import GOOGLE_SCOPE, BearerAuth, fhir_auth
from relay.errors import SettingsError, Transient
from relay.settings import Settings
from support.google import EMAIL, key_pair, service_account, token_endpoint

FHIR = "https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/fhirStores/s/fhir"
GIVEN = {"access_token": "abc", "expires_in": 3600, "token_type": "Bearer"}


def auth(credentials: str, **more: Any) -> BearerAuth:
    settings = Settings(fhir_auth="google", fhir_url=FHIR, google_credentials=credentials, **more)
    made = fhir_auth(settings)
    assert isinstance(made, BearerAuth)
    return made


async def shown(made: httpx.Auth) -> str:
    """Return the Authorization header of a request."""

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.headers["Authorization"])

    async with httpx.AsyncClient(auth=made, transport=httpx.MockTransport(handler)) as http:
        return (await http.get(FHIR)).text


async def test_a_service_account_signs_in_with_its_key(tmp_path: Path) -> None:
    """The token endpoint gets an assertion signed by the account for the scope; JSON and a file of it are alike."""
    forms: list[dict[str, str]] = []
    async with token_endpoint(repeat((200, GIVEN)), forms) as url:
        path = tmp_path / "account.json"
        path.write_text(service_account(url))
        assert await shown(auth(service_account(url))) == "Bearer abc"
        assert await shown(auth(str(path), fhir_scope="narrow")) == "Bearer abc"
    said = [jwt.decode(form["assertion"], certs=key_pair()[1]) for form in forms]
    assert [(each["iss"], each["scope"], each["aud"]) for each in said] == [
        (EMAIL, GOOGLE_SCOPE, "https://oauth2.googleapis.com/token"),
        (EMAIL, "narrow", "https://oauth2.googleapis.com/token"),
    ]


async def test_the_token_lives_as_long_as_google_says() -> None:
    """It is kept until five minutes before its end, in UTC whatever the machine's zone."""
    forms: list[dict[str, str]] = []
    async with token_endpoint(repeat((200, GIVEN)), forms) as url:
        made = auth(service_account(url))
        await shown(made)
        await shown(made)
    assert len(forms) == 1
    assert made._token is not None
    assert 3500 < made._token.ends - time.time() <= 3600


async def test_application_default_credentials_are_used_when_none_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOOGLE_APPLICATION_CREDENTIALS names them, as for Google's own tools."""
    forms: list[dict[str, str]] = []
    async with token_endpoint(repeat((200, GIVEN)), forms) as url:
        path = tmp_path / "account.json"
        path.write_text(json.dumps(json.loads(service_account(url)) | {"project_id": "p"}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        assert await shown(auth("")) == "Bearer abc"
    assert len(forms) == 1


async def test_an_external_account_is_exchanged(tmp_path: Path) -> None:
    """Workload identity federation: another provider's token goes to the exchange and a Google token comes back."""
    forms: list[dict[str, str]] = []
    subject = tmp_path / "subject"
    subject.write_text("from-entra")
    async with token_endpoint(repeat((200, GIVEN | {"issued_token_type": "x"})), forms) as url:
        info = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/azure",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": url,
            "credential_source": {"file": str(subject)},
        }
        assert await shown(auth(json.dumps(info))) == "Bearer abc"
    assert forms[0]["subject_token"] == "from-entra"


@pytest.mark.parametrize("answer", [(400, {"error": "invalid_grant", "error_description": "s3cret"}), (200, {})])
async def test_a_refused_sign_in_keeps_the_work(answer: tuple[int, Any]) -> None:
    """No token is Transient `not-signed-in`, since access can be given while the work waits; nothing of the answer is told."""
    async with token_endpoint(repeat(answer), []) as url:
        with pytest.raises(Transient, match="Google gave no token: RefreshError") as caught:
            await shown(auth(service_account(url)))
    assert caught.value.code == "not-signed-in"
    assert "s3cret" not in str(caught.value)


async def test_no_credentials_at_all_keep_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without default credentials is told of by name."""

    def none(**_: Any) -> None:
        raise google.auth.exceptions.DefaultCredentialsError("s3cret")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(Transient, match="DefaultCredentialsError"):
        await shown(auth(""))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{s3cret", "neither JSON nor the path"),
        ("/nowhere/s3cret.json", "neither JSON nor the path"),
        ("{}", "unknown type .valid: service_account, external_account"),
        ('{"type": "authorized_user", "refresh_token": "s3cret"}', "unknown type"),
        ('{"type": "service_account", "private_key": "s3cret"}', "incomplete"),
        ('{"type": "external_account", "audience": "s3cret"}', "incomplete"),
    ],
)
def test_credentials_that_cannot_be_used_stop_the_start(given: str, words: str) -> None:
    """The error names the setting and never its value."""
    with pytest.raises(SettingsError, match=f"RELAY_GOOGLE_CREDENTIALS.*{words}") as caught:
        auth(given)
    assert "s3cret" not in str(caught.value)


def test_a_token_goes_over_https_only() -> None:
    """A FHIR server that is no https address stops the start."""
    with pytest.raises(SettingsError, match="https"):
        fhir_auth(Settings(fhir_auth="google", fhir_url="http://fhir.example"))


def test_without_the_package_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth is optional: its absence is an error at the start that names the package."""
    monkeypatch.setattr(
        "relay.auth.find_spec", lambda name: None if name == "google.auth" else importlib.util.find_spec(name)
    )
    with pytest.raises(
        SettingsError, match=r"RELAY_FHIR_AUTH google needs the package google-auth: pip install 'relay\[google\]'"
    ):
        auth("")

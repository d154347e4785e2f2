"""A setting that cannot be right is told at the start and by /ready, not by what is lost later."""

from __future__ import annotations

import importlib.util
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from surface_kit import surface
from test_pubsub import BELOW, PUSH, Google, message, push

from relay.errors import SettingsError
from relay.settings import load_settings
from support.google import AUDIENCE, EMAIL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll_overlap", "-PT5M"),
        ("retry_for", "-P1D"),
        ("retry_for", "101y"),
        ("retry_for", "99999999999d"),
        ("retry_first", "36501d"),
        ("retention_days", "1000000"),
    ],
)
def test_a_span_of_time_that_cannot_be_is_refused(name: str, value: str) -> None:
    """An overlap below nothing would leave a gap at each poll, an age from before the calendar would end every sweep."""
    with pytest.raises(SettingsError, match=f"RELAY_{name.upper()}"):
        load_settings(**{name: value})


def test_the_longest_spans_are_taken() -> None:
    """A hundred years are for ever."""
    settings = load_settings(retry_for="36500d", retry_first="0", retention_days=36500)
    assert (settings.retry_for, settings.retry_first) == (timedelta(days=36500), timedelta(0))


@pytest.fixture
def without_google(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave google-auth out of what is installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr("relay.auth.find_spec", lambda name: None if name == "google.auth" else found(name))


@pytest.mark.usefixtures("without_google")
async def test_pubsub_without_its_package_is_told_before_the_first_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """/ready is 503, the log names what to install, and a message is put off so that it is there afterwards."""
    async with surface(tmp_path, google=Google(), below=BELOW, **PUSH) as it:
        _ = it.relay
        assert "RELAY_PUBSUB_AUDIENCE needs the package google-auth: pip install 'relay[google]'" in caplog.text
        ready = await it.http.get("/api/ready")
        assert (ready.status_code, ready.json()["checks"]["pubsub"]) == (503, "settings")
        answer = await push(it, message("p1"), "any.token.here")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert await it.kept() == []


@pytest.mark.parametrize(
    ("settings", "below", "said"),
    [
        ({"pubsub_audience": AUDIENCE}, BELOW, "are not both set"),
        ({"pubsub_email": EMAIL}, BELOW, "are not both set"),
        (PUSH, "", "RELAY_FHIR_URL names no FHIR store"),
        (PUSH, f"{BELOW}/more", "RELAY_FHIR_URL names no FHIR store"),
    ],
)
async def test_pubsub_that_could_take_nothing_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, str], below: str, said: str
) -> None:
    """Half of its settings, or a FHIR server of which no message can be: every change would be passed over."""
    async with surface(tmp_path, below=below, settings=settings) as it:
        assert (await it.http.get("/api/ready")).json()["checks"]["pubsub"] == "settings"
        assert said in caplog.text


async def test_pubsub_is_right_or_not_meant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With all there is to it, and with nothing of it, there is nothing to tell."""
    caplog.set_level(logging.WARNING)
    for number, settings in enumerate(({}, PUSH)):
        async with surface(tmp_path / str(number), below=BELOW, settings=settings) as it:
            checks = (await it.http.get("/api/ready")).json()["checks"]
            assert checks.get("pubsub", "ok") == "ok"
            assert ("pubsub" in checks) == bool(settings)
    assert "PUBSUB" not in caplog.text

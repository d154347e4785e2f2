"""Fixtures that every test may use."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no setting of the machine reach a test."""
    for name in list(os.environ):
        if name.startswith(("RELAY_", "AzureWebJobs")) and name != "RELAY_TEST_DATA":
            monkeypatch.delenv(name)

"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples every time: a run that passed passes again, and a failure is seen by everybody.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no setting of the machine reach a test."""
    for name in list(os.environ):
        if name.startswith(("RELAY_", "AzureWebJobs")) and name != "RELAY_TEST_DATA":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Run Azurite for the tests that are marked `real`, and give its connection string."""
    from devstack.azurite import azurite

    with azurite() as connection:
        yield connection

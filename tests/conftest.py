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
        if name.startswith(("RELAY_", "AzureWebJobs")) and name not in ("RELAY_TEST_DATA", "RELAY_CACHE"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def hapi_url() -> Iterator[str]:
    """Run HAPI, one for the whole session: it takes a gigabyte and twelve seconds."""
    from devstack import hapi

    with hapi.running() as url:
        yield url


@pytest.fixture(scope="session")
def medplum_url() -> Iterator[str]:
    """Run Medplum's router, one for the whole session."""
    from devstack import medplum

    with medplum.running() as url:
        yield url

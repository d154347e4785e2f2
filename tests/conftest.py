"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.once import read_once

# The same examples every time: a run that passed passes again, and a failure is seen by everybody.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")

read_once()

# The store waits for the disk at every commit, and so would thousands of tests: what they write stays in memory, where
# there is room for it and nobody chose another place.
_MEMORY, _ROOM = Path("/dev/shm"), 1 << 29
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


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


@pytest.fixture
def own_hapi() -> Iterator[str]:
    """Run a HAPI that holds nothing yet: what another test put there carries GUIDs of rows that are gone, and is not told of again."""
    from devstack import hapi

    with hapi.running() as url:
        yield url


@pytest.fixture(scope="session")
def medplum_url() -> Iterator[str]:
    """Run Medplum's router, one for the whole session."""
    from devstack import medplum

    with medplum.running() as url:
        yield url


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Run Azurite for the tests that are marked `real`, and give its connection string."""
    from devstack import azurite as server

    with server.running() as connection:
        yield connection

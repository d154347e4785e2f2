"""The files at the root that Azure and the development host read."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.host.runtime import TESTED
from devstack.host.settings import read_host_json, read_local_settings
from relay.settings import Settings
from relay.store.azure.store import AzureStore
from relay.store.open import open_store

ROOT = Path(__file__).parents[2]
RUNTIME = f'azure-functions-runtime=={TESTED[-1]} ; python_version >= "3.13"'


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}".lstrip("."))
    else:
        yield path, str(value)


def _requirements(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_value_of_host_json_has_its_reason_in_the_docs() -> None:
    """docs/host.md has a row for each key of host.json, with the value that is there; and none beside."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \| .{10}", (ROOT / "docs/host.md").read_text(), re.MULTILINE))
    assert rows == dict(_leaves(json.loads((ROOT / "host.json").read_text())))


def test_the_development_host_reads_host_json() -> None:
    """Every key is one that the host knows."""
    config = read_host_json(ROOT)
    assert (config.batch_size, config.new_batch_threshold, config.max_dequeue_count) == (16, 8, 5)
    assert config.visibility_timeout.total_seconds() == 30


def test_requirements_are_the_lock() -> None:
    """Azure installs what the lock names: the marked lines as given, every other dependency at the locked version."""
    locked = {line.partition("==")[0]: line for line in _requirements("locks/run.txt")}
    marked = [
        'azure-functions>=1.24,<2 ; python_version < "3.13"',
        'azure-functions>=2.3,<3 ; python_version >= "3.13"',
        RUNTIME,
    ]
    required = _requirements("requirements.txt")
    assert required[:3] == marked
    assert [line for line in required[3:] if locked.get(line.partition("==")[0]) != line] == []


def test_requirements_are_the_projects_dependencies() -> None:
    """requirements.txt names the dependencies of pyproject.toml, and the runtime."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=; ]", line)[0] for line in declared}
    assert {re.split(r"[<>=; ]", line)[0] for line in _requirements("requirements.txt")} == names | {
        "azure-functions-runtime"
    }


def test_the_makefile_installs_the_tested_runtime() -> None:
    """One version of the runtime: in Azure, in tests, on this machine."""
    assert f"RUNTIME := azure-functions-runtime=={TESTED[-1]}" in (ROOT / "Makefile").read_text()


def test_the_sample_settings_can_be_used(tmp_path: Path) -> None:
    """A copy of the sample is read by the host, and each RELAY_ value is a setting that takes it."""
    (tmp_path / "local.settings.json").write_text((ROOT / "local.settings.sample.json").read_text())
    values = read_local_settings(tmp_path)
    known = {
        (field.alias or f"RELAY_{name}").upper().replace("RELAY_RELAY_", "RELAY_")
        for name, field in Settings.model_fields.items()
    }
    assert {name for name in values if name.startswith("RELAY_")} <= known
    assert values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"  # Azurite, which Core Tools know too
    assert set(values) - known == {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        assert isinstance(open_store(Settings().store), AzureStore)  # type: ignore[call-arg]  # all from the environment


@pytest.mark.parametrize(
    ("path", "ships"),
    [
        ("function_app.py", True),
        ("host.json", True),
        ("requirements.txt", True),
        ("maps", True),
        ("relay", True),
        *((name, False) for name in ("tests", "devstack", "docs", "bench", "locks", ".venv", "samples", "infra")),
        *((name, False) for name in ("local.settings.json", ".relay", ".git", "__pycache__", "relay.egg-info")),
    ],
)
def test_only_the_app_ships(path: str, ships: bool) -> None:
    """.funcignore keeps out what runs only on a developer's machine, secrets first of all."""
    ignored = any(fnmatch.fnmatch(path, line) for line in _requirements(".funcignore"))
    assert ignored is not ships

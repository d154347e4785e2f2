"""Azurite is installed once, started on free ports and stopped; here by a node and an npm that only pretend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import azurite as launcher
from devstack.azurite import AzuriteError, azurite, cache, install
from relay.store.azure.account import read_account

NPM = """
import pathlib
with open({log!r}, "a") as log: log.write("npm ci\\n")
if {fails!r}: raise SystemExit("no such package")
pathlib.Path("node_modules").mkdir()
"""
NODE = """
import sys
with open({log!r}, "a") as log: log.write(" ".join(sys.argv[1:]) + "\\n")
if {fails!r}: raise SystemExit("the port is taken")
for number, name in enumerate(("Blob", "Queue", "Table")):
    print(f"Azurite {{name}} service is successfully listening at http://127.0.0.1:{{4000 + number}}", flush=True)
sys.stdin.read()
with open({log!r}, "a") as log: log.write("ended\\n")
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path, *, npm: str = "", node: str = "") -> None:
    """Put a node and an npm on the path; each fails if it is told how."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, program, fails in (("npm", NPM, npm), ("node", NODE, node)):
        script = folder / name
        script.write_text(f"#!{sys.executable}\n" + program.format(log=str(log), fails=fails))
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("RELAY_CACHE", str(tmp_path / "cache"))


def test_it_is_installed_once_and_ends_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    """Two uses install it once, outside the checkout, give the addresses that it said, and leave nothing running."""
    pretend(tmp_path, monkeypatch, log)
    for _ in range(2):
        with azurite() as connection:
            account = read_account({"AzureWebJobsStorage": connection})
    assert account.addresses == {
        service: f"http://127.0.0.1:{4000 + number}/devstoreaccount1"
        for number, service in enumerate(("blob", "queue", "table"))
    }
    lines = log.read_text().splitlines()
    assert [line for line in lines if line in ("npm ci", "ended")] == ["npm ci", "ended", "ended"]
    for flag in ("--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--queuePort 0"):
        assert flag in lines[1]


def test_what_goes_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """Node that is missing, an install that fails and a program that ends each say so, and nothing is left of an install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RELAY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AzuriteError, match="npm is not installed: Azurite needs Node"):
        install()
    pretend(tmp_path, monkeypatch, log, npm="fails", node="fails")
    with pytest.raises(AzuriteError, match="npm ci of Azurite failed: no such package"):
        install()
    assert [each.name for each in (tmp_path / "cache" / "azurite").iterdir()] == ["lock"]
    monkeypatch.setattr(launcher, "_npm_ci", lambda _folder: None)
    with pytest.raises(AzuriteError, match="Azurite ended: the port is taken"), azurite():
        pass


def test_a_program_that_hangs_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """What says nothing, and does not end when its input does, is killed."""
    pretend(tmp_path, monkeypatch, log)
    (tmp_path / "bin" / "node").write_text(f"#!{sys.executable}\nimport time; time.sleep(60)\n")
    monkeypatch.setattr(launcher, "_UP", 0.1)
    monkeypatch.setattr(launcher, "_DOWN", 0.1)
    with pytest.raises(AzuriteError, match="Azurite said nothing for 0 s"), azurite():
        pass


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """RELAY_CACHE, else `relay` in XDG_CACHE_HOME, else in ~/.cache."""
    for name in ("RELAY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/x")
    assert cache() == Path("/home/x/.cache/relay")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache() == Path("/caches/relay")
    monkeypatch.setenv("RELAY_CACHE", "/mine")
    assert cache() == Path("/mine")


def test_the_version_is_pinned_and_the_lock_names_no_host() -> None:
    """One version, every part of it by its hash, from whichever registry npm is set to."""
    lock = json.loads((launcher.HERE / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == {"azurite": "3.37.0"}
    assert lock["packages"]["node_modules/azurite"]["version"] == "3.37.0"
    parts = {name: each for name, each in lock["packages"].items() if name}
    assert [name for name, each in parts.items() if "integrity" not in each or "resolved" in each] == []
    assert "//" not in "".join(each.get("resolved", "") for each in parts.values())


def test_the_command_prints_the_connection_and_ends_on_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    """`python -m devstack.azurite` runs until it is told to stop."""
    pretend(tmp_path, monkeypatch, log)
    command = [sys.executable, "-m", "devstack.azurite"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - this interpreter
        assert process.stdout is not None
        assert process.stdout.readline().startswith("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;")
        process.terminate()
        assert process.wait(20) == 0
    assert log.read_text().splitlines()[-1] == "ended"
    (tmp_path / "bin" / "npm").unlink()
    monkeypatch.setenv("RELAY_CACHE", str(tmp_path / "other"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: npm is not installed")

"""Azurite is started on free ports of this machine and stopped; here by a node that only pretends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from devstack import azurite
from relay.errors import Terminal
from relay.store.azure.account import read_account

NODE = """#!{python}
import json, sys
with open({log!r}, "a") as log: log.write(" ".join(sys.argv[1:]) + "\\n")
print(json.dumps({{name: f"http://127.0.0.1:{{4000 + number}}" for number, name in enumerate(("blob", "queue", "table"))}}), flush=True)
sys.stdin.read()
with open({log!r}, "a") as log: log.write("ended\\n")
"""
NPM = """#!{python}
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a node and an npm on the path that write down what they were asked for."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    for name, program in (("node", NODE), ("npm", NPM)):
        (folder / name).write_text(program.format(python=sys.executable, log=str(log)))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("RELAY_CACHE", str(tmp_path / "cache"))
    return log


def test_it_gives_its_addresses_and_ends_with_its_block(log: Path) -> None:
    """The connection string names the three addresses that it said, and nothing is left running."""
    with azurite.running() as connection:
        account = read_account({"AzureWebJobsStorage": connection})
    assert account.addresses == {
        service: f"http://127.0.0.1:{4000 + number}/devstoreaccount1"
        for number, service in enumerate(("blob", "queue", "table"))
    }
    asked, ended = log.read_text().splitlines()
    assert ended == "ended"
    for flag in ("--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--queuePort 0"):
        assert flag in asked


def test_the_lock_names_no_host() -> None:
    """Every part has its hash, from whichever registry npm is set to."""
    lock = json.loads((Path(azurite.__file__).parent / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/azurite"]["version"] == azurite.version()
    parts = {name: each for name, each in lock["packages"].items() if name}
    assert [name for name, each in parts.items() if "integrity" not in each or "resolved" in each] == []


def test_the_command_prints_the_connection_and_ends_on_a_signal(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m devstack.azurite` runs until it is told to stop, and says why it cannot start."""
    command = [sys.executable, "-m", "devstack.azurite"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - this interpreter
        assert process.stdout is not None
        assert process.stdout.readline().startswith("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;")
        process.terminate()
        assert process.wait(20) == 0
    assert log.read_text().splitlines()[-1] == "ended"
    monkeypatch.setenv("PATH", "")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Azurite needs node, npm on the PATH")


@pytest.mark.real
def test_the_real_one_starts_and_ends() -> None:
    """It answers where it says, and nothing answers there afterwards."""
    with azurite.running() as connection:
        address = read_account({"AzureWebJobsStorage": connection}).addresses["blob"]
        assert httpx.get(f"{address}?comp=list").headers["Server"].startswith("Azurite")
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_what_ends_at_once_is_told(log: Path) -> None:
    """A program that fails is quoted."""
    (log.parent / "bin" / "node").write_text(f"#!{sys.executable}\nraise SystemExit('the port is taken')\n")
    with pytest.raises(Terminal, match="the port is taken"), azurite.running():
        pass

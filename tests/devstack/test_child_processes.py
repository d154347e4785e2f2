"""A server in a process of its own says when it is ready, and ends with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from devstack import hapi, medplum
from devstack.child import child
from relay.errors import Terminal

GOOD = "import os, sys; print('{\"pid\": %d}' % os.getpid(), flush=True); sys.stdin.read()"
STUBBORN = "import os, time; print('{\"pid\": %d}' % os.getpid(), flush=True); time.sleep(600)"


def is_there(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_is_ready_when_it_says_so_and_ends_with_the_block() -> None:
    """The line it prints is what the block gets; afterwards nothing runs."""
    with child([sys.executable, "-c", GOOD]) as ready:
        assert is_there(ready["pid"])
    assert not is_there(ready["pid"])


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a moment to end by itself, no more."""
    monkeypatch.setattr("devstack.child._GRACE", 0.05)
    with child([sys.executable, "-c", STUBBORN]) as ready:
        pass
    assert not is_there(ready["pid"])


@pytest.mark.parametrize(
    "program", ["import sys; sys.exit('no room for it')", "import sys; sys.stderr.write('no room for it'); print([])"]
)
def test_one_that_does_not_start_is_quoted(program: str) -> None:
    """What it said on standard error is in the reason."""
    with pytest.raises(Terminal, match="did not start within 120 s: no room for it") as caught, child([sys.executable, "-c", program]):  # fmt: skip
        raise AssertionError("it started")
    assert caught.value.code == "start"


def test_one_that_says_nothing_is_ended() -> None:
    """There is a limit to waiting for it."""
    with pytest.raises(Terminal, match=r"within 0\.2 s"), child([sys.executable, "-c", "import time; time.sleep(600)"], within=0.2):  # fmt: skip
        raise AssertionError("it started")


def test_it_ends_when_its_parent_is_killed() -> None:
    """Its standard input ends with the parent, whatever ended that."""
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
        from devstack.child import child
        with child([sys.executable, "-c", {GOOD!r}]) as ready:
            print(ready["pid"], flush=True)
            sys.stdin.read()
    """)
    parent = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    assert is_there(pid)
    os.kill(parent.pid, 9)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    ends = time.monotonic() + 10
    while is_there(pid):
        assert time.monotonic() < ends
        time.sleep(0.01)


FAKE = """#!{python}
import sys
print('{{"fhir": "http://127.0.0.1:1/fhir"}}', flush=True)
open({told!r}, "w").write(" ".join(sys.argv[1:]))
sys.stdin.read()
"""


@pytest.mark.parametrize(("server", "name"), [(hapi, "java"), (medplum, "node")])
def test_a_server_is_started_with_the_port_it_is_to_have(
    server: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed is started by the program on the PATH, and its base is what it says."""
    program, told = tmp_path / name, tmp_path / "told"
    program.write_text(FAKE.format(python=sys.executable, told=str(told)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "classpath").write_text("a.jar:b.jar\n")
    monkeypatch.setattr(server, "install", lambda: tmp_path)
    with server.running(port=4711) as url:  # type: ignore[attr-defined]  # both modules have it
        assert url == "http://127.0.0.1:1/fhir"
    assert "4711" in told.read_text()


@pytest.mark.real
def test_what_is_installed_starts_and_ends() -> None:
    """The real thing answers at the base it names, and nothing answers there afterwards."""
    with medplum.running() as url:
        assert httpx.get(f"{url}/Patient/nobody").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/Patient/nobody")

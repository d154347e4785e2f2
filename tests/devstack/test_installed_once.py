"""What is installed for this machine is outside the repository, made once, and never left half made."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from devstack import azurite, hapi, medplum, servers
from devstack.cache import cache, installed, need, run
from relay.errors import Terminal


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("one")
    return path


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELAY_CACHE, else `relay` in XDG_CACHE_HOME, else in ~/.cache; a folder for each server."""
    assert cache("hapi") == tmp_path / "cache" / "hapi"
    monkeypatch.delenv("RELAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache("hapi") == tmp_path / "xdg" / "relay" / "hapi"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache("hapi") == tmp_path / "home" / ".cache" / "relay" / "hapi"


def test_it_is_installed_once_for_the_same_sources(source: Path) -> None:
    """Another content is another folder; the same one is found again."""
    made: list[Path] = []

    def install(folder: Path) -> None:
        made.append(folder)
        (folder / "thing").write_text(source.read_text())

    first = installed("x", [source], install)
    assert installed("x", [source], install) == first
    source.write_text("two")
    second = installed("x", [source], install)
    assert ((first / "thing").read_text(), (second / "thing").read_text()) == ("one", "two")
    assert len(made) == 2


def test_what_failed_is_not_taken_for_done(source: Path, own_cache: Path) -> None:
    """A failure leaves nothing, and the next try begins anew."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise Terminal("no", code="install")

    with pytest.raises(Terminal):
        installed("x", [source], fail)
    assert [each.name for each in (own_cache / "x").iterdir()] == [".lock"]
    assert list(installed("x", [source], lambda _: None).iterdir()) == []


def test_two_at_once_install_once(source: Path) -> None:
    """The second waits for the first, and finds what it made."""
    made: list[Path] = []
    begun = threading.Event()

    def install(folder: Path) -> None:
        made.append(folder)
        begun.set()
        time.sleep(0.05)

    first = threading.Thread(target=installed, args=("x", [source], install))
    first.start()
    begun.wait()
    installed("x", [source], install)
    first.join()
    assert len(made) == 1


def test_missing_programs_are_named() -> None:
    """All that is needed, and which of it is not there."""
    need("Python", sys.executable)
    with pytest.raises(Terminal, match=r"HAPI needs .*, no-such-javac, no-such-mvn .*; not there: no-such-javac, no-such-mvn") as caught:  # fmt: skip
        need("HAPI", sys.executable, "no-such-javac", "no-such-mvn")
    assert caught.value.code == "missing-program"


@pytest.mark.parametrize(
    ("server", "told"), [(hapi, "java, javac, mvn"), (medplum, "node, npm"), (azurite, "node, npm")]
)
def test_a_server_names_the_programs_it_needs(server: object, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is begun without them."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Terminal, match=f"not there: {told}"):
        server.install()  # type: ignore[attr-defined]  # both modules have it


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    """The end of what it said is in the error; an environment of its own reaches it."""
    run([sys.executable, "-c", "import os, sys; sys.exit(os.environ['A'] != 'b')"], env={"A": "b"}, cwd=tmp_path)
    with pytest.raises(Terminal, match=r"ended with 3: .*no such version") as caught:
        run([sys.executable, "-c", "import sys; print('no such version'); sys.exit(3)"])
    assert caught.value.code == "install"


def test_versions_are_pinned() -> None:
    """Each server is one version, which its own file names."""
    for each in servers.SERVERS.values():
        assert each.version().count(".") == 2
        assert each.version().replace(".", "").isdigit()


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Installing them all ends with 1 and the reason on standard error."""
    monkeypatch.setenv("PATH", "")
    assert servers.main() == 1
    out, err = capsys.readouterr()
    assert (out, "HAPI needs java, javac, mvn" in err) == ("", True)


def test_the_command_prints_versions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of JSON, once all are there."""
    for each in servers.SERVERS.values():
        monkeypatch.setattr(each, "install", lambda: None)
    assert servers.main() == 0
    assert f'"{hapi.version()}"' in capsys.readouterr().out

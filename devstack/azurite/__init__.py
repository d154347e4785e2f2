"""Azurite, Microsoft's storage emulator, of the pinned version: installed once into a cache, started on free ports."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from relay.errors import RelayError
from relay.store.azure.account import EMULATOR

HERE = Path(__file__).parent

_LISTENS = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at (http://\S+)")
_SERVICES = ("blob", "queue", "table")
_UP, _DOWN, _INSTALL = 60.0, 10.0, 600.0  # seconds


class AzuriteError(RelayError):
    """Azurite cannot be installed or started; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="azurite")


def cache() -> Path:
    """Return the folder of what is downloaded once for this machine, outside any checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RELAY_CACHE") or Path(home) / "relay")


def install() -> Path:
    """Install Azurite unless this very lock file was installed before, and return the folder; AzuriteError."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = cache() / "azurite" / hashlib.sha256(lock).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # test workers side by side
        if not folder.exists():
            scratch = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(HERE / name, scratch)
                _npm_ci(scratch)
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def azurite() -> Iterator[str]:
    """Run Azurite until the block ends, keeping nothing; gives the connection string of its three services.

    It ends with this process too, however that ends. AzuriteError when it does not come up.
    """
    program = install() / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    command = [_need("node"), "--require", str(HERE / "end_with_parent.cjs"), str(program)]
    # The SDKs speak newer versions of the protocol than Azurite knows of.
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    for each in _SERVICES:
        command += [f"--{each}Host", "127.0.0.1", f"--{each}Port", "0"]
    with tempfile.TemporaryDirectory(prefix="relay-azurite-") as folder:
        process = subprocess.Popen(  # noqa: S603 - the pinned program, started by its path
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield _connection_string(_listening(process))
        finally:
            _end(process)


def _connection_string(listening: Mapping[str, str]) -> str:
    parts = EMULATOR | {
        f"{service}Endpoint": f"{address}/{EMULATOR['AccountName']}" for service, address in listening.items()
    }
    return "".join(f"{name}={value};" for name, value in {"DefaultEndpointsProtocol": "http", **parts}.items())


def _listening(process: subprocess.Popen[str]) -> dict[str, str]:
    """Wait until each service says where it listens."""
    lines: Queue[str] = Queue()
    assert process.stdout is not None
    threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
    found: dict[str, str] = {}
    told: list[str] = []
    while len(found) < len(_SERVICES):
        try:
            line = lines.get(timeout=_UP)
        except Empty:
            raise AzuriteError(f"Azurite said nothing for {_UP:.0f} s: {' '.join(told[-3:])}") from None
        if not line:
            raise AzuriteError(f"Azurite ended: {' '.join(told[-3:])}")
        told.append(line.strip())
        if match := _LISTENS.search(line):
            found[match[1]] = match[2].rstrip("/")
    return found


def _pass_on(stream: IO[str], lines: Queue[str]) -> None:
    """Read to the end, so that it never waits for somebody to read; an empty line says that it ended."""
    for line in stream:
        lines.put(line)
    lines.put("")


def _end(process: subprocess.Popen[str]) -> None:
    """Close its input, at which it exits; a signal would have it wait for connections that clients keep open."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_DOWN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _npm_ci(folder: Path) -> None:
    # Nothing that is installed runs a script: Azurite needs none.
    command = [_need("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(  # noqa: S603 - npm, found on the path
        command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL, check=False
    )
    if done.returncode:
        raise AzuriteError(f"npm ci of Azurite failed: {done.stderr.strip()[-500:]}")


def _need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise AzuriteError(f"{program} is not installed: Azurite needs Node.js 20 or newer")
    return path

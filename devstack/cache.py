"""Where what is installed for this machine alone lives: outside the repository, one folder a server, made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from relay.errors import Terminal


def cache(server: str) -> Path:
    """Return the folder of a server: `$RELAY_CACHE`, else `relay` in `$XDG_CACHE_HOME` or ~/.cache; made if need be."""
    given = os.environ.get("RELAY_CACHE")
    root = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relay"
    folder = root.expanduser().resolve() / server
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installed(server: str, sources: Iterable[Path], install: Callable[[Path], None]) -> Path:
    """Return the folder that `install` filled for these sources; it is filled again only when one of them changes.

    Whoever else installs it at the same time waits. Half a folder is never left: it is filled beside its place.
    """
    folder = cache(server)
    made = folder / _hash(sources)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
            try:
                install(scratch)
                scratch.rename(made)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return made


def installed_by_npm(folder: str, server: str, sources: Iterable[Path]) -> Path:
    """Return the folder of a server with what its package-lock.json names, beside its sources; no script of a package is run.

    Raises Terminal: `missing-program`, `install`.
    """
    sources = tuple(sources)
    need(server, "node", "npm")

    def make(made: Path) -> None:
        for source in sources:
            shutil.copy(source, made)
        run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=made)

    return installed(folder, sources, make)


def need(server: str, *programs: str) -> None:
    """Raise Terminal `missing-program` naming each program that is not on the PATH."""
    missing = [each for each in programs if shutil.which(each) is None]
    if missing:
        raise Terminal(
            f"{server} needs {', '.join(programs)} on the PATH; not there: {', '.join(missing)}", code="missing-program"
        )


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a program to its end; raises Terminal `install` with the end of what it said."""
    done = subprocess.run(  # noqa: S603 - commands of this package, with paths of its own
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise Terminal(f"{' '.join(command[:2])} … ended with {done.returncode}: {said}", code="install")


def _hash(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]

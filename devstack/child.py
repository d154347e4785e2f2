"""A server in a process of its own that says when it is ready, and ends with its parent."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from relay.errors import Terminal

_GRACE = 5.0  # seconds between the end of its standard input and its end by force


@contextmanager
def child(command: Sequence[str], *, within: float = 120, cwd: Path | None = None) -> Iterator[dict[str, Any]]:
    """Run a program until the block ends; gives the line of JSON that it prints once it is ready.

    It is to end when its standard input does: the system ends that also when this process is killed. Raises Terminal
    `start` with the end of its standard error when it ends first, or says nothing `within` seconds.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - commands of this package, with paths of its own
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends it in its own time
        )
        try:
            ready = _ready(process, within)
            if ready is None:
                errors.seek(0)
                said = errors.read()[-2000:].decode(errors="replace").strip()
                raise Terminal(f"{command[0]} did not start within {within:g} s: {said}", code="start")
            yield ready
        finally:
            _end(process)


def _ready(process: subprocess.Popen[bytes], within: float) -> dict[str, Any] | None:
    assert process.stdout is not None
    alarm = threading.Timer(within, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
    finally:
        alarm.cancel()
    try:
        ready = json.loads(line)
    except ValueError:
        return None
    return ready if isinstance(ready, dict) else None


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def until_stopped(program: str, running: Callable[..., AbstractContextManager[str]]) -> int:
    """Run a server as a command: one line says where it is, SIGINT or SIGTERM stops it; 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--port", type=int, default=0, help="port; 0 picks a free one (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt), running(port=options.port) as address:
            print(address, flush=True)  # noqa: T201 - a command prints
            signal.pause()
    except Terminal as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    return 0

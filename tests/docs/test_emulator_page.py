"""docs/emulator.md does what it says: the command is started, the script is run against it, the output is the output."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulated import switches
from fenced import ROOT, blocks
from walk import RELAY

PAGE = "docs/emulator.md"


@contextmanager
def emulator(command: str) -> Iterator[str]:
    words = shlex.split(command)
    assert words[:2] == [".venv/bin/relay", "emulator"]
    words[words.index("8080")] = "0"
    with (
        subprocess.Popen(  # noqa: S603 - the page's own words
            [RELAY, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process
    ):
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0


def test_the_script_prints_what_the_page_shows(tmp_path: Path) -> None:
    """The script, as it stands, drives the command that the page starts."""
    start, told, script, run, shown, *_ = blocks(PAGE)
    (tmp_path / script.mark).write_text(script.text, encoding="utf-8")
    with emulator(start.text) as line:
        url = json.loads(line)["dataverse"]
        assert list(json.loads(told.text)) == list(json.loads(line))
        address, command = run.text.splitlines()
        assert address == f"DATAVERSE={json.loads(told.text)['dataverse']}"
        words = [sys.executable, *shlex.split(command.replace("$DATAVERSE", url))[1:]]
        done = subprocess.run(  # noqa: S603 - the page's own words
            words,
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == (shown.text, "", 0)


def test_the_page_names_the_verbs_of_the_control_side() -> None:
    """Every noun of the control side with its methods is in the table."""
    from devstack.control import _VERBS
    from devstack.dataverse import create_app

    app = create_app()
    app.store.close()
    dials = {name: ("GET", "PUT") if dial.write else ("GET",) for name, dial in app._dials.items()}
    page = (ROOT / PAGE).read_text("utf-8")
    for noun, methods in (_VERBS | dials).items():
        assert f"| `{noun}` | {', '.join(methods)} |" in page, noun


def test_every_switch_is_explained() -> None:
    """Each argument of `create_app` has its meaning, and no other has one."""
    from devstack.dataverse.app import SWITCHES

    assert {name for name, _, _ in switches()} == SWITCHES.keys()

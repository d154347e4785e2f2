"""Walks through a page: `relay up` as the page has it, on free ports and in a folder of the test's own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fenced import Block

RELAY = str(Path(sys.executable).with_name("relay"))
_ADDRESS = re.compile(r"^(FUNCTIONS|DATAVERSE|FHIR)=http://127\.0\.0\.1:\d+$")
_SETTING = re.compile(r"(RELAY_[A-Z_]+)=(.*)")


def lines(block: Block) -> list[str]:
    """Return the lines that are not empty."""
    return [line for line in block.text.splitlines() if line.strip()]


def is_up(block: Block) -> bool:
    """Tell whether a block starts the stack and so does not end."""
    return ".venv/bin/relay up " in block.text


def is_addresses(block: Block) -> bool:
    """Tell whether a block is the three addresses that the stack printed."""
    return all(_ADDRESS.fullmatch(line) for line in lines(block))


@contextmanager
def running(block: Block, folder: Path, *, fhir: str = "embedded") -> Iterator[dict[str, str]]:
    """Run the block's `relay up` in `folder`; yields the addresses by the names that the page gives them."""
    (line,) = [each for each in lines(block) if is_up(Block("sh", "", each))]
    words = shlex.split(line.replace("$PWD", str(folder)))
    settings = {found[1]: found[2] for each in words if (found := _SETTING.fullmatch(each))}
    said = words[len(settings) + 1 :]
    assert (said[said.index("--port") + 1], said[said.index("--store") + 1]) == ("7071", ".relay")
    said[said.index("7071")], said[said.index(".relay")] = "0", str(folder / ".relay")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "AzureWebJobs"))}
    with subprocess.Popen(  # noqa: S603 - our own command
        [RELAY, *said, "--fhir", fhir],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment | settings,
        cwd=folder,
    ) as up:
        try:
            assert up.stdout is not None
            yield {name.upper(): url for name, url in json.loads(up.stdout.readline()).items()}
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(timeout=30) == 0

"""The tutorial from its first line to its last: its files, its commands, its output, in a folder of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fenced import ROOT, Block, blocks
from walk import RELAY, is_addresses, is_up, running

PAGE = "docs/tutorial.md"
URN = "urn:oid:org.d365.mc4h.procedure.id"


def checkout(folder: Path) -> Path:
    """Return a folder that looks to the tutorial as the checkout does."""
    (folder / "maps").mkdir()
    shutil.copy(ROOT / "maps" / "metadata.json", folder / "maps")
    return folder


def run(block: Block, folder: Path, **environment: str) -> str:
    """Run one block as it stands, but for where `relay` is; returns what it prints, errors too."""
    done = subprocess.run(  # noqa: S603 - the page's own words
        ["bash", "-euo", "pipefail", "-c", block.text.replace(".venv/bin/relay", RELAY)],  # noqa: S607 - whichever bash
        cwd=folder,
        env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == int(block.mark == "fails"), f"{block.text}\n{done.stdout}"
    return done.stdout


def walked(folder: Path) -> Iterator[Block]:
    """Walk the page to its `relay up`; what follows is for the second shell and is returned."""
    listed = iter(blocks(PAGE))
    block = next(listed)
    printed = ""
    while not is_up(block):
        if block.language == "sh":
            printed = run(block, folder)
        elif block.language == "text":
            assert printed == block.text
        else:
            (folder / block.mark).write_text(block.text, encoding="utf-8")
        block = next(listed)
    yield block
    yield from listed


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("curl") is None, reason="needs bash and curl")
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """Files are written and commands run in the page's order; output that is shown is the output; a row is there at the end."""
    folder = checkout(tmp_path)
    up, addresses, post, look = [block for block in walked(folder) if block.language == "sh"]
    assert is_addresses(addresses)
    with running(up, folder) as urls:
        outcome = json.loads(run(post, folder, **urls))
        assert [each["result"] for each in outcome["entries"]] == ["created"] * 3
        row, resource = several(run(look, folder, **urls))
    (procedure,) = row["value"]
    assert (procedure["msemr_description"], procedure["msemr_status"]) == ("Knee replacement, left", 935000004)
    assert procedure["_msemr_patient_value"]
    written = {each["row"]["id"] for each in outcome["entries"] if each["resource"] == "Procedure/knee"}
    assert {each["value"] for each in resource["identifier"] if each["system"] == URN} == written


def several(text: str) -> list[Any]:
    """Read JSON documents that follow one another."""
    reader, found = json.JSONDecoder(), []
    while text := text.lstrip():
        document, end = reader.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def test_the_files_are_named_and_everything_else_runs() -> None:
    """A block that no test would write, run or compare is not there."""
    for block in blocks(PAGE):
        assert block.language in ("sh", "text", "yaml", "json"), block
        assert bool(block.mark) == (block.language in ("yaml", "json")) or block.mark == "fails", block

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fenced import ROOT, Block, blocks
from walk import RELAY, is_addresses, is_up, lines, running

MARKS = ("needs Azure", "needs Core Tools")
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PATIENT = "demo-ana-lindqvist"
URN = "urn:oid:org.d365.mc4h.patient.id"


def shell() -> list[Block]:
    return [each for each in blocks("README.md") if each.language == "sh" and each.mark not in MARKS]


def is_make(block: Block) -> bool:
    return all(line.startswith("make ") for line in lines(block))


def by_hand() -> list[Block]:
    return [each for each in shell() if not (is_make(each) or is_up(each) or is_addresses(each))]


def test_the_readme_is_short() -> None:
    """Under two hundred lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def test_every_block_has_a_language_that_says_what_it_is() -> None:
    """A block is shell, output, or the picture; a marked one says what it needs, in the text before it too."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in blocks("README.md"):
        assert block.language in ("sh", "text", ""), block
        assert block.mark in ("", *MARKS), block
        if block.mark:
            before = page[: page.index(f"```sh {block.mark}")]
            assert before.rstrip().endswith(f"{block.mark.replace('needs', 'Needs')}:"), block


def test_make_commands_are_targets_of_the_makefile() -> None:
    """`make x` in a block or in the text is a target that `make help` lists."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    named |= {line.split()[1] for block in shell() if is_make(block) for line in lines(block)}
    assert named
    assert named <= targets


def test_the_demo_prints_what_the_readme_shows() -> None:
    """Line by line, with GUIDs masked."""
    (shown,) = [each for each in blocks("README.md") if each.language == "text"]
    done = subprocess.run([RELAY, "demo"], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    assert [GUID.sub("<id>", line) for line in done.stdout.splitlines()] == [
        GUID.sub("<id>", line) for line in shown.text.splitlines()
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    """Run the README's `relay up` on free ports and a folder of the test's own."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("the walk-through needs curl and bash")
    (block,) = [each for each in shell() if is_up(each)]
    folder = tmp_path_factory.mktemp("readme")
    with running(block, folder) as urls:
        yield urls, folder / ".relay"


def outcome(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    assert found["status"] == "succeeded"
    return found


def is_created(text: str) -> None:
    entries = outcome(text)["entries"]
    assert {each["result"] for each in entries} == {"created"}
    assert {each["writeback"] for each in entries} == {"written"}


def is_unchanged(text: str) -> None:
    assert {each["result"] for each in outcome(text)["entries"]} == {"unchanged"}


def is_row_and_resource(text: str) -> None:
    reader = json.JSONDecoder()
    row, end = reader.raw_decode(text)
    found, _ = reader.raw_decode(text[end:].lstrip())
    (contact,) = row["value"]
    assert contact["fullname"] == "Ana Sofia Lindqvist"
    (entry,) = found["entry"]
    assert entry["resource"]["id"] == PATIENT
    assert {"system": URN, "value": contact["contactid"]} in entry["resource"]["identifier"]


def is_preview(text: str) -> None:
    assert f"Patient/{PATIENT} -> contact" in text


CHECKS: Mapping[str, Callable[[str], None]] = {
    '"$FUNCTIONS/api/bundle" | python3': is_created,
    '"$FHIR/Patient"': is_row_and_resource,
    "Prefer: respond-async": is_unchanged,
    ".relay/bundles": is_unchanged,
    "relay preview": is_preview,
}


def test_the_walk_through_does_what_the_readme_says(stack: tuple[dict[str, str], Path]) -> None:
    """Every unmarked shell block that is not a make command, as it stands but for addresses and the folder."""
    urls, folder = stack
    (addresses,) = [each for each in shell() if is_addresses(each)]
    assert {line.partition("=")[0] for line in lines(addresses)} == set(urls)
    environment = {**os.environ, **urls, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    left = dict(CHECKS)
    for block in by_hand():
        (words,) = [each for each in left if each in block.text]
        script = block.text.replace(".relay/", f"{folder}/").replace(".venv/bin/relay", RELAY)
        done = subprocess.run(  # noqa: S603 - the README's own words
            ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - whichever bash the reader has
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        left.pop(words)(done.stdout)
    assert not left
